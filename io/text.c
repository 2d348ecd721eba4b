/* SPDX-License-Identifier: MIT */
/* Text of numbers and strings. printf would follow the program's locale (a decimal comma is no JSON) and costs most of
 * the microsecond a line may take. */
#include "io/text.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

char *ees__text_put(char *out, const char *literal) {
    size_t n = strlen(literal);
    memcpy(out, literal, n);
    return out + n;
}

/* At least `width` digits, zeros in front. */
static char *put_digits(char *out, uint64_t x, unsigned width) {
    char digits[EES__TEXT_NUMBER_BYTES], *end = digits + sizeof digits, *first = end;
    for (; x || end - first < (int)width; x /= 10)
        *--first = (char)('0' + x % 10);
    memcpy(out, first, (size_t)(end - first));
    return out + (end - first);
}

char *ees__text_u64(char *out, uint64_t x) { return put_digits(out, x, 1); }

char *ees__text_i64(char *out, int64_t x) {
    if (x < 0)
        *out++ = '-';
    return put_digits(out, x < 0 ? 0 - (uint64_t)x : (uint64_t)x, 1);
}

static uint64_t power_of_ten(unsigned n) {
    uint64_t x = 1;
    while (n--)
        x *= 10;
    return x;
}

char *ees__text_ns(char *out, uint64_t ns, unsigned unit_digits, unsigned decimals) {
    uint64_t step = power_of_ten(unit_digits - decimals), scale = power_of_ten(decimals);
    uint64_t steps = ns / step + (ns % step >= step / 2);
    out = put_digits(out, steps / scale, 1);
    *out++ = '.';
    return put_digits(out, steps % scale, decimals);
}

/* ---- Floats -------------------------------------------------------------------------------------------- */

enum { FLOAT_DIGITS = 9, MIN_EXPONENT = -4, MAX_EXPONENT = 8 }; /* %g writes these without an exponent */

/* 9 digits of 10^exponent <= x, the point behind the first 1 + exponent, no zeros at the end. */
static char *put_plain(char *out, uint64_t digits, int exponent) {
    char text[FLOAT_DIGITS];
    put_digits(text, digits, FLOAT_DIGITS);
    int n = FLOAT_DIGITS;
    while (n > 1 && text[n - 1] == '0')
        n--;
    if (exponent < 0) {
        *out++ = '0';
        *out++ = '.';
        for (int i = -1; i > exponent; i--)
            *out++ = '0';
    }
    for (int i = 0; i < n || i <= exponent; i++) {
        if (i == exponent + 1 && exponent >= 0)
            *out++ = '.';
        *out++ = text[i]; /* i < 9 as exponent <= 8 */
    }
    return out;
}

/* Very small and very large values, once in a thousand lines: printf, its decimal point put right. */
static char *put_by_printf(char *out, double x) {
    char text[EES__TEXT_NUMBER_BYTES];
    snprintf(text, sizeof text, "%.*g", FLOAT_DIGITS, x);
    for (const char *c = text; *c; c++) {
        bool part_of_number = (*c >= '0' && *c <= '9') || *c == '-' || *c == '+' || *c == 'e';
        *out = part_of_number ? *c : '.';
        if (*out != '.' || out[-1] != '.') /* a decimal point may take several bytes in UTF-8 */
            out++;
    }
    return out;
}

char *ees__text_float(char *out, float value) {
    static const double powers[] = {1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
    double x = value;
    if (signbit(x))
        *out++ = '-';
    x = fabs(x);
    if (x == 0.0) {
        *out++ = '0';
        return out;
    }
    if (x < powers[0] || x >= powers[MAX_EXPONENT - MIN_EXPONENT + 1])
        return put_by_printf(out, x);
    int exponent = MIN_EXPONENT;
    while (x >= powers[exponent + 1 - MIN_EXPONENT])
        exponent++;
    /* 24 bits of a float times 5^n for n <= 12 fit in the 53 of a double: the product is exact, and so is the rounding
     * to even, as in printf. */
    uint64_t digits = (uint64_t)nearbyint(x * (double)power_of_ten((unsigned)(MAX_EXPONENT - exponent)));
    if (digits == 1000000000) { /* 9.999999996 */
        digits /= 10;
        exponent++;
    }
    return exponent > MAX_EXPONENT ? put_by_printf(out, x) : put_plain(out, digits, exponent);
}

/* ---- Strings ------------------------------------------------------------------------------------------- */

/* Length of the UTF-8 sequence at `s`, 0 when there is none: stray or missing continuation, overlong form, surrogate,
 * beyond U+10FFFF. Reads no further than the NUL. */
static unsigned utf8_length(const unsigned char *s) {
    unsigned char lead = s[0];
    if (lead < 0x80)
        return 1;
    unsigned n = lead >= 0xc2 && lead < 0xe0   ? 2
                 : lead >= 0xe0 && lead < 0xf0 ? 3
                 : lead >= 0xf0 && lead < 0xf5 ? 4
                                               : 0;
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (unsigned i = 1; i < n; i++, low = 0x80, high = 0xbf)
        if (s[i] < low || s[i] > high)
            return 0;
    return n;
}

/* One character, or the replacement character for one byte that is none. @return bytes taken from `s` */
static unsigned put_utf8(char **out, const char *s) {
    unsigned n = utf8_length((const unsigned char *)s);
    if (n == 0) {
        *out = ees__text_put(*out, "\xef\xbf\xbd");
        return 1;
    }
    memcpy(*out, s, n);
    *out += n;
    return n;
}

static char *put_escape(char *out, unsigned char c) {
    static const char letters[] = "btn\0fr"; /* 0x08 to 0x0d */
    static const char hex[] = "0123456789abcdef";
    *out++ = '\\';
    if (c >= 0x20) /* quote or backslash */
        *out++ = (char)c;
    else if (c >= 0x08 && c <= 0x0d && letters[c - 0x08])
        *out++ = letters[c - 0x08];
    else {
        out = ees__text_put(out, "u00");
        *out++ = hex[c >> 4];
        *out++ = hex[c & 15];
    }
    return out;
}

char *ees__text_json(char *out, const char *s) {
    *out++ = '"';
    while (*s) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == '"' || c == '\\') {
            out = put_escape(out, c);
            s++;
        } else {
            s += put_utf8(&out, s);
        }
    }
    *out++ = '"';
    return out;
}

char *ees__text_csv(char *out, const char *s) {
    size_t n = strlen(s);
    bool quoted = s[strcspn(s, ",\"\r\n")] || (n && (s[0] == ' ' || s[n - 1] == ' '));
    if (quoted)
        *out++ = '"';
    while (*s) {
        if (*s == '"')
            *out++ = '"';
        s += put_utf8(&out, s);
    }
    if (quoted)
        *out++ = '"';
    return out;
}
