/* SPDX-License-Identifier: MIT */
/* A short text put together piece by piece. */
#ifndef EES_CLI_TEXT_H
#define EES_CLI_TEXT_H

#include <stddef.h>

struct text {
    char *out; /* the caller's, terminated after each piece */
    size_t size, n;
};

/* An empty text in `size` > 0 bytes. */
struct text text_in(char *out, size_t size);

/* What does not fit is cut. */
__attribute__((format(printf, 2, 3))) void text_add(struct text *t, const char *format, ...);

#endif
