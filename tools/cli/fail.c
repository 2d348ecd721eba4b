/* SPDX-License-Identifier: MIT */
/* Error reports of the command itself and how any report becomes one line and an exit code. */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/progress.h"

int cli_fail_at(ees_error *err, int code, int os_errno, const char *where, const char *format, ...) {
    if (err->code)
        return err->code;
    *err = (ees_error){.code = code, .os_errno = os_errno};
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (os_errno && n >= 0 && (size_t)n < sizeof err->message)
        snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", strerror(os_errno));
    snprintf(err->where, sizeof err->where, "%s", where);
    return code;
}

int cli_hint(ees_error *err, const char *format, ...) {
    if (!err->hint[0]) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->hint, sizeof err->hint, format, args);
        va_end(args);
    }
    return err->code;
}

enum exit_code exit_code_of(int code) {
    switch (code) {
    case EES_OK:
        return EXIT_DONE;
    case EES_EINVAL:
        return EXIT_USAGE;
    case EES_ESOURCE:
    case EES_EDAMAGED:
        return EXIT_SOURCE;
    case EES_EMODEL:
        return EXIT_MODEL;
    case EES_EOUTPUT:
        return EXIT_OUTPUT;
    case EES_EUNSUPPORTED:
        return EXIT_USAGE;
    case EES_ESTALLED:
        return EXIT_STALLED;
    case EES_ECANCELED:
        return EXIT_INTERRUPTED;
    default:
        return EXIT_INTERNAL;
    }
}

/* A path in a message may hold any byte: control characters would break the promise of one line. */
static void put_clean(char *out, size_t n, const char *text) {
    size_t i = 0;
    for (; text[i] && i + 1 < n; i++)
        out[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];
    out[i] = '\0';
}

void print_error(const ees_error *err, bool verbose) {
    char message[sizeof err->message], hint[sizeof err->hint], line[sizeof message + sizeof hint + 128];
    put_clean(message, sizeof message, err->message[0] ? err->message : ees_error_text(err->code));
    put_clean(hint, sizeof hint, err->hint);
    snprintf(line, sizeof line, "eestream: %s%s%s%s%s%s%s\n", message, hint[0] ? " (" : "", hint, hint[0] ? ")" : "",
             verbose && err->where[0] ? " [" : "", verbose ? err->where : "", verbose && err->where[0] ? "]" : "");
    console_write(line);
}

enum exit_code leave_with(const ees_error *err, bool verbose) {
    print_error(err, verbose);
    return exit_code_of(err->code);
}
