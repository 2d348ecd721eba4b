/* SPDX-License-Identifier: MIT */
#include "bench_peers.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* Twelve chains hide the latency of any core's multiply-add; the empty asm keeps each product where it is. `step(v)` is
 * one of them, with the constants x and y of the vector's type. */
enum { CHAINS = 12 };
#define DEFINE_CHAINS(name, type, step, per_step, attributes)                                                          \
    attributes static double name(size_t n) {                                                                          \
        type a = {0}, b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a, x = a, y = a;       \
        __asm__("" : "+" REGISTER(x), "+" REGISTER(y));                                                                \
        for (size_t round = 0; round < n; round++) {                                                                   \
            step(a) step(b) step(c) step(d) step(e) step(f) step(g) step(h) step(i) step(j) step(k) step(l)            \
        }                                                                                                              \
        __asm__ volatile("" ::REGISTER(a), REGISTER(b), REGISTER(c), REGISTER(d), REGISTER(e), REGISTER(f));           \
        __asm__ volatile("" ::REGISTER(g), REGISTER(h), REGISTER(i), REGISTER(j), REGISTER(k), REGISTER(l));           \
        return 2.0 * CHAINS * (per_step) * (double)n;                                                                  \
    }

#if defined(__x86_64__)
#include <immintrin.h>
#define REGISTER(v) "v"(v)
#define KEEP(v)     __asm__("" : "+v"(v));
#define FMA(v)                                                                                                         \
    v = v * x + y;                                                                                                     \
    KEEP(v)
#define DPBUSD(v)                                                                                                      \
    v = _mm512_dpbusd_epi32(v, x, y);                                                                                  \
    KEEP(v)
#define MADD512(v)                                                                                                     \
    v = _mm512_add_epi32(v, _mm512_madd_epi16(v, y));                                                                  \
    KEEP(v)
#define MADD256(v)                                                                                                     \
    v = _mm256_add_epi32(v, _mm256_madd_epi16(v, y));                                                                  \
    KEEP(v)
#define DPBUSD256(v)                                                                                                   \
    v = _mm256_dpbusd_avx_epi32(v, x, y);                                                                              \
    KEEP(v)
#define DPBF16(v)                                                                                                      \
    v = _mm512_dpbf16_ps(v, (__m512bh)x, (__m512bh)y);                                                                 \
    KEEP(v)
#define TARGET(features) __attribute__((target(features)))
DEFINE_CHAINS(fma_avx512, __m512, FMA, 16, TARGET("avx512f,avx512vl,fma"))
DEFINE_CHAINS(fma_avx2, __m256, FMA, 8, TARGET("avx2,fma"))
DEFINE_CHAINS(s8_avx512vnni, __m512i, DPBUSD, 64, TARGET("avx512f,avx512vl,avx512vnni"))
DEFINE_CHAINS(s8_avx512, __m512i, MADD512, 32, TARGET("avx512f,avx512bw,avx512vl"))
DEFINE_CHAINS(s8_avx2vnni, __m256i, DPBUSD256, 32, TARGET("avx2,avxvnni"))
DEFINE_CHAINS(s8_avx2, __m256i, MADD256, 16, TARGET("avx2"))
DEFINE_CHAINS(bf16_avx512, __m512, DPBF16, 32, TARGET("avx512f,avx512vl,avx512bf16"))
#elif defined(__aarch64__)
#include <arm_neon.h>
#define REGISTER(v) "w"(v)
#define KEEP(v)     __asm__("" : "+w"(v));
#define FMA(v)                                                                                                         \
    v = v * x + y;                                                                                                     \
    KEEP(v)
DEFINE_CHAINS(fma_neon, float32x4_t, FMA, 4, )
#endif

struct rate {
    const char *level;
    enum ees__precision precision;
    double (*run)(size_t n);
};

static const struct rate rates[] = {
#if defined(__x86_64__)
    {"avx512bf16", EES__F32, fma_avx512},
    {"avx512bf16", EES__S8, s8_avx512vnni},
    {"avx512bf16", EES__BF16, bf16_avx512},
    {"avx512vnni", EES__F32, fma_avx512},
    {"avx512vnni", EES__S8, s8_avx512vnni},
    {"avx512", EES__F32, fma_avx512},
    {"avx512", EES__S8, s8_avx512},
    {"avx2vnni", EES__F32, fma_avx2},
    {"avx2vnni", EES__S8, s8_avx2vnni},
    {"avx2", EES__F32, fma_avx2},
    {"avx2", EES__S8, s8_avx2},
#elif defined(__aarch64__)
    {"i8mm", EES__F32, fma_neon},
    {"dotprod", EES__F32, fma_neon},
    {"neon", EES__F32, fma_neon},
#endif
};

double run_multiply_adds(const char *level, enum ees__precision precision, size_t n) {
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        if (rates[i].precision == precision && strcmp(rates[i].level, level) == 0)
            return rates[i].run(n);
    return 0;
}

static void (*sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

bool open_openblas(void) {
    void *library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!library)
        return false;
    void (*set_threads)(int);
    *(void **)&sgemm = dlsym(library, "cblas_sgemm");
    *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
    if (sgemm && set_threads)
        set_threads(1);
    return sgemm && set_threads;
}

void run_openblas(const float *x, const float *w, size_t m, size_t n, size_t k, float *y) {
    enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
    sgemm(ROW_MAJOR, NO_TRANS, TRANS, (int)m, (int)n, (int)k, 1.0f, x, (int)k, w, (int)k, 0.0f, y, (int)n);
}

#ifdef EES_HAVE_DNNL
#include <dnnl.h>

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t matmul;
    dnnl_memory_t x, w, y;
};

static dnnl_memory_desc_t describe(size_t rows, size_t columns, dnnl_format_tag_t tag) {
    dnnl_memory_desc_t desc;
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    dnnl_memory_desc_init_by_tag(&desc, 2, dims, dnnl_f32, tag);
    return desc;
}

/* `from`, plain, into a new memory of the layout the matmul asked for. */
static bool reorder(struct onednn *o, const dnnl_memory_desc_t *plain, const float *from,
                    const dnnl_memory_desc_t *packed) {
    dnnl_memory_t source = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t primitive = NULL;
    bool ok = !dnnl_memory_create(&source, plain, o->engine, (void *)from) &&
              !dnnl_memory_create(&o->w, packed, o->engine, DNNL_MEMORY_ALLOCATE) &&
              !dnnl_reorder_primitive_desc_create(&desc, plain, o->engine, packed, o->engine, NULL) &&
              !dnnl_primitive_create(&primitive, desc);
    if (ok) {
        const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, o->w}};
        ok = !dnnl_primitive_execute(primitive, o->stream, 2, args) && !dnnl_stream_wait(o->stream);
    }
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(desc);
    dnnl_memory_destroy(source);
    return ok;
}

static bool prepare(struct onednn *o, const float *x, const float *w, size_t m, size_t n, size_t k, float *y) {
    dnnl_memory_desc_t mx = describe(m, k, dnnl_ab), my = describe(m, n, dnnl_ab);
    dnnl_memory_desc_t any = describe(k, n, dnnl_format_tag_any), plain = describe(k, n, dnnl_ba);
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t primitive = NULL;
    if (dnnl_engine_create(&o->engine, dnnl_cpu, 0) ||
        dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags) ||
        dnnl_matmul_desc_init(&desc, &mx, &any, NULL, &my) ||
        dnnl_primitive_desc_create(&primitive, &desc, NULL, o->engine, NULL))
        return false;
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(primitive, dnnl_query_weights_md, 0);
    bool ok = reorder(o, &plain, w, packed) && !dnnl_primitive_create(&o->matmul, primitive) &&
              !dnnl_memory_create(&o->x, &mx, o->engine, (void *)x) && !dnnl_memory_create(&o->y, &my, o->engine, y);
    dnnl_primitive_desc_destroy(primitive);
    return ok;
}

/* The library is an OpenMP build. */
static void limit_threads(void) {
    void (*set_threads)(int);
    *(void **)&set_threads = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (set_threads)
        set_threads(1);
}

struct onednn *open_onednn(const float *x, const float *w, size_t m, size_t n, size_t k, float *y) {
    limit_threads();
    struct onednn *o = calloc(1, sizeof *o);
    if (o && prepare(o, x, w, m, n, k, y))
        return o;
    close_onednn(o);
    return NULL;
}

void run_onednn(struct onednn *o) {
    const dnnl_exec_arg_t args[3] = {{DNNL_ARG_SRC, o->x}, {DNNL_ARG_WEIGHTS, o->w}, {DNNL_ARG_DST, o->y}};
    if (dnnl_primitive_execute(o->matmul, o->stream, 3, args) || dnnl_stream_wait(o->stream))
        abort();
}

void close_onednn(struct onednn *o) {
    if (!o)
        return;
    dnnl_primitive_destroy(o->matmul);
    dnnl_memory_destroy(o->x);
    dnnl_memory_destroy(o->w);
    dnnl_memory_destroy(o->y);
    dnnl_stream_destroy(o->stream);
    dnnl_engine_destroy(o->engine);
    free(o);
}

#else
struct onednn *open_onednn(const float *x, const float *w, size_t m, size_t n, size_t k, float *y) {
    return NULL;
}
void run_onednn(struct onednn *o) {}
void close_onednn(struct onednn *o) {}
#endif
