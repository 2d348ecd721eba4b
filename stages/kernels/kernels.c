/* SPDX-License-Identifier: MIT */
/* Which levels this build and this CPU have. */
#include "stages/kernels/kernels.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/cpu.h"
#include "common/fail.h"
#include "stages/kernels/levels.h"

/* Every level by name, best first. `base` NULL: for another architecture. */
struct level {
    const char *name;
    const struct ees__kernels *base;
    const struct ees__product *s8, *bf16;
    const struct ees__attention_core *bf16_core, *s8_core; /* NULL: the base's */
    unsigned cpu_flags;                                    /* all needed; 0: runs on any CPU */
};

#if defined(__x86_64__)
#define X86(object) &object
#define ARM(object) NULL
#elif defined(__aarch64__)
#define X86(object) NULL
#define ARM(object) &object
#else
#define X86(object) NULL
#define ARM(object) NULL
#endif

static const struct level levels[] = {
    {"avx512bf16", X86(ees__kernels_avx512), X86(ees__s8_avx512vnni), X86(ees__bf16_avx512),
     X86(ees__attention_bf16_avx512), X86(ees__attention_s8_avx512vnni),
     EES__CPU_AVX512 | EES__CPU_AVX512_VNNI | EES__CPU_AVX512_BF16},
    {"avx512vnni", X86(ees__kernels_avx512), X86(ees__s8_avx512vnni), NULL, NULL, X86(ees__attention_s8_avx512vnni),
     EES__CPU_AVX512 | EES__CPU_AVX512_VNNI},
    {"avx512", X86(ees__kernels_avx512), X86(ees__s8_avx512), NULL, NULL, NULL, EES__CPU_AVX512},
    {"avx2vnni", X86(ees__kernels_avx2), X86(ees__s8_avx2vnni), NULL, NULL, NULL, EES__CPU_AVX2 | EES__CPU_AVX_VNNI},
    {"avx2", X86(ees__kernels_avx2), X86(ees__s8_avx2), NULL, NULL, NULL, EES__CPU_AVX2},
    {"i8mm", ARM(ees__kernels_neon), ARM(ees__s8_i8mm), NULL, NULL, NULL,
     EES__CPU_NEON | EES__CPU_DOTPROD | EES__CPU_I8MM},
    {"dotprod", ARM(ees__kernels_neon), ARM(ees__s8_dotprod), NULL, NULL, NULL, EES__CPU_NEON | EES__CPU_DOTPROD},
    {"neon", ARM(ees__kernels_neon), ARM(ees__s8_neon), NULL, NULL, NULL, EES__CPU_NEON},
    {"blas", &ees__kernels_blas, &ees__s8_scalar, NULL, NULL, NULL, 0},
    {"scalar", &ees__kernels_scalar, &ees__s8_scalar, &ees__bf16_scalar, NULL, NULL, 0},
};
enum { N_LEVELS = sizeof levels / sizeof *levels };

static pthread_once_t tables_once = PTHREAD_ONCE_INIT;
static struct ees__kernels tables[N_LEVELS]; /* written under tables_once; of other architectures zeroed */

static void fill_tables(void) {
    for (size_t i = 0; i < N_LEVELS; i++) {
        if (!levels[i].base)
            continue;
        tables[i] = *levels[i].base;
        tables[i].name = levels[i].name;
        tables[i].products[EES__S8] = levels[i].s8;
        tables[i].products[EES__BF16] = levels[i].bf16;
        const struct ees__attention_core *exact = tables[i].attention[EES__F32];
        tables[i].attention[EES__S8] = levels[i].s8_core ? levels[i].s8_core : exact;
        tables[i].attention[EES__BF16] = levels[i].bf16_core ? levels[i].bf16_core : exact;
    }
}

/* Loads the BLAS library when asked about that level, and only then. */
static bool level_runs(const struct level *level) {
    if (!level->base || (ees__cpu_flags() & level->cpu_flags) != level->cpu_flags)
        return false;
    return level->base != &ees__kernels_blas || ees__blas_load();
}

static const struct ees__kernels *find_best(void) {
    size_t i = 0;
    while (!level_runs(&levels[i]))
        i++; /* ends: the last level, scalar, always runs */
    return &tables[i];
}

const struct ees__kernels *ees__kernels_get(const char *name, ees_error *err) {
    pthread_once(&tables_once, fill_tables);
    if (!name || strcmp(name, "auto") == 0)
        return find_best();
    char names[160] = "";
    for (size_t i = 0, at = 0; i < N_LEVELS; i++) {
        if (strcmp(levels[i].name, name) == 0) {
            if (level_runs(&levels[i]))
                return &tables[i];
            EES_FAIL(err, EES_EUNSUPPORTED, "kernels \"%s\": %s", name,
                     levels[i].base == &ees__kernels_blas ? "no BLAS library with cblas_sgemm found"
                     : levels[i].base                     ? "this CPU lacks them"
                                                          : "built for another architecture");
            return NULL;
        }
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", levels[i].name);
    }
    EES_FAIL(err, EES_EINVAL, "kernels \"%s\": unknown (%s)", name, names);
    return NULL;
}

static pthread_once_t list_once = PTHREAD_ONCE_INIT;
static const struct ees__kernels *running[N_LEVELS]; /* written under list_once */
static size_t n_running;

static void fill_list(void) {
    pthread_once(&tables_once, fill_tables);
    for (size_t i = 0; i < N_LEVELS; i++)
        if (level_runs(&levels[i]))
            running[n_running++] = &tables[i];
}

const struct ees__kernels *const *ees__kernels_list(size_t *n) {
    pthread_once(&list_once, fill_list);
    *n = n_running;
    return running;
}
