/* SPDX-License-Identifier: MIT */
/* What code compiled with -fsanitize=thread calls for each access to memory. An access of a kind that is missing here
 * does not link, so nothing goes by unseen. */
#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "checker.h"
#include "explore.h"

void __tsan_init(void);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_init(void) {}
void __tsan_func_entry(void *caller) { (void)caller; }
void __tsan_func_exit(void) {}

/* It takes the macros for functions. */
/* clang-format off */
#define PLAIN(bytes) \
    void __tsan_read##bytes(void *p); \
    void __tsan_write##bytes(void *p); \
    void __tsan_unaligned_read##bytes(void *p); \
    void __tsan_unaligned_write##bytes(void *p); \
    void __tsan_read##bytes(void *p) { explore_plain(p, false); } \
    void __tsan_write##bytes(void *p) { explore_plain(p, true); } \
    void __tsan_unaligned_read##bytes(void *p) { explore_plain(p, false); } \
    void __tsan_unaligned_write##bytes(void *p) { explore_plain(p, true); }
PLAIN(1) PLAIN(2) PLAIN(4) PLAIN(8) PLAIN(16)

void __tsan_read_range(void *p, unsigned long bytes);
void __tsan_write_range(void *p, unsigned long bytes);
void __tsan_read_range(void *p, unsigned long bytes) { (void)bytes; explore_plain(p, false); }
void __tsan_write_range(void *p, unsigned long bytes) { (void)bytes; explore_plain(p, true); }

#define ATOMIC_CHANGE(bits, name, kind) \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile void *p, uint##bits##_t value, int order); \
    uint##bits##_t __tsan_atomic##bits##_##name(volatile void *p, uint##bits##_t value, int order) { \
        return (uint##bits##_t)explore_request((struct request){.access = ACCESS_RMW, .change = kind, .order = order, \
            .place = explore_place(p), .value = value, .mask = UINT##bits##_MAX}).value; \
    }

#define ATOMIC_CAS(bits, name, can_fail) \
    int __tsan_atomic##bits##_compare_exchange_##name(volatile void *p, uint##bits##_t *expected, uint##bits##_t value, \
                                                      int order, int order_failed); \
    int __tsan_atomic##bits##_compare_exchange_##name(volatile void *p, uint##bits##_t *expected, uint##bits##_t value, \
                                                      int order, int order_failed) { \
        struct answer a = explore_request((struct request){.access = ACCESS_CAS, .weak = can_fail, .order = order, \
            .order_failed = order_failed, .place = explore_place(p), .value = value, .expected = *expected, \
            .mask = UINT##bits##_MAX}); \
        if (!a.ok) \
            *expected = (uint##bits##_t)a.value; \
        return a.ok; \
    }

#define ATOMIC(bits) \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile void *p, int order); \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile void *p, int order) { \
        return (uint##bits##_t)explore_request( \
            (struct request){.access = ACCESS_LOAD, .order = order, .place = explore_place(p)}).value; \
    } \
    void __tsan_atomic##bits##_store(volatile void *p, uint##bits##_t value, int order); \
    void __tsan_atomic##bits##_store(volatile void *p, uint##bits##_t value, int order) { \
        explore_request( \
            (struct request){.access = ACCESS_STORE, .order = order, .place = explore_place(p), .value = value}); \
    } \
    ATOMIC_CHANGE(bits, fetch_add, CHANGE_ADD) \
    ATOMIC_CHANGE(bits, fetch_sub, CHANGE_SUB) \
    ATOMIC_CHANGE(bits, fetch_or, CHANGE_OR) \
    ATOMIC_CHANGE(bits, fetch_and, CHANGE_AND) \
    ATOMIC_CHANGE(bits, exchange, CHANGE_EXCHANGE) \
    ATOMIC_CAS(bits, strong, false) \
    ATOMIC_CAS(bits, weak, true)
ATOMIC(8) ATOMIC(16) ATOMIC(32) ATOMIC(64)
    /* clang-format on */

    unsigned proof_choose(unsigned n) {
    return (unsigned)explore_request((struct request){.access = ACCESS_CHOOSE, .n = n}).value;
}

long proof_syscall(long nr, ...) {
    va_list args;
    va_start(args, nr);
    const void *word = va_arg(args, const void *);
    int op = va_arg(args, int);
    unsigned value = va_arg(args, unsigned);
    const void *timeout = va_arg(args, const void *);
    (void)va_arg(args, const void *);
    unsigned bits = va_arg(args, unsigned), shift;
    va_end(args);
    struct request r = {.place = explore_place_around(word, &shift), .bits = bits};
    if (nr == SYS_futex && op == FUTEX_WAIT_BITSET_PRIVATE && !timeout) {
        r.access = ACCESS_WAIT;
        r.expected = (uint64_t)value << shift;
        r.mask = (uint64_t)UINT32_MAX << shift;
        errno = EAGAIN;
        return explore_request(r).ok ? 0 : -1;
    }
    proof_check(nr == SYS_futex && op == FUTEX_WAKE_BITSET_PRIVATE, "a system call that the checker knows");
    r.access = ACCESS_WAKE;
    r.n = value;
    return (long)explore_request(r).value;
}
