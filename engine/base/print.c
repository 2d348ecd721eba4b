/* SPDX-License-Identifier: MIT */
#include "common/print.h"

#include <stdarg.h>
#include <stdio.h>

struct ees__printer ees__printer_on(char *out, size_t size) {
    if (size > 0)
        out[0] = '\0';
    return (struct ees__printer){.out = out, .size = size};
}

void ees__print(struct ees__printer *p, const char *format, ...) {
    size_t room = p->length < p->size ? p->size - p->length : 0;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(room ? p->out + p->length : NULL, room, format, args);
    va_end(args);
    p->length += n > 0 ? (size_t)n : 0;
}
