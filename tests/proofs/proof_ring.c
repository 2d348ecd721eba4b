/* SPDX-License-Identifier: MIT */
/* engine/ring.h itself, two producers and two consumers, three items through two cells; the tickets wrap around.
 *
 * Promises: what was pushed is popped once, by whatever thread; what the producer wrote before is there, and what the
 * consumer writes into the slot disturbs nobody; one producer's items reach one consumer in order; afterwards the ring
 * holds what was not popped, and works. */
#include "checker.h"
#include "engine/ring.h"

enum { N_ITEMS = 3, N_PRODUCERS = 2, CAPACITY = 2 };

static const unsigned first_item[N_PRODUCERS] = {0, 2}, end_item[N_PRODUCERS] = {2, 3};
enum { NUMBER = 10 }; /* in the ring item i is number 10 + i: none is what an empty cell holds */

static struct ees__ring *ring;
static uint32_t *slots; /* what the numbers in the ring stand for */
static struct notes { unsigned char pushed[N_ITEMS], popped[N_ITEMS]; } * notes;

void *ees__calloc_aligned(size_t n, size_t bytes) { return proof_alloc(n * bytes); }

/* Tries as often as it likes; gives up when it likes. */
static void produce(unsigned me) {
    for (uint32_t item = first_item[me]; item < end_item[me]; item++) {
        slots[item] = 100 + item;
        while (!ees__ring_push(ring, NUMBER + item))
            if (proof_choose(2))
                return;
        notes->pushed[item] = 1;
    }
}

static void consume(unsigned me) {
    uint32_t item, least[N_PRODUCERS] = {0, 0};
    for (;;) {
        if (!ees__ring_pop(ring, &item)) {
            if (proof_choose(2))
                return;
            continue;
        }
        item -= NUMBER;
        unsigned from = item >= first_item[1];
        proof_check(item < N_ITEMS && slots[item] == 100 + item,
                    "a popped item is one that was pushed, content and all");
        proof_check(!notes->popped[item], "an item is popped once");
        proof_check(item >= least[from], "a producer's items arrive in order");
        least[from] = item + 1;
        notes->popped[item] = 1;
        slots[item] = 0; /* the slot is ours */
    }
}

/* What the scheduler looks at before it decides where to pop. */
static void peek(unsigned me) {
    uint32_t item;
    (void)me;
    if (ees__ring_peek(ring, &item))
        proof_check(item >= NUMBER && item < NUMBER + N_ITEMS, "a value seen by peek is one that was pushed");
}

static void setup(void) {
    static const char *const names[] = {"slot 0", "slot 1", "slot 2"};
    ring = proof_alloc(sizeof *ring);
    slots = proof_alloc(N_ITEMS * sizeof *slots);
    notes = proof_alloc(sizeof *notes);
    ees__ring_init(ring, CAPACITY, UINT32_MAX);
    proof_name(&ring->wr, "wr");
    proof_name(&ring->rd, "rd");
    proof_name(&ring->cells[0].seq, "seq 0");
    proof_name(&ring->cells[1].seq, "seq 1");
    for (unsigned i = 0; i < CAPACITY; i++)
        atomic_init(&ring->cells[i].value, 0);
    proof_name(&ring->cells[0].value, "value 0");
    proof_name(&ring->cells[1].value, "value 1");
    for (unsigned i = 0; i < N_ITEMS; i++)
        proof_datum(&slots[i], sizeof slots[i], names[i]);
    proof_note(notes, sizeof *notes);
}

/* Without peek, the values need not be atomic. */
static void setup_exclusive(void) {
    setup();
    proof_datum(&ring->cells[0].value, sizeof ring->cells[0].value, "value 0");
    proof_datum(&ring->cells[1].value, sizeof ring->cells[1].value, "value 1");
}

static void setup_2_1(void) {
    setup_exclusive();
    proof_thread(produce, 0);
    proof_thread(produce, 1);
    proof_thread(consume, 0);
}

static void setup_peek(void) {
    setup();
    proof_thread(produce, 0);
    proof_thread(consume, 0);
    proof_thread(peek, 0);
}

static void setup_1_2(void) {
    setup_exclusive();
    proof_thread(produce, 0);
    proof_thread(consume, 0);
    proof_thread(consume, 1);
}

static void setup_2_2(void) {
    setup_2_1();
    proof_thread(consume, 1);
}

static void end(void) {
    uint32_t item = 0;
    while (ees__ring_pop(ring, &item)) {
        item -= NUMBER;
        proof_check(notes->pushed[item] && !notes->popped[item] && slots[item] == 100 + item,
                    "an item left behind is whole");
        notes->popped[item] = 1;
    }
    for (unsigned i = 0; i < N_ITEMS; i++)
        proof_check(notes->pushed[i] == notes->popped[i], "no item is lost");
    for (unsigned i = 0; i < CAPACITY; i++)
        proof_check(ees__ring_push(ring, i), "the ring takes its capacity afterwards");
    for (unsigned i = 0; i < CAPACITY; i++)
        proof_check(ees__ring_pop(ring, &item) && item == i, "the ring gives it back");
}

int main(void) {
    proof_run("ring, 2 producers, 1 consumer", setup_2_1, end);
    proof_run("ring, 1 producer, 2 consumers", setup_1_2, end);
    proof_run("ring, producer, consumer, peek", setup_peek, end);
    proof_run("ring, 2 producers, 2 consumers", setup_2_2, end);
    return 0;
}
