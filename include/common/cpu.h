/* SPDX-License-Identifier: MIT */
/* What this CPU can do, asked at run time (CPUID and XCR0 on x86, AT_HWCAP on ARM). */
#ifndef EES_COMMON_CPU_H
#define EES_COMMON_CPU_H

enum ees__cpu_flag {
    EES__CPU_AVX2 = 1u << 0,   /* AVX2, FMA and F16C, with the ymm state enabled by the kernel */
    EES__CPU_AVX512 = 1u << 1, /* AVX-512 F, BW, DQ, VL, with the zmm state enabled */
    EES__CPU_AVX512_VNNI = 1u << 2,
    EES__CPU_AVX512_BF16 = 1u << 3,
    EES__CPU_NEON = 1u << 4,
    EES__CPU_DOTPROD = 1u << 5,
    EES__CPU_I8MM = 1u << 6,
    EES__CPU_AVX_VNNI = 1u << 7, /* vpdpbusd on ymm registers without AVX-512 */
};

unsigned ees__cpu_flags(void);

#endif
