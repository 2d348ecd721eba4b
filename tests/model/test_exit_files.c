/* SPDX-License-Identifier: MIT */
/* Model folders with each exit head: canonical names beside every naming of a backbone, LGViT's and EEVIT's own names,
 * inputs of another size, and what is wrong with such folders. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "exit_tensors.h"
#include "stages/family.h"
#include "stages/model.h"
#include "stages/weights.h"

enum { K = 3, T = 7, N_PIXELS = 3 * 12 * 18 };

#define HF_SIZES                                                                                                       \
    "\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,\"num_attention_heads\":2,\"intermediate_size\":24,"    \
    "\"num_hidden_layers\":2,\"num_labels\":3,\"layer_norm_eps\":1e-6"
static int keep_exit(void *opaque, const ees_tap *tap) {
    if (tap->kind == EES_TAP_LOGITS && tap->info->exit_idx == 0)
        memcpy(opaque, tap->data, K * sizeof(float));
    return 0;
}

/* Logits of exit 0. */
static void answer(struct tiny *tiny, float logits[K]) {
    char dir[64];
    ees_model *model = NULL;
    ees_error err = {0};
    float pixels[N_PIXELS];
    for (size_t i = 0; i < N_PIXELS; i++)
        pixels[i] = sinf((float)i * .37f);
    make_folder(dir);
    tiny_write(tiny, dir);
    if (ees_model_open(dir, NULL, &model, &err) != 0)
        fail_msg("%s", err.message);
    ees_frame frame = tensor_frame(model, pixels);
    assert_int_equal(ees_model_trace(model, &frame, keep_exit, logits, NULL), 0);
    assert_true(isfinite(logits[0]) && logits[0] != logits[1]);
    ees_model_close(model);
    tiny_fini(tiny);
    remove_folder(dir);
}

static void answer_canonical(const struct form *form, const char *head, float logits[K]) {
    struct tiny tiny;
    tiny_init_form(&tiny, form);
    exits_set(tiny.config, head);
    exits_add(&tiny, form->family, head, form->flags & FORM_DIST);
    answer(&tiny, logits);
}

/* ---- names --------------------------------------------------------------------------------------------- */

static const struct form vit = {.family = "hf-vit", .config = "{\"model_type\":\"vit\"," HF_SIZES "}"};
static const struct form deit = {
    .family = "hf-deit-distilled", .config = "{\"model_type\":\"deit\"," HF_SIZES "}", .flags = FORM_DIST};

static void test_canonical_names_beside_every_naming(void **state) {
    static const struct form others[] = {
        {.family = "timm-vit", .config = "{\"model_args\":{\"img_size\":[8,12],\"num_heads\":2}}"},
        {.family = "torchvision-vit", .config = "{\"args\":{\"image_size\":[8,12],\"num_heads\":2}}"},
    };
    for (size_t h = 0; exit_heads[h]; h++) {
        float expected[K], logits[K];
        answer_canonical(&vit, exit_heads[h], expected);
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
            answer_canonical(&others[i], exit_heads[h], logits);
            assert_memory_equal(logits, expected, sizeof logits);
        }
    }
}

#define LGVIT_CONFIG(backbone)                                                                                         \
    "{\"model_type\":\"deit\",\"architectures\":[\"DeiTHighwayForImageClassification\"],\"backbone\":\"" backbone      \
    "\",\"exit_strategy\":\"confidence\",\"threshold\":0.5,\"num_early_exits\":1,\"position_exits\":\"[1]\"," HF_SIZES \
    "}"

/* A name each that LGViT's own classes give these tensors. */
static const struct {
    const char *head, *of_vit, *of_deit;
} lgvit_names[] = {
    {"conv_normal", "mlp.conv.2.running_var", "mlp.conv.0.weight"},
    {"self_attention", "mlp.attention.query.weight", "mlp.output.dense.bias"},
    {"linear", "pooler.dense.weight", "layernorm.weight"},
    {"vit", "classifier.pooler.dense.bias", "classifier.distillation_classifier.weight"},
    {"vit", "layer.attention.attention.key.weight", "layer.intermediate.dense.weight"},
};

static void test_names_of_lgvit(void **state) {
    static const struct form own[] = {{.family = "lgvit-vit", .config = LGVIT_CONFIG("ViT")},
                                      {.family = "lgvit-deit", .config = LGVIT_CONFIG("DeiT"), .flags = FORM_DIST}};
    for (size_t i = 0; i < sizeof lgvit_names / sizeof *lgvit_names; i++)
        for (size_t distilled = 0; distilled < 2; distilled++) {
            const char *head = lgvit_names[i].head;
            float expected[K], logits[K];
            char name[128];
            struct tiny tiny;
            answer_canonical(distilled ? &deit : &vit, head, expected);
            tiny_init_form(&tiny, &own[distilled]);
            json_object_set_new(tiny.config, "highway_type", json_string(head));
            exits_add(&tiny, own[distilled].family, head, distilled);
            snprintf(name, sizeof name, "deit.encoder.highway.0.%s",
                     distilled ? lgvit_names[i].of_deit : lgvit_names[i].of_vit);
            assert_non_null(tiny_find(&tiny, name));
            answer(&tiny, logits);
            assert_memory_equal(logits, expected, sizeof logits);
        }
}

#define SWIN_SIZES                                                                                                     \
    "\"model_type\":\"swin\",\"embed_dim\":8,\"depths\":[2,1],\"num_heads\":[2,4],\"window_size\":3,"                  \
    "\"mlp_ratio\":2.0,\"patch_size\":2,\"num_labels\":3,\"image_size\":[12,18]"

/* A name each that LGViT has or would have: conv_normal and self_attention are of its ViT and DeiT alone. */
static const struct {
    const char *head, *name;
} lgvit_swin_names[] = {
    {"conv_normal", "mlp.conv.0.weight"},           {"conv_normal", "mlp.conv.2.running_var"},
    {"self_attention", "mlp.attention.value.bias"}, {"self_attention", "mlp.output.dense.weight"},
    {"vit", "layer.layernorm_before.weight"},       {"vit", "layer.attention.attention.query.bias"},
    {"vit", "layer.attention.output.dense.bias"},   {"vit", "layer.layernorm_after.bias"},
    {"vit", "layer.intermediate.dense.weight"},     {"vit", "layer.output.dense.weight"},
    {"vit", "classifier.layernorm.weight"},         {"vit", "classifier.classifier.bias"},
};

/* Exit 0 of a Swin, after its last block; logits under canonical names. */
static void answer_swin(const char *head, float logits[K]) {
    char config[512];
    struct tiny tiny;
    snprintf(config, sizeof config,
             "{" SWIN_SIZES ",\"early_exits\":{\"exits\":[{\"after_block\":3,\"head\":\"%s\"}],"
             "\"policy\":{\"name\":\"entropy\",\"thresholds\":0.5}}}",
             head);
    tiny_init_swin(&tiny, "hf-swin", config);
    exits_add_module(&tiny, "hf-swin", head);
    answer(&tiny, logits);
}

static void test_names_of_lgvit_swin(void **state) {
    for (size_t i = 0; i < sizeof lgvit_swin_names / sizeof *lgvit_swin_names; i++) {
        const char *head = lgvit_swin_names[i].head;
        float expected[K], logits[K];
        char config[512], name[128];
        struct tiny tiny;
        snprintf(config, sizeof config,
                 "{\"architectures\":[\"SwinHighwayForImageClassification\"],\"highway_type\":\"%s\",\"exit_strategy\":"
                 "\"confidence\",\"num_early_exits\":\"[0,1]\",\"position_exits\":\"[[],[1]]\"," SWIN_SIZES "}",
                 head);
        answer_swin(head, expected);
        tiny_init_swin(&tiny, "lgvit-swin", config);
        exits_add_module(&tiny, "lgvit-swin", head);
        snprintf(name, sizeof name, "swin.encoder.layers.1.highway.0.%s", lgvit_swin_names[i].name);
        assert_non_null(tiny_find(&tiny, name));
        answer(&tiny, logits);
        assert_memory_equal(logits, expected, sizeof logits);
    }
}

/* ---- LGViT's rules (spec 4.1, 5.2) --------------------------------------------------------------------- */

/* A model with random weights; NULL: refused. */
static ees_model *open_random(const char *family, const char *text, ees_error *err) {
    struct ees__json config = {0};
    const struct ees__source source = {.family = ees__family_by_name(family), .json = &config};
    struct ees__weights *weights;
    ees_model *model = NULL;
    ees_model_options options;
    ees_model_options_default(&options);
    assert_int_equal(ees__json_parse(text, strlen(text), "config.json", &config, NULL), 0);
    assert_int_equal(ees__weights_open_random(3, &weights, NULL), 0);
    int rc = ees__model_build("random", &source, NULL, weights, &options, &model, err);
    assert_true(rc == 0 ? model != NULL : rc == EES_EMODEL);
    weights->close(weights);
    ees__json_close(&config);
    return rc == 0 ? model : NULL;
}

/* Of 12 blocks. */
static ees_model *open_lgvit(const char *keys, ees_error *err) {
    char text[512];
    snprintf(text, sizeof text,
             "{%s,\"image_size\":16,\"patch_size\":8,\"hidden_size\":8,\"num_attention_heads\":2,"
             "\"num_hidden_layers\":12,\"intermediate_size\":8,\"num_labels\":3}",
             keys);
    return open_random("lgvit-vit", text, err);
}

static void check_exits(const char *keys, unsigned n, unsigned first, const char *const *head, size_t step) {
    ees_error err = {0};
    ees_model *model = open_lgvit(keys, &err);
    if (!model)
        fail_msg("%s: %s", keys, err.message);
    const ees_model_info *info = ees_model_get_info(model);
    assert_int_equal(info->n_exits, n);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(info->exits[i].after_block, first + i);
        assert_string_equal(info->exits[i].head, head[i * step]);
    }
    ees_model_close(model);
}

static void test_rules_of_lgvit(void **state) {
    static const char *const types[] = {"linear",  "vit",          "self_attention", "conv_normal",
                                        "conv1_1", "attention_r1", "conv2_1",        "attention_r9"};
    static const char *const eight[] = {"conv1_1",      "conv1_1",      "conv2_1",      "conv2_1",
                                        "attention_r2", "attention_r2", "attention_r3", "attention_r3"};
    static const char *const six[] = {"conv1_1",      "conv2_1",      "attention_r2",
                                      "attention_r2", "attention_r3", "attention_r3"};
    static const char *const four[] = {"conv1_1", "conv2_1", "attention_r2", "attention_r3"};
    static const char *const two[] = {"conv1_1", "attention_r2"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char keys[128];
        snprintf(keys, sizeof keys, "\"highway_type\":\"%s\",\"num_early_exits\":7", types[i]);
        check_exits(keys, 7, 6, &types[i], 0);
    }
    check_exits("\"position_exits\":\"[1,2,3,4]\"", 4, 1, types, 0); /* linear, four of them */
    check_exits("\"position_exits\":[3],\"num_early_exits\":1", 1, 3, types, 0);
#define LAYOUT(n, positions)                                                                                           \
    "\"highway_type\":\"LGViT\",\"num_early_exits\":" #n ",\"position_exits\":\"" positions "\""
    check_exits(LAYOUT(8, "[4,5,6,7,8,9,10,11]"), 8, 4, eight, 1);
    check_exits(LAYOUT(6, "[5,6,7,8,9,10]"), 6, 5, six, 1);
    check_exits(LAYOUT(4, "[1,2,3,4]"), 4, 1, four, 1);
    check_exits(LAYOUT(2, "[11,12]"), 2, 11, two, 1);
    ees_error err = {0};
    assert_null(open_lgvit("\"highway_type\":\"vit\"", &err)); /* 4 exits by default, and no place for them */
    assert_true(strstr(err.message, "'position_exits'") && strstr(err.message, "4 blocks"));
}

/* The 8 attention heads of a Swin's `vit`. */
static void test_vit_of_a_narrow_swin(void **state) {
#define NARROW(block)                                                                                                  \
    "{\"model_type\":\"swin\",\"embed_dim\":12,\"depths\":[1,1],\"num_heads\":[2,4],\"window_size\":2,"                \
    "\"patch_size\":4,\"num_labels\":3,\"image_size\":16,\"early_exits\":{\"exits\":[{\"after_block\":" #block         \
    ",\"head\":\"vit\"}],\"policy\":{\"name\":\"entropy\",\"thresholds\":0.5}}}"
    ees_error err = {0};
    assert_null(open_random("hf-swin", NARROW(1), &err));
    assert_true(strstr(err.message, "exit.0") && strstr(err.message, "8 attention heads") &&
                strstr(err.message, "12 channels"));
    ees_model *model = open_random("hf-swin", NARROW(2), &err); /* 24 */
    assert_non_null(model);
    ees_model_close(model);
}

static void test_names_of_eevit(void **state) {
    static const struct form form = {
        .family = "eevit",
        .config = "{\"layer_norm_eps\":1e-6,\"model\":{\"image_size\":[8,12],\"num_attn_heads\":2,\"dim_head\":8,"
                  "\"early_exit_config\":{\"exits\":[[0,\"dummy_mlp\",{}]]}}}"};
    float expected[K], logits[K];
    struct tiny tiny;
    answer_canonical(&vit, "dummy_mlp", expected);
    tiny_init_form(&tiny, &form);
    exits_add(&tiny, "eevit", "dummy_mlp", false);
    assert_non_null(tiny_find(&tiny, "transformer.layers.0.highway.highway_head.layer2.bias"));
    answer(&tiny, logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

/* ---- other inputs -------------------------------------------------------------------------------------- */

static void test_other_inputs(void **state) {
    for (size_t h = 0; exit_heads[h]; h++) {
        bool fixed = strstr(exit_heads[h], "cnn") || strstr(exit_heads[h], "mixer") || strstr(exit_heads[h], "resmlp");
        char dir[64];
        struct tiny tiny;
        ees_model *model = NULL;
        ees_model_options options;
        ees_error err = {0};
        make_folder(dir);
        tiny_init_form(&tiny, &vit);
        exits_set(tiny.config, exit_heads[h]);
        exits_add(&tiny, "hf-vit", exit_heads[h], false);
        tiny_write(&tiny, dir);
        ees_model_options_default(&options);
        options.image_height_px = 20;
        options.image_width_px = 16;
        int rc = ees_model_open(dir, &options, &model, &err);
        if (rc != (fixed ? EES_EMODEL : 0))
            fail_msg("%s at another size: %d %s", exit_heads[h], rc, err.message);
        if (fixed)
            assert_true(strstr(err.message, "'exit.0.") && strstr(err.message, "20 x 16") && strstr(err.hint, "size"));
        ees_model_close(model);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

/* ---- folders with one thing wrong ----------------------------------------------------------------------- */

enum change { REMOVE, FIRST_AXIS, LAST_AXIS };

static const struct {
    const char *head;
    enum change change;
    const char *tensor;
    size_t length; /* of the axis */
    const char *needles[3];
} wrong[] = {
    {"mlp", REMOVE, "exit.0.mlp.0.weight", 0, {"'exit.0.mlp.0.weight'", "missing"}},
    {"mlp", REMOVE, "exit.0.mlp.1.bias", 0, {"'exit.0.mlp.1.bias'", "missing"}},
    {"mlp", REMOVE, "exit.0.mlp.1.weight", 0, {"'exit.0.mlp.0.weight' is (9,16), expected (3,16)"}},
    {"mlp", FIRST_AXIS, "exit.0.mlp.1.weight", K - 1, {"'exit.0.mlp.1.weight' is (2,9), expected (3,9)"}},
    {"mlp_ee", LAST_AXIS, "exit.0.mlp.1.weight", 8, {"'exit.0.mlp.1.weight' is (3,8), expected (3,9)"}},
    {"mlp_ee", FIRST_AXIS, "exit.0.mlp.0.weight", 0, {"'exit.0.mlp.0.weight'", "0 for axis 0"}},
    {"mlp_ee", REMOVE, "exit.0.norm.bias", 0, {"'exit.0.norm.bias'", "missing"}},
    {"linear", FIRST_AXIS, "exit.0.head.cls.weight", K - 1, {"'exit.0.head.cls.weight' is (2,16), expected (3,16)"}},
    {"conv_normal", FIRST_AXIS, "exit.0.conv.weight", 8, {"'exit.0.conv.weight'", "expected (16,16,3,3)"}},
    {"cnn_ignore_ee", FIRST_AXIS, "exit.0.conv.weight", 4, {"'exit.0.mlp.0.weight' is for 5 pooled values", "makes 4"}},
    {"cnn_add_ee", LAST_AXIS, "exit.0.mlp.0.weight", 4, {"'exit.0.mlp.0.weight' is for 4 pooled values", "makes 5"}},
    {"cnn_project_ee", FIRST_AXIS, "exit.0.readout.weight", 6, {"'exit.0.readout.bias' is (7), expected (6)"}},
    {"mixer_ee",
     LAST_AXIS,
     "exit.0.token.fc1.weight",
     T - 1,
     {"'exit.0.token.fc1.weight' is for 6 tokens", "8 x 12", "makes 7"}},
    {"mixer_ee", FIRST_AXIS, "exit.0.token.fc2.weight", T - 1, {"'exit.0.token.fc2.weight'", "expected (7,6)"}},
    {"resmlp_ee", LAST_AXIS, "exit.0.token.weight", T - 1, {"'exit.0.token.weight' is for 6 tokens", "makes 7"}},
    {"resmlp_ee", REMOVE, "exit.0.ls2", 0, {"'exit.0.ls2'", "missing"}},
    {"vit_ee", FIRST_AXIS, "exit.0.blk.mlp.fc1.weight", 26, {"exit.0.blk.mlp.fc1.bias' is (27), expected (26)"}},
    {"vit", REMOVE, "exit.0.blk.norm2.weight", 0, {"'exit.0.blk.norm2.weight'", "missing"}},
    {"self_attention", REMOVE, "exit.0.attn.qkv.bias", 0, {"'exit.0.attn.qkv.bias'", "missing"}},
    {"dummy_mlp", REMOVE, "exit.0.fc2.weight", 0, {"'exit.0.fc2.weight'", "missing"}},
};

static void test_wrong_tensors(void **state) {
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char dir[64];
        struct tiny tiny;
        ees_model *model = NULL;
        ees_error err = {0};
        make_folder(dir);
        tiny_init_form(&tiny, &vit);
        exits_set(tiny.config, wrong[i].head);
        exits_add(&tiny, "hf-vit", wrong[i].head, false);
        struct tensor *t = tiny_find(&tiny, wrong[i].tensor);
        if (wrong[i].change == REMOVE)
            tiny_remove(&tiny, wrong[i].tensor);
        else
            t->shape[wrong[i].change == FIRST_AXIS ? 0 : t->rank - 1] = wrong[i].length;
        tiny_write(&tiny, dir);
        assert_int_equal(ees_model_open(dir, NULL, &model, &err), EES_EMODEL);
        for (size_t n = 0; n < 3 && wrong[i].needles[n]; n++)
            if (!strstr(err.message, wrong[i].needles[n]))
                fail_msg("%s: '%s' does not name '%s'", wrong[i].head, err.message, wrong[i].needles[n]);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

/* Another head's tensors are superfluous. */
static void test_superfluous_tensors(void **state) {
    char dir[64];
    struct tiny tiny;
    ees_model *model = NULL;
    ees_error err = {0};
    make_folder(dir);
    tiny_init_form(&tiny, &vit);
    exits_set(tiny.config, "mlp");
    exits_add(&tiny, "hf-vit", "mlp_ee", false);
    tiny_write(&tiny, dir);
    assert_int_equal(ees_model_open(dir, NULL, &model, &err), EES_EMODEL);
    assert_true(strstr(err.message, "exit.0.norm.") && strstr(err.message, "not part of"));
    tiny_fini(&tiny);
    remove_folder(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_names_beside_every_naming),
        cmocka_unit_test(test_names_of_lgvit),
        cmocka_unit_test(test_names_of_lgvit_swin),
        cmocka_unit_test(test_rules_of_lgvit),
        cmocka_unit_test(test_vit_of_a_narrow_swin),
        cmocka_unit_test(test_names_of_eevit),
        cmocka_unit_test(test_other_inputs),
        cmocka_unit_test(test_wrong_tensors),
        cmocka_unit_test(test_superfluous_tensors),
    };
    return cmocka_run_group_tests_name("exit heads in files", tests, NULL, NULL);
}
