/* SPDX-License-Identifier: MIT */
/* What a core can do at most at a level: the rates a roofline compares with. DEFINE_PEAK() gives a product its peak(),
 * out of the very multiply-add its tiles are made of. */
#ifndef EES_STAGES_KERNELS_SIMD_PEAK_H
#define EES_STAGES_KERNELS_SIMD_PEAK_H

/* A vector in a register that the compiler knows nothing about: no step is folded, moved or left out. Costs nothing. */
#if defined(__x86_64__)
#define OPAQUE(v) __asm__("" : "+v"(v))
#define USED(v)   __asm__ volatile("" ::"v"(v))
#else
#define OPAQUE(v) __asm__("" : "+w"(v))
#define USED(v)   __asm__ volatile("" ::"w"(v))
#endif

/* As many sums as a tile has: enough to hide the latency of step(sum, w, x), which adds a group of `group` products to
 * each lane. */
#define DEFINE_PEAK(name, sum_type, w_type, x_type, step, group)                                                       \
    static double name(size_t n) {                                                                                     \
        enum { SUMS = TILE_ROWS * TILE_VECTORS };                                                                      \
        sum_type sum[SUMS] = {{0}};                                                                                    \
        w_type w = {0};                                                                                                \
        x_type x = {0};                                                                                                \
        __asm__("" : "+m"(x));                                                                                         \
        for (size_t round = 0; round < n; round++) {                                                                   \
            UNROLLED                                                                                                   \
            for (int i = 0; i < SUMS; i++) {                                                                           \
                OPAQUE(w);                                                                                             \
                sum[i] = step(sum[i], w, x);                                                                           \
            }                                                                                                          \
        }                                                                                                              \
        UNROLLED                                                                                                       \
        for (int i = 0; i < SUMS; i++)                                                                                 \
            USED(sum[i]);                                                                                              \
        return 2.0 * (group)*VL * SUMS * (double)n;                                                                    \
    }

#endif
