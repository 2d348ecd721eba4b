/* SPDX-License-Identifier: MIT */
/* Speed of one level on the calling thread:
 *
 *     bench_kernels --bench [LEVEL [fp32|bf16|int8]]        default: the best level of this machine, fp32
 *
 * Contestants run in turn, in CPU time, and medians are printed: a machine that slows down slows all of them. The peak
 * is the core's own rate of the multiply-adds that the product is made of (ees__product.peak), measured in the same
 * rounds. To compare on AVX2 only: OPENBLAS_CORETYPE=Haswell DNNL_MAX_CPU_ISA=AVX2 bench_kernels --bench avx2. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_peers.h"
#include "common/mem.h"
#include "stages/kernels/kernels.h"

enum { ROUNDS = 15, MAX_RUNS = 9 };
static const double SLICE_NS = 8e6;   /* time of one contestant in one round */
static const double PEAK_FLOPS = 1e6; /* of one run of multiply-adds, at least */

/* Something to be timed. run() does its work once. */
struct run {
    const char *name;
    void (*run)(void *opaque);
    void *opaque;
    double ns[ROUNDS];
};

/* Of this thread: what other programs run meanwhile is not counted. */
static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double time_run(const struct run *r, size_t n) {
    double start = now_ns();
    for (size_t i = 0; i < n; i++)
        r->run(r->opaque);
    return (now_ns() - start) / (double)n;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void time_all(struct run *runs, size_t n) {
    size_t repeats[MAX_RUNS];
    for (size_t i = 0; i < n; i++)
        repeats[i] = 1 + (size_t)(SLICE_NS / time_run(&runs[i], 2));
    for (size_t round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < n; i++)
            runs[i].ns[round] = time_run(&runs[i], repeats[i]);
    for (size_t i = 0; i < n; i++)
        qsort(runs[i].ns, ROUNDS, sizeof(double), compare);
}

static double median(const struct run *r) { return r->ns[ROUNDS / 2]; }

static float *allocate(size_t n) {
    float *p = ees__calloc_aligned(n, sizeof(float));
    if (!p) {
        fprintf(stderr, "bench_kernels: out of memory\n");
        exit(1);
    }
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (float)(int32_t)state * 0x1p-32f;
    }
    return p;
}

struct product {
    const struct ees__kernels *kernels;
    enum ees__precision precision;
    size_t m, n, k;
    float *x, *w, *y, *scratch;
    struct ees__linear layer;
    struct ees__post post;
    size_t peak_rounds;
    struct onednn *onednn;
};

static void open_product(struct product *p, enum ees__post_op op) {
    p->x = allocate(p->m * p->k);
    p->w = allocate(p->n * p->k);
    p->y = allocate(p->m * p->n);
    p->scratch = allocate(p->kernels->linear_scratch_floats(p->m, p->n, p->k));
    p->post.op = op;
    if (ees__linear_open_as(p->kernels, p->precision, p->w, NULL, p->n, p->k, &p->layer, NULL))
        exit(1);
}

static void close_product(struct product *p) {
    ees__free(p->x);
    ees__free(p->w);
    ees__free(p->y);
    ees__free(p->scratch);
    ees__linear_close(&p->layer);
    close_onednn(p->onednn);
}

static void run_ours(void *opaque) {
    struct product *p = opaque;
    p->kernels->linear(&p->layer, p->x, p->k, p->m, p->y, p->n, &p->post, p->scratch);
}

static void run_peak(void *opaque) {
    struct product *p = opaque;
    p->layer.product->peak(p->peak_rounds);
}

static void run_blas(void *opaque) {
    struct product *p = opaque;
    run_openblas(p->x, p->w, p->m, p->n, p->k, p->y);
}

static void run_dnnl(void *opaque) { run_onednn(((struct product *)opaque)->onednn); }

static void bench_product(const struct ees__kernels *k, enum ees__precision precision, size_t m, size_t n, size_t depth,
                          bool openblas) {
    struct product p = {.kernels = k, .precision = precision, .m = m, .n = n, .k = depth};
    open_product(&p, EES__POST_NONE);
    p.peak_rounds = 1 + (size_t)(PEAK_FLOPS / p.layer.product->peak(1));
    p.onednn = open_onednn(p.x, p.w, m, n, depth, p.y);
    struct run runs[4] = {{"ours", run_ours, &p, {0}}, {"peak", run_peak, &p, {0}}};
    size_t n_runs = 2, blas = 0, dnnl = 0;
    if (openblas)
        runs[blas = n_runs++] = (struct run){"openblas", run_blas, &p, {0}};
    if (p.onednn)
        runs[dnnl = n_runs++] = (struct run){"onednn", run_dnnl, &p, {0}};
    time_all(runs, n_runs);
    double flops = 2.0 * (double)m * (double)n * (double)depth;
    double peak = p.layer.product->peak(p.peak_rounds) / median(&runs[1]);
    printf("%5zu x %4zu x %4zu %8.1f", m, n, depth, flops / median(&runs[0]));
    printf(" %6.1f %5.1f%%", peak, 100 * flops / median(&runs[0]) / peak);
    if (blas)
        printf("   %6.1f %5.2fx", flops / median(&runs[blas]), median(&runs[blas]) / median(&runs[0]));
    if (dnnl)
        printf("   %6.1f %5.2fx", flops / median(&runs[dnnl]), median(&runs[dnnl]) / median(&runs[0]));
    printf("\n");
    close_product(&p);
}

static void bench_products(const struct ees__kernels *k, enum ees__precision precision) {
    static const size_t shapes[][3] = {
        {197, 2304, 768}, {197, 768, 768},  {197, 3072, 768}, {197, 768, 3072}, {197, 1152, 384}, {197, 384, 384},
        {197, 1536, 384}, {197, 384, 1536}, {197, 576, 192},  {197, 192, 192},  {197, 768, 192},  {197, 192, 768},
        {65, 288, 96},    {65, 96, 96},     {65, 384, 96},    {65, 96, 384},    {1, 1000, 768},   {1, 100, 192}};
    bool openblas = open_openblas();
    printf("%s, billion operations a second (peers in fp32)\n    m x    n x    k     ours   peak  share   OpenBLAS "
           "ratio   oneDNN ratio\n",
           k->name);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        bench_product(k, precision, shapes[i][0], shapes[i][1], shapes[i][2], openblas);
}

/* A block of ViT-B/16 at 224 pixels. */
enum { T = 197, C = 768, H = 12, F = 3072 };

struct rows {
    const struct ees__kernels *kernels;
    float *x, *y, *gamma, *scratch;
    enum ees__precision precision; /* attention */
};

static void run_layernorm(void *opaque) {
    struct rows *r = opaque;
    r->kernels->layernorm(r->x, C, T, C, r->gamma, r->gamma, 1e-6f, r->y, C);
}

static void run_attention(void *opaque) {
    struct rows *r = opaque;
    const struct ees__attention core = {.t = T, .h = H, .d = C / H, .scale = 0.125f, .precision = r->precision};
    const struct ees__attention_core *way = ees__attention_core(r->kernels, &core);
    float *packed = r->scratch + ees__round_up(way->scratch_floats(T, C / H), 16);
    for (size_t head = 0; head < H; head++) {
        way->pack(&core, r->x, 3 * C, head, packed);
        way->run(&core, r->x, 3 * C, head, 0, T, packed, r->y, C, r->scratch);
    }
}

static void run_depthwise(void *opaque) {
    struct rows *r = opaque;
    r->kernels->depthwise3x3_gelu(r->x, 14, 14, C, 0, 14, r->gamma, r->gamma, r->y);
}

static void bench_block(const struct ees__kernels *k, enum ees__precision precision) {
    enum { QKV, PROJECTION, FC1, FC2, PLAIN, GELU, LAYERNORM, ATTENTION, DEPTHWISE, N_PARTS };
    /* gelu runs inside the product; alone it is the difference two products with k = 1 show. */
    struct product p[GELU + 1] = {[QKV] = {.m = T, .n = 3 * C, .k = C}, [PROJECTION] = {.m = T, .n = C, .k = C},
                                  [FC1] = {.m = T, .n = F, .k = C},     [FC2] = {.m = T, .n = C, .k = F},
                                  [PLAIN] = {.m = T, .n = F, .k = 1},   [GELU] = {.m = T, .n = F, .k = 1}};
    const struct ees__attention_core *core = k->attention[precision];
    struct rows r = {k,
                     allocate(T * 3 * C),
                     allocate(T * C),
                     allocate(9 * C),
                     allocate(core->scratch_floats(T, C / H) + 16 + core->packed_floats(T, C / H)),
                     precision};
    struct run runs[N_PARTS] = {[LAYERNORM] = {.name = "LayerNorm", .run = run_layernorm, .opaque = &r},
                                [ATTENTION] = {.name = "attention core", .run = run_attention, .opaque = &r},
                                [DEPTHWISE] = {.name = "depthwise 14x14", .run = run_depthwise, .opaque = &r}};
    static const char *const names[GELU + 1] = {"qkv", "projection", "fc1 + gelu", "fc2", "plain", "gelu"};
    for (int i = QKV; i <= GELU; i++) {
        p[i].kernels = k;
        p[i].precision = precision;
        open_product(&p[i], i == FC1 || i == GELU ? EES__POST_GELU : i == PROJECTION ? EES__POST_ADD : EES__POST_NONE);
        runs[i] = (struct run){names[i], run_ours, &p[i], {0}};
    }
    time_all(runs, N_PARTS);
    double gelu = median(&runs[GELU]) - median(&runs[PLAIN]), norms = 2 * median(&runs[LAYERNORM]);
    double rest = median(&runs[ATTENTION]) + norms + gelu;
    double block = median(&runs[ATTENTION]) + norms;
    for (int i = QKV; i <= FC2; i++)
        block += median(&runs[i]);
    printf("\nblock of ViT-B/16 at %d tokens: %.3f ms\n", T, block * 1e-6);
    const struct {
        const char *name;
        double ns;
    } shares[] = {
        {"attention core", median(&runs[ATTENTION])}, {"two LayerNorms", norms}, {"gelu", gelu}, {"together", rest}};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        printf("  %-14s %8.1f us %5.2f %%\n", shares[i].name, shares[i].ns * 1e-3, 100 * shares[i].ns / block);
    printf("depthwise 3x3 + gelu, 14 x 14 x %d: %.1f us\n", C, median(&runs[DEPTHWISE]) * 1e-3);
    for (int i = QKV; i <= GELU; i++)
        close_product(&p[i]);
    ees__free(r.x);
    ees__free(r.y);
    ees__free(r.gamma);
    ees__free(r.scratch);
}

int main(int argc, char **argv) {
    enum ees__precision precision = EES__F32;
    if (argc < 2 || argc > 4 || strcmp(argv[1], "--bench") || (argc > 3 && ees__precision_find(argv[3], &precision))) {
        fprintf(stderr, "usage: bench_kernels --bench [LEVEL [fp32|bf16|int8]]\n");
        return 2;
    }
    ees_error err = {0};
    const struct ees__kernels *k = ees__kernels_get(argc > 2 ? argv[2] : NULL, &err);
    if (!k) {
        fprintf(stderr, "bench_kernels: %s\n", err.message);
        return 2;
    }
    bench_products(k, precision);
    bench_block(k, precision);
    return 0;
}
