/* SPDX-License-Identifier: MIT */
/* Speed, not a test: what a frame costs in each unit in batches of 1, 2, 4 and 8, and the time of one frame with a
 * team of two threads against one thread.
 *
 *     bench_batch --bench [ROUNDS]
 *
 * Batches take turns within a round, each walking eight frames through the whole model, so that weights are as cold as
 * in a stream; the least time of all rounds is printed. Early exits are forced to full depth: every head runs. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "stages/model.h"

enum { N_FRAMES = 8, N_SIZES = 4 };
static const unsigned sizes[N_SIZES] = {1, 2, 4, 8};

static void *must(void *p) {
    if (!p) {
        fprintf(stderr, "bench_batch: out of memory\n");
        exit(1);
    }
    return p;
}

struct bench {
    ees_model *model;
    struct ees__policy_setup setup;
    uint8_t to_the_end;
    ees_frame frame;
    struct ees__item item[N_FRAMES];
    struct ees__lane *lane;
    double best_ns[N_SIZES][EES_MAX_UNITS]; /* of a frame */
};

static void bench_open(struct bench *b, ees_model *model) {
    const ees_model_info *info = ees_model_get_info(model);
    size_t n = 3 * (size_t)info->image_height_px * info->image_width_px;
    ees_policy_options resolved;
    float *pixels = must(ees__calloc_aligned(n, sizeof(float)));
    memset(b, 0, sizeof *b);
    b->model = model;
    b->to_the_end = (uint8_t)info->n_exits;
    for (size_t i = 0; i < n; i++)
        pixels[i] = (float)(i % 255) / 255.0f;
    b->frame = (ees_frame){.kind = EES_FRAME_TENSOR,
                           .width_px = info->image_width_px,
                           .height_px = info->image_height_px,
                           .data = {pixels},
                           .stride = {info->image_width_px * sizeof(float)}};
    b->lane = must(ees__lane_open(model, N_FRAMES));
    for (size_t i = 0; i < N_FRAMES; i++) {
        b->item[i].state = must(ees__calloc_aligned(info->state_bytes, 1));
        b->item[i].logits = must(ees__calloc_aligned(info->n_classes, sizeof(float)));
        b->item[i].frame = &b->frame;
    }
    if (ees_policy_resolve(model, &(ees_policy_options){0}, &resolved, NULL) < 0)
        exit(1);
    resolved.replay = &b->to_the_end;
    resolved.n_replay = 1;
    if (ees__policy_setup(model, &resolved, &b->setup, NULL) < 0)
        exit(1);
}

static void bench_close(struct bench *b) {
    for (size_t i = 0; i < N_FRAMES; i++) {
        ees__free(b->item[i].state);
        ees__free(b->item[i].logits);
    }
    ees__free((void *)b->frame.data[0]);
    ees__lane_close(b->lane);
    ees_model_close(b->model);
}

static void run_unit(struct bench *b, unsigned unit, unsigned first, unsigned n, struct ees__team *team) {
    struct ees__item *items[N_FRAMES];
    int rc[N_FRAMES];
    for (unsigned i = 0; i < n; i++)
        items[i] = &b->item[first + i];
    ees__unit_run(b->model, &b->setup, unit, items, n, rc, b->lane, team);
    for (unsigned i = 0; i < n; i++)
        if (rc[i] < 0) {
            fprintf(stderr, "bench_batch: %s\n", items[i]->error.message);
            exit(1);
        }
}

static void time_batches(struct bench *b, unsigned size, double *best_ns) {
    double ns[EES_MAX_UNITS] = {0};
    for (unsigned first = 0; first < N_FRAMES; first += size)
        for (unsigned unit = 0; unit < b->model->info.n_units; unit++) {
            uint64_t start_ns = ees__now_ns();
            run_unit(b, unit, first, size, NULL);
            ns[unit] += (double)(ees__now_ns() - start_ns) / N_FRAMES;
        }
    for (unsigned unit = 0; unit < b->model->info.n_units; unit++)
        if (best_ns[unit] == 0 || ns[unit] < best_ns[unit])
            best_ns[unit] = ns[unit];
}

/* A pair: the caller and one helper that spins. A round is opened by its number; pieces are claimed one by one. */
struct pair {
    struct ees__team team; /* first: share() is handed its address */
    struct ees__lane *lane;
    pthread_t thread;
    ees__part_fn *part;
    void *ctx;
    size_t n, grain;
    _Atomic unsigned round, finished; /* both written with release and read with acquire: guard all the rest */
    _Atomic size_t next;
    _Atomic bool stop;
};

static void work(struct pair *p, struct ees__lane *lane) {
    size_t first; /* relaxed: a claim and nothing else */
    while ((first = atomic_fetch_add_explicit(&p->next, p->grain, memory_order_relaxed)) < p->n)
        p->part(p->ctx, first, first + p->grain < p->n ? first + p->grain : p->n, lane);
}

static void share(struct ees__team *team, ees__part_fn *part, void *ctx, size_t n, size_t grain,
                  struct ees__lane *own) {
    struct pair *p = (struct pair *)team;
    unsigned round = atomic_load_explicit(&p->round, memory_order_relaxed) + 1; /* own counter */
    p->part = part;
    p->ctx = ctx;
    p->n = n;
    p->grain = grain;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->round, round, memory_order_release);
    work(p, own);
    while (atomic_load_explicit(&p->finished, memory_order_acquire) != round)
        ;
}

static void *help(void *opaque) {
    struct pair *p = opaque;
    for (unsigned round = 0;;) {
        while (atomic_load_explicit(&p->round, memory_order_acquire) == round)
            if (atomic_load_explicit(&p->stop, memory_order_relaxed)) /* relaxed: carries nothing */
                return NULL;
        work(p, p->lane);
        atomic_store_explicit(&p->finished, ++round, memory_order_release);
    }
}

static double time_frame(struct bench *b, struct ees__team *team, double *unit_ns) {
    double sum = 0;
    for (unsigned unit = 1; unit < b->model->info.n_units; unit++) {
        uint64_t start_ns = ees__now_ns();
        run_unit(b, unit, 0, 1, team);
        double ns = (double)(ees__now_ns() - start_ns);
        sum += ns;
        if (unit_ns[unit] == 0 || ns < unit_ns[unit])
            unit_ns[unit] = ns;
    }
    return sum;
}

static void bench_team(struct bench *b, unsigned rounds) {
    struct pair p = {.team = {.share = share, .n_members = 2}, .lane = must(ees__lane_open(b->model, 1))};
    double alone[EES_MAX_UNITS] = {0}, helped[EES_MAX_UNITS] = {0}, best_alone = 0, best_helped = 0;
    if (pthread_create(&p.thread, NULL, help, &p))
        exit(1);
    run_unit(b, 0, 0, 1, NULL);
    for (unsigned round = 0; round < 4 * rounds; round++) {
        double a = time_frame(b, NULL, alone), h = time_frame(b, &p.team, helped);
        best_alone = best_alone == 0 || a < best_alone ? a : best_alone;
        best_helped = best_helped == 0 || h < best_helped ? h : best_helped;
    }
    atomic_store_explicit(&p.stop, true, memory_order_relaxed);
    pthread_join(p.thread, NULL);
    ees__lane_close(p.lane);
    printf("\nembed to final, one frame: alone %.2f ms, two threads %.2f ms, %.3fx\n", best_alone * 1e-6,
           best_helped * 1e-6, best_helped / best_alone);
    for (unsigned u = 1; u < b->model->info.n_units; u++)
        printf("  %-20s %9.1f us %9.1f us %6.3fx\n", b->model->units[u].name, alone[u] * 1e-3, helped[u] * 1e-3,
               helped[u] / alone[u]);
}

static void bench_model(ees_model *model, unsigned rounds) {
    struct bench b;
    double total[N_SIZES] = {0};
    bench_open(&b, model);
    for (unsigned round = 0; round < rounds; round++)
        for (size_t s = 0; s < N_SIZES; s++)
            time_batches(&b, sizes[s], b.best_ns[s]);
    printf("\n%s, %s, a frame's share in us\n%-20s %9s %9s %9s %9s   1 = 1\n", model->name, model->kernels->name, "unit",
           "batch 1", "2", "4", "8");
    for (unsigned u = 0; u <= model->info.n_units; u++) {
        bool is_sum = u == model->info.n_units;
        printf("%-20s", is_sum ? "all" : model->units[u].name);
        for (size_t s = 0; s < N_SIZES; s++)
            printf(" %9.1f", (is_sum ? total[s] : b.best_ns[s][u]) * 1e-3);
        for (size_t s = 1; s < N_SIZES; s++)
            printf(" %6.3f", is_sum ? total[s] / total[0] : b.best_ns[s][u] / b.best_ns[0][u]);
        printf("\n");
        for (size_t s = 0; s < N_SIZES && !is_sum; s++)
            total[s] += b.best_ns[s][u];
    }
    bench_team(&b, rounds);
    bench_close(&b);
}

int main(int argc, char **argv) {
    static const char *const models[] = {"vit-ti16", "vit-b16", NULL}; /* NULL: embedded */
    int rounds = argc == 3 ? atoi(argv[2]) : 5;
    if (argc < 2 || argc > 3 || strcmp(argv[1], "--bench") || rounds < 1) {
        fprintf(stderr, "usage: bench_batch --bench [ROUNDS]\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        ees_model *model = NULL;
        ees_error err = {0};
        int rc = models[i] ? ees_model_open_random(models[i], 1, NULL, &model, &err)
                           : ees_model_open(NULL, NULL, &model, &err);
        if (rc < 0) {
            fprintf(stderr, "bench_batch: %s\n", err.message);
            return 1;
        }
        bench_model(model, models[i] && i == 1 ? ((unsigned)rounds + 1) / 2 : (unsigned)rounds);
    }
    return 0;
}
