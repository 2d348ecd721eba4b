/* SPDX-License-Identifier: MIT */
/* Error reports: the bodies behind eestream/error.h and common/fail.h. The lowest layer; no state. */
#define _GNU_SOURCE
#include "common/fail.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const char *ees_error_name(int code) {
    switch (code) {
    case EES_OK:
        return "OK";
#define CASE(name, value, text)                                                                                        \
    case value:                                                                                                        \
        return #name;
        EES_ERROR_MAP(CASE)
#undef CASE
    default:
        return "?";
    }
}

const char *ees_error_text(int code) {
    switch (code) {
    case EES_OK:
        return "no error";
#define CASE(name, value, text)                                                                                        \
    case value:                                                                                                        \
        return text;
        EES_ERROR_MAP(CASE)
#undef CASE
    default:
        return "unknown error code";
    }
}

/* Length of the printable, well-formed UTF-8 sequence at `s` (Unicode 15, table 3-7); 0: there is none. */
static unsigned sequence_length(const unsigned char *s) {
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    unsigned n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                 : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                : 0;
    for (unsigned i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool beyond = (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf4 && s[1] >= 0x90);
    return overlong || beyond ? 0 : n;
}

/* A report is one line of text, whatever a file name or a JSON key holds and wherever the message was cut. */
static void make_printable(char *message) {
    for (unsigned char *c = (unsigned char *)message; *c;) {
        unsigned n = sequence_length(c);
        if (n == 0)
            *c = '?';
        c += n ? n : 1;
    }
}

int ees__fail(ees_error *err, int code, int os_errno, const char *where, const char *format, ...) {
    if (!err || err->code)
        return code;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (os_errno && n >= 0 && (size_t)n < sizeof err->message) {
        char text[96];
        snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", strerror_r(os_errno, text, sizeof text));
    }
    make_printable(err->message);
    snprintf(err->where, sizeof err->where, "%s", where);
    err->hint[0] = '\0';
    err->os_errno = os_errno;
    err->code = code;
    return code;
}

int ees__hint(ees_error *err, const char *format, ...) {
    if (!err)
        return EES_EINTERNAL;
    if (!err->hint[0]) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->hint, sizeof err->hint, format, args);
        va_end(args);
    }
    return err->code;
}
