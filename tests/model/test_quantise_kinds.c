/* SPDX-License-Identifier: MIT */
/* Description: folders of every kind of exit head, and of a Swin, rewritten in each precision: which matrices get
 * narrow, and that the folder written runs as it was measured. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eestream/quantise.h"
#include "exit_tensors.h"

enum { N_FRAMES = 3, MAX_PIXELS = 3 * 16 * 16, MAX_LOGITS = 3 * 3 };

#define VIT                                                                                                            \
    "{\"model_type\":\"vit\",\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,\"num_attention_heads\":2,"     \
    "\"intermediate_size\":24,\"num_hidden_layers\":2,\"num_labels\":3,\"layer_norm_eps\":1e-6}"
/* A grid of 6 x 6, windows of 3 x 3, a merge. */
#define SWIN(head)                                                                                                     \
    "{\"model_type\":\"swin\",\"embed_dim\":8,\"depths\":[2,1],\"num_heads\":[2,4],\"window_size\":3,"                 \
    "\"mlp_ratio\":2.0,\"patch_size\":2,\"num_labels\":3,\"image_size\":12,\"early_exits\":{"                          \
    "\"exits\":[{\"after_block\":3,\"head\":\"" head "\"}],\"policy\":{\"name\":\"entropy\",\"thresholds\":0.5}}}"

/* Matrices of heads that are narrow, by the end of their names; what is not here makes logits, or is folded into
 * another matrix or cut as it is loaded. */
static const struct {
    const char *head, *narrow[6];
} heads[] = {
    {"conv_normal", {NULL}},
    {"self_attention", {"attn.qkv", "attn.proj"}},
    {"dummy_mlp", {"fc1", "fc2"}},
    {"linear", {"pool"}},
    {"vit", {"blk.attn.proj", "blk.mlp.fc1", "blk.mlp.fc2", "pool"}},
    {"mlp", {"mlp.0"}},
    {"mlp_ee", {"mlp.0"}},
    {"vit_ee", {"blk.attn.proj", "blk.mlp.fc1", "blk.mlp.fc2", "mlp.0"}},
    {"cnn_ignore_ee", {"mlp.0"}},
    {"cnn_add_ee", {"mlp.0"}},
    {"cnn_project_ee", {"mlp.0"}},
    {"mixer_ee", {"token.fc1", "token.fc2", "channel.fc1", "channel.fc2", "mlp.0"}},
    {"resmlp_ee", {"token", "channel.fc2", "mlp.0"}},
};

static float pixels[N_FRAMES][MAX_PIXELS];

static ees_model *open_folder(const char *dir, const char *precision) {
    const ees_model_options options = {.precision = precision};
    ees_model *model = NULL;
    ees_error err = {0};
    if (ees_model_open(dir, &options, &model, &err) != 0)
        fail_msg("%s", err.message);
    return model;
}

static int keep_logits(void *opaque, const ees_tap *tap) {
    float *logits = opaque;
    if (tap->kind == EES_TAP_LOGITS)
        memcpy(logits + (size_t)tap->info->exit_idx * tap->cols, tap->data, tap->cols * sizeof(float));
    return 0;
}

static void run(const char *dir, size_t frame, float logits[MAX_LOGITS]) {
    ees_model *model = open_folder(dir, NULL);
    ees_frame of_pixels = tensor_frame(model, pixels[frame]);
    memset(logits, 0, MAX_LOGITS * sizeof *logits);
    assert_int_equal(ees_model_trace(model, &of_pixels, keep_logits, logits, NULL), 0);
    ees_model_close(model);
}

/* The folder's own difference from the original, which the report must tell. */
static double measure(const char *dir, const char *narrow_dir) {
    double largest = 0;
    for (size_t i = 0; i < N_FRAMES; i++) {
        float before[MAX_LOGITS], after[MAX_LOGITS];
        run(dir, i, before);
        run(narrow_dir, i, after);
        for (size_t j = 0; j < MAX_LOGITS; j++)
            largest = fmax(largest, fabs((double)before[j] - after[j]));
    }
    return largest;
}

static void quantise(const char *dir, const char *narrow_dir, const char *precision, double most) {
    ees_frame frames[N_FRAMES];
    ees_quantise_report report;
    ees_error err = {0};
    ees_model *model = open_folder(dir, NULL);
    for (size_t i = 0; i < N_FRAMES; i++)
        frames[i] = tensor_frame(model, pixels[i]);
    ees_model_close(model);
    const ees_quantise_options options = {.precision = precision, .frames = frames, .n_frames = N_FRAMES};
    if (ees_quantise(dir, narrow_dir, &options, &report, &err) != 0)
        fail_msg("%s", err.message);
    double own = measure(dir, narrow_dir);
    assert_true(own == report.largest_logit_difference);
    if (!(own > 0 && own < most))
        fail_msg("%s: logits differ by %g, expected up to %g", precision, own, most);
    ees_quantise_report_fini(&report);
}

static bool is_narrow(const char *dir, const char *name) {
    char path[128];
    ees_tensors *tensors;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(ees_tensors_open(path, &tensors, NULL), 0);
    const ees_tensor_info *info = ees_tensors_find(tensors, name);
    assert_non_null(info);
    bool narrow = info->dtype == EES_DTYPE_I8;
    ees_tensors_close(tensors);
    return narrow;
}

static bool expects_narrow(size_t head, const char *leaf) {
    for (size_t i = 0; i < 6 && heads[head].narrow[i]; i++)
        if (strcmp(heads[head].narrow[i], leaf) == 0)
            return true;
    return false;
}

/* Every matrix of exit 0. */
static void check_matrices(const struct tiny *tiny, const char *dir, size_t head) {
    for (size_t i = 0; i < tiny->n_tensors; i++) {
        const struct tensor *t = &tiny->tensors[i];
        char leaf[sizeof t->name];
        if (strncmp(t->name, "exit.0.", 7) != 0 || t->rank < 2)
            continue;
        snprintf(leaf, sizeof leaf, "%s", t->name + 7);
        *strstr(leaf, ".weight") = '\0';
        if (is_narrow(dir, t->name) != expects_narrow(head, leaf))
            fail_msg("%s: '%s' is %s", heads[head].head, t->name, expects_narrow(head, leaf) ? "wide" : "narrow");
    }
}

static const char *const precisions[] = {"int8", "bf16", "fp16"};
static const double tolerances[] = {0.15, 0.04, 0.004}; /* of logits of about 1 */

static void test_heads(void **state) {
    static const struct form form = {.family = "hf-vit", .config = VIT};
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++) {
        char dir[64], narrow_dir[64];
        struct tiny tiny;
        assert_string_equal(heads[h].head, exit_heads[h]);
        make_folder(dir);
        make_folder(narrow_dir);
        tiny_init_form(&tiny, &form);
        exits_set(tiny.config, heads[h].head);
        exits_add(&tiny, form.family, heads[h].head, false);
        tiny_write(&tiny, dir);
        for (size_t p = 0; p < 3; p++) {
            quantise(dir, narrow_dir, precisions[p], tolerances[p]);
            if (p == 0)
                check_matrices(&tiny, narrow_dir, h);
        }
        tiny_fini(&tiny);
        remove_folder(dir);
        remove_folder(narrow_dir);
    }
    assert_null(exit_heads[sizeof heads / sizeof *heads]);
}

/* A Swin with a head, in all precisions; `narrow` are its matrices that must be so. */
static void check_swin(const char *config, const char *head, const char *const *narrow) {
    char dir[64], narrow_dir[64];
    struct tiny tiny;
    make_folder(dir);
    make_folder(narrow_dir);
    tiny_init_swin(&tiny, "hf-swin", config);
    exits_add_module(&tiny, "hf-swin", head);
    tiny_write(&tiny, dir);
    for (size_t p = 0; p < 3; p++) {
        quantise(dir, narrow_dir, precisions[p], tolerances[p]);
        for (size_t i = 0; p == 0 && narrow[i]; i++)
            assert_true(is_narrow(narrow_dir, narrow[i]));
    }
    tiny_fini(&tiny);
    remove_folder(dir);
    remove_folder(narrow_dir);
}

static void test_swin(void **state) {
    static const char *const of_all[] = {
        "swin.embeddings.patch_embeddings.projection.weight",
        "swin.encoder.layers.0.blocks.1.attention.self.key.weight",
        "swin.encoder.layers.0.downsample.reduction.weight",
        "swin.encoder.layers.1.blocks.0.attention.output.dense.weight",
        "swin.encoder.layers.1.blocks.0.intermediate.dense.weight",
        NULL,
    };
    static const char *const of_vit[] = {"exit.0.blk.attn.qkv.weight", "exit.0.blk.mlp.fc2.weight", NULL};
    static const char *const of_attention[] = {"exit.0.attn.qkv.weight", "exit.0.attn.proj.weight", NULL};
    check_swin(SWIN("linear"), "none", of_all);
    check_swin(SWIN("vit"), "vit", of_vit);
    check_swin(SWIN("self_attention"), "self_attention", of_attention);
    check_swin(SWIN("conv_normal"), "conv_normal", of_all);
}

/* A certificate is of the original's weights. */
static void test_certificates_stay_behind(void **state) {
    char dir[64], narrow_dir[64], path[128];
    struct tiny tiny;
    ees_quantise_report report;
    make_folder(dir);
    make_folder(narrow_dir);
    tiny_init_swin(&tiny, "hf-swin", SWIN("linear"));
    tiny_write(&tiny, dir);
    ees_model *model = open_folder(dir, NULL);
    const ees_frame frame = tensor_frame(model, pixels[0]);
    const ees_quantise_options options = {.frames = &frame, .n_frames = 1};
    ees_model_close(model);
    assert_int_equal(ees_quantise(dir, narrow_dir, &options, &report, NULL), 0);
    assert_false(report.leaves_certificate);
    ees_quantise_report_fini(&report);
    write_file(dir, "certificate.json", "{}", 2);
    assert_int_equal(ees_quantise(dir, narrow_dir, &options, &report, NULL), 0);
    assert_true(report.leaves_certificate);
    ees_quantise_report_fini(&report);
    snprintf(path, sizeof path, "%s/certificate.json", narrow_dir);
    assert_null(fopen(path, "rb"));
    tiny_fini(&tiny);
    remove_folder(dir);
    remove_folder(narrow_dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_swin),
        cmocka_unit_test(test_certificates_stay_behind),
    };
    for (size_t i = 0; i < N_FRAMES; i++)
        for (size_t p = 0; p < MAX_PIXELS; p++)
            pixels[i][p] = sinf((float)p * (.37f + .11f * (float)i));
    return cmocka_run_group_tests_name("precisions of heads and Swins", tests, NULL, NULL);
}
