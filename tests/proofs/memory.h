/* SPDX-License-Identifier: MIT */
/* Memory as C11 has it, not as this machine has it: RC11 without load buffering, in its operational form of views.
 *
 *   place    one atomic object: its *messages*, one a store, in modification order
 *   view     what somebody knows: for each place the oldest message that may still be read, for each datum whether its
 *            latest accesses happened before
 *   load     reads any message not older than the reader's view; acquire joins the message's view into the reader's
 *   store    goes anywhere in modification order behind the writer's view; release leaves the writer's view in the message
 *   rmw      reads a message and stands directly behind it: nothing comes between. It carries on the view of the message
 *            it read (release sequence, C17 as amended by P0982: the same thread's later plain stores do not)
 *   datum    non-atomic memory: an access that does not know of the latest conflicting one is a data race, an error
 *
 *   seq_cst  acq_rel, and not older than the latest seq_cst store to the same place: the total order of these accesses is
 *            taken to be the order of execution
 *
 * Fences do not link (tsan.c). What the model leaves out is load buffering: a load never reads a store that stands, in
 * program order, behind something that depends on nothing of it. Where that could matter an object is also declared a
 * datum, which demands more: then all accesses to it are ordered, and nothing is left to be buffered. */
#ifndef EES_PROOFS_MEMORY_H
#define EES_PROOFS_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

enum { MAX_THREADS = 6, MAX_PLACES = 12, MAX_MESSAGES = 30, MAX_DATA = 12 };

struct view {
    uint8_t at[MAX_PLACES];  /* message index */
    uint8_t knows[MAX_DATA]; /* bit t: thread t's latest read; KNOWS_WRITE: the latest write */
};

struct message {
    uint64_t value;
    struct view view;
    bool attached; /* a read-modify-write of the message before */
};

struct place {
    unsigned n;
    struct message messages[MAX_MESSAGES];
};

struct memory {
    unsigned n_threads, n_places, n_data;
    bool ended[MAX_THREADS];
    struct view seen[MAX_THREADS];
    uint8_t newest_sc[MAX_PLACES]; /* latest seq_cst store */
    uint8_t kernel_at[MAX_PLACES]; /* the futex queue's lock: how new a futex word any later waiter sees at least */
    struct place places[MAX_PLACES];
};

/* Which messages may thread `t` do it to? The functions below demand that they were asked. */
bool memory_can_load(const struct memory *m, unsigned t, unsigned place, unsigned i, int order);
bool memory_can_store(const struct memory *m, unsigned t, unsigned place, unsigned i, int order); /* others move up */
bool memory_can_rmw(const struct memory *m, unsigned t, unsigned place, unsigned i, int order);   /* right behind i */

uint64_t memory_load(struct memory *m, unsigned t, unsigned place, unsigned i, int order);
void memory_store(struct memory *m, unsigned t, unsigned place, unsigned i, int order, uint64_t value);
void memory_rmw(struct memory *m, unsigned t, unsigned place, unsigned i, int order, uint64_t value);

/* @return false: a data race */
bool memory_read_datum(struct memory *m, unsigned t, unsigned datum);
bool memory_write_datum(struct memory *m, unsigned t, unsigned datum);

/* MAX_MESSAGES of a place are not enough: a loop that stores without end? Given by the checker. */
_Noreturn void memory_full(void);

/* Forget what nobody can tell apart any more, so that equal states are equal bytes. */
void memory_normalise(struct memory *m);

#endif
