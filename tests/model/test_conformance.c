/* SPDX-License-Identifier: MIT */
/* The models against numbers their own frameworks computed: every unit's output, every exit's logits, every policy
 * case, at every kernel level of the machine. Prints the largest difference a tensor. Needs the shared fixtures; the
 * embedded model's reference is in the project. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/kernels/kernels.h"
#include "support.h"

#define FIXTURES  EES_SHARED_DATA "/fixtures"
#define REFERENCE EES_PROJECT_DIR "/tools/assets/world/reference"

enum { MAX_ROWS = 64 };
static const double tolerance = 1e-4; /* of logits; of other tensors, times their largest value */

/* One tensor of the reference, and how far we were from it. */
struct row {
    char name[32];
    double worst, allowed;
};

struct check {
    const ees_tensors *expected;
    size_t image;
    struct row rows[MAX_ROWS];
    size_t n_rows;
};

static struct row *find_row(struct check *check, const char *name) {
    for (size_t i = 0; i < check->n_rows; i++)
        if (strcmp(check->rows[i].name, name) == 0)
            return &check->rows[i];
    assert_in_range(check->n_rows, 0, MAX_ROWS - 1);
    struct row *row = &check->rows[check->n_rows++];
    snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

static double largest(const float *x, size_t n) {
    float most = 0.0F; /* float: gcc 12 for aarch64 fails on this reduction in double */
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    return (double)most;
}

static void compare(struct check *check, const char *name, const ees_tap *tap, bool is_logits) {
    const ees_tensor_info *info;
    float *values = read_tensor(check->expected, name, &info);
    size_t n = tap->rows * tap->cols;
    assert_int_equal(info->n_elements / info->shape[0], n);
    if (check->image < info->shape[0]) { /* large tensors may cover the first images only */
        const float *want = values + check->image * n;
        struct row *row = find_row(check, name);
        row->allowed = is_logits ? tolerance : tolerance * largest(values, info->n_elements);
        for (size_t i = 0; i < n; i++) {
            double difference = fabs((double)tap->data[i] - (double)want[i]);
            row->worst = difference <= row->worst ? row->worst : difference; /* keeps NaN */
        }
    }
    free(values);
}

/* The class of the final logits, where the reference has one. */
static void check_prediction(const struct check *check, const ees_tap *tap) {
    const ees_tensor_info *info;
    size_t best = 0;
    if (!ees_tensors_find(check->expected, "prediction"))
        return;
    float *classes = read_tensor(check->expected, "prediction", &info);
    for (size_t i = 1; i < tap->cols; i++)
        best = tap->data[i] > tap->data[best] ? i : best;
    assert_int_equal(best, (size_t)classes[check->image]);
    free(classes);
}

/* Patches are checked by what comes out of the embedding, a block's first half by its second. */
static int check_unit(void *opaque, const ees_tap *tap) {
    struct check *check = opaque;
    char name[32];
    if (tap->kind == EES_TAP_LOGITS && strcmp(tap->info->name, "final") == 0) {
        compare(check, "logits", tap, true);
        check_prediction(check, tap);
    } else if (tap->kind == EES_TAP_LOGITS) {
        snprintf(name, sizeof name, "exit.%d.logits", tap->info->exit_idx);
        compare(check, name, tap, true);
    } else if (tap->kind == EES_TAP_TOKENS && tap->info->block == 0)
        compare(check, "embeddings", tap, false);
    else if (tap->kind == EES_TAP_TOKENS && strstr(tap->info->name, ".mlp")) {
        snprintf(name, sizeof name, "hidden.%u", tap->info->block - 1);
        compare(check, name, tap, false);
    }
    return 0;
}

static void check_tensors(const ees_model *model, const ees_tensors *expected, const float *pixels, size_t n_images,
                          size_t n_pixels) {
    const ees_model_info *info = ees_model_get_info(model);
    struct check check = {.expected = expected};
    for (check.image = 0; check.image < n_images; check.image++) {
        ees_frame frame = tensor_frame(model, pixels + check.image * n_pixels);
        assert_int_equal(ees_model_trace(model, &frame, check_unit, &check, NULL), 0);
    }
    assert_int_equal(check.n_rows, 2 + info->n_blocks + info->n_exits);
    for (size_t i = 0; i < check.n_rows; i++)
        print_message("  %-7s %-16s max |difference| %.2e of %.1e allowed\n", info->kernels, check.rows[i].name,
                      check.rows[i].worst, check.rows[i].allowed);
    for (size_t i = 0; i < check.n_rows; i++)
        assert_true(check.rows[i].worst <= check.rows[i].allowed);
}

/* A case's settings, as the command line would give them. */
static ees_policy_options case_options(const json_t *one) {
    const json_t *threshold = json_object_get(one, "threshold"), *patience = json_object_get(one, "patience");
    ees_policy_options options = {.name = json_string_value(json_object_get(one, "policy"))};
    if (json_is_array(threshold))
        for (size_t i = 0; i < json_array_size(threshold); i++)
            options.thresholds[options.n_thresholds++] = (float)json_number_value(json_array_get(threshold, i));
    else if (json_is_number(threshold))
        options.thresholds[options.n_thresholds++] = (float)json_number_value(threshold);
    options.patience = (unsigned)json_integer_value(patience);
    return options;
}

static int result_of(const json_t *one, const char *key, size_t image) {
    const json_t *value = json_array_get(json_object_get(one, key), image);
    assert_true(json_is_integer(value));
    return (int)json_integer_value(value);
}

/* EEVIT gives probabilities and an exit value instead of a score. */
static double read_output_score(const ees_tensors *expected, const json_t *one, size_t image) {
    char name[96];
    const ees_tensor_info *info;
    snprintf(name, sizeof name, "policy.%s.output", json_string_value(json_object_get(one, "id")));
    float *output = read_tensor(expected, name, &info);
    size_t n = info->shape[1] - 1;
    double score = largest(output + image * (n + 1), n);
    free(output);
    return score;
}

/* The original's score of the answer; the project's own reference calls it "score". */
static void check_score(const char *policy, const struct ees__item *item, const ees_tensors *expected,
                        const json_t *one, size_t image) {
    const json_t *list = json_object_get(one, "score_official");
    list = list ? list : json_object_get(one, "score");
    double score = list ? json_number_value(json_array_get(list, image)) : read_output_score(expected, one, image);
    if (strcmp(policy, "confidence") == 0)
        assert_true(fabs((double)item->confidence - score) < tolerance);
    if (strcmp(policy, "entropy") == 0)
        assert_true(fabs((double)item->entropy - score) < tolerance);
}

static void read_all_logits(const ees_tensors *expected, unsigned n_exits, size_t image, size_t n_classes,
                            float *logits) {
    for (unsigned e = 0; e <= n_exits; e++) {
        char name[32];
        const ees_tensor_info *info;
        snprintf(name, sizeof name, "exit.%u.logits", e);
        float *values = read_tensor(expected, e < n_exits ? name : "logits", &info);
        memcpy(logits + e * n_classes, values + image * n_classes, n_classes * sizeof *logits);
        free(values);
    }
}

static void check_case(const ees_model *model, const ees_tensors *expected, const json_t *one, size_t image,
                       const ees_frame *frame) {
    const ees_model_info *info = ees_model_get_info(model);
    ees_policy_options options = case_options(one), resolved;
    struct ees__policy_setup setup;
    struct walked walked;
    assert_int_equal(ees_policy_resolve(model, &options, &resolved, NULL), 0);
    assert_int_equal(ees__policy_setup(model, &resolved, &setup, NULL), 0);
    walk_units(model, &setup, frame, image, &walked);
    assert_int_equal(walked.rc, EES__UNIT_DONE);
    assert_int_equal(walked.item.exit_idx, result_of(one, "exit_index", image));
    assert_int_equal(walked.item.block, result_of(one, "blocks_run", image));
    assert_int_equal(walked.item.class_idx, result_of(one, "prediction", image));
    check_score(options.name, &walked.item, expected, one, image);
    walked_fini(&walked);

    float *logits = calloc((info->n_exits + 1) * info->n_classes, sizeof *logits);
    assert_non_null(logits);
    read_all_logits(expected, info->n_exits, image, info->n_classes, logits);
    assert_int_equal(ees_policy_walk(&resolved, info->n_exits, info->n_classes, logits, NULL),
                     result_of(one, "exit_index", image));
    free(logits);
}

static void check_policies(const ees_model *model, const ees_tensors *expected, const char *dir, const float *pixels,
                           size_t n_images, size_t n_pixels) {
    json_t *root = load_json(dir, "policies.json"), *cases = json_object_get(root, "cases"), *one;
    size_t i;
    assert_true(json_array_size(cases) > 0);
    json_array_foreach(cases, i, one) {
        for (size_t image = 0; image < n_images; image++) {
            ees_frame frame = tensor_frame(model, pixels + image * n_pixels);
            check_case(model, expected, one, image, &frame);
        }
    }
    print_message("  %-7s %zu policy cases x %zu images: exit, block and class agree\n",
                  ees_model_get_info(model)->kernels, json_array_size(cases), n_images);
    json_decref(root);
}

/* Frame i of a replay leaves where it is told to, with the logits of that exit. */
static void check_replay(const ees_model *model, const ees_tensors *expected, const float *pixels) {
    const ees_model_info *info = ees_model_get_info(model);
    ees_frame frame = tensor_frame(model, pixels);
    float *logits = calloc((info->n_exits + 1) * info->n_classes, sizeof *logits);
    assert_non_null(logits);
    read_all_logits(expected, info->n_exits, 0, info->n_classes, logits);
    for (uint8_t e = 0; e <= info->n_exits; e++) {
        const uint8_t replay[] = {0, e};
        ees_policy_options options = {.name = "none"};
        struct ees__policy_setup setup;
        struct walked walked;
        options.replay = replay;
        options.n_replay = 2;
        assert_int_equal(ees__policy_setup(model, &options, &setup, NULL), 0);
        walk_units(model, &setup, &frame, 5, &walked); /* 5 mod 2 = 1 */
        assert_int_equal(walked.rc, EES__UNIT_DONE);
        assert_int_equal(walked.item.exit_idx, e);
        assert_int_equal(walked.item.block, e < info->n_exits ? info->exits[e].after_block : info->n_blocks);
        for (unsigned k = 0; k < info->n_classes; k++)
            assert_true(fabs((double)walked.logits[k] - (double)logits[e * info->n_classes + k]) <= tolerance);
        walked_fini(&walked);
    }
    free(logits);
}

/* @param model_dir  NULL: the embedded model */
static void check_model(const char *model_dir, const char *reference_dir) {
    ees_tensors *inputs = open_tensors_or_skip(reference_dir, "inputs.safetensors");
    ees_tensors *expected = open_tensors_or_skip(reference_dir, "expected.safetensors");
    const ees_tensor_info *shape;
    float *pixels = read_tensor(inputs, "pixel_values", &shape);
    size_t n_levels, n_images = shape->shape[0], n_pixels = shape->n_elements / n_images;
    const struct ees__kernels *const *levels = ees__kernels_list(&n_levels);
    for (size_t i = 0; i < n_levels; i++) {
        if (i > 0 && levels[i]->products[EES__F32] == levels[i - 1]->products[EES__F32])
            continue; /* the same in float32 */
        ees_model *model = NULL;
        ees_error err = {0};
        ees_model_options options;
        ees_model_options_default(&options);
        options.kernels = levels[i]->name;
        options.image_height_px = (unsigned)shape->shape[2]; /* need not be the training's */
        options.image_width_px = (unsigned)shape->shape[3];
        if (ees_model_open(model_dir, &options, &model, &err) != 0)
            fail_msg("%s", err.message);
        const ees_model_info *info = ees_model_get_info(model);
        assert_int_equal(n_pixels, 3 * info->image_height_px * info->image_width_px);
        check_tensors(model, expected, pixels, n_images, n_pixels);
        /* Every level's logits are close and every score is far from its threshold: the best level walks for all. */
        if (info->n_exits && i == 0) {
            check_policies(model, expected, reference_dir, pixels, n_images, n_pixels);
            check_replay(model, expected, pixels);
        }
        ees_model_close(model);
    }
    free(pixels);
    ees_tensors_close(inputs);
    ees_tensors_close(expected);
}

static void test_fixture(void **state) {
    char dir[400];
    snprintf(dir, sizeof dir, "%s/%s", FIXTURES, (const char *)*state);
    check_model(dir, dir);
}

static void test_embedded(void **state) { check_model(NULL, REFERENCE); }

#define FIXTURE(name)                                                                                                  \
    { name, test_fixture, NULL, NULL, name }

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE("hf_vit"),
        FIXTURE("timm_vit"),
        FIXTURE("torchvision_vit"),
        FIXTURE("hf_deit_distilled"),
        FIXTURE("timm_deit_distilled"),
        FIXTURE("hf_dinov2"),
        FIXTURE("lgvit_vit_8exits"),
        FIXTURE("lgvit_deit_8exits"),
        FIXTURE("eevit_8exits"),
        FIXTURE("hf_swin"),
        FIXTURE("timm_swin"),
        FIXTURE("torchvision_swin"),
        FIXTURE("lgvit_swin_8exits"),
        cmocka_unit_test(test_embedded),
    };
    return cmocka_run_group_tests_name("model conformance", tests, NULL, NULL);
}
