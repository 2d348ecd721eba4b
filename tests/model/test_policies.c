/* SPDX-License-Identifier: MIT */
/* Exit policies: scores against known values, every decision of LGViT's own policy code, the edges, and refusals. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/policies/policy.h"
#include "support.h"

#define DIR EES_SHARED_DATA "/fixtures/lgvit_policy_logits"

static void test_known_scores(void **state) {
    const float z[] = {2, 1, .5f, -1};
    struct ees__scores s = ees__scores_compute(z, 4);
    assert_true(s.finite);
    assert_int_equal(s.class_idx, 0);
    assert_true(fabsf(s.confidence - .609460038f) < 1e-7f);
    assert_true(fabsf(s.entropy - 1.01440278f) < 2e-7f);
}

static void test_edge_scores(void **state) {
    const float tied[] = {1, 3, 3, 0}, uniform[10] = {0}, far[] = {1e4f, -1e4f, 9999.0f}, widest[] = {3e38f, -3e38f};
    assert_int_equal(ees__scores_compute(tied, 4).class_idx, 1); /* lowest index among equals */
    assert_true(ees__scores_compute(uniform, 10).confidence == .1f);
    struct ees__scores s = ees__scores_compute(far, 3);
    assert_true(fabsf(s.confidence - .731058579f) < 1e-7f);
    s = ees__scores_compute(widest, 2); /* the difference overflows float32 */
    assert_true(s.finite && s.confidence == 1.0f && s.entropy == 0.0f);
    const float bad[][3] = {{NAN, 1, 2}, {1, INFINITY, 2}, {1, 2, -INFINITY}};
    for (size_t i = 0; i < 3; i++)
        assert_false(ees__scores_compute(bad[i], 3).finite);
}

/* "sdn" alone leaves at the threshold itself. */
static void test_strict_comparisons(void **state) {
    static const struct {
        const char *name;
        bool at, above, below;
    } cases[] = {{"confidence", false, true, false}, {"margin", false, true, false},       {"sdn", true, true, false},
                 {"entropy", false, false, true},    {"entropy_norm", false, false, true}, {"gate", false, false, true},
                 {"ensemble", true, true, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct ees__policy *policy = ees__policy_find(cases[i].name);
        assert_int_equal(ees__policy_is_beyond(policy, .8f, .8f), cases[i].at);
        assert_int_equal(ees__policy_is_beyond(policy, nextafterf(.8f, 1), .8f), cases[i].above);
        assert_int_equal(ees__policy_is_beyond(policy, nextafterf(.8f, 0), .8f), cases[i].below);
        assert_false(ees__policy_is_beyond(policy, NAN, .8f));
    }
}

/* Rows of logits whose argmax is as given; NaN rows for -1. */
static void fill_classes(const int *classes, unsigned n, float *logits) {
    for (unsigned e = 0; e < n; e++)
        for (int k = 0; k < 10; k++)
            logits[e * 10 + (unsigned)k] = classes[e] < 0 ? NAN : k == classes[e] ? 4.0f : 0.0f;
}

static int walk(const char *name, unsigned patience, const int *classes) {
    float logits[50];
    ees_policy_options options = {.name = name, .patience = patience};
    fill_classes(classes, 5, logits);
    return ees_policy_walk(&options, 4, 10, logits, NULL);
}

static void test_patience(void **state) {
    const int pairs[] = {5, 5, 7, 7, 7}, apart[] = {5, 7, 5, 7, 7}, broken[] = {5, -1, 5, 5, 5};
    assert_int_equal(walk("patience", 1, pairs), 0);
    assert_int_equal(walk("patience", 2, pairs), 1);
    assert_int_equal(walk("patience", 3, pairs), 4);
    assert_int_equal(walk("patience", 2, apart), 4);
    assert_int_equal(walk("patience", 2, broken), 3); /* NaN breaks the run */
    assert_int_equal(walk("patience", 0, pairs), 4);  /* default 7 */
}

/* Classes differ, all are sure: the run counts. */
static void test_patient_and_confident(void **state) {
    const int apart[] = {5, 7, 5, 7, 7}, broken[] = {5, -1, 5, 6, 5};
    float logits[50];
    ees_policy_options options = {.name = "patient_and_confident", .n_thresholds = 1, .thresholds = {1.2f}};
    fill_classes(apart, 5, logits);
    assert_int_equal(ees_policy_walk(&options, 4, 10, logits, NULL), 1);
    fill_classes(broken, 5, logits);
    assert_int_equal(ees_policy_walk(&options, 4, 10, logits, NULL), 3);
}

static void test_nan_never_leaves(void **state) {
    const int all_nan[] = {-1, -1, -1, -1, -1};
    for (const char *const *name = ees_policy_names(); *name; name++) {
        const struct ees__policy *policy = ees__policy_find(*name);
        bool alone = !policy || (!policy->needs_gate && !policy->needs_members);
        assert_int_equal(walk(*name, 0, all_nan), alone ? 4 : EES_EINVAL);
    }
}

static void test_none_goes_to_the_end(void **state) {
    const int sure[] = {5, 5, 5, 5, 5};
    assert_int_equal(walk("none", 0, sure), 4);
}

/* What LGViT's own code decides for given logits; where it computes an entropy of NaN for a saturated row, the fixture
 * also says what a finite entropy gives. */
static int expected_exit(const json_t *one, size_t row) {
    char key[16];
    snprintf(key, sizeof key, "%zu", row);
    const json_t *other = json_object_get(json_object_get(one, "if_zero_times_log_zero_is_zero"), key);
    return (int)json_integer_value(other ? other : json_array_get(json_object_get(one, "exit_index"), row));
}

static ees_policy_options case_options(const json_t *one, unsigned n_exits) {
    ees_policy_options options = {.name = json_string_value(json_object_get(one, "policy"))};
    const json_t *threshold = json_object_get(one, "threshold");
    if (threshold && !json_is_null(threshold))
        options.n_thresholds = json_is_array(threshold) ? n_exits : 1;
    for (unsigned i = 0; i < options.n_thresholds; i++)
        options.thresholds[i] =
            (float)json_number_value(json_is_array(threshold) ? json_array_get(threshold, i) : threshold);
    options.patience = (unsigned)json_integer_value(json_object_get(one, "patience"));
    return options;
}

static void test_official_decisions(void **state) {
    enum { E = 8, ROWS = 32, K = 10 };
    ees_tensors *inputs = open_tensors_or_skip(DIR, "inputs.safetensors");
    const ees_tensor_info *info;
    float *exits = read_tensor(inputs, "exit_logits", &info);
    float *final = read_tensor(inputs, "final_logits", &info);
    json_t *root = load_json(DIR, "policies.json"), *cases = json_object_get(root, "cases"), *one;
    size_t i;
    json_array_foreach(cases, i, one) {
        ees_policy_options options = case_options(one, E);
        for (size_t row = 0; row < ROWS; row++) {
            float logits[(E + 1) * K];
            for (size_t e = 0; e < E; e++)
                memcpy(logits + e * K, exits + (e * ROWS + row) * K, K * sizeof *logits);
            memcpy(logits + E * K, final + row * K, K * sizeof *logits);
            int exit_idx = ees_policy_walk(&options, E, K, logits, NULL);
            if (exit_idx != expected_exit(one, row))
                fail_msg("%s, row %zu: exit %d, expected %d", json_string_value(json_object_get(one, "id")), row,
                         exit_idx, expected_exit(one, row));
            if (exit_idx == (int)json_integer_value(json_array_get(json_object_get(one, "exit_index"), row)))
                assert_int_equal(ees__scores_compute(logits + exit_idx * K, K).class_idx,
                                 json_integer_value(json_array_get(json_object_get(one, "prediction"), row)));
        }
    }
    print_message("  %zu cases x %d rows agree\n", json_array_size(cases), ROWS);
    json_decref(root);
    free(exits);
    free(final);
    ees_tensors_close(inputs);
}

static void test_official_scores(void **state) {
    ees_tensors *inputs = open_tensors_or_skip(DIR, "inputs.safetensors");
    ees_tensors *expected = open_tensors_or_skip(DIR, "expected.safetensors");
    const ees_tensor_info *info;
    float *logits = read_tensor(inputs, "exit_logits", &info);
    float *confidence = read_tensor(expected, "confidence", &info), *entropy = read_tensor(expected, "entropy", &info);
    double worst = 0.0;
    for (size_t i = 0; i < info->n_elements; i++) {
        struct ees__scores s = ees__scores_compute(logits + i * 10, 10);
        assert_true(isfinite(s.entropy));
        worst = fmax(worst, fabs((double)s.confidence - (double)confidence[i]));
        worst = isnan(entropy[i]) ? worst : fmax(worst, fabs((double)s.entropy - (double)entropy[i]));
    }
    print_message("  largest difference of a score: %.1e\n", worst);
    assert_true(worst <= 1e-5);
    free(logits);
    free(confidence);
    free(entropy);
    ees_tensors_close(inputs);
    ees_tensors_close(expected);
}

static void refuse(const ees_model *model, ees_policy_options options, const char *needle) {
    ees_policy_options out;
    ees_error err = {0};
    assert_int_equal(ees_policy_resolve(model, &options, &out, &err), EES_EINVAL);
    if (!strstr(err.message, needle))
        fail_msg("'%s' does not name '%s'", err.message, needle);
}

static void test_resolve(void **state) {
    ees_model *model;
    ees_policy_options out;
    assert_int_equal(ees_model_open_random("vit-ti16", 1, NULL, &model, NULL), 0);
    assert_int_equal(ees_policy_resolve(model, NULL, &out, NULL), 0);
    assert_string_equal(out.name, "confidence");
    assert_int_equal(out.n_thresholds, 8);
    assert_true(out.thresholds[0] == .865f && out.thresholds[7] == .865f);
    assert_null(out.replay);
    ees_policy_options given = {.name = "patient_and_confident", .n_thresholds = 1, .thresholds = {.25f}};
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    assert_true(out.patience == 2 && out.n_thresholds == 8 && out.thresholds[7] == .25f);
    given = (ees_policy_options){.name = "entropy"};
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    assert_true(out.thresholds[3] == .6f && out.patience == 0);
    given = (ees_policy_options){.name = "none"};
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    assert_string_equal(out.name, "none");

    const uint8_t past_end[] = {0, 9}, good[] = {0, 8};
    refuse(model, (ees_policy_options){.name = "hope"}, "hope");
    refuse(model, (ees_policy_options){.n_thresholds = 3}, "3 thresholds");
    refuse(model, (ees_policy_options){.n_thresholds = 1, .thresholds = {NAN}}, "threshold 0");
    refuse(model, (ees_policy_options){.name = "patience", .n_thresholds = 1}, "no threshold");
    refuse(model, (ees_policy_options){.name = "entropy", .patience = 2}, "no patience");
    refuse(model, (ees_policy_options){.replay = past_end, .n_replay = 2}, "replay[1]");
    refuse(model, (ees_policy_options){.replay = good}, "empty");
    given = (ees_policy_options){.replay = good, .n_replay = 2};
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    assert_null(out.replay);
    ees_model_close(model);
}

static struct ees__scores scores_of(float confidence, float entropy) {
    return (struct ees__scores){.finite = true, .confidence = confidence, .entropy = entropy};
}

static struct ees__policy_setup degrading(const char *name, float threshold, float degraded, ees_model **model) {
    struct ees__policy_setup setup;
    ees_policy_options given = {
        .name = name, .n_thresholds = 1, .thresholds = {threshold}, .n_degraded = 1, .degraded = {degraded}};
    ees_policy_options resolved;
    assert_int_equal(ees_model_open_random("vit-ti16", 1, NULL, model, NULL), 0);
    assert_int_equal(ees_policy_resolve(*model, &given, &resolved, NULL), 0);
    assert_true(resolved.n_degraded == 8 && resolved.degraded[7] == degraded);
    assert_int_equal(ees__policy_setup(*model, &resolved, &setup, NULL), 0);
    return setup;
}

/* Thresholds move linearly and exactly to both ends; what leaves anyway is not called degraded. */
static void test_degrade_moves_thresholds(void **state) {
    static const struct {
        const char *policy;
        float degrade, confidence, entropy;
        bool leaves, degraded;
    } cases[] = {
        {"confidence", 0, .81f, 0, true, false},   {"confidence", 0, .8f, 0, false, false},
        {"confidence", .5f, .71f, 0, true, true},  {"confidence", .5f, .69f, 0, false, false},
        {"confidence", 1, .6f, 0, false, false},   {"confidence", 1, .601f, 0, true, true},
        {"confidence", 1, .9f, 0, true, false},    {"entropy", 0, 0, .61f, false, false},
        {"entropy", .5f, 0, .69f, true, true},     {"entropy", 1, 0, .8f, false, false},
        {"entropy", 1, 0, .799f, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ees_model *model;
        bool above = strcmp(cases[i].policy, "confidence") == 0;
        struct ees__policy_setup setup = degrading(cases[i].policy, above ? .8f : .6f, above ? .6f : .8f, &model);
        struct ees__scores s = scores_of(cases[i].confidence, cases[i].entropy);
        struct ees__item item = {.degrade = cases[i].degrade};
        assert_int_equal(ees__policy_decide(&setup, 2, &s, &item), cases[i].leaves);
        assert_int_equal(item.degraded, cases[i].degraded);
        s.finite = false;
        assert_false(ees__policy_decide(&setup, 2, &s, &item));
        assert_false(item.degraded);
        ees_model_close(model);
    }
}

/* A count runs under the thresholds as they were at each exit, and beside it one as if they had never moved. */
static void test_degrade_counts_apart(void **state) {
    ees_model *model;
    struct ees__policy_setup setup = degrading("patient_and_confident", .5f, .9f, &model);
    struct ees__scores unsure = scores_of(.5f, .7f), sure = scores_of(.9f, .4f);
    struct ees__item item = {.degrade = 1};
    assert_false(ees__policy_decide(&setup, 0, &unsure, &item));
    item.degrade = 0;
    assert_true(ees__policy_decide(&setup, 1, &sure, &item)); /* 2 in a row, the first one under load */
    assert_true(item.degraded);
    assert_true(ees__policy_decide(&setup, 2, &sure, &item)); /* 2 in a row anyway */
    assert_false(item.degraded);
    ees_model_close(model);
}

static void test_degraded_is_checked(void **state) {
    ees_model *model;
    ees_policy_options out;
    assert_int_equal(ees_model_open_random("vit-ti16", 1, NULL, &model, NULL), 0);
    refuse(model, (ees_policy_options){.n_thresholds = 1, .thresholds = {.8f}, .n_degraded = 1, .degraded = {.9f}},
           "degraded threshold 0");
    refuse(model,
           (ees_policy_options){
               .name = "entropy", .n_thresholds = 1, .thresholds = {.6f}, .n_degraded = 1, .degraded = {.5f}},
           "above 0.6");
    refuse(model, (ees_policy_options){.name = "patience", .n_degraded = 1, .degraded = {1}}, "cannot degrade");
    refuse(model, (ees_policy_options){.n_degraded = 3}, "3 degraded thresholds");
    refuse(model, (ees_policy_options){.n_degraded = 1, .degraded = {NAN}}, "degraded threshold 0");
    assert_int_equal(ees_policy_resolve(model, NULL, &out, NULL), 0);
    assert_int_equal(out.n_degraded, 0);
    struct ees__policy_setup setup; /* without degraded thresholds the level changes nothing */
    struct ees__scores s = scores_of(.86f, 0);
    struct ees__item item = {.degrade = 1};
    assert_int_equal(ees__policy_setup(model, &out, &setup, NULL), 0);
    assert_false(ees__policy_decide(&setup, 0, &s, &item));
    ees_model_close(model);
}

/* config.json's; they yield to a threshold of the caller's, and belong to the model's own policy alone. */
static void test_degraded_of_the_model(void **state) {
    char dir[64];
    struct tiny tiny;
    ees_model *model;
    ees_policy_options out, given = {.n_thresholds = 1, .thresholds = {.55f}};
    make_folder(dir);
    tiny_init(&tiny, "hf-vit");
    json_t *policy = json_object_get(json_object_get(tiny.config, "early_exits"), "policy");
    json_object_set_new(policy, "degraded_thresholds", json_pack("[f,f]", .5, .6));
    tiny_write(&tiny, dir);
    assert_int_equal(ees_model_open(dir, NULL, &model, NULL), 0);
    assert_int_equal(ees_policy_resolve(model, NULL, &out, NULL), 0);
    assert_true(out.n_degraded == 2 && out.degraded[0] == .5f && out.degraded[1] == .6f);
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    assert_true(out.n_degraded == 2 && out.degraded[0] == .5f && out.degraded[1] == .55f);
    given = (ees_policy_options){.name = "patience"};
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    assert_int_equal(out.n_degraded, 0);
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_scores),          cmocka_unit_test(test_edge_scores),
        cmocka_unit_test(test_strict_comparisons),    cmocka_unit_test(test_patience),
        cmocka_unit_test(test_patient_and_confident), cmocka_unit_test(test_nan_never_leaves),
        cmocka_unit_test(test_none_goes_to_the_end),  cmocka_unit_test(test_official_decisions),
        cmocka_unit_test(test_official_scores),       cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_degrade_moves_thresholds), cmocka_unit_test(test_degrade_counts_apart),
        cmocka_unit_test(test_degraded_is_checked),   cmocka_unit_test(test_degraded_of_the_model),
    };
    return cmocka_run_group_tests_name("policies", tests, NULL, NULL);
}
