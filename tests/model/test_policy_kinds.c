/* SPDX-License-Identifier: MIT */
/* Policies beside LGViT's: known answers, formulas written out once more, properties on random logits, and those that
 * need a model's learned weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "stages/policies/policy.h"
#include "support.h"

#define DIR EES_SHARED_DATA "/fixtures/lgvit_policy_logits"

enum { E = 4, K = 5 };

/* ---- Walking ------------------------------------------------------------------------------------------- */

struct answer {
    unsigned exit_idx, class_idx;
    float confidence, entropy;
};

/* A frame of n_exits + 1 rows of n_classes logits through a policy. */
static struct answer walk_with(const ees_policy_options *options, unsigned n_exits, unsigned n_classes,
                               const struct ees__policy_weights *learned, const struct ees__record *record) {
    struct ees__policy_setup setup;
    struct ees__scores scores;
    struct ees__item item = {0};
    ees_error err = {0};
    if (ees__policy_setup_alone(options, n_exits, n_classes, learned, &setup, &err) != 0)
        fail_msg("%s", err.message);
    item.policy_memory = malloc((setup.memory_floats + 1) * sizeof(float));
    memset(item.policy_memory, 0x7f, (setup.memory_floats + 1) * sizeof(float)); /* it may hold anything */
    unsigned exit_idx = ees__policy_walk(&setup, record, &item, &scores);
    free(item.policy_memory);
    return (struct answer){exit_idx, scores.class_idx, scores.confidence, scores.entropy};
}

static struct answer walk(ees_policy_options options, const float *logits) {
    struct ees__record record = {.logits = logits};
    return walk_with(&options, E, K, NULL, &record);
}

static ees_policy_options with_threshold(const char *name, float threshold) {
    return (ees_policy_options){.name = name, .n_thresholds = 1, .thresholds = {threshold}};
}

/* Rows whose argmax is as given, as sure as `height` makes them. */
static const float *rows_of(const int classes[E + 1], float height) {
    static float logits[(E + 1) * K];
    for (int e = 0; e <= E; e++)
        for (int k = 0; k < K; k++)
            logits[e * K + k] = k == classes[e] ? height : 0.0f;
    return logits;
}

/* Seeded logits, about +-4. */
static float draw(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) * 0x1p-21f - 4.0f;
}

static void fill_random(uint32_t *state, float *logits, size_t n) {
    for (size_t i = 0; i < n; i++)
        logits[i] = draw(state);
}

/* ---- Known answers (spec 11) --------------------------------------------------------------------------- */

static void test_known_scores(void **state) {
    const float z[] = {2, 1, .5f, -1};
    struct ees__scores s = ees__scores_compute(z, 4);
    assert_true(fabsf(s.margin - .385252220f) < 1e-7f);
    float norm = ees__policy_find("entropy_norm")->score(&s);
    assert_true(fabsf(norm - .731736927f) < 2e-7f);
    assert_true(ees__policy_find("pcee")->score(&s) == norm);
}

/* Four exits with classes 5 5 7 7 (here 1 1 3 3). */
static void test_known_decisions(void **state) {
    const int pairs[] = {1, 1, 3, 3, 3};
    const float *logits = rows_of(pairs, 4);
    assert_int_equal(walk((ees_policy_options){.name = "patience", .patience = 2}, logits).exit_idx, 1);
    assert_int_equal(walk((ees_policy_options){.name = "patience_pabee", .patience = 1}, logits).exit_idx, 1);
    assert_int_equal(walk((ees_policy_options){.name = "patience_pabee", .patience = 2}, logits).exit_idx, 4);
    assert_int_equal(walk((ees_policy_options){.name = "vote", .patience = 2}, logits).exit_idx, 1);
    assert_int_equal(walk((ees_policy_options){.name = "vote", .patience = 3}, logits).exit_idx, 4);

    float sure[(E + 1) * K]; /* a confidence that float32 can say: of two equal classes */
    for (size_t i = 0; i < (E + 1) * K; i++)
        sure[i] = i % K < 2 ? 0.0f : -1e30f;
    assert_int_equal(walk(with_threshold("confidence", .5f), sure).exit_idx, 4);
    assert_int_equal(walk(with_threshold("sdn", .5f), sure).exit_idx, 0);
    assert_int_equal(walk(with_threshold("sdn", nextafterf(.5f, 1)), sure).exit_idx, 4);
    assert_int_equal(walk(with_threshold("margin", 0), sure).exit_idx, 4);
}

/* Votes need not be in a row, runs must. */
static void test_votes_and_runs(void **state) {
    const int apart[] = {1, 3, 1, 3, 2};
    assert_int_equal(walk((ees_policy_options){.name = "vote", .patience = 2}, rows_of(apart, 4)).exit_idx, 2);
    assert_int_equal(walk((ees_policy_options){.name = "patience_pabee", .patience = 1}, rows_of(apart, 4)).exit_idx,
                     4);
    struct answer a = walk((ees_policy_options){.name = "vote", .patience = 9}, rows_of(apart, 4));
    assert_true(a.exit_idx == 4 && a.class_idx == 1); /* two votes each for 1 and 3, equal sums: the lower index */
    float logits[(E + 1) * K];
    memcpy(logits, rows_of(apart, 4), sizeof logits);
    logits[3 * K + 3] = 5; /* class 3 was said with more certainty */
    assert_int_equal(walk((ees_policy_options){.name = "vote", .patience = 9}, logits).class_idx, 3);
}

static void test_most_confident(void **state) {
    const int classes[] = {1, 2, 3, 4, 0};
    float logits[(E + 1) * K];
    memcpy(logits, rows_of(classes, 1), sizeof logits);
    logits[1 * K + 2] = logits[2 * K + 3] = 3; /* exits 1 and 2 are equally sure, the final classifier less */
    struct answer a = walk(with_threshold("sdn_most_confident", .95f), logits);
    assert_true(a.exit_idx == 4 && a.class_idx == 2);
    assert_true(a.confidence == ees__scores_compute(logits + K, K).confidence);
    a = walk(with_threshold("sdn", .95f), logits);
    assert_true(a.exit_idx == 4 && a.class_idx == 0);
    a = walk(with_threshold("sdn_most_confident", .8f), logits);
    assert_true(a.exit_idx == 1 && a.class_idx == 2);
}

/* ---- Relations between policies, on what LGViT's own code was fed with ----------------------------------- */

static void copy_row(const float *exits, const float *final, size_t n_rows, size_t row, size_t n_exits,
                     size_t n_classes, float *out) {
    for (size_t e = 0; e < n_exits; e++)
        memcpy(out + e * n_classes, exits + (e * n_rows + row) * n_classes, n_classes * sizeof *out);
    memcpy(out + n_exits * n_classes, final + row * n_classes, n_classes * sizeof *out);
}

static int recorded_exit(const json_t *one, size_t row) {
    char key[16];
    snprintf(key, sizeof key, "%zu", row);
    const json_t *other = json_object_get(json_object_get(one, "if_zero_times_log_zero_is_zero"), key);
    return (int)json_integer_value(other ? other : json_array_get(json_object_get(one, "exit_index"), row));
}

/* The case under the other name: PABEE counts one less, normalised entropies are 1 / ln K of LGViT's. */
static bool translate(const json_t *one, unsigned n_exits, double ln_k, ees_policy_options *out) {
    static const char *const names[][2] = {
        {"patience", "patience_pabee"}, {"entropy", "entropy_norm"}, {"patient_and_confident", "pcee"}};
    const json_t *threshold = json_object_get(one, "threshold");
    *out = (ees_policy_options){.patience = (unsigned)json_integer_value(json_object_get(one, "patience"))};
    for (size_t i = 0; i < 3; i++)
        if (strcmp(names[i][0], json_string_value(json_object_get(one, "policy"))) == 0)
            out->name = names[i][1];
    if (!out->name)
        return false;
    if (strcmp(out->name, "patience_pabee") == 0) {
        out->patience--;
        return out->patience > 0;
    }
    out->n_thresholds = n_exits;
    for (unsigned i = 0; i < n_exits; i++)
        out->thresholds[i] =
            (float)(json_number_value(json_is_array(threshold) ? json_array_get(threshold, i) : threshold) / ln_k);
    return true;
}

static void test_recorded_decisions_translated(void **state) {
    enum { N = 8, ROWS = 32, CLASSES = 10 };
    ees_tensors *inputs = open_tensors_or_skip(DIR, "inputs.safetensors");
    const ees_tensor_info *info;
    float *exits = read_tensor(inputs, "exit_logits", &info), *final = read_tensor(inputs, "final_logits", &info);
    json_t *root = load_json(DIR, "policies.json"), *one;
    size_t i, n_checked = 0;
    json_array_foreach(json_object_get(root, "cases"), i, one) {
        ees_policy_options options;
        for (size_t row = 0; translate(one, N, log(CLASSES), &options) && row < ROWS; row++, n_checked++) {
            float logits[(N + 1) * CLASSES];
            struct ees__record record = {.logits = logits};
            copy_row(exits, final, ROWS, row, N, CLASSES, logits);
            unsigned exit_idx = walk_with(&options, N, CLASSES, NULL, &record).exit_idx;
            if ((int)exit_idx != recorded_exit(one, row))
                fail_msg("%s as %s, row %zu: exit %u", json_string_value(json_object_get(one, "id")), options.name, row,
                         exit_idx);
        }
    }
    print_message("  %zu recorded decisions hold under other names\n", n_checked);
    assert_true(n_checked > 400);
    json_decref(root);
    free(exits);
    free(final);
    ees_tensors_close(inputs);
}

/* ---- Ensembles ----------------------------------------------------------------------------------------- */

static void softmax(const float *z, double *p) {
    double sum = 0;
    for (int i = 0; i < K; i++)
        sum += exp((double)z[i]);
    for (int i = 0; i < K; i++)
        p[i] = exp((double)z[i]) / sum;
}

enum kind { GEOMETRIC, ADDITIVE, MEAN };

/* q at exit k, straight from spec 6; w (E+1, E+1) and b (E+1, K) may be NULL. */
static void combine(enum kind kind, const float *logits, int k, const float *w, const float *b, double *q) {
    double total = 0, weights = 0;
    for (int i = 0; i < K; i++) {
        double sum = 0;
        for (int j = 0; j <= k; j++) {
            double p[K], weight = kind == MEAN ? (double)w[j] : w ? exp((double)w[k * (E + 1) + j]) : 1.0;
            softmax(logits + j * K, p);
            sum += weight * (kind == GEOMETRIC ? log(p[i]) : p[i]);
            weights += i == 0 ? weight : 0;
        }
        double bias = b ? (double)b[k * K + i] : 0.0;
        q[i] = kind == GEOMETRIC ? exp(sum / (k + 1) + bias) : kind == ADDITIVE ? sum + exp(bias) : sum;
        total += q[i];
    }
    for (int i = 0; i < K; i++)
        q[i] /= kind == MEAN ? weights : total;
}

static void check_ensemble(const char *name, enum kind kind, const float *w, const float *b) {
    struct ees__policy_weights learned = {.member = (float *)w, .member_bias = (float *)b};
    uint32_t seed = 7;
    unsigned n_at[E + 1] = {0};
    for (int frame = 0; frame < 300; frame++) {
        float logits[(E + 1) * K];
        struct ees__record record = {.logits = logits};
        ees_policy_options options = with_threshold(name, .6f);
        fill_random(&seed, logits, (E + 1) * K);
        if (kind == MEAN) {
            options.n_weights = E + 1;
            memcpy(options.weights, w, (E + 1) * sizeof *w);
        }
        struct answer a = walk_with(&options, E, K, kind == MEAN ? NULL : &learned, &record);
        double q[K], most = 0;
        int class_idx = 0, k = 0;
        for (;; k++) {
            combine(kind, logits, k, w, b, q);
            class_idx = 0;
            for (int i = 1; i < K; i++)
                class_idx = q[i] > q[class_idx] ? i : class_idx;
            most = q[class_idx];
            if (fabs(most - .6) < 1e-5)
                break;
            if (k == E || most >= .6)
                break;
        }
        if (fabs(most - .6) < 1e-5)
            continue;
        assert_int_equal(a.exit_idx, k);
        assert_int_equal(a.class_idx, class_idx);
        assert_true(fabs((double)a.confidence - most) < 1e-5);
        n_at[k]++;
    }
    assert_true(n_at[0] > 0 && n_at[1] > 0 && n_at[E] > 0);
}

static void test_ensembles(void **state) {
    float w[(E + 1) * (E + 1)], b[(E + 1) * K];
    const float means[E + 1] = {1, .5f, 2, .25f, 3}, equal[E + 1] = {1, 1, 1, 1, 1};
    uint32_t seed = 3;
    for (size_t i = 0; i < (E + 1) * (E + 1); i++)
        w[i] = draw(&seed) * .15f;
    for (size_t i = 0; i < (E + 1) * K; i++)
        b[i] = draw(&seed) * .1f - 4.0f;
    check_ensemble("ensemble", GEOMETRIC, NULL, NULL);
    check_ensemble("ensemble", GEOMETRIC, w, b);
    check_ensemble("ensemble_additive", ADDITIVE, w, b);
    check_ensemble("ensemble_mean", MEAN, means, NULL);
    check_ensemble("ensemble_mean", MEAN, equal, NULL);
}

/* Leaves where "pcee" does, with the mean of the exits that were sure, and the final classifier's own answer at the
 * end. */
static void test_mean_of_the_sure(void **state) {
    uint32_t seed = 17;
    unsigned n_other_class = 0, n_at[E + 1] = {0};
    for (int frame = 0; frame < 400; frame++) {
        float logits[(E + 1) * K];
        fill_random(&seed, logits, (E + 1) * K);
        ees_policy_options options = with_threshold("pcee", .65f);
        struct answer plain = walk(options, logits);
        options.name = "pcee_mean";
        struct answer a = walk(options, logits);
        double p[K], q[K] = {0};
        bool early = plain.exit_idx < E;
        for (unsigned e = early ? plain.exit_idx - 1 : E; e <= plain.exit_idx; e++) {
            softmax(logits + e * K, p);
            for (int i = 0; i < K; i++)
                q[i] += p[i] / (early ? 2 : 1);
        }
        int best = 0;
        for (int i = 1; i < K; i++)
            best = q[i] > q[best] ? i : best;
        assert_int_equal(a.exit_idx, plain.exit_idx);
        assert_int_equal(a.class_idx, best);
        assert_true(fabs((double)a.confidence - q[best]) < 1e-5 && a.entropy == plain.entropy);
        n_other_class += a.class_idx != plain.class_idx;
        n_at[a.exit_idx]++;
    }
    assert_true(n_other_class > 0 && n_at[1] > 0 && n_at[E] > 0);
}

/* A head whose logits are not finite is no member, and no exit. */
static void test_members_that_are_not_finite(void **state) {
    static const char *const names[] = {"ensemble", "ensemble_mean", "vote", "sdn_most_confident"};
    const int classes[] = {1, 1, 1, 1, 1};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ees_policy_options options = {.name = names[i], .patience = i == 2 ? 2 : 0};
        float logits[(E + 1) * K];
        memcpy(logits, rows_of(classes, 8), sizeof logits);
        assert_int_equal(walk(options, logits).exit_idx, i == 2 ? 1 : 0);
        logits[0] = NAN;
        struct answer a = walk(options, logits);
        assert_int_equal(a.exit_idx, i == 2 ? 2 : 1);
        assert_int_equal(a.class_idx, 1);
        assert_true(a.confidence > .99f);
    }
}

/* ---- Properties ---------------------------------------------------------------------------------------- */

static bool stands_alone(const char *name) {
    const struct ees__policy *policy = ees__policy_find(name);
    return policy && !policy->needs_gate && !policy->needs_members;
}

/* A looser threshold never makes a frame leave later; NaN moves no exit to its own place. */
static void test_properties(void **state) {
    static const float strict_to_loose[] = {1.1f, .95f, .8f, .6f, .4f, .2f, -.1f};
    uint32_t seed = 99;
    for (int frame = 0; frame < 200; frame++) {
        float logits[(E + 1) * K];
        fill_random(&seed, logits, (E + 1) * K);
        for (const char *const *name = ees_policy_names(); *name; name++) {
            const struct ees__policy *policy = ees__policy_find(*name);
            unsigned before = E;
            for (size_t i = 0; stands_alone(*name) && policy->direction && i < 7; i++) {
                size_t at = policy->direction == EES__LEAVES_BELOW ? 6 - i : i;
                unsigned exit_idx = walk(with_threshold(*name, strict_to_loose[at]), logits).exit_idx;
                assert_true(exit_idx <= before);
                before = exit_idx;
            }
            if (!stands_alone(*name))
                continue;
            struct answer a = walk((ees_policy_options){.name = *name}, logits);
            assert_true(a.confidence > 0 && a.confidence <= 1 && a.class_idx < K);
            float kept = logits[a.exit_idx * K];
            logits[a.exit_idx * K] = INFINITY;
            assert_true(a.exit_idx == E || walk((ees_policy_options){.name = *name}, logits).exit_idx != a.exit_idx);
            logits[a.exit_idx * K] = kept;
        }
    }
}

/* One class is certain; ties go to the lowest index; a uniform answer never leaves by a strict rule at its own score.
 */
static void test_one_class_and_ties(void **state) {
    const float one[E + 1] = {3, -2, 0, 1e4f, -1e4f}, uniform[(E + 1) * K] = {0};
    struct ees__record record = {.logits = one};
    struct ees__scores s = ees__scores_compute(one, 1);
    assert_true(s.confidence == 1 && s.margin == 1 && s.entropy == 0);
    for (const char *const *name = ees_policy_names(); *name; name++) {
        if (!stands_alone(*name) || ees__policy_find(*name)->lag)
            continue;
        struct answer a =
            walk_with(&(ees_policy_options){.name = *name, .patience = ees__policy_find(*name)->patience ? 1 : 0}, E, 1,
                      NULL, &record);
        bool agrees = strcmp(*name, "patience_pabee") == 0; /* the second exit is the first that can agree */
        assert_int_equal(a.exit_idx, agrees ? 1 : 0);
        assert_int_equal(walk((ees_policy_options){.name = *name}, uniform).class_idx, 0);
    }
    assert_int_equal(walk(with_threshold("confidence", .2f), uniform).exit_idx, E);
    assert_int_equal(walk(with_threshold("sdn", .2f), uniform).exit_idx, 0);
    assert_int_equal(walk(with_threshold("entropy_norm", 1), uniform).exit_idx, E);
}

static void test_can_leave(void **state) {
    static const struct {
        const char *name;
        float threshold; /* NAN: default */
        unsigned patience;
        bool can;
    } cases[] = {{"none", NAN, 0, false},
                 {"confidence", NAN, 0, true},
                 {"confidence", 1, 0, false},
                 {"sdn", 1, 0, true},
                 {"sdn", 1.1f, 0, false},
                 {"entropy", 0, 0, false},
                 {"margin", .99f, 0, true},
                 {"gate", NAN, 0, true},
                 {"gate", 0, 0, false},
                 {"patience", NAN, 4, true},
                 {"patience", NAN, 5, false},
                 {"patience_pabee", NAN, 3, true},
                 {"patience_pabee", NAN, 4, false},
                 {"vote", NAN, 4, true},
                 {"vote", NAN, 5, false},
                 {"pcee", NAN, 4, true},
                 {"pcee", NAN, 5, false},
                 {"temporal", NAN, 4, true},
                 {"temporal", NAN, 5, false},
                 {"ensemble", 1, 0, true},
                 {"ensemble_mean", 1.01f, 0, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ees_policy_options o = {.name = cases[i].name, .patience = cases[i].patience};
        o.n_thresholds = isnan(cases[i].threshold) ? 0 : 1;
        o.thresholds[0] = cases[i].threshold;
        if (ees_policy_can_leave(&o, E) != cases[i].can)
            fail_msg("%s, threshold %g, patience %u", o.name, (double)cases[i].threshold, o.patience);
    }
}

static void test_temporal(void **state) {
    const int classes[] = {1, 2, 2, 3, 3};
    struct ees__record record = {.logits = rows_of(classes, 4)};
    ees_policy_options o = {.name = "temporal"};
    assert_int_equal(walk_with(&o, E, K, NULL, &record).exit_idx, E); /* nothing to compare with */
    record.reference = 2 + 1;
    assert_int_equal(walk_with(&o, E, K, NULL, &record).exit_idx, 1);
    o.patience = 2;
    assert_int_equal(walk_with(&o, E, K, NULL, &record).exit_idx, 2);
    record.reference = 1 + 1;
    assert_int_equal(walk_with(&o, E, K, NULL, &record).exit_idx, E);
    o = with_threshold("temporal", .99f); /* agrees, and is not sure enough */
    assert_int_equal(walk_with(&o, E, K, NULL, &record).exit_idx, E);
}

/* ---- What is refused ----------------------------------------------------------------------------------- */

static void test_options_are_checked(void **state) {
    static const struct {
        ees_policy_options options;
        const char *needle;
    } cases[] = {
        {{.name = "gate"}, "gate.weight"},
        {{.name = "ensemble_additive"}, "ensemble.weight"},
        {{.name = "confidence", .lag = 2}, "takes no lag"},
        {{.name = "temporal", .lag = EES_MAX_LAG + 1}, "lag of 65"},
        {{.name = "vote", .n_thresholds = 1, .thresholds = {.5f}}, "takes no threshold"},
        {{.name = "ensemble", .n_weights = 9}, "takes no weights"},
        {{.name = "ensemble_mean", .n_weights = 8}, "expected 9"},
        {{.name = "ensemble_mean", .n_weights = 9, .weights = {1, 1, 0}}, "weight 2"},
        {{.skip_below = NAN}, "nan"},
    };
    ees_model *model;
    ees_policy_options out;
    assert_int_equal(ees_model_open_random("vit-ti16", 1, NULL, &model, NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ees_error err = {0};
        assert_int_equal(ees_policy_resolve(model, &cases[i].options, &out, &err), EES_EINVAL);
        if (!strstr(err.message, cases[i].needle))
            fail_msg("'%s' does not name '%s'", err.message, cases[i].needle);
    }
    const ees_policy_options mean = {.name = "ensemble_mean"};
    assert_int_equal(ees_policy_resolve(model, &mean, &out, NULL), 0);
    assert_true(out.n_weights == 9 && out.weights[8] == 1);
    ees_model_close(model);
}

/* ---- With a model -------------------------------------------------------------------------------------- */

static void set_tensor(struct tiny *tiny, const char *name, unsigned rank, size_t d0, size_t d1, const float *values) {
    struct tensor *t = tiny_add(tiny, name, rank, d0, d1, 0);
    size_t n = d0 * (rank > 1 ? d1 : 1);
    t->data = malloc(n * sizeof *values);
    assert_non_null(t->data);
    memcpy(t->data, values, n * sizeof *values);
}

/* The tiny model: C 16, 3 classes, 2 exits. */
enum { TINY_C = 16, TINY_K = 3, TINY_E = 2 };

/* A gate that is the first row of exit 0's classifier: at exit 0 it must say sigmoid(its first logit). */
static void add_gate(struct tiny *tiny) {
    set_tensor(tiny, "gate.weight", 2, 1, TINY_C, tiny_find(tiny, "exit.0.head.cls.weight")->data);
    set_tensor(tiny, "gate.bias", 1, 1, 0, tiny_find(tiny, "exit.0.head.cls.bias")->data);
}

struct seen {
    float logits[(TINY_E + 1) * TINY_K], gates[TINY_E + 1];
    unsigned n;
};

static int look(void *opaque, const ees_tap *tap) {
    struct seen *seen = opaque;
    if (tap->kind != EES_TAP_LOGITS) {
        assert_true(isnan(tap->gate));
        return 0;
    }
    memcpy(seen->logits + seen->n * TINY_K, tap->data, TINY_K * sizeof(float));
    seen->gates[seen->n++] = tap->gate;
    return 0;
}

static ees_model *open_tiny(struct tiny *tiny, const char *dir, const char *policy) {
    ees_model *model;
    ees_error err = {0};
    json_t *early = json_object_get(tiny->config, "early_exits");
    json_object_set_new(early, "policy", json_loads(policy, 0, NULL));
    tiny_write(tiny, dir);
    if (ees_model_open(dir, NULL, &model, &err) != 0)
        fail_msg("%s", err.message);
    return model;
}

static void test_gate_of_a_model(void **state) {
    char dir[64];
    struct tiny tiny;
    float pixels[3 * 8 * 12];
    uint32_t seed = 5;
    make_folder(dir);
    tiny_init(&tiny, "hf-vit");
    add_gate(&tiny);
    ees_model *model = open_tiny(&tiny, dir, "{\"name\":\"gate\",\"thresholds\":0.5}");
    unsigned n_at[TINY_E + 1] = {0};
    for (int frame = 0; frame < 40; frame++) {
        struct seen seen = {0};
        struct walked walked;
        struct ees__policy_setup setup;
        ees_policy_options resolved;
        fill_random(&seed, pixels, sizeof pixels / sizeof *pixels);
        ees_frame f = tensor_frame(model, pixels);
        assert_int_equal(ees_model_trace(model, &f, look, &seen, NULL), 0);
        assert_int_equal(seen.n, TINY_E + 1);
        assert_true(fabsf(seen.gates[0] - 1.0f / (1.0f + expf(-seen.logits[0]))) < 1e-5f);
        assert_true(seen.gates[1] > 0 && seen.gates[1] < 1 && isnan(seen.gates[TINY_E]));
        unsigned expected = seen.gates[0] < .5f ? 0 : seen.gates[1] < .5f ? 1 : 2;
        assert_int_equal(ees_policy_resolve(model, NULL, &resolved, NULL), 0);
        assert_int_equal(ees__policy_setup(model, &resolved, &setup, NULL), 0);
        walk_units(model, &setup, &f, 0, &walked);
        assert_int_equal(walked.item.exit_idx, expected);
        walked_fini(&walked);
        struct ees__record record = {.logits = seen.logits, .gates = seen.gates};
        assert_int_equal(walk_with(&resolved, TINY_E, TINY_K, NULL, &record).exit_idx, expected);
        n_at[expected]++;
    }
    assert_true(n_at[0] > 0 && n_at[0] < 40);
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
}

/* Frames of a batch have the gates they have alone. */
static void test_gates_in_a_batch(void **state) {
    enum { N = 3 };
    char dir[64];
    struct tiny tiny;
    float pixels[N][3 * 8 * 12], gates[N][TINY_E];
    uint32_t seed = 21;
    make_folder(dir);
    tiny_init(&tiny, "hf-vit");
    add_gate(&tiny);
    ees_model *model = open_tiny(&tiny, dir, "{\"name\":\"gate\",\"thresholds\":0}");
    const ees_model_info *info = ees_model_get_info(model);
    struct ees__policy_setup setup;
    ees_policy_options resolved;
    assert_int_equal(ees_policy_resolve(model, NULL, &resolved, NULL), 0);
    assert_int_equal(ees__policy_setup(model, &resolved, &setup, NULL), 0);
    fill_random(&seed, pixels[0], sizeof pixels / sizeof(float));
    for (unsigned n = 1; n <= N; n += N - 1) {
        struct ees__lane *lane = ees__lane_open(model, n);
        for (unsigned first = 0; first < N; first += n) {
            struct ees__item items[N] = {0}, *at[N];
            ees_frame frames[N];
            int rc[N];
            for (unsigned i = 0; i < n; i++) {
                frames[i] = tensor_frame(model, pixels[first + i]);
                items[i].frame = &frames[i];
                items[i].state = ees__calloc_aligned(info->state_bytes, 1);
                items[i].logits = ees__calloc_aligned(TINY_K, sizeof(float));
                at[i] = &items[i];
            }
            for (unsigned u = 0; u < info->n_units; u++) {
                int exit_idx = ees_model_get_unit(model, u)->exit_idx;
                ees__unit_run(model, &setup, u, at, n, rc, lane, NULL);
                for (unsigned i = 0; i < n && exit_idx >= 0 && exit_idx < TINY_E; i++) {
                    if (n == 1)
                        gates[first + i][exit_idx] = items[i].gate;
                    assert_true(items[i].gate == gates[first + i][exit_idx]);
                }
            }
            for (unsigned i = 0; i < n; i++) {
                ees__free(items[i].state);
                ees__free(items[i].logits);
            }
        }
        ees__lane_close(lane);
    }
    assert_true(gates[0][0] != gates[1][0]);
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
}

/* Units, and a replay of the logits they give, answer the same. */
static void test_learned_ensemble_of_a_model(void **state) {
    static const char *const policies[] = {
        "{\"name\":\"ensemble\",\"thresholds\":0.45}", "{\"name\":\"ensemble_additive\",\"thresholds\":0.4}",
        "{\"name\":\"ensemble_mean\",\"thresholds\":0.45,\"weights\":[1,2,3]}", "{\"name\":\"vote\",\"patience\":2}"};
    float w[(TINY_E + 1) * (TINY_E + 1)], b[(TINY_E + 1) * TINY_K], pixels[3 * 8 * 12];
    uint32_t seed = 11;
    for (size_t i = 0; i < 9; i++) {
        w[i] = draw(&seed) * .2f;
        b[i] = draw(&seed) * .2f - 1.0f;
    }
    for (size_t p = 0; p < 4; p++) {
        char dir[64];
        struct tiny tiny;
        make_folder(dir);
        tiny_init(&tiny, "hf-vit");
        set_tensor(&tiny, "ensemble.weight", 2, TINY_E + 1, TINY_E + 1, w);
        set_tensor(&tiny, "ensemble.bias", 2, TINY_E + 1, TINY_K, b);
        ees_model *model = open_tiny(&tiny, dir, policies[p]);
        struct ees__policy_weights learned = {.member = w, .member_bias = b};
        for (int frame = 0; frame < 20; frame++) {
            struct seen seen = {0};
            struct walked walked;
            struct ees__policy_setup setup;
            ees_policy_options resolved;
            fill_random(&seed, pixels, sizeof pixels / sizeof *pixels);
            ees_frame f = tensor_frame(model, pixels);
            assert_int_equal(ees_model_trace(model, &f, look, &seen, NULL), 0);
            assert_int_equal(ees_policy_resolve(model, NULL, &resolved, NULL), 0);
            assert_int_equal(ees__policy_setup(model, &resolved, &setup, NULL), 0);
            walk_units(model, &setup, &f, 0, &walked);
            struct ees__record record = {.logits = seen.logits};
            struct answer a = walk_with(&resolved, TINY_E, TINY_K, &learned, &record);
            assert_int_equal(walked.rc, EES__UNIT_DONE);
            assert_int_equal(walked.item.exit_idx, a.exit_idx);
            assert_int_equal(walked.item.class_idx, a.class_idx);
            assert_true(walked.item.confidence == a.confidence && walked.item.entropy == a.entropy);
            walked_fini(&walked);
        }
        ees_model_close(model);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

/* Half a gate, one of another width, one in a model without exits. */
static void test_bad_learned_weights(void **state) {
    static const float zeros[64];
    for (int bad = 0; bad < 4; bad++) {
        static const char *const needles[] = {"gate.bias", "(1,8), expected (1,16)", "(2,2), expected (3,3)",
                                              "policy.weights"};
        char dir[64];
        struct tiny tiny;
        ees_model *model;
        ees_error err = {0};
        make_folder(dir);
        tiny_init(&tiny, "hf-vit");
        if (bad == 0)
            set_tensor(&tiny, "gate.weight", 2, 1, TINY_C, zeros);
        if (bad == 1) {
            set_tensor(&tiny, "gate.weight", 2, 1, 8, zeros);
            set_tensor(&tiny, "gate.bias", 1, 1, 0, zeros);
        }
        if (bad == 2)
            set_tensor(&tiny, "ensemble.weight", 2, 2, 2, zeros);
        if (bad == 3)
            json_object_set_new(json_object_get(json_object_get(tiny.config, "early_exits"), "policy"), "weights",
                                json_pack("[f,f]", 1.0, 1.0));
        tiny_write(&tiny, dir);
        assert_int_equal(ees_model_open(dir, NULL, &model, &err), EES_EMODEL);
        if (!strstr(err.message, needles[bad]))
            fail_msg("'%s' does not name '%s'", err.message, needles[bad]);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
}

/* What the config says about skipping holds for its model unless the caller says otherwise. */
static void test_skip_of_a_model(void **state) {
    char dir[64];
    struct tiny tiny;
    ees_policy_options out, given = {0};
    make_folder(dir);
    tiny_init(&tiny, "hf-vit");
    ees_model *model = open_tiny(&tiny, dir, "{\"name\":\"temporal\",\"lag\":7,\"skip_below\":2.5}");
    assert_int_equal(ees_policy_resolve(model, NULL, &out, NULL), 0);
    assert_true(out.skip_below == 2.5f && out.lag == 7 && out.patience == 1);
    given.name = "entropy";
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    assert_true(out.skip_below == 2.5f && out.lag == 0);
    given.name = "none";
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    assert_true(out.skip_below < 0);
    given = (ees_policy_options){.skip_below = -1};
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    given = out; /* what is resolved stays as it is */
    assert_int_equal(ees_policy_resolve(model, &given, &out, NULL), 0);
    assert_true(out.skip_below < 0);
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
}

/* ---- Pictures ------------------------------------------------------------------------------------------ */

/* A change is that of the patch that changed most, in grey levels, whatever the model's normalisation. */
static void test_picture_change(void **state) {
    ees_model *model;
    assert_int_equal(ees_model_open_random("vit-ti16", 1, NULL, &model, NULL), 0);
    const ees_model_info *info = ees_model_get_info(model);
    size_t n = info->state_bytes / sizeof(float), n_picture = ees__picture_floats(model);
    float *patches = calloc(n, sizeof *patches), *a = calloc(n_picture, sizeof *a), *b = calloc(n_picture, sizeof *b);
    ees__picture_make(model, patches, a);
    assert_true(ees__picture_change(model, a, a) == 0);
    static const float std[] = {.229f, .224f, .225f}; /* the random models' */
    size_t area = info->patch_px * info->patch_px;
    for (size_t i = 0; i < 3 * area; i++)
        patches[5 * 3 * area + i] = 10.0f / 255.0f / std[i / area];
    ees__picture_make(model, patches, b);
    float change = ees__picture_change(model, a, b);
    assert_true(fabsf(change - 10.0f) < 1e-4f);
    patches[2 * 3 * area] = 1.0f / std[0]; /* one pixel of one colour elsewhere: lost in its patch */
    ees__picture_make(model, patches, b);
    assert_true(ees__picture_change(model, a, b) == change);
    patches[5 * 3 * area] = NAN; /* counts as changed, whatever the threshold */
    ees__picture_make(model, patches, b);
    assert_false(ees__picture_change(model, a, b) < 255);
    assert_false(ees__picture_change(model, b, b) < 255);
    free(patches);
    free(a);
    free(b);
    ees_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_scores),
        cmocka_unit_test(test_known_decisions),
        cmocka_unit_test(test_votes_and_runs),
        cmocka_unit_test(test_most_confident),
        cmocka_unit_test(test_recorded_decisions_translated),
        cmocka_unit_test(test_ensembles),
        cmocka_unit_test(test_mean_of_the_sure),
        cmocka_unit_test(test_members_that_are_not_finite),
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_one_class_and_ties),
        cmocka_unit_test(test_can_leave),
        cmocka_unit_test(test_temporal),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_gate_of_a_model),
        cmocka_unit_test(test_gates_in_a_batch),
        cmocka_unit_test(test_learned_ensemble_of_a_model),
        cmocka_unit_test(test_bad_learned_weights),
        cmocka_unit_test(test_skip_of_a_model),
        cmocka_unit_test(test_picture_change),
    };
    return cmocka_run_group_tests_name("policy kinds", tests, NULL, NULL);
}
