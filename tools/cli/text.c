/* SPDX-License-Identifier: MIT */
#include "tools/cli/text.h"

#include <stdarg.h>
#include <stdio.h>

struct text text_in(char *out, size_t size) {
    out[0] = '\0';
    return (struct text){.out = out, .size = size};
}

void text_add(struct text *t, const char *format, ...) {
    size_t room = t->size - t->n;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->out + t->n, room, format, args);
    va_end(args);
    if (n > 0)
        t->n += (size_t)n < room ? (size_t)n : room - 1;
}
