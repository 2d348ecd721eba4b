/* SPDX-License-Identifier: MIT */
/* Does the checker itself know C11? The classic litmus tests: for each, exactly the outcomes that RC11 without load
 * buffering allows, no more and no fewer. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "checker.h"

static _Atomic uint32_t *x, *y;
static uint32_t *noted;   /* what the threads read */
static unsigned outcomes; /* bit n: outcome n was seen; outside of the states on purpose */
static memory_order store_order, load_order;

#define LOAD(p)     atomic_load_explicit(p, load_order)
#define STORE(p, v) atomic_store_explicit(p, v, store_order)
#define RELAXED(p)  atomic_load_explicit(p, memory_order_relaxed)

/* One a line. */
/* clang-format off */
static void write_x_read_y(unsigned me) { STORE(x, 1); noted[me] = LOAD(y); }
static void write_y_read_x(unsigned me) { STORE(y, 1); noted[me] = LOAD(x); }
static void read_x_write_y(unsigned me) { noted[me] = LOAD(x); STORE(y, 1); }
static void read_y_write_x(unsigned me) { noted[me] = LOAD(y); STORE(x, 1); }
static void send(unsigned me) { atomic_store_explicit(x, 1, memory_order_relaxed); STORE(y, 1); (void)me; }
static void receive(unsigned me) { noted[me] = LOAD(y); noted[me + 1] = RELAXED(x); }
static void receive_2(unsigned me) { noted[me] = LOAD(y) == 2; noted[me + 1] = RELAXED(x); }
static void add_y(unsigned me) { atomic_fetch_add_explicit(y, 1, memory_order_relaxed); (void)me; }
static void raise_y(unsigned me) { if (RELAXED(y) == 1) atomic_store_explicit(y, 2, memory_order_relaxed); (void)me; }
static void write_1_2(unsigned me) { STORE(x, 1); STORE(y, 2); (void)me; }
static void write_2_1(unsigned me) { STORE(y, 1); STORE(x, 2); (void)me; }
static void write_x(unsigned me) { STORE(x, 1); (void)me; }
static void write_y(unsigned me) { STORE(y, 1); (void)me; }
static void read_x_y(unsigned me) { noted[me] = LOAD(x); noted[me + 1] = LOAD(y); }
static void read_y_x(unsigned me) { noted[me] = LOAD(y); noted[me + 1] = LOAD(x); }
static void read_x_x(unsigned me) { noted[me] = LOAD(x); noted[me + 1] = LOAD(x); }
static void add_x(unsigned me) { noted[me] = atomic_fetch_add_explicit(x, 1, memory_order_relaxed); }

static const struct litmus {
    const char *name;
    memory_order store, load;
    void (*threads[4])(unsigned me);
    unsigned me[4];
    bool finals; /* the outcome is the final x and y (1 or 2), not what was read */
    unsigned expected;
} *litmus, all[] = {
    {"store buffering, release and acquire", memory_order_release, memory_order_acquire, {write_x_read_y, write_y_read_x}, {0, 1}, false, 0xf},
    {"store buffering, seq_cst", memory_order_seq_cst, memory_order_seq_cst, {write_x_read_y, write_y_read_x}, {0, 1}, false, 0xe},
    {"load buffering", memory_order_relaxed, memory_order_relaxed, {read_x_write_y, read_y_write_x}, {0, 1}, false, 0x7},
    {"message passing, relaxed", memory_order_relaxed, memory_order_relaxed, {send, receive}, {0, 0}, false, 0xf},
    {"message passing, release only", memory_order_release, memory_order_relaxed, {send, receive}, {0, 0}, false, 0xf},
    {"message passing, acquire only", memory_order_relaxed, memory_order_acquire, {send, receive}, {0, 0}, false, 0xf},
    {"message passing, release and acquire", memory_order_release, memory_order_acquire, {send, receive}, {0, 0}, false, 0xd},
    {"release sequence through a relaxed rmw", memory_order_release, memory_order_acquire, {send, add_y, receive_2}, {0, 0, 0}, false, 0xd},
    {"no release sequence through a store", memory_order_release, memory_order_acquire, {send, raise_y, receive_2}, {0, 0, 0}, false, 0xf},
    {"2+2 writes, release", memory_order_release, memory_order_relaxed, {write_1_2, write_2_1}, {0, 0}, true, 0xf},
    {"coherence of reads", memory_order_relaxed, memory_order_relaxed, {write_x, read_x_x}, {0, 0}, false, 0xd},
    {"independent readers, acquire", memory_order_release, memory_order_acquire, {write_x, write_y, read_x_y, read_y_x}, {0, 0, 0, 2}, false, 0xffff},
    {"atomicity of rmw", memory_order_relaxed, memory_order_relaxed, {add_x, add_x}, {0, 1}, false, 0x6},
};
/* clang-format on */

static void setup(void) {
    x = proof_alloc(sizeof *x);
    y = proof_alloc(sizeof *y);
    noted = proof_alloc(4 * sizeof *noted);
    proof_note(noted, 4 * sizeof *noted);
    atomic_init(x, 0);
    atomic_init(y, 0);
    for (unsigned i = 0; i < 4 && litmus->threads[i]; i++)
        proof_thread(litmus->threads[i], litmus->me[i]);
}

static void end(void) {
    unsigned outcome = noted[0] | noted[1] << 1 | noted[2] << 2 | noted[3] << 3;
    if (litmus->finals)
        outcome = (RELAXED(x) - 1) | (RELAXED(y) - 1) << 1;
    outcomes |= 1u << outcome;
}

int main(void) {
    bool ok = true;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        litmus = &all[i];
        outcomes = 0;
        store_order = litmus->store;
        load_order = litmus->load;
        proof_run(litmus->name, setup, end);
        if (outcomes != litmus->expected) {
            printf("%s: BROKEN: outcomes 0x%x, expected 0x%x\n", litmus->name, outcomes, litmus->expected);
            ok = false;
        }
    }
    return ok ? 0 : 1;
}
