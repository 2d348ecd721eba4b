/* SPDX-License-Identifier: MIT */
/* The engine's small publications: something is written, then a word says that it is there. The orders are those of the
 * tagged lines. entry: engine/sched.c, count and finish: engine/stream.c, audit: engine/audit.c. */
#include <stdatomic.h>

#include "checker.h"
#include "orders.h"

static struct shared {
    uint32_t content[2];
    _Atomic uintptr_t entry;
    _Atomic uint32_t n_streams, n_open, n_agreed;
    _Atomic uint8_t finished;
    _Atomic uint8_t marked;
} * shared;

/* ---- ees__sched_add_entry(), ees__sched_entry() ---- */

static void add_entry(unsigned me) {
    (void)me;
    shared->content[0] = 1;
    atomic_store_explicit(&shared->entry, 1, ORDER_sched_entry_store);
}

static void use_entry(unsigned me) {
    (void)me;
    if (atomic_load_explicit(&shared->entry, ORDER_sched_entry_load))
        proof_check(shared->content[0] == 1, "an entry is complete");
}

/* ---- add_locked(), ees__stream_count(), ees_engine_finish() ---- */

static void add_stream(unsigned me) {
    (void)me;
    shared->content[0] = 1;
    atomic_store_explicit(&shared->n_streams, 1, ORDER_stream_count_store);
    if (atomic_load_explicit(&shared->finished, ORDER_stream_finished_load))
        atomic_store_explicit(&shared->marked, 1, memory_order_relaxed);
}

static void count_streams(unsigned me) {
    (void)me;
    if (atomic_load_explicit(&shared->n_streams, ORDER_stream_count_load))
        proof_check(shared->content[0] == 1, "a counted stream is complete");
}

static void finish(unsigned me) {
    (void)me;
    atomic_store_explicit(&shared->finished, 1, ORDER_stream_finished_store);
    if (atomic_load_explicit(&shared->n_streams, ORDER_stream_count_load_finish)) {
        proof_check(shared->content[0] == 1, "a stream to be finished is complete");
        atomic_store_explicit(&shared->marked, 1, memory_order_relaxed);
    }
}

static void end_finished(void) { proof_check(shared->marked, "no stream stays open after the end"); }

/* ---- judge(), ees__audits_all_done() ---- */

static void judge(unsigned me) {
    (void)me;
    atomic_fetch_add_explicit(&shared->n_agreed, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&shared->n_open, 1, ORDER_audit_open_sub);
}

static void read_audits(unsigned me) {
    (void)me;
    if (atomic_load_explicit(&shared->n_open, ORDER_audit_open_load) == 0)
        proof_check(atomic_load_explicit(&shared->n_agreed, memory_order_relaxed) == 2,
                    "the counts of done audits are complete");
}

static void setup(void) {
    shared = proof_alloc(sizeof *shared);
    atomic_init(&shared->entry, 0);
    atomic_init(&shared->n_streams, 0);
    atomic_init(&shared->n_open, 2);
    atomic_init(&shared->n_agreed, 0);
    atomic_init(&shared->finished, 0);
    atomic_init(&shared->marked, 0);
    proof_name(&shared->entry, "entry");
    proof_name(&shared->n_streams, "n_streams");
    proof_name(&shared->n_open, "n_open");
    proof_name(&shared->n_agreed, "n_agreed");
    proof_name(&shared->finished, "finished");
    proof_name(&shared->marked, "marked");
    proof_datum(&shared->content[0], sizeof shared->content[0], "content");
}

static void setup_entry(void) {
    setup();
    proof_thread(add_entry, 0);
    proof_thread(use_entry, 0);
}

static void setup_streams(void) {
    setup();
    proof_thread(add_stream, 0);
    proof_thread(finish, 0);
    proof_thread(count_streams, 0);
}

static void setup_audits(void) {
    setup();
    proof_thread(judge, 0);
    proof_thread(judge, 1);
    proof_thread(read_audits, 0);
}

static void end(void) {}

int main(void) {
    proof_run("entry of a stream", setup_entry, end);
    proof_run("streams opened and finished", setup_streams, end_finished);
    proof_run("audits done", setup_audits, end);
    return 0;
}
