/* SPDX-License-Identifier: MIT */
/* Event count over a futex. */
#define _GNU_SOURCE
#include "engine/wait.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/perturb.h"

#define ONE_EPOCH (UINT64_C(1) << 32)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the futex is the word's second half");

static uint32_t epoch_of(uint64_t word) { return (uint32_t)(word >> 32); }
static uint32_t waiters_of(uint64_t word) { return (uint32_t)word; }

static uint32_t *futex_of(struct ees__event *e) { return (uint32_t *)&e->word + 1; }

static int wake(struct ees__event *e, int n, uint32_t bits) {
    int saved = errno; /* may run in a signal handler */
    long woken = syscall(SYS_futex, futex_of(e), FUTEX_WAKE_BITSET_PRIVATE, n, NULL, NULL, bits);
    errno = saved;
    return woken > 0 ? (int)woken : 0;
}

void ees__event_init(struct ees__event *e) { atomic_init(&e->word, 0); }

uint32_t ees__event_prepare(struct ees__event *e) {
    /* acquire, pairs with the release in notify: a notification counted before us makes the change it
     * announces visible to our second look. If weaker: we may miss the change, and sleep with the new epoch for ever.
     * No release: a later notifier needs nothing of ours but the count itself. Test: proof_event. [event.prepare] */
    return epoch_of(atomic_fetch_add_explicit(&e->word, 1, memory_order_acquire));
}

void ees__event_cancel(struct ees__event *e) {
    /* relaxed: a notifier that still counts us only makes a needless system call. */
    atomic_fetch_sub_explicit(&e->word, 1, memory_order_relaxed);
}

bool ees__event_wait(struct ees__event *e, uint32_t key, unsigned group, uint64_t deadline_ns) {
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                .tv_nsec = (long)(deadline_ns % 1000000000u)};
    const struct timespec *timeout = deadline_ns == UINT64_MAX ? NULL : &deadline;
    bool in_time = true;
    /* acquire, pairs with the release in notify: what was announced is visible when we return. If
     * weaker: a caller that looks only after the wait may miss it. Test: proof_event. [event.wait] */
    while (epoch_of(atomic_load_explicit(&e->word, memory_order_acquire)) == key) {
        EES_PERTURB();
        long rc =
            syscall(SYS_futex, futex_of(e), FUTEX_WAIT_BITSET_PRIVATE, key, timeout, NULL, UINT32_C(1) << (group % 32));
        if (rc < 0 && errno == ETIMEDOUT) {
            in_time = false;
            break;
        }
    }
    atomic_fetch_sub_explicit(&e->word, 1, memory_order_relaxed); /* relaxed: as in cancel */
    return in_time;
}

void ees__event_notify(struct ees__event *e, int group) {
    /* release, pairs with the acquire in prepare and wait: our change of the structure, made before, is
     * visible to whoever reads this or a later epoch (what stands between are read-modify-writes: one release
     * sequence). No acquire: a waiter counted before us will find the futex changed. Test: proof_event. [event.notify] */
    uint64_t before = atomic_fetch_add_explicit(&e->word, ONE_EPOCH, memory_order_release);
    if (waiters_of(before) == 0)
        return;
    EES_PERTURB();
    if (group != EES__WAKE_ANY && wake(e, 1, UINT32_C(1) << ((unsigned)group % 32)) > 0)
        return;
    wake(e, 1, FUTEX_BITSET_MATCH_ANY);
}

void ees__event_notify_all(struct ees__event *e) {
    /* release: as in notify [event.notify_all] */
    uint64_t before = atomic_fetch_add_explicit(&e->word, ONE_EPOCH, memory_order_release);
    EES_PERTURB();
    if (waiters_of(before) > 0)
        wake(e, INT_MAX, FUTEX_BITSET_MATCH_ANY);
}

bool ees__event_has_waiters(struct ees__event *e) {
    return waiters_of(atomic_load_explicit(&e->word, memory_order_relaxed)) > 0;
}
