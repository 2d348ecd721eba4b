/* SPDX-License-Identifier: MIT */
/* What the checker's files share: the program's state at one moment, and what can be done to it.
 *
 *   world.c      what setup declared: memory, data, atomic objects
 *   threads.c    the program's threads as fibers: each runs up to its next access, which stays pending
 *   outcomes.c   which outcomes a pending access has, and what each does
 *   states.c     states seen before
 *   checker.c    the search over all of it, and the trace of what went wrong */
#ifndef EES_PROOFS_WORLD_H
#define EES_PROOFS_WORLD_H

#include <stddef.h>
#include <ucontext.h>

#include "explore.h"
#include "memory.h"

enum { STACK_BYTES = 64 << 10, ARENA_BYTES = 2 << 10, MAX_NOTES = 8 };

struct fiber {
    ucontext_t context;
    char *sp; /* the living part of its stack is [sp, end of stack) */
    struct request request;
    struct answer answer;
};

/* Everything that changes along an execution, but for the stacks. */
struct world {
    struct memory memory;
    struct fiber fibers[MAX_THREADS];
    _Alignas(64) char arena[ARENA_BYTES];
};

extern struct world world;
extern char stacks[MAX_THREADS][STACK_BYTES];

/* ---- world.c ---- */

extern bool in_setup;
extern size_t arena_used;

void world_clear(void);
const char *world_atomic_name(unsigned place); /* NULL: it has none */

/* The datum that an atomic access is to as well, or -1. */
int world_datum_of(const struct request *r);

/* A race ends the process. */
void world_access_datum(unsigned t, unsigned datum, bool write);

/* ---- threads.c ---- */

extern int running; /* thread, or -1: setup and end */

void threads_clear(void);

/* Let thread `t` run, with the answer to what it asked, up to its next access or its end. */
void threads_resume(unsigned t);

/* ---- outcomes.c ---- */

/* What a read-modify-write makes of `old`. */
uint64_t outcome_changed(const struct request *r, uint64_t old);

/* Outcomes of thread `t`'s pending access are numbered; not each number is possible. */
unsigned outcomes_count(unsigned t);
bool outcome_is_possible(unsigned t, unsigned outcome);

/* @return false: the thread fell asleep */
bool outcome_perform(unsigned t, unsigned outcome);

/* ---- states.c ---- */

void states_clear(void);

/* @return false: been here */
bool states_remember(void);

/* ---- checker.c ---- */

/* The program is broken: prints the trace, ends the process with status 1. `name` may be NULL. */
_Noreturn void checker_fail(const char *what, const char *name);

/* Not the program but the checker is too small: status 2. */
void checker_demand(bool ok, const char *limit);

#endif
