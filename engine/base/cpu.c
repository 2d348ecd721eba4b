/* SPDX-License-Identifier: MIT */
/* CPU features and cache size, asked at run time. */
#include "common/cpu.h"

#include <stdbool.h>
#include <stdio.h>

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
    const unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if (zmm && (flags & EES__CPU_AVX2) && (b & avx512) == avx512) {
        flags |= EES__CPU_AVX512;
        if (c & bit_AVX512VNNI)
            flags |= EES__CPU_AVX512_VNNI;
        if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVX512BF16))
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

static int read_line(const char *path, char *line, int n) {
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    int ok = fgets(line, n, f) != NULL;
    fclose(f);
    return ok;
}

/* "0-1,4" -> 3 */
static unsigned count_cpu_list(const char *text) {
    unsigned n = 0;
    for (const char *p = text; *p && *p != '\n';) {
        unsigned first, last;
        int used;
        if (sscanf(p, "%u-%u%n", &first, &last, &used) == 2)
            n += last - first + 1;
        else if (sscanf(p, "%u%n", &first, &used) == 1)
            n++;
        else
            break;
        p += used;
        if (*p == ',')
            p++;
    }
    return n;
}

size_t ees__cpu_private_cache_bytes(void) {
    for (int index = 0; index < 8; index++) {
        char path[96], line[128];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        if (!read_line(path, line, sizeof line))
            break;
        if (line[0] != '2')
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        size_t size = 0;
        char unit = 0;
        if (!read_line(path, line, sizeof line) || sscanf(line, "%zu%c", &size, &unit) < 1)
            return 0;
        size *= unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/shared_cpu_list", index);
        unsigned n_sharing = read_line(path, line, sizeof line) ? count_cpu_list(line) : 1;
        return n_sharing > 1 ? size / n_sharing : size;
    }
    return 0;
}
