/* SPDX-License-Identifier: MIT */
/* Exit heads against the hand-sized known answers of spec 11 (C = 2, 3 x 3 grid), at every kernel level. */
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "stages/heads/gah.h"
#include "support.h"

extern const struct ees__op ees__head_conv1_1, ees__head_conv2_1;

struct named {
    const char *name;
    float values[18];
};

static const struct named tensors[] = {
    {"h.conv1.weight", {1, .5f, -.5f, 1}},
    {"h.conv1.bias", {.1f, -.1f}},
    {"h.bn1.weight", {1, 2}},
    {"h.bn1.bias", {.5f, -.5f}},
    {"h.bn1.running_mean", {.1f, .2f}},
    {"h.bn1.running_var", {.25f, 4}},
    {"h.dw.weight", {0, 1, 0, 1, 2, 1, 0, 1, 0, 1, 0, -1, 2, 0, -2, 1, 0, -1}},
    {"h.dw.bias", {0, .1f}},
    {"h.bn2.weight", {1.5f, .5f}},
    {"h.bn2.bias", {0, .25f}},
    {"h.bn2.running_mean", {1, -1}},
    {"h.bn2.running_var", {1, 2}},
    {"h.conv2.weight", {1, 0, .5f, -1}},
    {"h.conv2.bias", {0, .2f}},
    {"h.bn3.weight", {1, 1}},
    {"h.bn3.bias", {.1f, 0}},
    {"h.bn3.running_mean", {.5f, .5f}},
    {"h.bn3.running_var", {1, .5f}},
    {"h.attn.qkv.weight", {1, 0, 0, 1, .5f, .5f, 1, -1, 2, 0, 0, 3}},
    {"h.attn.proj.weight", {1, 1, 0, 1}},
    {"h.attn.proj.bias", {.1f, -.1f}},
    {"h.head.cls.weight", {1, -1, .5f, 2, 0, 1}},
    {"h.head.cls.bias", {0, .1f, -.1f}},
};

static int read_named(struct ees__weights *weights, const char *name, const struct ees__tensor_shape *shape,
                      struct ees__buffer *buffer, ees_error *err) {
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (strcmp(tensors[i].name, name) == 0) {
            assert_int_equal(ees__buffer_reserve(buffer, ees__tensor_elements(shape), name, NULL), 0);
            memcpy(buffer->data, tensors[i].values, ees__tensor_elements(shape) * sizeof(float));
            return 0;
        }
    fail_msg("a head asked for '%s'", name);
    return EES_EMODEL;
}

static struct ees__weights weights = {.read = read_named};

static const struct ees__dims dims = {
    .grid_h = 3, .grid_w = 3, .n_special = 1, .n_patches = 9, .n_tokens = 10, .n_channels = 2, .n_classes = 3};

static void fill_tokens(float state[20]) {
    state[0] = .2f;
    state[1] = -.3f;
    for (int t = 0; t < 9; t++) {
        state[2 + 2 * t] = .1f * (float)(t + 1);
        state[3 + 2 * t] = -.1f * (float)(t + 1) + .05f * (float)t;
    }
}

enum kind { CONV1_1, CONV2_1, GAH_R2 };

static int open_head(enum kind kind, struct ees__loader *loader, void **self, struct ees__op_cost *cost) {
    switch (kind) {
    case CONV1_1:
        return ees__head_conv1_1.open(loader, "h", 0, self, cost, NULL);
    case CONV2_1:
        return ees__head_conv2_1.open(loader, "h", 0, self, cost, NULL);
    default:
        return ees__gah_open(loader, "h", 2, 2, false, self, cost, NULL);
    }
}

static void check_head(enum kind kind, const struct ees__op *op, const float expected[3]) {
    size_t n_levels;
    const struct ees__kernels *const *levels = ees__kernels_list(&n_levels);
    for (size_t i = 0; i < n_levels; i++) {
        struct ees__loader loader = {.weights = &weights, .kernels = levels[i], .dims = &dims};
        struct ees__op_cost cost = {0};
        void *self = NULL;
        float state[20], before[20], logits[3] = {0};
        assert_int_equal(open_head(kind, &loader, &self, &cost), 0);
        ees__loader_fini(&loader);
        float *scratch = ees__calloc_aligned(cost.scratch_floats, sizeof *scratch);
        assert_non_null(scratch);
        fill_tokens(state);
        memcpy(before, state, sizeof state);
        struct ees__lane lane = {.scratch = scratch, .max_batch = 1};
        struct ees__run run = {
            .kernels = levels[i],
            .dims = &dims,
            .n = 1,
            .states = (float *[]){state},
            .logits = (float *[]){logits},
            .lane = &lane,
        };
        op->run(self, &run);
        for (size_t k = 0; k < 3; k++) {
            print_message("  %-7s logit %zu: %.7f, known %.7f\n", levels[i]->name, k, (double)logits[k],
                          (double)expected[k]);
            assert_true(fabsf(logits[k] - expected[k]) <= 2e-6f * fmaxf(1.0f, fabsf(expected[k])));
        }
        assert_memory_equal(state, before, sizeof state); /* later blocks read the same tokens */
        ees__free(scratch);
        op->close(self);
    }
}

static void test_conv1_1(void **state) {
    check_head(CONV1_1, &ees__head_conv1_1, (const float[]){4.1424369f, 5.0529334f, 1.052686f});
}

static void test_conv2_1(void **state) {
    check_head(CONV2_1, &ees__head_conv2_1, (const float[]){.3936412f, 2.3886594f, .7367355f});
}

extern const struct ees__op ees__head_attention_r;

static void test_attention_r2(void **state) {
    check_head(GAH_R2, &ees__head_attention_r, (const float[]){1.7249765f, -2.1204457f, -1.3331736f});
}

static void test_heads_must_divide_channels(void **state) {
    struct ees__loader loader = {.weights = &weights, .dims = &dims};
    struct ees__op_cost cost;
    ees_error err = {0};
    void *self;
    assert_int_equal(ees__head_attention_r.open(&loader, "h", 2, &self, &cost, &err), EES_EMODEL);
    assert_non_null(strstr(err.message, "attention_r2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv1_1),
        cmocka_unit_test(test_conv2_1),
        cmocka_unit_test(test_attention_r2),
        cmocka_unit_test(test_heads_must_divide_channels),
    };
    return cmocka_run_group_tests_name("exit heads", tests, NULL, NULL);
}
