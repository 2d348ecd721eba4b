/* SPDX-License-Identifier: MIT */
/* Which levels this build and this CPU have, and packed weights. */
#include "stages/kernels/kernels.h"

#include <pthread.h>
#include <string.h>

#include "common/cpu.h"
#include "common/fail.h"
#include "common/mem.h"
#include "stages/kernels/levels.h"

/* Every level by name, best first; `kernels` NULL: for another architecture. */
struct level {
    const char *name;
    const struct ees__kernels *kernels;
    unsigned cpu_flag; /* 0: runs on any CPU */
};

#if defined(__x86_64__)
#define X86_KERNELS(level) &ees__kernels_##level
#define ARM_KERNELS(level) NULL
#elif defined(__aarch64__)
#define X86_KERNELS(level) NULL
#define ARM_KERNELS(level) &ees__kernels_##level
#else
#define X86_KERNELS(level) NULL
#define ARM_KERNELS(level) NULL
#endif

static const struct level levels[] = {
    {"avx512", X86_KERNELS(avx512), EES__CPU_AVX512},
    {"avx2", X86_KERNELS(avx2), EES__CPU_AVX2},
    {"neon", ARM_KERNELS(neon), EES__CPU_NEON},
    {"blas", &ees__kernels_blas, 0},
    {"scalar", &ees__kernels_scalar, 0},
};
enum { N_LEVELS = sizeof levels / sizeof *levels };

/* Loads the BLAS library when asked about that level, and only then. */
static bool level_runs(const struct level *level) {
    if (!level->kernels || (ees__cpu_flags() & level->cpu_flag) != level->cpu_flag)
        return false;
    return level->kernels != &ees__kernels_blas || ees__blas_load();
}

static const struct ees__kernels *find_best(void) {
    const struct level *level = levels;
    while (!level_runs(level))
        level++; /* ends: the last level, scalar, always runs */
    return level->kernels;
}

const struct ees__kernels *ees__kernels_get(const char *name, ees_error *err) {
    if (!name || strcmp(name, "auto") == 0)
        return find_best();
    for (size_t i = 0; i < N_LEVELS; i++) {
        if (strcmp(levels[i].name, name))
            continue;
        if (level_runs(&levels[i]))
            return levels[i].kernels;
        EES_FAIL(err, EES_EUNSUPPORTED, "kernels \"%s\": %s", name,
                 levels[i].kernels == &ees__kernels_blas ? "no BLAS library with cblas_sgemm found"
                 : levels[i].kernels                     ? "this CPU lacks them"
                                                         : "built for another architecture");
        return NULL;
    }
    EES_FAIL(err, EES_EINVAL, "kernels \"%s\": unknown (avx512, avx2, neon, blas, scalar)", name);
    return NULL;
}

static pthread_once_t list_once = PTHREAD_ONCE_INIT;
static const struct ees__kernels *running[N_LEVELS]; /* written under list_once */
static size_t n_running;

static void fill_list(void) {
    for (size_t i = 0; i < N_LEVELS; i++)
        if (level_runs(&levels[i]))
            running[n_running++] = levels[i].kernels;
}

const struct ees__kernels *const *ees__kernels_list(size_t *n) {
    pthread_once(&list_once, fill_list);
    *n = n_running;
    return running;
}

int ees__linear_open(const struct ees__kernels *kernels, const float *w, const float *bias, size_t n, size_t k,
                     struct ees__linear *out, ees_error *err) {
    size_t padded, elements;
    *out = (struct ees__linear){.n = n, .k = k};
    if (!ees__add(n, EES__MAX_TILE_COLUMNS, &padded) || !ees__mul(padded, k, &elements))
        return EES_FAIL(err, EES_ENOMEM, "weights of %zu x %zu: too large", n, k);
    out->packed = ees__calloc_aligned(kernels->linear_packed_floats(n, k), sizeof(float));
    out->bias = ees__calloc_aligned(ees__round_up(n, EES__MAX_TILE_COLUMNS), sizeof(float));
    if (!out->packed || !out->bias) {
        ees__linear_close(out);
        return EES_FAIL(err, EES_ENOMEM, "weights of %zu x %zu: out of memory", n, k);
    }
    kernels->linear_pack(w, n, k, out->packed);
    if (bias)
        memcpy(out->bias, bias, n * sizeof(float));
    return 0;
}

void ees__linear_close(struct ees__linear *l) {
    ees__free(l->packed);
    ees__free(l->bias);
    *l = (struct ees__linear){0};
}

size_t ees__linear_bytes(const struct ees__kernels *kernels, size_t n, size_t k) {
    return (kernels->linear_packed_floats(n, k) + ees__round_up(n, EES__MAX_TILE_COLUMNS)) * sizeof(float);
}
