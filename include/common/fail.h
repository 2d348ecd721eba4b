/* SPDX-License-Identifier: MIT */
/* Reporting a failure: EES_FAIL where it is noticed, EES_TRY where it passes through. */
#ifndef EES_COMMON_FAIL_H
#define EES_COMMON_FAIL_H

#include "eestream/error.h"

/* Store code, place and message in `err` (may be NULL; an earlier report is kept) and return `code`. `os_errno` 0:
 * none; otherwise its text is appended to the message. */
__attribute__((format(printf, 5, 6))) int ees__fail(ees_error *err, int code, int os_errno, const char *where,
                                                    const char *format, ...);

/* Add what to do about it to the report, unless it has a hint already. Returns err->code. */
__attribute__((format(printf, 2, 3))) int ees__hint(ees_error *err, const char *format, ...);

#define EES_STR_(x) #x
#define EES_STR(x)  EES_STR_(x)
#ifndef EES_SOURCE_FILE /* path below the project's root, set per file by the build */
#define EES_SOURCE_FILE __FILE__
#endif
#define EES_HERE EES_SOURCE_FILE ":" EES_STR(__LINE__)

#define EES_FAIL(err, code, ...)              ees__fail((err), (code), 0, EES_HERE, __VA_ARGS__)
#define EES_FAIL_OS(err, code, os_errno, ...) ees__fail((err), (code), (os_errno), EES_HERE, __VA_ARGS__)

#define EES_TRY(expr)                                                                                                  \
    do {                                                                                                               \
        int ees_try_rc_ = (expr);                                                                                      \
        if (ees_try_rc_ < 0)                                                                                           \
            return ees_try_rc_;                                                                                        \
    } while (0)

#endif
