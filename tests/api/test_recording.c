/* SPDX-License-Identifier: MIT */
/* What calibration stands on: hashes that tell files apart, every head's logits from a running engine, and policies
 * replayed on them as an engine would decide. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eestream/eestream.h"

#define WORLD EES_PROJECT_DIR "/tools/assets/world"

/* ---- Hashes ---------------------------------------------------------------------------------------------- */

/* Of the xxHash specification's reference implementation. */
static void hashes_of_text(void **unused) {
    assert_int_equal(ees_hash64("", 0, 0), 0xef46db3751d8e999);
    assert_int_equal(ees_hash64("a", 1, 0), 0xd24ec4f1a98c6e5b);
    assert_int_equal(ees_hash64("abc", 3, 0), 0x44bc2cf5ad770999);
    const char *spam = "Nobody inspects the spammish repetition";
    assert_int_equal(ees_hash64(spam, strlen(spam), 0), 0xfbcea83c8a378bf1);
    assert_int_not_equal(ees_hash64("abc", 3, 0), ees_hash64("abc", 3, 1));
}

static char *read_all(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *data = malloc(8u << 20);
    assert_non_null(data);
    *n = fread(data, 1, 8u << 20, f);
    fclose(f);
    return data;
}

/* The file's hash, whether the model came from it or from the library, in whatever pieces it is read. */
static void hashes_of_models(void **unused) {
    char embedded[EES_HASH_TEXT], folder[EES_HASH_TEXT], expected[EES_HASH_TEXT];
    size_t n;
    char *data = read_all(WORLD "/model/model.safetensors", &n);
    snprintf(expected, sizeof expected, "xxh64:%016llx", (unsigned long long)ees_hash64(data, n, 0));
    free(data);
    ees_model *model;
    assert_int_equal(ees_model_open(NULL, NULL, &model, NULL), 0);
    assert_int_equal(ees_model_hash(model, embedded, NULL), 0);
    assert_null(ees_model_get_certificate(model));
    ees_model_close(model);
    assert_int_equal(ees_model_open(WORLD "/model", NULL, &model, NULL), 0);
    assert_int_equal(ees_model_hash(model, folder, NULL), 0);
    ees_model_close(model);
    assert_string_equal(embedded, expected);
    assert_string_equal(folder, expected);
    assert_int_equal(ees_model_open_random("vit-ti16", 1, NULL, &model, NULL), 0);
    assert_int_equal(ees_model_hash(model, folder, NULL), EES_EUNSUPPORTED);
    ees_model_close(model);
}

static void metadata_of_tensors(void **unused) {
    const char json[] = "{\"__metadata__\":{\"kind\":\"log\",\"empty\":\"\"}}  ";
    unsigned char file[8 + sizeof json] = {sizeof json - 1};
    ees_tensors *t;
    memcpy(file + 8, json, sizeof json - 1);
    assert_int_equal(ees_tensors_open_memory(file, 8 + sizeof json - 1, "x", &t, NULL), 0);
    assert_string_equal(ees_tensors_get_metadata(t, "kind"), "log");
    assert_string_equal(ees_tensors_get_metadata(t, "empty"), "");
    assert_null(ees_tensors_get_metadata(t, "absent"));
    ees_tensors_close(t);
}

/* ---- All logits ------------------------------------------------------------------------------------------ */

enum { N_FRAMES = 24, ROWS = 5, CLASSES = 16 };

static float expected[N_FRAMES][ROWS][CLASSES];
static unsigned traced_frame;

static int keep_logits(void *opaque, const ees_tap *tap) {
    if (tap->kind == EES_TAP_LOGITS)
        memcpy(expected[traced_frame][tap->info->exit_idx], tap->data, sizeof expected[0][0]);
    return 0;
}

static ees_source *open_clip(void) {
    ees_source *source;
    assert_int_equal(ees_source_open(WORLD "/clip.avi", NULL, &source, NULL), 0);
    return source;
}

static void trace_clip(const ees_model *model) {
    ees_source *source = open_clip();
    for (traced_frame = 0; traced_frame < N_FRAMES; traced_frame++) {
        ees_frame frame;
        assert_int_equal(ees_source_next(source, &frame, NULL), 0);
        assert_int_equal(ees_model_trace(model, &frame, keep_logits, NULL, NULL), 0);
        frame.release(frame.opaque);
    }
    ees_source_close(source);
}

/* Slots are fewer than frames, and audits exchange their memory: what one frame left behind must not show in the next.
 */
static void check_run(const ees_model *model, const char *policy, bool all, double audit_share) {
    ees_engine_options o;
    ees_engine *engine;
    ees_source *source = open_clip();
    ees_engine_options_default(&o);
    o.n_workers = 2;
    o.n_slots = N_FRAMES;
    o.plan = "1-6,7-12";
    o.policy.name = policy;
    o.all_logits = all;
    o.audit_share = audit_share;
    assert_int_equal(ees_engine_open(model, &o, &engine, NULL), 0);
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < N_FRAMES; i++) {
            ees_frame frame;
            ees_result r;
            if (i == 0 && pass == 1) {
                ees_source_close(source);
                source = open_clip();
            }
            assert_int_equal(ees_source_next(source, &frame, NULL), 0);
            assert_int_equal(ees_engine_push(engine, &frame, -1, NULL), 0);
            assert_int_equal(ees_engine_pull(engine, &r, -1, NULL), 0);
            assert_true(all == (r.all_logits != NULL) && all == (r.all_gates != NULL));
            assert_true(!all || isnan(r.all_gates[0])); /* the embedded model has no gate */
            for (int e = 0; all && e <= r.exit_idx; e++)
                assert_memory_equal(r.all_logits + (size_t)e * CLASSES, expected[i][e], sizeof expected[i][e]);
            assert_memory_equal(r.logits, expected[i][r.exit_idx], sizeof expected[i][0]);
            assert_true(strcmp(policy, "none") != 0 || r.exit_idx == ROWS - 1);
            ees_engine_release(engine, &r);
        }
    ees_source_close(source);
    ees_engine_close(engine);
}

static void every_heads_logits(void **unused) {
    ees_model *model;
    assert_int_equal(ees_model_open(NULL, NULL, &model, NULL), 0);
    trace_clip(model);
    check_run(model, "none", true, 0);
    check_run(model, "none", false, 0);
    check_run(model, "confidence", true, 1);
    check_run(model, "vote", true, 1); /* has memory of its own in a slot */
    ees_model_close(model);
}

/* ---- Replay ---------------------------------------------------------------------------------------------- */

enum { E = 4, K = 5, N = 400 };

static float logits[N][E + 1][K];
static ees_exit_view views[N][E + 1];

/* Surer with depth; some heads give NaN. */
static void make_logits(void) {
    uint64_t state = 3;
    for (int i = 0; i < N; i++) {
        int truth = (i / 7) % K;
        for (int e = 0; e <= E; e++) {
            for (int k = 0; k < K; k++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                logits[i][e][k] = (float)(state >> 40) * 0x1p-22f + (k == truth ? 0.6f * (float)e + 1 : 0);
            }
            if (e < E && i % 29 == e)
                logits[i][e][2] = e % 2 ? NAN : INFINITY;
        }
    }
}

/* "temporal" looks back; the others are told by ees_policy_walk(). */
static unsigned expect_exit(const ees_policy_options *p, const ees_policy_info *info, int i, const uint8_t *exits) {
    if (!info->looks_back)
        return (unsigned)ees_policy_walk(p, E, K, logits[i][0], NULL);
    unsigned run = 0;
    for (unsigned e = 0; e < E; e++) {
        const ees_exit_view *v = &views[i][e], *before = i >= 4 ? &views[i - 4][exits[i - 4]] : NULL;
        run =
            before && v->finite && v->confidence >= p->thresholds[0] && v->class_idx == before->class_idx ? run + 1 : 0;
        if (run == (p->patience ? p->patience : 1))
            return e;
    }
    return E;
}

static unsigned check_replay(const char *name, float threshold, unsigned patience) {
    ees_policy_info info;
    uint8_t exits[N];
    unsigned used = 0;
    assert_int_equal(ees_policy_get_info(name, &info, NULL), 0);
    ees_policy_options p = {.name = name, .patience = info.patience ? patience : 0};
    p.n_thresholds = info.rule != EES_THRESHOLD_NONE;
    p.thresholds[0] = threshold;
    assert_int_equal(ees_policy_view(NULL, &p, E, K, logits[0][0], NULL, N, views[0], NULL), 0);
    assert_int_equal(ees_policy_replay(&p, E, views[0], N, exits, NULL), 0);
    for (int i = 0; i < N; i++) {
        unsigned wanted = expect_exit(&p, &info, i, exits);
        if (exits[i] != wanted)
            fail_msg("%s, frame %d: exit %u, expected %u", name, i, exits[i], wanted);
        used |= 1u << exits[i];
        for (unsigned e = 0; e <= E; e++)
            assert_true(views[i][e].finite == (e == E || i % 29 != (int)e));
    }
    return used;
}

static void replayed_as_walked(void **unused) {
    unsigned n_replayed = 0;
    make_logits();
    for (const char *const *name = ees_policy_names(); *name; name++) {
        ees_policy_info info;
        unsigned used = 0;
        ees_error err = {0};
        const ees_policy_options bare = {.name = *name};
        assert_int_equal(ees_policy_get_info(*name, &info, NULL), 0);
        if (info.needs_gate || info.needs_members) {
            assert_int_equal(ees_policy_view(NULL, &bare, E, K, logits[0][0], NULL, N, views[0], &err), EES_EINVAL);
            assert_non_null(strstr(err.message, *name));
            continue;
        }
        for (unsigned patience = 1; patience <= E; patience++)
            for (int step = 1; step < 6; step++)
                used |= check_replay(*name, (float)step * 0.19f, patience);
        assert_true(strcmp(*name, "none") == 0 ? used == 1u << E : (used & (used - 1)) != 0); /* several exits */
        n_replayed++;
    }
    assert_true(n_replayed > 8);
    assert_int_equal(ees_policy_get_info("hope", &(ees_policy_info){0}, NULL), EES_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_of_text),      cmocka_unit_test(hashes_of_models),
        cmocka_unit_test(metadata_of_tensors), cmocka_unit_test(every_heads_logits),
        cmocka_unit_test(replayed_as_walked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
