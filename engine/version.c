/* SPDX-License-Identifier: MIT */
/* What runs here: version, build, machine. */
#include "common/cpu.h"
#include "common/print.h"
#include "eestream/eestream.h"

#define STR_(x) #x
#define STR(x)  STR_(x)

const char *ees_version(void) { return STR(EES_VERSION_MAJOR) "." STR(EES_VERSION_MINOR) "." STR(EES_VERSION_PATCH); }

size_t ees_build_info(char *buffer, size_t n) {
    static const struct {
        unsigned flag;
        const char *name;
    } flags[] = {{EES__CPU_AVX2, "avx2"}, {EES__CPU_AVX512, "avx512"},   {EES__CPU_AVX512_VNNI, "avx512-vnni"},
                 {EES__CPU_NEON, "neon"}, {EES__CPU_DOTPROD, "dotprod"}, {EES__CPU_AVX512_BF16, "avx512-bf16"},
                 {EES__CPU_I8MM, "i8mm"}};
    struct ees__printer t = ees__printer_on(buffer, n);
    unsigned have = ees__cpu_flags();
#if defined(__clang__)
    ees__print(&t, "compiler: clang %s\n", __clang_version__);
#else
    ees__print(&t, "compiler: gcc %s\n", __VERSION__);
#endif
    ees__print(&t, "cpu:");
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (have & flags[i].flag)
            ees__print(&t, " %s", flags[i].name);
    ees__print(&t, have ? "\n" : " no vector level known\n");
#ifdef EES_HAVE_LIBAV
    ees__print(&t, "libav: built as a module\n");
#else
    ees__print(&t, "libav: not in this build\n");
#endif
    return t.length;
}
