/* SPDX-License-Identifier: MIT */
/* What `eestream bench` measured: bench.c fills it, bench_report.c prints it. */
#ifndef EES_CLI_BENCH_H
#define EES_CLI_BENCH_H

#include <jansson.h>

#include "tools/cli/mix.h"
#include "tools/cli/options.h"

enum { BENCH_SINGLE, BENCH_REPLICAS, BENCH_PLANNED, BENCH_N_KINDS };

struct bench_rep {
    double wall_s, fps, cpu_s;
    double load_p99_ms; /* of the same round under --load */
};

/* Frames offered at a steady rate. */
struct bench_load {
    double offered_fps, answered_fps;
    uint64_t *latencies_ns; /* of all repetitions, from the moment a frame was due; sorted by bench_measure_load() */
    size_t n_latencies;
};

/* One way to run the model, in one engine that lives through all rounds. */
struct bench_config {
    int kind;
    bool exits; /* false: policy none */
    char name[32];
    char plan[512];
    ees_engine *engine;
    size_t n_frames; /* a repetition */
    struct bench_rep *reps;
    uint64_t *latencies_ns; /* of all repetitions, in order of answers; sorted when all are measured */
    size_t n_latencies;
    double busy[EES_MAX_WORKERS]; /* share of the measured time */
    double measured_s;
    uint64_t n_by_exit[EES_MAX_EXITS + 1];
    ees_stats stats; /* since the engine was opened */
    struct bench_load load;
};

/* All configurations of one model. */
struct bench_model {
    const char *arch; /* NULL: --model or the embedded one */
    ees_model *model;
    const ees_model_info *info;
    struct replay mix;
    double exit_share[EES_MAX_EXITS + 1]; /* the mix, or measured */
    bool mix_known;                       /* exit_share is set */
    ees_profile profile;
    struct bench_config configs[2 * BENCH_N_KINDS];
    unsigned n_configs;
    ees_roofline *rooflines; /* --roofline: (n_rooflines,) one a type of core; else NULL */
    unsigned n_rooflines;
};

struct bench {
    const struct options *o;
    unsigned n_workers;
    ees_frame *frames; /* in memory, used round and round */
    size_t n_frames;
    struct bench_model *models;
    size_t n_models;
    double load_before;
};

/* ---- bench.c ---- */

/* A frame without an answer cannot be measured. @return 0; EES_ESOURCE */
int bench_check(const ees_result *result, ees_error *err);

/* ---- bench_load.c ---- */

/* Offer each configuration --load of what replicas can do with the same exits, rounds alternating as before. To call
 * when the maximum is measured and the engines are open. */
int bench_measure_load(const struct bench *b, struct bench_model *m, ees_error *err);

/* ---- roofline.c ---- */

/* Instead of the configurations: open each model, measure and print it. */
int bench_roofline(struct bench *b, ees_error *err);

/* ---- bench_report.c ---- */

/* One report in the three formats. */
struct bench_printer {
    void (*markdown)(FILE *f, const struct bench *b);
    void (*csv)(FILE *f, const struct bench *b);
    json_t *(*json)(const struct bench *b);
};

/* As --format and --out say. @return 0; EES_EOUTPUT; EES_ENOMEM */
int bench_print(const struct bench *b, const struct bench_printer *printer, ees_error *err);

/* Version, compiler, processor and load, in two lines. */
void bench_print_machine(FILE *f, const struct bench *b);

struct spread {
    double median, min, max, sd;
};

struct spread spread_of(const double *x, size_t n);

/* fps of each round of `a` over that of `b` in the same round. */
struct spread ratio_of(const struct bench_config *a, const struct bench_config *b, size_t n_rounds);

/* p99 under --load of each round of `a` over that of `b`: one round that met another job does not decide. */
struct spread load_ratio_of(const struct bench_config *a, const struct bench_config *b, size_t n_rounds);

/* In ascending order. */
void bench_sort(uint64_t *latencies_ns, size_t n);

/* Nearest rank: the smallest latency that `share` of the frames do not exceed. */
double bench_rank_ms(const uint64_t *sorted_ns, size_t n, double share);

struct spread bench_fps(const struct bench_config *c, size_t n_rounds);

struct bench_config *bench_find(const struct bench_model *m, int kind, bool exits);

/* @return 0; EES_EOUTPUT; EES_ENOMEM */
int bench_report(const struct bench *b, ees_error *err);

#endif
