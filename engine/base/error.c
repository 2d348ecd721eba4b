/* SPDX-License-Identifier: MIT */
/* Error reports: the bodies behind eestream/error.h and common/fail.h. The lowest layer; no state. */
#define _GNU_SOURCE
#include "common/fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *ees_error_name(int code) {
    switch (code) {
    case EES_OK:
        return "OK";
#define CASE(name, value, text) \
    case value:                 \
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
#define CASE(name, value, text) \
    case value:                 \
        return text;
        EES_ERROR_MAP(CASE)
#undef CASE
    default:
        return "unknown error code";
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
        snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s",
                 strerror_r(os_errno, text, sizeof text));
    }
    /* A report is one line, whatever a file name or a JSON key holds. */
    for (char *c = err->message; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
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
