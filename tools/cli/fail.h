/* SPDX-License-Identifier: MIT */
/* What the command says when something goes wrong, and the number it leaves with. */
#ifndef EES_CLI_FAIL_H
#define EES_CLI_FAIL_H

#include <stdbool.h>

#include "eestream/error.h"

/* Documented in docs and in `eestream help`; scripts rely on them. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_INTERNAL = 1,
    EXIT_USAGE = 2,
    EXIT_SOURCE = 3,
    EXIT_MODEL = 4,
    EXIT_OUTPUT = 5,
    EXIT_DAMAGED = 6, /* under --strict */
    EXIT_STALLED = 7,
    EXIT_INTERRUPTED = 130,
};

#define CLI_STR_(x) #x
#define CLI_STR(x)  CLI_STR_(x)
#define CLI_HERE    EES_SOURCE_FILE ":" CLI_STR(__LINE__)

/* Store the first failure in `err` (not NULL) and return `code`. `os_errno` not 0: its text is appended. */
__attribute__((format(printf, 5, 6))) int cli_fail_at(ees_error *err, int code, int os_errno, const char *where,
                                                      const char *format, ...);
/* Add what to do about it. Returns err->code. */
__attribute__((format(printf, 2, 3))) int cli_hint(ees_error *err, const char *format, ...);

#define CLI_FAIL(err, code, ...)              cli_fail_at((err), (code), 0, CLI_HERE, __VA_ARGS__)
#define CLI_FAIL_OS(err, code, os_errno, ...) cli_fail_at((err), (code), (os_errno), CLI_HERE, __VA_ARGS__)
#define CLI_TRY(expr)                                                                                                  \
    do {                                                                                                               \
        int cli_try_rc_ = (expr);                                                                                      \
        if (cli_try_rc_ < 0)                                                                                           \
            return cli_try_rc_;                                                                                        \
    } while (0)

/* The exit code for a library code. Damaged frames never end a run, so EES_EDAMAGED here is a source's. */
enum exit_code exit_code_of(int code);

/* "eestream: <message> (<hint>)" as one line on stderr; with `verbose` also where. Any thread. */
void print_error(const ees_error *err, bool verbose);

/* print_error() and exit_code_of() in one, for the end of a verb. */
enum exit_code leave_with(const ees_error *err, bool verbose);

#endif
