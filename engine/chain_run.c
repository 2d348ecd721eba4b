/* SPDX-License-Identifier: MIT */
#include "engine/chain_run.h"

#include <string.h>

#include "common/clock.h"
#include "common/fail.h"
#include "common/mem.h"

int ees__chain_run_unit(struct ees__chain_run *c, unsigned unit, unsigned n, uint64_t *ns) {
    struct ees__item *items[EES__CHAIN_BATCH];
    int rc[EES__CHAIN_BATCH];
    for (unsigned i = 0; i < n; i++)
        items[i] = &c->items[i];
    uint64_t start_ns = ees__clock_ns(CLOCK_THREAD_CPUTIME_ID);
    ees__unit_run(c->model, &c->policy, unit, items, n, rc, c->lane, NULL);
    *ns = ees__clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
    for (unsigned i = 0; i < n; i++)
        if (rc[i] < 0)
            return EES_FAIL(c->err, rc[i], "%s", c->items[i].error.message);
    return 0;
}

/* All units in turn with n frames, once. @return what all took together through *pass_ns */
static int pass_chain(struct ees__chain_run *c, unsigned n, bool counts, double *least_ns, uint64_t *pass_ns) {
    unsigned n_units = ees_model_get_info(c->model)->n_units;
    *pass_ns = 0;
    for (unsigned u = 0; u < n_units; u++) {
        uint64_t ns;
        EES_TRY(ees__chain_run_unit(c, u, n, &ns));
        *pass_ns += ns;
        if (counts && (least_ns[u] == 0 || (double)ns < least_ns[u]))
            least_ns[u] = (double)ns;
    }
    return 0;
}

/* Noise only ever adds, so the least of several passes is taken of each unit; but least times of units from different
 * passes add up to less than any pass took, so they are stretched to the least whole pass. */
int ees__chain_run_all(struct ees__chain_run *c, unsigned n, uint64_t enough_ns, double *share_ns) {
    unsigned n_units = ees_model_get_info(c->model)->n_units;
    uint64_t spent_ns = 0, least_pass_ns = UINT64_MAX;
    double sum_ns = 0;
    memset(share_ns, 0, n_units * sizeof *share_ns);
    for (unsigned pass = 0; ees__chain_goes_on(pass, spent_ns, enough_ns); pass++) {
        uint64_t pass_ns;
        EES_TRY(pass_chain(c, n, pass > 0, share_ns, &pass_ns));
        spent_ns += pass_ns;
        if (pass > 0 && pass_ns < least_pass_ns)
            least_pass_ns = pass_ns;
    }
    for (unsigned u = 0; u < n_units; u++)
        sum_ns += share_ns[u];
    for (unsigned u = 0; u < n_units; u++)
        share_ns[u] *= sum_ns > 0 ? (double)least_pass_ns / sum_ns / n : 0;
    return 0;
}

/* ---- Open and close ------------------------------------------------------------------------------------ */

static int make_items(struct ees__chain_run *c, const ees_frame *frame) {
    const ees_model_info *info = ees_model_get_info(c->model);
    size_t state = ees__round_up(info->state_bytes, EES_CACHE_LINE), logits = info->n_classes * sizeof(float), each,
           total;
    if (!ees__add(state, ees__round_up(logits, EES_CACHE_LINE), &each) || !ees__mul(each, EES__CHAIN_BATCH, &total) ||
        !(c->memory = ees__calloc_aligned(total, 1)) || !(c->lane = ees__lane_open(c->model, EES__CHAIN_BATCH)))
        return EES_FAIL(c->err, EES_ENOMEM, "no memory to measure the units");
    for (unsigned i = 0; i < EES__CHAIN_BATCH; i++) {
        char *at = (char *)c->memory + i * each;
        c->items[i] = (struct ees__item){
            .frame = frame, .state = (float *)(void *)at, .logits = (float *)(void *)(at + state), .exit_idx = -1};
    }
    return 0;
}

static int open_synthetic(struct ees__chain_run *c) {
    EES_TRY(ees_source_open("synthetic:640x480", NULL, &c->source, c->err));
    return ees_source_next(c->source, &c->frame, c->err);
}

/* The replay runs the heads. */
static int open_policy(struct ees__chain_run *c) {
    ees_policy_options none = {.name = "none"}, resolved;
    c->to_the_end = (uint8_t)ees_model_get_info(c->model)->n_exits;
    EES_TRY(ees_policy_resolve(c->model, &none, &resolved, c->err));
    resolved.replay = &c->to_the_end;
    resolved.n_replay = 1;
    return ees__policy_setup(c->model, &resolved, &c->policy, c->err);
}

int ees__chain_run_open(struct ees__chain_run *c, const ees_model *model, const ees_frame *frame, ees_error *err) {
    *c = (struct ees__chain_run){.model = model, .err = err};
    int rc = frame ? 0 : open_synthetic(c);
    if (rc == 0)
        rc = open_policy(c);
    if (rc == 0)
        rc = make_items(c, frame ? frame : &c->frame);
    if (rc < 0)
        ees__chain_run_close(c);
    return rc;
}

void ees__chain_run_close(struct ees__chain_run *c) {
    ees__lane_close(c->lane);
    ees__free(c->memory);
    if (c->frame.release)
        c->frame.release(c->frame.opaque);
    ees_source_close(c->source);
    *c = (struct ees__chain_run){0};
}
