/* SPDX-License-Identifier: MIT */
/* CPU features, asked at run time. */
#include "common/cpu.h"

#include <stdbool.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* XCR0: which register states the kernel saves. A CPU flag without its state enabled is unusable. */
static unsigned enabled_states(void) {
    unsigned eax, edx;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

unsigned ees__cpu_flags(void) {
    unsigned a, b, c, d, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    unsigned states = enabled_states();
    bool ymm = (states & 0x06) == 0x06, zmm = (states & 0xe6) == 0xe6;
    bool fma = (c & bit_FMA) && (c & bit_F16C);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if (ymm && fma && (b & bit_AVX2))
        flags |= EES__CPU_AVX2;
    unsigned extended = 0, unused;
    __get_cpuid_count(7, 1, &extended, &unused, &unused, &unused);
    if ((flags & EES__CPU_AVX2) && (extended & bit_AVXVNNI))
        flags |= EES__CPU_AVX_VNNI;
    const unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if (zmm && (flags & EES__CPU_AVX2) && (b & avx512) == avx512) {
        flags |= EES__CPU_AVX512;
        if (c & bit_AVX512VNNI)
            flags |= EES__CPU_AVX512_VNNI;
        if (extended & bit_AVX512BF16)
            flags |= EES__CPU_AVX512_BF16;
    }
    return flags;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

/* Bits of AT_HWCAP and AT_HWCAP2, from the kernel's arm64 asm/hwcap.h. */
enum { HWCAP_BIT_ASIMD = 1, HWCAP_BIT_ASIMDDP = 20, HWCAP2_BIT_I8MM = 13 };

unsigned ees__cpu_flags(void) {
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    unsigned flags = 0;
    if (cap >> HWCAP_BIT_ASIMD & 1)
        flags |= EES__CPU_NEON;
    if (cap >> HWCAP_BIT_ASIMDDP & 1)
        flags |= EES__CPU_DOTPROD;
    if (cap2 >> HWCAP2_BIT_I8MM & 1)
        flags |= EES__CPU_I8MM;
    return flags;
}

#else
unsigned ees__cpu_flags(void) { return 0; }
#endif
