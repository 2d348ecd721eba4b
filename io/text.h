/* SPDX-License-Identifier: MIT */
/* Numbers and strings as text, for output a line at a time: no allocation, no locale, no terminating NUL. Each function
 * writes at `out`, where the caller has made room, and returns the end of what it wrote. */
#ifndef EES_IO_TEXT_H
#define EES_IO_TEXT_H

#include <stdint.h>

enum {
    EES__TEXT_NUMBER_BYTES = 24, /* most bytes of any number below */
    EES__TEXT_ESCAPE_BYTES = 6,  /* most bytes a byte of a string becomes: \u0001 */
};

char *ees__text_put(char *out, const char *literal);
char *ees__text_u64(char *out, uint64_t x);
char *ees__text_i64(char *out, int64_t x);

/* Nanoseconds as units of 10^9 or 10^6 of them: rounded to `decimals` places behind the point.
 * @param unit_digits  9: seconds, 6: milliseconds; decimals < unit_digits */
char *ees__text_ns(char *out, uint64_t ns, unsigned unit_digits, unsigned decimals);

/* As printf's "%.9g": enough digits to read the same float back. Finite values only. */
char *ees__text_float(char *out, float x);

/* A JSON string with its quotes, valid UTF-8 whatever the bytes: each byte that is none becomes U+FFFD. */
char *ees__text_json(char *out, const char *s);

/* A CSV field, quoted when it has to be (RFC 4180); bytes that are not UTF-8 as above. */
char *ees__text_csv(char *out, const char *s);

#endif
