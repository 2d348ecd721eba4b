/* SPDX-License-Identifier: MIT */
/* Model folders with each exit head: canonical names beside every naming of a backbone, LGViT's and EEVIT's own names,
 * inputs of another size, and what is wrong with such folders. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "stages/stage_list.h"
#include "support.h"

enum { C = 16, K = 3, T = 7, N_PIXELS = 3 * 8 * 12 };
enum { FILTERS = 5, READOUT = 7, TOKEN_HIDDEN = 6, CHANNEL_HIDDEN = 20, MLP_HIDDEN = 9, BLOCK_MLP = 27 };

#define HF_SIZES                                                                                                       \
    "\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,\"num_attention_heads\":2,\"intermediate_size\":24,"    \
    "\"num_hidden_layers\":2,\"num_labels\":3,\"layer_norm_eps\":1e-6"
#define POOLED " conv_normal self_attention dummy_mlp "
#define BLOCK  " vit vit_ee "
#define LISTS  " mlp mlp_ee vit_ee mixer_ee resmlp_ee "
#define CNN    " cnn_ignore_ee cnn_add_ee cnn_project_ee "

enum kind { PAIR, NORM, BATCH_NORM, VECTOR }; /* PAIR: weight and bias */
enum only { ALWAYS, DISTILLED, PLAIN };

/* docs/heads.md, for a grid of 2 x 3 and one special token. */
static const struct {
    const char *heads, *leaf;
    enum kind kind;
    enum only only;
    unsigned rank;
    size_t shape[4];
    unsigned spelling; /* of LGViT's names */
} tensors[] = {
    {" conv_normal ", "conv", PAIR, ALWAYS, 4, {C, C, 3, 3}, 0},
    {" conv_normal ", "bn1", BATCH_NORM, ALWAYS, 1, {C}, 1},
    {" self_attention ", "attn.qkv", PAIR, ALWAYS, 2, {3 * C, C}, 1},
    {" self_attention ", "attn.proj", PAIR, ALWAYS, 2, {C, C}, 1},
    {" dummy_mlp ", "fc1", PAIR, ALWAYS, 2, {10, C}, 0},
    {" dummy_mlp ", "fc2", PAIR, ALWAYS, 2, {C, 10}, 0},
    {BLOCK, "blk.norm1", NORM, ALWAYS, 1, {C}, 0},
    {BLOCK, "blk.attn.qkv", PAIR, ALWAYS, 2, {3 * C, C}, 0},
    {BLOCK, "blk.attn.proj", PAIR, ALWAYS, 2, {C, C}, 0},
    {BLOCK, "blk.norm2", NORM, ALWAYS, 1, {C}, 0},
    {BLOCK, "blk.mlp.fc1", PAIR, ALWAYS, 2, {BLOCK_MLP, C}, 0},
    {BLOCK, "blk.mlp.fc2", PAIR, ALWAYS, 2, {C, BLOCK_MLP}, 0},
    {" linear ", "pool", PAIR, PLAIN, 2, {C, C}, 0},
    {" linear ", "norm", NORM, DISTILLED, 1, {C}, 0},
    {" vit ", "pool", PAIR, PLAIN, 2, {C, C}, 1},
    {" vit ", "norm", NORM, DISTILLED, 1, {C}, 1},
    {POOLED " linear ", "head.cls", PAIR, ALWAYS, 2, {K, C}, 0},
    {POOLED " linear ", "head.dist", PAIR, DISTILLED, 2, {K, C}, 0},
    {" vit ", "head.cls", PAIR, ALWAYS, 2, {K, C}, 1},
    {" vit ", "head.dist", PAIR, DISTILLED, 2, {K, C}, 1},
    {" mlp_ee vit_ee ", "norm", NORM, ALWAYS, 1, {C}, 0},
    {" cnn_project_ee ", "readout", PAIR, ALWAYS, 2, {READOUT, 2 * C}, 0},
    {" cnn_project_ee ", "conv", PAIR, ALWAYS, 4, {FILTERS, READOUT, 3, 3}, 0},
    {" cnn_ignore_ee cnn_add_ee ", "conv", PAIR, ALWAYS, 4, {FILTERS, C, 3, 3}, 0},
    {" mixer_ee ", "norm1", NORM, ALWAYS, 1, {C}, 0},
    {" mixer_ee ", "token.fc1", PAIR, ALWAYS, 2, {TOKEN_HIDDEN, T}, 0},
    {" mixer_ee ", "token.fc2", PAIR, ALWAYS, 2, {T, TOKEN_HIDDEN}, 0},
    {" mixer_ee ", "norm2", NORM, ALWAYS, 1, {C}, 0},
    {" resmlp_ee ", "aff1", NORM, ALWAYS, 1, {C}, 0},
    {" resmlp_ee ", "token", PAIR, ALWAYS, 2, {T, T}, 0},
    {" resmlp_ee ", "ls1", VECTOR, ALWAYS, 1, {C}, 0},
    {" resmlp_ee ", "aff2", NORM, ALWAYS, 1, {C}, 0},
    {" resmlp_ee ", "ls2", VECTOR, ALWAYS, 1, {C}, 0},
    {" mixer_ee resmlp_ee ", "channel.fc1", PAIR, ALWAYS, 2, {CHANNEL_HIDDEN, C}, 0},
    {" mixer_ee resmlp_ee ", "channel.fc2", PAIR, ALWAYS, 2, {C, CHANNEL_HIDDEN}, 0},
    {LISTS, "mlp.0", PAIR, ALWAYS, 2, {MLP_HIDDEN, C}, 0},
    {CNN, "mlp.0", PAIR, ALWAYS, 2, {MLP_HIDDEN, FILTERS}, 0},
    {LISTS CNN, "mlp.1", PAIR, ALWAYS, 2, {K, MLP_HIDDEN}, 0},
};

static const char *const heads[] = {
    "conv_normal", "self_attention", "dummy_mlp",  "linear",         "vit",      "mlp",      "mlp_ee",
    "vit_ee",      "cnn_ignore_ee",  "cnn_add_ee", "cnn_project_ee", "mixer_ee", "resmlp_ee"};
enum { N_HEADS = sizeof heads / sizeof *heads };

static void add_one(struct tiny *tiny, const char *family, size_t i, const char *ending, unsigned rank) {
    static const size_t one_axis_of[4] = {0};
    char name[64];
    size_t shape[4];
    memcpy(shape, rank == tensors[i].rank ? tensors[i].shape : one_axis_of, sizeof shape);
    shape[0] = tensors[i].shape[0];
    snprintf(name, sizeof name, "exit.0.%s%s", tensors[i].leaf, ending);
    tiny_add_canonical(tiny, family, strncmp(family, "lgvit", 5) ? 0 : tensors[i].spelling, name, rank, shape);
}

/* The tensors of a head as exit 0, under the names of a family. */
static void add_head(struct tiny *tiny, const char *family, const char *head, bool distilled) {
    char word[32];
    snprintf(word, sizeof word, " %s ", head);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        if (!strstr(tensors[i].heads, word) || tensors[i].only == (distilled ? PLAIN : DISTILLED))
            continue;
        add_one(tiny, family, i, tensors[i].kind == VECTOR ? "" : ".weight", tensors[i].rank);
        if (tensors[i].kind != VECTOR)
            add_one(tiny, family, i, ".bias", 1);
        if (tensors[i].kind == BATCH_NORM) {
            add_one(tiny, family, i, ".running_mean", 1);
            add_one(tiny, family, i, ".running_var", 1);
        }
    }
}

static void set_exit(json_t *config, const char *head) {
    json_object_set_new(config, "early_exits",
                        json_pack("{s:[{s:i,s:s}],s:{s:s,s:f}}", "exits", "after_block", 1, "head", head, "policy",
                                  "name", "confidence", "thresholds", 0.5));
}

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
    set_exit(tiny.config, head);
    add_head(&tiny, form->family, head, form->flags & FORM_DIST);
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
    for (size_t h = 0; h < N_HEADS; h++) {
        float expected[K], logits[K];
        answer_canonical(&vit, heads[h], expected);
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
            answer_canonical(&others[i], heads[h], logits);
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
            add_head(&tiny, own[distilled].family, head, distilled);
            snprintf(name, sizeof name, "deit.encoder.highway.0.%s",
                     distilled ? lgvit_names[i].of_deit : lgvit_names[i].of_vit);
            assert_non_null(tiny_find(&tiny, name));
            answer(&tiny, logits);
            assert_memory_equal(logits, expected, sizeof logits);
        }
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
    add_head(&tiny, "eevit", "dummy_mlp", false);
    assert_non_null(tiny_find(&tiny, "transformer.layers.0.highway.highway_head.layer2.bias"));
    answer(&tiny, logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

/* ---- other inputs -------------------------------------------------------------------------------------- */

static void test_other_inputs(void **state) {
    for (size_t h = 0; h < N_HEADS; h++) {
        bool fixed = strstr(heads[h], "cnn") || strstr(heads[h], "mixer") || strstr(heads[h], "resmlp");
        char dir[64];
        struct tiny tiny;
        ees_model *model = NULL;
        ees_model_options options;
        ees_error err = {0};
        make_folder(dir);
        tiny_init_form(&tiny, &vit);
        set_exit(tiny.config, heads[h]);
        add_head(&tiny, "hf-vit", heads[h], false);
        tiny_write(&tiny, dir);
        ees_model_options_default(&options);
        options.image_height_px = 20;
        options.image_width_px = 16;
        int rc = ees_model_open(dir, &options, &model, &err);
        if (rc != (fixed ? EES_EMODEL : 0))
            fail_msg("%s at another size: %d %s", heads[h], rc, err.message);
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
    {"linear", FIRST_AXIS, "exit.0.head.cls.weight", K + 1, {"'exit.0.head.cls.weight' is (4,16), expected (3,16)"}},
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
        set_exit(tiny.config, wrong[i].head);
        add_head(&tiny, "hf-vit", wrong[i].head, false);
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
    set_exit(tiny.config, "mlp");
    add_head(&tiny, "hf-vit", "mlp_ee", false);
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
        cmocka_unit_test(test_names_of_eevit),
        cmocka_unit_test(test_other_inputs),
        cmocka_unit_test(test_wrong_tensors),
        cmocka_unit_test(test_superfluous_tensors),
    };
    return cmocka_run_group_tests_name("exit heads in files", tests, NULL, NULL);
}
