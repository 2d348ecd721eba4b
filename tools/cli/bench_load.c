/* SPDX-License-Identifier: MIT */
/* Latency under a steady load. A frame's latency begins when it is due, not when the engine had room for it: a
 * configuration that falls behind cannot hide it. */
#include <stdlib.h>

#include "tools/cli/bench.h"
#include "tools/cli/clock.h"
#include "tools/cli/fail.h"

/* A repetition under way. */
struct offer {
    uint64_t start_ns;
    double period_ns;
    size_t n, pushed, pulled;
    bool full;              /* the next frame is due and there is no room: only an answer helps */
    uint64_t *latencies_ns; /* holds how late a frame was pushed until its answer is there */
};

static uint64_t due_ns(const struct offer *o, size_t frame) {
    return o->start_ns + (uint64_t)((double)frame * o->period_ns);
}

/* Push what is due, as far as there is room. @return 0 or the engine's failure */
static int push_due(const struct bench *b, struct bench_config *c, struct offer *o, ees_error *err) {
    o->full = false;
    while (o->pushed < o->n) {
        uint64_t now = now_ns(), due = due_ns(o, o->pushed);
        if (now < due)
            return 0;
        int rc = ees_engine_push(c->engine, &b->frames[o->pushed % b->n_frames], 0, err);
        o->full = rc == EES_EAGAIN;
        if (o->full)
            return 0;
        CLI_TRY(rc);
        o->latencies_ns[o->pushed++] = now - due;
    }
    return 0;
}

/* Until the next frame is due, which may be now; without a limit when all are in, or when there is no room. */
static int64_t patience_us(const struct offer *o) {
    if (o->full || o->pushed == o->n)
        return -1;
    uint64_t now = now_ns(), due = due_ns(o, o->pushed);
    return now < due ? (int64_t)((due - now) / 1000) : 0;
}

static int pull_next(struct bench_config *c, struct offer *o, ees_error *err) {
    ees_result result;
    int rc = ees_engine_pull(c->engine, &result, patience_us(o), err);
    if (rc == EES_EAGAIN)
        return 0;
    CLI_TRY(rc);
    o->latencies_ns[o->pulled++] += result.latency_ns; /* answers come in push order */
    rc = bench_check(&result, err);
    ees_engine_release(c->engine, &result);
    return rc;
}

/* @return 0 or a failure. *seconds: how long it took */
static int offer_frames(const struct bench *b, struct bench_config *c, double *seconds, ees_error *err) {
    struct offer o = {.start_ns = now_ns(),
                      .period_ns = 1e9 / c->load.offered_fps,
                      .n = c->n_frames,
                      .latencies_ns = c->load.latencies_ns + c->load.n_latencies};
    while (o.pulled < o.n) {
        CLI_TRY(push_due(b, c, &o, err));
        CLI_TRY(pull_next(c, &o, err));
    }
    c->load.n_latencies += o.n;
    *seconds = ((double)(now_ns() - o.start_ns) + o.period_ns) * 1e-9; /* the last frame has a period too */
    return 0;
}

/* The latencies of the round that just ended are the last ones. */
static void end_round(struct bench_config *c, size_t round) {
    uint64_t *latencies_ns = c->load.latencies_ns + c->load.n_latencies - c->n_frames;
    bench_sort(latencies_ns, c->n_frames);
    c->reps[round].load_p99_ms = bench_rank_ms(latencies_ns, c->n_frames, 0.99);
}

int bench_measure_load(const struct bench *b, struct bench_model *m, ees_error *err) {
    size_t n_rounds = b->o->n_reps;
    double took_s[2 * BENCH_N_KINDS] = {0};
    for (unsigned i = 0; i < m->n_configs; i++) {
        struct bench_config *c = &m->configs[i];
        c->load.offered_fps = b->o->load * bench_fps(bench_find(m, BENCH_REPLICAS, c->exits), n_rounds).median;
        c->load.latencies_ns = calloc(n_rounds * c->n_frames, sizeof *c->load.latencies_ns);
        if (!c->load.latencies_ns)
            return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu frames", n_rounds * c->n_frames);
    }
    for (size_t round = 0; round < n_rounds; round++)
        for (unsigned k = 0; k < m->n_configs; k++) {
            unsigned i = (k + (unsigned)round) % m->n_configs;
            double seconds;
            CLI_TRY(offer_frames(b, &m->configs[i], &seconds, err));
            took_s[i] += seconds;
            end_round(&m->configs[i], round);
        }
    for (unsigned i = 0; i < m->n_configs; i++) {
        struct bench_load *load = &m->configs[i].load;
        load->answered_fps = (double)load->n_latencies / took_s[i];
        bench_sort(load->latencies_ns, load->n_latencies);
    }
    return 0;
}
