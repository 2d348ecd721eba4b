/* SPDX-License-Identifier: MIT */
/* The blas level, for CPUs without a SIMD level of ours: products by the cblas_sgemm of a library loaded when the level
 * is first asked for, the rest as in scalar.c. Nothing else in the program touches BLAS.
 *
 * The library may sum a row in another order for another m. Where the engine neither batches frames nor teams up, m is
 * a property of the unit, so results depend neither on the plan nor on the number of workers; in a batch or a team they
 * may differ by rounding. The library is held to one thread: the engine's workers are the threads, and OpenBLAS
 * serialises callers it shares a pool with. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "common/mem.h"
#include "stages/kernels/levels.h"

/* Values of the CBLAS interface. */
enum { CBLAS_ROW_MAJOR = 101, CBLAS_NO_TRANS = 111, CBLAS_TRANS = 112 };
enum { QUERY_ROWS = 64 }; /* queries whose scores are held at once */

typedef void sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                      const float *b, int ldb, float beta, float *c, int ldc);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sgemm_fn *sgemm; /* written under `once`, read after ees__blas_load() */

static void load_library(void) {
    static const char *const names[] = {"libopenblas.so.0", "libblas.so.3", "libcblas.so.3"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !sgemm; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (!library)
            continue;
        void *symbol = dlsym(library, "cblas_sgemm"), *set_threads = dlsym(library, "openblas_set_num_threads");
        if (!symbol) {
            dlclose(library);
            continue;
        }
        memcpy(&sgemm, &symbol, sizeof sgemm);
        if (set_threads) {
            void (*set_num_threads)(int);
            memcpy(&set_num_threads, &set_threads, sizeof set_num_threads);
            set_num_threads(1);
        }
    }
}

bool ees__blas_load(void) {
    pthread_once(&once, load_library);
    return sgemm != NULL;
}

static size_t f32_packed_bytes(size_t n, size_t k) { return n * k * sizeof(float); }

static void f32_pack(const void *w, size_t n, size_t k, void *packed) { memcpy(packed, w, n * k * sizeof(float)); }

/* The bias goes into y first, the product is added to it. */
static void f32_run(const struct ees__linear *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy,
                    const struct ees__post *post, float *scratch) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < l->n; j++)
            y[i * ldy + j] = ees__post_adds(post->op) ? y[i * ldy + j] + l->bias[j] : l->bias[j];
    sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_TRANS, (int)m, (int)l->n, (int)l->k, 1.0f, x, (int)ldx, l->packed,
          (int)l->k, 1.0f, y, (int)ldy);
    ees__post_scalar(y, ldy, m, l->n, post);
}

static double f32_peak(size_t n) { return ees__peak_of_run(f32_run, n); }

static const struct ees__product f32_product = {
    .packed_bytes = f32_packed_bytes, .pack = f32_pack, .run = f32_run, .peak = f32_peak};

static size_t attention_scratch_floats(size_t t, size_t d) {
    size_t floats;
    return ees__mul(t, QUERY_ROWS, &floats) ? floats : SIZE_MAX;
}

/* scratch: scores (QUERY_ROWS, t) */
static void attention(const struct ees__attention *a, const float *qkv, size_t ldqkv, size_t head, size_t first,
                      size_t end, const float *packed, float *out, size_t ldout, float *scratch) {
    const size_t t = a->t, d = a->d;
    const float *q = qkv + head * d, *k = q + a->h * d, *v = k + a->h * d;
    for (size_t i = first; i < end; i += QUERY_ROWS) {
        size_t rows = end - i < QUERY_ROWS ? end - i : QUERY_ROWS;
        sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_TRANS, (int)rows, (int)t, (int)d, a->scale, q + i * ldqkv,
              (int)ldqkv, k, (int)ldqkv, 0.0f, scratch, (int)t);
        for (size_t r = 0; r < rows; r++) {
            ees__add_bias_scalar(a, head, i + r, scratch + r * t);
            ees__softmax_scalar(scratch + r * t, t);
        }
        sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_NO_TRANS, (int)rows, (int)d, (int)t, 1.0f, scratch, (int)t, v,
              (int)ldqkv, 0.0f, out + i * ldout + head * d, (int)ldout);
    }
}

static const struct ees__attention_core f32_attention = {
    .packed_floats = ees__attention_packed_none,
    .scratch_floats = attention_scratch_floats,
    .pack = ees__attention_pack_none,
    .run = attention,
};

const struct ees__kernels ees__kernels_blas = {
    .name = "blas",
    .tile_rows = 16, /* of the libraries we know */
    .products = {[EES__F32] = &f32_product},
    .linear_scratch_floats = ees__linear_scratch_floats,
    .linear = ees__linear_run,
    .layernorm = ees__layernorm_scalar,
    .attention = {[EES__F32] = &f32_attention},
    .depthwise3x3_gelu = ees__depthwise3x3_gelu_scalar,
    .silu_gate = ees__silu_gate_scalar,
    .column_mean = ees__column_mean_scalar,
    .read = ees__read_scalar,
};
