/* SPDX-License-Identifier: MIT */
/* What runs here: version, build, machine. */
#include <stdarg.h>
#include <stdio.h>

#include "common/cpu.h"
#include "eestream/eestream.h"

#define STR_(x) #x
#define STR(x) STR_(x)

const char *ees_version(void) { return STR(EES_VERSION_MAJOR) "." STR(EES_VERSION_MINOR) "." STR(EES_VERSION_PATCH); }

struct text {
    char *buffer;
    size_t size, length;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    size_t room = t->length < t->size ? t->size - t->length : 0;
    int n = vsnprintf(room ? t->buffer + t->length : NULL, room, format, args);
    va_end(args);
    t->length += n > 0 ? (size_t)n : 0;
}

size_t ees_build_info(char *buffer, size_t n) {
    static const struct {
        unsigned flag;
        const char *name;
    } flags[] = {{EES__CPU_AVX2, "avx2"},     {EES__CPU_AVX512, "avx512"},   {EES__CPU_AVX512_VNNI, "avx512-vnni"},
                 {EES__CPU_NEON, "neon"},     {EES__CPU_DOTPROD, "dotprod"}, {EES__CPU_AVX512_BF16, "avx512-bf16"},
                 {EES__CPU_I8MM, "i8mm"}};
    struct text t = {.buffer = buffer, .size = n};
    unsigned have = ees__cpu_flags();
#if defined(__clang__)
    add(&t, "compiler: clang %s\n", __clang_version__);
#else
    add(&t, "compiler: gcc %s\n", __VERSION__);
#endif
    add(&t, "cpu:");
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (have & flags[i].flag)
            add(&t, " %s", flags[i].name);
    add(&t, have ? "\n" : " no vector level known\n");
#ifdef EES_HAVE_LIBAV
    add(&t, "libav: built as a module\n");
#else
    add(&t, "libav: not in this build\n");
#endif
    return t.length;
}
