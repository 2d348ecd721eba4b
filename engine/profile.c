/* SPDX-License-Identifier: MIT */
/* Unit costs, measured on the calling thread: cold as part of the whole chain, warm one unit again and again. */
#include "common/clock.h"
#include "common/cpu.h"
#include "common/fail.h"
#include "common/mem.h"
#include "eestream/plan.h"
#include "eestream/source.h"
#include "stages/stage.h"

enum { MIN_RUNS = 2, MAX_RUNS = 200 }; /* the first warms up and does not count */
static const uint64_t default_min_ns = 2000000;

struct bench {
    const ees_model *model;
    struct ees__policy_setup policy; /* every frame goes to the end, past every head */
    uint8_t to_the_end;
    struct ees__lane *lane;
    struct ees__item item;
    uint64_t min_ns;
    ees_error *err;
};

static int time_unit(struct bench *b, unsigned unit, uint64_t *ns) {
    uint64_t start_ns = ees__now_ns();
    int rc;
    ees__unit_run(b->model, &b->policy, unit, &(struct ees__item *){&b->item}, 1, &rc, b->lane, NULL);
    *ns = ees__now_ns() - start_ns;
    if (rc < 0)
        return EES_FAIL(b->err, rc, "%s", b->item.error.message);
    return 0;
}

/* The least of several runs: noise only ever adds. */
static int measure_cold(struct bench *b, ees_profile *out) {
    uint64_t spent_ns = 0;
    uint64_t enough_ns = b->min_ns * out->n_units;
    for (unsigned pass = 0; pass < MIN_RUNS || (spent_ns < enough_ns && pass < MAX_RUNS); pass++) {
        for (unsigned u = 0; u < out->n_units; u++) {
            uint64_t ns;
            EES_TRY(time_unit(b, u, &ns));
            spent_ns += ns;
            if (pass == 1 || (pass > 1 && (double)ns < out->cold_ns[u]))
                out->cold_ns[u] = (double)ns;
        }
    }
    return 0;
}

static int measure_warm(struct bench *b, ees_profile *out) {
    for (unsigned u = 0; u < out->n_units; u++) {
        out->warm_ns[u] = out->cold_ns[u];
        if (out->weights_bytes[u] > out->private_cache_bytes)
            continue; /* it can never be warm */
        uint64_t spent_ns = 0;
        for (unsigned run = 0; run < MIN_RUNS || (spent_ns < b->min_ns && run < MAX_RUNS); run++) {
            uint64_t ns;
            EES_TRY(time_unit(b, u, &ns));
            spent_ns += ns;
            if (run > 0 && (double)ns < out->warm_ns[u])
                out->warm_ns[u] = (double)ns;
        }
    }
    return 0;
}

static int measure(struct bench *b, ees_profile *out) {
    const ees_model_info *info = ees_model_get_info(b->model);
    b->lane = ees__lane_open(b->model, 1);
    b->item.state = ees__calloc_aligned(info->state_bytes, 1);
    b->item.logits = ees__calloc_aligned(info->n_classes, sizeof(float));
    if (!b->lane || !b->item.state || !b->item.logits)
        return EES_FAIL(b->err, EES_ENOMEM, "no memory to measure the units");
    out->n_units = info->n_units;
    out->private_cache_bytes = ees__cpu_private_cache_bytes();
    for (unsigned u = 0; u < info->n_units; u++)
        out->weights_bytes[u] = ees_model_get_unit(b->model, u)->weights_bytes;
    EES_TRY(measure_cold(b, out));
    return measure_warm(b, out);
}

static int measure_frame(const ees_model *model, const ees_frame *frame, uint64_t min_ns, ees_profile *out,
                         ees_error *err) {
    struct bench b = {.model = model, .min_ns = min_ns ? min_ns : default_min_ns, .err = err};
    b.item.frame = frame;
    b.item.exit_idx = -1;
    b.to_the_end = (uint8_t)ees_model_get_info(model)->n_exits;
    ees_policy_options any = {0}, resolved;
    EES_TRY(ees_policy_resolve(model, &any, &resolved, err));
    resolved.replay = &b.to_the_end;
    resolved.n_replay = 1;
    EES_TRY(ees__policy_setup(model, &resolved, &b.policy, err));
    int rc = measure(&b, out);
    ees__lane_close(b.lane);
    ees__free(b.item.state);
    ees__free(b.item.logits);
    return rc;
}

int ees_profile_measure(const ees_model *model, const ees_frame *frame, uint64_t min_ns, ees_profile *out,
                        ees_error *err) {
    *out = (ees_profile){0};
    if (frame)
        return measure_frame(model, frame, min_ns, out, err);
    ees_source *source;
    ees_frame synthetic;
    EES_TRY(ees_source_open("synthetic:640x480", NULL, &source, err));
    int rc = ees_source_next(source, &synthetic, err);
    if (rc == 0) {
        rc = measure_frame(model, &synthetic, min_ns, out, err);
        synthetic.release(synthetic.opaque);
    }
    ees_source_close(source);
    return rc;
}
