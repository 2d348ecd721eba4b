/* SPDX-License-Identifier: MIT */
/* Model folders with one thing wrong each: all are refused with EES_EMODEL, and the message names the thing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stages/policies/policy.h"
#include "support.h"

#define LAYER "deit.encoder.layer.1."
#define EXIT  "deit.encoder.highway.0."

static void expect_refused(const char *dir, const char *const *needles) {
    ees_model *model = NULL;
    ees_error err = {0};
    int rc = ees_model_open(dir, NULL, &model, &err);
    if (rc != EES_EMODEL)
        fail_msg("opened with %d %s, expected a refusal that names %s", rc, err.message, needles[0]);
    for (; *needles; needles++)
        if (!strstr(err.message, *needles))
            fail_msg("'%s' does not name '%s'", err.message, *needles);
    assert_int_equal(err.code, rc);
    assert_null(model);
}

struct config_case {
    const char *key, *value; /* value NULL: the key is removed */
    const char *needles[4];
};

static const struct config_case config_cases[] = {
    {"model_type", "\"beit\"", {"config.json", "'model_type'", "beit", "\"vit\""}},
    {"model_type", "7", {"'model_type'", "7"}},
    {"architectures", "[\"DeiTForImageClassification\"]", {"'architectures'", "DeiTForImageClassification"}},
    {"backbone", "\"DeiT\"", {"'backbone'", "\"DeiT\"", "\"ViT\""}},
    {"encoder_ensemble", "true", {"'encoder_ensemble'"}},
    {"hidden_size", "0", {"'hidden_size'", "0", "from 1 to"}},
    {"hidden_size", "-16", {"'hidden_size'", "-16"}},
    {"hidden_size", "16.0", {"'hidden_size'", "16.0"}},
    {"hidden_size", "\"16\"", {"'hidden_size'", "\"16\""}},
    {"hidden_size", "99999999999", {"'hidden_size'", "99999999999"}},
    {"hidden_size", "32", {"model.safetensors", "'deit.embeddings.cls_token'", "(1,1,16)", "expected (1,1,32)"}},
    {"num_attention_heads", "3", {"'hidden_size'", "16", "'num_attention_heads' (3)"}},
    {"num_hidden_layers", "3", {"tensor 'deit.encoder.layer.2.layernorm_before.weight'", "is missing"}},
    {"num_hidden_layers", "97", {"'num_hidden_layers'", "97"}},
    {"intermediate_size", "25", {"deit.encoder.layer.0.", "intermediate.dense.weight", "(24,16)", "expected (25,16)"}},
    {"patch_size", "9", {"'patch_size'", "9", "8 x 12"}},
    {"patch_size", "5", {"position_embeddings", "(1,7,16)", "(1,3,16)"}},
    {"image_size", "[8,0]", {"'image_size'", "[8,0]"}},
    {"image_size", "[8]", {"'image_size'", "[8]"}},
    {"image_size", "16", {"position_embeddings", "(1,7,16)", "expected (1,17,16)"}},
    {"num_channels", "1", {"'num_channels'", "1"}},
    {"hidden_act", "\"quick_gelu\"", {"'hidden_act'", "quick_gelu", "\"gelu\"", "\"gelu_new\""}},
    {"layer_norm_eps", "-1", {"'layer_norm_eps'", "-1"}},
    {"qkv_bias", "\"yes\"", {"'qkv_bias'", "yes"}},
    {"qkv_bias", "false", {"query.bias", "not part of"}},
    {"id2label", "{\"0\":\"a\",\"1\":\"b\",\"3\":\"c\"}", {"'id2label'", "\"3\""}},
    {"id2label", "{\"0\":\"a\",\"01\":\"b\"}", {"'id2label'", "\"01\""}},
    {"id2label", "{\"0\":5}", {"'id2label'", "5"}},
    {"id2label", "[]", {"'id2label'", "[]"}},
    {"id2label", "{\"0\":\"a\",\"1\":\"b\"}", {"classifier.weight", "(3,16)", "expected (2,16)"}},
    {"num_labels", "4", {"'num_labels'", "4", "3"}},
    {"num_early_exits", "3", {"'num_early_exits'", "3", "8, 6, 4 or 2"}},
    {"num_early_exits", "4", {"'position_exits'", "[1,2]", "4 blocks"}},
    {"num_early_exits", "33", {"'num_early_exits'", "33"}},
    {"position_exits", "\"[2,1]\"", {"'position_exits'", "[2,1]", "increasing"}},
    {"position_exits", "\"[1,1]\"", {"'position_exits'", "[1,1]", "increasing"}},
    {"position_exits", "\"[1,3]\"", {"'position_exits'", "[1,3]", "1 to 2"}},
    {"position_exits", "\"[0,1]\"", {"'position_exits'", "[0,1]"}},
    {"position_exits", "\"1,2\"", {"'position_exits'", "1,2"}},
    {"position_exits", "null", {"'position_exits'", "missing"}},
    {"highway_type", "\"cubic\"", {"'highway_type'", "cubic", "conv1_1", "resmlp_ee"}},
    {"highway_type", "\"linear\"", {"highway.0.pooler.dense.weight'", "classifier.pooler.dense.weight'", "missing"}},
    {"highway_type", "\"attention_r0\"", {"'highway_type'", "attention_r0"}},
    {"highway_type", NULL, {"highway.0.pooler.dense.weight'", "missing"}}, /* linear is the default */
    {"highway_type", "\"conv2_1\"", {"highway.1.mlp.conv1.0.weight'", "missing"}},
    {"exit_strategy", "\"hope\"", {"'exit_strategy'", "hope", "patience"}},
    {"threshold", "\"high\"", {"'threshold'", "high"}},
    {"threshold", "[0.5]", {"'threshold'", "[0.5]", "2"}},
    {"threshold", "[0.5,null]", {"'threshold'"}},
    {"threshold", "1e300", {"'threshold'"}},
};

static void test_configs(void **state) {
    for (size_t i = 0; i < sizeof config_cases / sizeof *config_cases; i++) {
        const struct config_case *one = &config_cases[i];
        char dir[64];
        struct tiny tiny;
        make_folder(dir);
        tiny_init(&tiny, "lgvit-vit");
        if (one->value)
            json_object_set_new(tiny.config, one->key, json_loads(one->value, JSON_DECODE_ANY, NULL));
        else
            json_object_del(tiny.config, one->key);
        tiny_write(&tiny, dir);
        const char *needles[5] = {0};
        memcpy(needles, one->needles, sizeof one->needles);
        expect_refused(dir, needles);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

static const struct config_case canonical_cases[] = {
    {"early_exits", "7", {"'early_exits'", "7"}},
    {"early_exits", "{\"exits\":[]}", {"'early_exits.exits'", "[]"}},
    {"early_exits", "{\"exits\":[{\"after_block\":1}]}", {"'early_exits.exits'", "after_block"}},
    {"early_exits",
     "{\"exits\":[{\"after_block\":2,\"head\":\"mlp\"},{\"after_block\":2,\"head\":\"mlp\"}]}",
     {"'early_exits.exits'", "\"after_block\":2", "strictly increasing blocks from 1 to 2"}},
    {"early_exits", "{\"exits\":[{\"after_block\":0,\"head\":\"mlp\"}]}", {"'early_exits.exits'", "\"after_block\":0"}},
    {"early_exits", "{\"exits\":[{\"after_block\":9,\"head\":\"conv1_1\"}]}", {"'early_exits.exits'", "9"}},
    {"early_exits",
     "{\"exits\":[{\"after_block\":1,\"head\":\"mixer\"}]}",
     {"'early_exits.exits'", "mixer", "mixer_ee"}},
    {"early_exits",
     "{\"exits\":[{\"after_block\":1,\"head\":\"conv1_1\"}],\"policy\":{\"thresholds\":0.5,"
     "\"degraded_thresholds\":0.6}}",
     {"degraded threshold 0", "0.6", "below 0.5"}},
    {"early_exits",
     "{\"exits\":[{\"after_block\":1,\"head\":\"conv1_1\"}],\"policy\":{\"degraded_thresholds\":[0.6,0.5]}}",
     {"degraded_thresholds", "list of 1"}},
    {"early_exits",
     "{\"exits\":[{\"after_block\":1,\"head\":\"conv1_1\"}],\"policy\":{\"name\":\"patience\","
     "\"degraded_thresholds\":1}}",
     {"patience", "cannot degrade"}},
    {"early_exits",
     "{\"exits\":[{\"after_block\":1,\"head\":\"conv1_1\"}],\"policy\":{\"name\":\"luck\"}}",
     {"'early_exits.policy.name'", "luck"}},
    {"early_exits",
     "{\"exits\":[{\"after_block\":1,\"head\":\"conv1_1\"}],\"policy\":{\"name\":\"patience\",\"thresholds\":0.5}}",
     {"patience", "no threshold"}},
};

static void test_canonical_exits(void **state) {
    for (size_t i = 0; i < sizeof canonical_cases / sizeof *canonical_cases; i++) {
        const struct config_case *one = &canonical_cases[i];
        char dir[64];
        struct tiny tiny;
        make_folder(dir);
        tiny_init(&tiny, "hf-vit");
        json_object_set_new(tiny.config, one->key, json_loads(one->value, JSON_DECODE_ANY, NULL));
        tiny_write(&tiny, dir);
        const char *needles[5] = {0};
        memcpy(needles, one->needles, sizeof one->needles);
        expect_refused(dir, needles);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

static const struct config_case preproc_cases[] = {
    {"size", "{\"height\":12,\"width\":8}", {"'size'", "8 x 12"}},
    {"size", "{\"shortest_edge\":8}", {"'size'", "8 x 12"}},
    {"size", "{\"height\":8}", {"'size'", "{\"height\":8}"}},
    {"size", "[8,12]", {"'size'", "[8,12]"}},
    {"size", "0", {"'size'", "0"}},
    {"do_resize", "false", {"'do_resize'", "false"}},
    {"resample", "1", {"'resample'", "1", "bilinear"}},
    {"image_mean", "[0.5,0.5]", {"'image_mean'", "[0.5,0.5]"}},
    {"image_std", "[0.5,0.5,0]", {"'image_std'"}},
    {"rescale_factor", "0", {"'rescale_factor'", "0"}},
    {"do_center_crop", "1", {"'do_center_crop'", "1"}},
};

/* On the plain family, whose preprocessor file decides. */
static void test_preprocessors(void **state) {
    for (size_t i = 0; i < sizeof preproc_cases / sizeof *preproc_cases; i++) {
        const struct config_case *one = &preproc_cases[i];
        char dir[64], text[256];
        struct tiny tiny;
        make_folder(dir);
        tiny_init(&tiny, "hf-vit");
        tiny_write(&tiny, dir);
        bool is_size = strcmp(one->key, "size") == 0;
        int n = snprintf(text, sizeof text, "{%s\"%s\":%s}", is_size ? "" : "\"size\":{\"height\":8,\"width\":12},",
                         one->key, one->value);
        write_file(dir, "preprocessor_config.json", text, (size_t)n);
        const char *needles[5] = {"preprocessor_config.json"};
        memcpy(needles + 1, one->needles, sizeof one->needles);
        expect_refused(dir, needles);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

enum change { REMOVE, RESHAPE, VALUE, ADD, INTEGERS };

struct tensor_case {
    enum change change;
    const char *tensor;
    float value; /* VALUE: at index 5 */
    const char *needles[4];
};

static const struct tensor_case tensor_cases[] = {
    {REMOVE, LAYER "output.dense.weight", 0, {"model.safetensors", "'" LAYER "output.dense.weight'", "missing"}},
    {REMOVE, "deit.embeddings.cls_token", 0, {"'deit.embeddings.cls_token'", "missing"}},
    {REMOVE, LAYER "attention.attention.value.bias", 0, {"attention.value.bias'", "missing"}},
    {REMOVE, EXIT "classifier.weight", 0, {"'" EXIT "classifier.weight'", "missing"}},
    {REMOVE, EXIT "mlp.proj_bn.running_var", 0, {"'" EXIT "mlp.proj_bn.running_var'", "missing"}},
    {RESHAPE, LAYER "output.dense.weight", 0, {"'" LAYER "output.dense.weight' is (24,16), expected (16,24)"}},
    {RESHAPE, LAYER "intermediate.dense.weight", 0, {"is (16,24), expected (24,16)"}},
    {VALUE, LAYER "attention.attention.key.weight", NAN, {"attention.key.weight'", "nan", "index 5"}},
    {VALUE, "classifier.weight", INFINITY, {"'classifier.weight'", "inf", "index 5"}},
    {VALUE, EXIT "mlp.conv1.2.running_var", -1, {"'" EXIT "mlp.conv1.2.running_var'", "negative", "-1", "index 5"}},
    {INTEGERS, "deit.layernorm.weight", 0, {"'deit.layernorm.weight'", "integers"}},
    {ADD, "deit.embeddings.distillation_token", 0, {"'deit.embeddings.distillation_token'", "not part of"}},
    {ADD, "deit.encoder.highway.2.classifier.weight", 0, {"highway.2.classifier.weight'", "not part of"}},
};

static void change_tensor(struct tiny *tiny, const struct tensor_case *one) {
    struct tensor *t;
    size_t first;
    switch (one->change) {
    case REMOVE:
        tiny_remove(tiny, one->tensor);
        break;
    case RESHAPE:
        t = tiny_find(tiny, one->tensor);
        first = t->shape[0];
        t->shape[0] = t->shape[1];
        t->shape[1] = first;
        break;
    case VALUE:
        tiny_find(tiny, one->tensor)->data[5] = one->value;
        break;
    case INTEGERS:
        t = tiny_find(tiny, one->tensor);
        free(t->data);
        t->data = NULL;
        t->dtype = "I64";
        break;
    case ADD:
        t = &tiny->tensors[tiny->n_tensors++];
        *t = (struct tensor){.dtype = "F32", .rank = 1, .shape = {3}};
        snprintf(t->name, sizeof t->name, "%s", one->tensor);
        break;
    }
}

static void test_tensors(void **state) {
    for (size_t i = 0; i < sizeof tensor_cases / sizeof *tensor_cases; i++) {
        char dir[64];
        struct tiny tiny;
        make_folder(dir);
        tiny_init(&tiny, "lgvit-vit");
        change_tensor(&tiny, &tensor_cases[i]);
        tiny_write(&tiny, dir);
        const char *needles[5] = {0};
        memcpy(needles, tensor_cases[i].needles, sizeof tensor_cases[i].needles);
        expect_refused(dir, needles);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

/* ---- families ------------------------------------------------------------------------------------------ */

#define HF_SIZES                                                                                                       \
    "\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,\"num_attention_heads\":2,\"intermediate_size\":24,"    \
    "\"num_hidden_layers\":2,\"num_labels\":3"
#define DISTILLED                                                                                                      \
    { "hf-deit-distilled", "{\"model_type\":\"deit\"," HF_SIZES "}", FORM_DIST, 0, 0, 0 }
#define DISTILLED_BY_NAME                                                                                              \
    {                                                                                                                  \
        "hf-deit-distilled",                                                                                           \
            "{\"model_type\":\"deit\",\"architectures\":[\"DeiTForImageClassificationWithTeacher\"]," HF_SIZES "}",    \
            FORM_DIST, 0, 0, 0                                                                                         \
    }
#define DINOV2(keys)                                                                                                   \
    {                                                                                                                  \
        "hf-dinov2-with-registers",                                                                                    \
            "{\"model_type\":\"dinov2_with_registers\",\"mlp_ratio\":1.5," HF_SIZES "," keys "}",                      \
            FORM_REGISTERS | FORM_SCALE | FORM_WIDE_HEAD, 0, 0, 0                                                      \
    }
#define TIMM(flags, keys)                                                                                              \
    { "timm-vit", "{\"model_args\":{\"img_size\":[8,12],\"num_heads\":2" keys "}}", flags, 0, 0, 0 }
#define TORCHVISION(args)                                                                                              \
    { "torchvision-vit", "{\"args\":{\"image_size\":[8,12]" args "}}", 0, 0, 0, 0 }
#define EEVIT(model)                                                                                                   \
    { "eevit", "{\"model\":{\"image_size\":[8,12],\"num_attn_heads\":2,\"early_exit_config\":" model "}}", 0, 0, 0, 0 }
#define EEVIT_EXIT(exit) EEVIT("{\"num_attn_heads\":8,\"exits\":[" exit "]}")

struct form_case {
    struct form form;
    struct tensor_case what; /* tensor NULL: nothing is changed */
};

static const struct form_case form_cases[] = {
    {DISTILLED, {REMOVE, "distillation_classifier.weight", 0, {"'distillation_classifier.weight'", "missing"}}},
    {DISTILLED, {REMOVE, "distillation_classifier.bias", 0, {"'distillation_classifier.bias'", "missing"}}},
    {DISTILLED_BY_NAME, {REMOVE, "cls_classifier.weight", 0, {"'cls_classifier.weight'", "missing"}}},
    {DISTILLED, {REMOVE, "deit.embeddings.distillation_token", 0, {"distillation_token'", "missing"}}},
    {DISTILLED, {RESHAPE, "distillation_classifier.weight", 0, {"is (16,3), expected (3,16)"}}},
    {{"hf-deit-distilled", "{\"model_type\":\"deit\",\"architectures\":[\"DeiTForImageClassification\"]," HF_SIZES "}",
      FORM_DIST, 0, 0, 0},
     {REMOVE, NULL, 0, {"'architectures'", "DeiTForImageClassification", "WithTeacher"}}},
    {{"hf-deit-distilled", "{\"model_type\":\"deit\"," HF_SIZES ",\"id2label\":{\"0\":\"a\",\"1\":\"b\"}}", FORM_DIST,
      0, 0, 0},
     {REMOVE, NULL, 0, {"'num_labels'", "3", "2 of 'id2label'"}}},
    {{"hf-vit", "{\"model_type\":\"resnet\"}", 0, 0, 0, 0},
     {REMOVE, NULL, 0, {"'model_type'", "resnet", "\"vit\", \"deit\", \"dinov2\", \"dinov2_with_registers\""}}},
    {{"hf-vit", "{}", 0, 0, 0, 0}, {REMOVE, "vit.embeddings.cls_token", 0, {"'model_type'", "missing", "timm"}}},
    {{"timm-vit", "{\"model_type\":\"vit\"," HF_SIZES "}", 0, 0, 0, 0},
     {REMOVE, NULL, 0, {"'vit.embeddings.cls_token'", "missing"}}},
    {DINOV2("\"num_register_tokens\":4"), {REMOVE, NULL, 0, {"register_tokens' is (1,2,16), expected (1,4,16)"}}},
    {DINOV2("\"num_register_tokens\":65"), {REMOVE, NULL, 0, {"'num_register_tokens'", "65"}}},
    {DINOV2("\"num_register_tokens\":2,\"use_swiglu_ffn\":true"),
     {REMOVE, NULL, 0, {"layer.0.mlp.weights_in.weight'", "missing"}}},
    {DINOV2("\"num_register_tokens\":2"),
     {REMOVE, "dinov2_with_registers.encoder.layer.1.layer_scale2.lambda1", 0, {"layer_scale2.lambda1'", "missing"}}},
    {DINOV2("\"num_register_tokens\":2"), {RESHAPE, "classifier.weight", 0, {"is (32,3), expected (3,32)"}}},
    {DINOV2("\"num_register_tokens\":2"), {ADD, "head.weight", 0, {"'head.weight'", "not part of"}}},
    {TIMM(0, ",\"act_layer\":\"mish\""), {REMOVE, NULL, 0, {"'model_args.act_layer'", "mish", "gelu_tanh"}}},
    {TIMM(0, ",\"num_classes\":5"), {REMOVE, NULL, 0, {"'head.weight' is (3,16), expected (5,16)"}}},
    {TIMM(0, ",\"depth\":3"), {REMOVE, NULL, 0, {"'blocks.2.norm1.weight'", "blocks.*.2.norm1.weight", "missing"}}},
    {TIMM(0, ""), {REMOVE, "blocks.1.norm1.weight", 0, {"'blocks.1.norm1.weight'", "missing"}}},
    {TIMM(0, ""), {REMOVE, "head.weight", 0, {"'head.weight'", "missing"}}},
    {TIMM(0, ""), {ADD, "patch_embed.norm.weight", 0, {"'patch_embed.norm.weight'", "not part of"}}},
    {TIMM(FORM_DIST, ""), {REMOVE, "head_dist.weight", 0, {"'head_dist.weight'", "missing"}}},
    {TIMM(FORM_SCALE, ""), {REMOVE, "blocks.1.ls1.gamma", 0, {"'blocks.1.ls1.gamma'", "missing"}}},
    {{"timm-vit", "{\"model_args\":{\"num_heads\":2}}", 0, 0, 0, 0},
     {REMOVE, NULL, 0, {"position table has 7 rows", "square"}}},
    {{"timm-vit", "{\"global_pool\":\"map\",\"model_args\":{\"img_size\":[8,12],\"num_heads\":2}}", 0, 0, 0, 0},
     {REMOVE, NULL, 0, {"'global_pool'", "map", "\"avg\""}}},
    {TORCHVISION(""), {REMOVE, NULL, 0, {"'args.num_heads'", "missing", "16 channels"}}},
    {TORCHVISION(",\"num_heads\":2,\"num_classes\":7"),
     {REMOVE, NULL, 0, {"'heads.head.weight' is (3,16), expected (7,16)"}}},
    {TORCHVISION(",\"num_heads\":2,\"mlp_dim\":25"), {REMOVE, NULL, 0, {"mlp.0.weight' is (24,16), expected (25,16)"}}},
    {TORCHVISION(",\"num_heads\":2"),
     {REMOVE,
      "encoder.layers.encoder_layer_1.mlp.3.weight",
      0,
      {"mlp.3.weight', also spelled", "linear_2", "missing"}}},
    {TORCHVISION(",\"num_heads\":2"),
     {REMOVE, "encoder.layers.encoder_layer_0.self_attention.in_proj_weight", 0, {"'model_type'", "missing"}}},
    {EEVIT_EXIT("[2,\"conv1_1\"]"), {REMOVE, NULL, 0, {"exits'", "[2,\"conv1_1\"]", "1 to 2"}}},
    {EEVIT_EXIT("[0,\"smart_mlp\"]"), {REMOVE, NULL, 0, {"exits'", "smart_mlp", "conv1_1"}}},
    {EEVIT_EXIT("[0,\"dummy_mlp\"]"), {REMOVE, NULL, 0, {"highway_head.layer1.weight'", "missing"}}},
    {EEVIT_EXIT("[0,\"attention\",{}]"), {REMOVE, NULL, 0, {"exits'", "attention"}}},
    {EEVIT_EXIT("[-1,\"conv1_1\"]"), {REMOVE, NULL, 0, {"exits'", "[-1,"}}},
    {EEVIT_EXIT("[1,\"conv1_1\"]"), {REMOVE, NULL, 0, {"'transformer.layers.1.highway.highway_head.conv1.0.weight'"}}},
    {EEVIT("{\"exits\":[]}"), {REMOVE, NULL, 0, {"'model.early_exit_config.exits'", "[]"}}},
    {EEVIT("{\"num_classes\":7,\"exits\":[[0,\"conv1_1\"]]}"), {REMOVE, NULL, 0, {"num_classes'", "7", "3"}}},
    {EEVIT("{\"num_attn_heads\":4,\"exits\":[[0,\"conv1_1\"]]}"), {REMOVE, NULL, 0, {"num_attn_heads'", "4", "8"}}},
    {{"eevit", "{}", 0, 0, 0, 0}, {REMOVE, NULL, 0, {"'model'", "missing"}}},
};

static void test_families(void **state) {
    for (size_t i = 0; i < sizeof form_cases / sizeof *form_cases; i++) {
        const struct form_case *one = &form_cases[i];
        char dir[64];
        struct tiny tiny;
        make_folder(dir);
        tiny_init_form(&tiny, &one->form);
        if (one->what.tensor)
            change_tensor(&tiny, &one->what);
        tiny_write(&tiny, dir);
        const char *needles[5] = {0};
        memcpy(needles, one->what.needles, sizeof one->what.needles);
        expect_refused(dir, needles);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

/* An input the model cannot have is the caller's mistake, not the file's. */
static void test_inputs_asked_for(void **state) {
    static const struct {
        unsigned h, w;
        const char *needle;
    } cases[] = {{3, 12, "at least one patch, 4 x 4"}, {8, 0, "8 x 0"}, {8196, 8, "8192"}, {8192, 8192, "tokens"}};
    char dir[64];
    struct tiny tiny;
    make_folder(dir);
    tiny_init(&tiny, "lgvit-vit");
    tiny_write(&tiny, dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ees_model *model = NULL;
        ees_model_options options;
        ees_error err = {0};
        ees_model_options_default(&options);
        options.image_height_px = cases[i].h;
        options.image_width_px = cases[i].w;
        assert_int_equal(ees_model_open(dir, &options, &model, &err), EES_EINVAL);
        if (!strstr(err.message, cases[i].needle))
            fail_msg("'%s' does not name '%s'", err.message, cases[i].needle);
        assert_null(model);
    }
    tiny_fini(&tiny);
    remove_folder(dir);
}

/* Cut after every length around the interesting places; every cut is refused. */
static void test_cut_files(void **state) {
    char dir[64], path[100];
    struct tiny tiny;
    struct stat st;
    make_folder(dir);
    tiny_init(&tiny, "lgvit-vit");
    tiny_write(&tiny, dir);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(stat(path, &st), 0);
    for (off_t n = st.st_size - 1; n >= 0; n = n > 16 ? n * 3 / 4 : n - 1) {
        assert_int_equal(truncate(path, n), 0);
        expect_refused(dir, (const char *[]){"model.safetensors", NULL});
    }
    tiny_fini(&tiny);
    remove_folder(dir);
}

static void test_broken_files(void **state) {
    static const struct {
        const char *file, *text;
        size_t n_bytes;
        const char *needles[4];
    } cases[] = {
        {"config.json", "{\"model_type\": \"vit\",", 20, {"config.json", "line 1"}},
        {"config.json", "{\"a\": 1, \"a\": 2}", 16, {"config.json", "a"}},
        {"config.json", "[1]", 3, {"config.json", "object"}},
        {"config.json", "", 0, {"config.json", "JSON"}},
        {"preprocessor_config.json", "nonsense", 8, {"preprocessor_config.json", "line 1"}},
        {"model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10, {"model.safetensors"}},
        {"model.safetensors", "\x02\0\0\0\0\0\0\0{}", 10, {"model.safetensors", "is missing"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char dir[64];
        struct tiny tiny;
        make_folder(dir);
        tiny_init(&tiny, "lgvit-vit");
        tiny_write(&tiny, dir);
        write_file(dir, cases[i].file, cases[i].text, cases[i].n_bytes);
        const char *needles[5] = {0};
        memcpy(needles, cases[i].needles, sizeof cases[i].needles);
        expect_refused(dir, needles);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

static void test_missing_files(void **state) {
    char dir[64];
    struct tiny tiny;
    make_folder(dir);
    expect_refused(dir, (const char *[]){"config.json", "No such file", NULL});
    tiny_init(&tiny, "lgvit-vit");
    tiny_write(&tiny, dir);
    char path[100];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(unlink(path), 0);
    expect_refused(dir, (const char *[]){"model.safetensors", NULL});
    tiny_fini(&tiny);
    remove_folder(dir);
}

/* The override takes NaN weights; the frame then fails instead of answering, at full depth, whatever the policy. */
static void test_nonfinite_allowed(void **state) {
    char dir[64];
    struct tiny tiny;
    ees_model *model;
    ees_model_options options;
    float pixels[3 * 8 * 12] = {0};
    make_folder(dir);
    tiny_init(&tiny, "lgvit-vit");
    tiny_find(&tiny, "deit.embeddings.cls_token")->data[3] = NAN;
    tiny_write(&tiny, dir);
    ees_model_options_default(&options);
    options.allow_nonfinite = true;
    assert_int_equal(ees_model_open(dir, &options, &model, NULL), 0);
    ees_frame frame = tensor_frame(model, pixels);
    for (const char *const *name = ees_policy_names(); *name; name++) {
        ees_policy_options policy = {.name = *name};
        struct ees__policy_setup setup;
        struct walked walked;
        const struct ees__policy *known = ees__policy_find(*name);
        bool needs_more = known && (known->needs_gate || known->needs_members);
        assert_int_equal(ees__policy_setup(model, &policy, &setup, NULL), needs_more ? EES_EINVAL : 0);
        if (needs_more)
            continue;
        walk_units(model, &setup, &frame, 0, &walked);
        assert_int_equal(walked.rc, EES_EDAMAGED);
        assert_int_equal(walked.n_units_run, ees_model_get_info(model)->n_units);
        assert_non_null(strstr(walked.item.error.message, "not finite"));
        walked_fini(&walked);
    }
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configs),       cmocka_unit_test(test_canonical_exits),
        cmocka_unit_test(test_preprocessors), cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_families),      cmocka_unit_test(test_inputs_asked_for),
        cmocka_unit_test(test_cut_files),     cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_missing_files), cmocka_unit_test(test_nonfinite_allowed),
    };
    return cmocka_run_group_tests_name("bad models", tests, NULL, NULL);
}
