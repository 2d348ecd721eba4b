/* SPDX-License-Identifier: MIT */
/* bench_latency ARCH FRAMES: one frame inside at a time, on one core and on a team of all, alternating (EES_HINT_LATENCY).
 * ARCH: as ees_model_open_random(), or "embedded". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "eestream/eestream.h"

enum { ALONE, TEAM, N_WAYS, WARM_UP = 3 };

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check(int rc, const ees_error *err) {
    if (rc == 0)
        return;
    fprintf(stderr, "bench_latency: %s\n", err->message);
    exit(1);
}

static ees_engine *open_engine(const ees_model *model, int way, unsigned n_cores) {
    ees_engine_options o;
    ees_engine *engine;
    ees_error err = {0};
    ees_engine_options_default(&o);
    o.n_workers = way == ALONE ? 1 : n_cores;
    o.plan = "replicas";
    o.hint = way == ALONE ? EES_HINT_THROUGHPUT : EES_HINT_LATENCY;
    o.policy.name = "none";
    check(ees_engine_open(model, &o, &engine, &err), &err);
    return engine;
}

static double run_frame(ees_engine *engine, ees_frame frame) {
    ees_error err = {0};
    ees_result result;
    frame.release = NULL; /* the engine copies it: it is used again */
    double start_ms = now_ms();
    check(ees_engine_push(engine, &frame, -1, &err), &err);
    check(ees_engine_pull(engine, &result, -1, &err), &err);
    double ms = now_ms() - start_ms;
    ees_engine_release(engine, &result);
    return ms;
}

int main(int argc, char **argv) {
    const char *arch = argc > 1 ? argv[1] : "vit-b16";
    size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 15;
    ees_error err = {0};
    ees_model *model;
    ees_source *source;
    ees_frame frame;
    ees_cores cores;
    check(ees_cores_detect(&cores, &err), &err);
    check(strcmp(arch, "embedded") == 0 ? ees_model_open(NULL, NULL, &model, &err)
                                        : ees_model_open_random(arch, 1, NULL, &model, &err),
          &err);
    check(ees_source_open("synthetic:640x480", NULL, &source, &err), &err);
    check(ees_source_next(source, &frame, &err), &err);
    ees_engine *engines[N_WAYS] = {open_engine(model, ALONE, 1), open_engine(model, TEAM, cores.n_workers)};
    double *ms[N_WAYS] = {calloc(n + 1, sizeof(double)), calloc(n + 1, sizeof(double))},
           *ratio = calloc(n + 1, sizeof(double));
    for (size_t i = 0; i < n + WARM_UP; i++) {
        double took[N_WAYS] = {run_frame(engines[ALONE], frame), run_frame(engines[TEAM], frame)};
        if (i < WARM_UP)
            continue;
        ms[ALONE][i - WARM_UP] = took[ALONE];
        ms[TEAM][i - WARM_UP] = took[TEAM];
        ratio[i - WARM_UP] = took[TEAM] / took[ALONE];
    }
    qsort(ms[ALONE], n, sizeof(double), by_value);
    qsort(ms[TEAM], n, sizeof(double), by_value);
    qsort(ratio, n, sizeof(double), by_value);
    printf("| %s | %.2f ms | %.2f ms, %u cores | %.3f (%.3f-%.3f of %zu pairs) |\n", arch, ms[ALONE][n / 2],
           ms[TEAM][n / 2], cores.n_workers, ratio[n / 2], ratio[0], ratio[n - 1], n);
    for (int way = 0; way < N_WAYS; way++) {
        ees_engine_close(engines[way]);
        free(ms[way]);
    }
    free(ratio);
    frame.release(frame.opaque);
    ees_source_close(source);
    ees_model_close(model);
    return 0;
}
