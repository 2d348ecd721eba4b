/* SPDX-License-Identifier: MIT */
/* engine/wait.c itself, over a futex as futex(2) describes it. No wake-up is lost: a waiter that sleeps although what it
 * waits for was announced has nobody left to wake it, which the checker reports. What is announced is a relaxed atomic
 * here, so only the event orders anything. */
#include "engine/wait.c"

#include "checker.h"

static struct ees__event *event;
static _Atomic uint32_t *announced;

static void announce_one(unsigned group) {
    atomic_fetch_add_explicit(announced, 1, memory_order_relaxed);
    ees__event_notify(event, (int)group - 1); /* 0: anybody */
}

static void announce_to_all(unsigned me) {
    (void)me;
    atomic_store_explicit(announced, 1, memory_order_relaxed);
    ees__event_notify_all(event);
}

/* There is one notification, so a return from the wait means that it came. */
static void wait_once(unsigned group) {
    for (;;) {
        uint32_t key = ees__event_prepare(event);
        if (atomic_load_explicit(announced, memory_order_relaxed) > 0) {
            ees__event_cancel(event);
            return;
        }
        ees__event_wait(event, key, group, UINT64_MAX);
        proof_check(atomic_load_explicit(announced, memory_order_relaxed) > 0,
                    "what was announced is visible after the wait");
    }
}

static bool take_one(void) {
    uint32_t n = atomic_load_explicit(announced, memory_order_relaxed);
    while (n > 0)
        if (atomic_compare_exchange_weak_explicit(announced, &n, n - 1, memory_order_relaxed, memory_order_relaxed))
            return true;
    return false;
}

/* Each takes one of what is announced, as workers take frames. */
static void wait_and_take(unsigned group) {
    for (;;) {
        uint32_t key = ees__event_prepare(event);
        if (take_one()) {
            ees__event_cancel(event);
            return;
        }
        ees__event_wait(event, key, group, UINT64_MAX);
    }
}

static void setup(void) {
    event = proof_alloc(sizeof *event);
    announced = proof_alloc(sizeof *announced);
    ees__event_init(event);
    atomic_init(announced, 0);
    proof_name(&event->word, "event");
    proof_name(announced, "announced");
}

static void setup_one(void) {
    setup();
    proof_thread(wait_once, 0);
    proof_thread(announce_one, 0);
}

static void setup_all(void) {
    setup();
    proof_thread(wait_once, 0);
    proof_thread(wait_once, 1);
    proof_thread(announce_to_all, 0);
}

static void setup_two(void) {
    setup();
    proof_thread(wait_and_take, 0);
    proof_thread(wait_and_take, 1);
    proof_thread(announce_one, 0);
    proof_thread(announce_one, 2); /* prefers group 1 */
}

static void end(void) { proof_check(!ees__event_has_waiters(event), "all waiters have unregistered"); }

int main(void) {
    proof_run("event, 1 waiter, notify", setup_one, end);
    proof_run("event, 2 waiters, notify_all", setup_all, end);
    proof_run("event, 2 waiters, 2 notifiers", setup_two, end);
    return 0;
}
