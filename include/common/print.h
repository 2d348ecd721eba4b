/* SPDX-License-Identifier: MIT */
/* Text put together piece by piece in a caller's buffer. */
#ifndef EES_COMMON_PRINT_H
#define EES_COMMON_PRINT_H

#include <stddef.h>

/* What was printed stands in `out`, terminated, as far as it fits; `length` goes on counting where `out` ends, as
 * snprintf's result does. */
struct ees__printer {
    char *out; /* the caller's; may be NULL where size is 0 */
    size_t size, length;
};

/* A printer on an empty text. */
struct ees__printer ees__printer_on(char *out, size_t size);

__attribute__((format(printf, 2, 3))) void ees__print(struct ees__printer *p, const char *format, ...);

#endif
