/* SPDX-License-Identifier: MIT */
/* Event count: lets threads sleep until a lock-free structure may have changed. The slow path of every ring.
 *
 *   waiter                                    notifier
 *     key = ees__event_prepare(e, ...)            change the structure
 *     look again; found: ees__event_cancel(e)     ees__event_notify(e, ...)
 *     ees__event_wait(e, key, ...)
 *
 * One 64-bit word holds the number of registered waiters (low half) and an epoch (high half, the futex). prepare and
 * notify are both read-modify-writes of this one word, so they are ordered by it: either the notifier's comes
 * second, sees the waiter and wakes it, or the waiter's comes second and, by acquire reading the notifier's release,
 * sees the change when it looks again. No fence is needed, and ThreadSanitizer can follow. Proof: tests/proofs. */
#ifndef EES_ENGINE_WAIT_H
#define EES_ENGINE_WAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/mem.h"

struct ees__event {
    _Alignas(EES_CACHE_LINE) _Atomic uint64_t word;
};

enum { EES__WAKE_ANY = -1 };

void ees__event_init(struct ees__event *e);

/* Register as a waiter; look at the structure again after it. */
uint32_t ees__event_prepare(struct ees__event *e);

/* Leave without waiting. */
void ees__event_cancel(struct ees__event *e);

/* Sleep until notified after prepare, and unregister; what was announced is visible then. `group` (0..31, modulo) lets a
 * notifier prefer this waiter.
 * @param deadline_ns  on the clock of ees__now_ns(); UINT64_MAX: none
 * @return false: the deadline passed. Wake-ups may be spurious. */
bool ees__event_wait(struct ees__event *e, uint32_t key, unsigned group, uint64_t deadline_ns);

/* Wake one waiter, of `group` if one sleeps there, else any (EES__WAKE_ANY: no preference). Any thread and
 * async-signal-safe. Without waiters: one atomic add. */
void ees__event_notify(struct ees__event *e, int group);

/* Wake all. Any thread and async-signal-safe. */
void ees__event_notify_all(struct ees__event *e);

/* Is anybody registered? A hint: relaxed. */
bool ees__event_has_waiters(struct ees__event *e);

#endif
