/* SPDX-License-Identifier: MIT */
/* A request to stop that wakes a thread blocked in poll(). It comes from ees_source_stop(), or from a descriptor of the
 * caller's, which is there before the source is: only it can end an opening. */
#ifndef EES_IO_STOP_H
#define EES_IO_STOP_H

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct ees__stop {
    atomic_bool wanted;
    int fd;        /* eventfd, readable from the first request on; never read, so every later poll() sees it */
    int caller_fd; /* ees_source_options.stop_fd, -1: none. The caller's */
};

_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "a signal handler may only touch lock-free atomics");

/* @return 0 or -1 with errno */
static inline int ees__stop_init(struct ees__stop *stop, int caller_fd) {
    atomic_init(&stop->wanted, false);
    stop->caller_fd = caller_fd;
    stop->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return stop->fd < 0 ? -1 : 0;
}

static inline void ees__stop_fini(struct ees__stop *stop) {
    if (stop->fd >= 0)
        close(stop->fd);
    stop->fd = -1;
}

/* Any thread, and async-signal-safe: one atomic store and one write(2). */
static inline void ees__stop_request(struct ees__stop *stop) {
    const uint64_t one = 1;
    int saved = errno;
    /* relaxed: the flag guards no other data; a reader blocked in poll() is woken by the eventfd, one that is not
     * sees the flag at its next check. Test: tests/io/test_streams.c */
    atomic_store_explicit(&stop->wanted, true, memory_order_relaxed);
    if (write(stop->fd, &one, sizeof one) < 0) {
        /* EAGAIN: the counter is full, so the fd is readable already */
    }
    errno = saved;
}

static inline bool ees__stop_wanted(struct ees__stop *stop) {
    /* relaxed: see above */
    if (atomic_load_explicit(&stop->wanted, memory_order_relaxed))
        return true;
    struct pollfd caller = {.fd = stop->caller_fd, .events = POLLIN};
    if (stop->caller_fd < 0 || poll(&caller, 1, 0) <= 0)
        return false;
    /* relaxed: see above. Kept, so that a stop stays one whatever becomes of the descriptor. */
    atomic_store_explicit(&stop->wanted, true, memory_order_relaxed);
    return true;
}

#endif
