/* SPDX-License-Identifier: MIT */
/* The window that puts answers back into order (engine/stream.c: draw_ticket, engine/answers.c: ees__answer,
 * next_in_order), with the ring that slots come from. Two slots, three frames, two threads that push: one may lose the
 * core between its slot and its ticket for as long as it likes. The orders are those of the tagged lines. */
#include "checker.h"
#include "engine/ring.h"
#include "orders.h"

enum { N_SLOTS = 2, N_FRAMES = 3 };

static struct engine {
    struct ees__ring free_slots;
    _Alignas(64) _Atomic uint64_t tickets;
    _Atomic uint32_t window[N_SLOTS];
    uint64_t slots[N_SLOTS]; /* sequence number of the answer inside */
    uint64_t n_pulled;       /* the puller's own */
} * engine;

void *ees__calloc_aligned(size_t n, size_t bytes) { return proof_alloc(n * bytes); }

static uint64_t draw_ticket(void) {
    uint64_t ticket = atomic_load_explicit(&engine->tickets, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&engine->tickets, &ticket, ticket + 1, ORDER_window_ticket,
                                                  memory_order_relaxed))
        ;
    return ticket;
}

static void answer(uint32_t slot, uint64_t seq) {
    engine->slots[slot] = seq;
    atomic_store_explicit(&engine->window[seq % N_SLOTS], slot + 1, ORDER_window_answer);
}

static void push(unsigned n_frames) {
    uint32_t slot = 0;
    while (n_frames-- > 0) {
        while (!ees__ring_pop(&engine->free_slots, &slot))
            ;
        answer(slot, draw_ticket());
    }
}

static bool pull(void) {
    _Atomic uint32_t *place = &engine->window[engine->n_pulled % N_SLOTS];
    uint32_t value = atomic_load_explicit(place, ORDER_window_pull);
    if (value == 0)
        return false;
    atomic_store_explicit(place, 0, memory_order_relaxed);
    proof_check(engine->slots[value - 1] == engine->n_pulled, "answers come in order, none twice");
    engine->n_pulled++;
    while (!ees__ring_push(&engine->free_slots, value - 1))
        ;
    return true;
}

static void pull_all(unsigned me) {
    (void)me;
    while (engine->n_pulled < N_FRAMES)
        if (!pull() && engine->n_pulled > 0 && proof_choose(2))
            return; /* the rest is looked for at the end */
}

static void setup(void) {
    engine = proof_alloc(sizeof *engine);
    ees__ring_init(&engine->free_slots, N_SLOTS, UINT32_MAX);
    atomic_init(&engine->tickets, 0);
    proof_name(&engine->free_slots.wr, "free.wr");
    proof_name(&engine->free_slots.rd, "free.rd");
    proof_name(&engine->tickets, "tickets");
    for (unsigned i = 0; i < N_SLOTS; i++) {
        atomic_init(&engine->free_slots.cells[i].value, 0);
        atomic_init(&engine->window[i], 0);
        proof_datum(&engine->slots[i], sizeof engine->slots[i], "slot");
        proof_name(&engine->free_slots.cells[i].value, "free.value");
        proof_name(&engine->free_slots.cells[i].seq, "free.seq");
        ees__ring_push(&engine->free_slots, i);
    }
    proof_name(&engine->window[0], "window 0");
    proof_name(&engine->window[1], "window 1");
    proof_datum(&engine->n_pulled, sizeof engine->n_pulled, "n_pulled");
    proof_thread(push, 1);
    proof_thread(push, 2);
    proof_thread(pull_all, 0);
}

static void end(void) {
    while (pull())
        ;
    proof_check(engine->n_pulled == N_FRAMES, "no answer is lost");
}

int main(void) {
    proof_run("window, 2 threads push, 1 pulls", setup, end);
    return 0;
}
