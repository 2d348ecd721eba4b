/* SPDX-License-Identifier: MIT */
/* Runs small concurrent programs in every way that C11 allows (memory.h), and reports the first that breaks a promise.
 *
 * The programs are C, the engine's own sources where they can be included. They are compiled with -fsanitize=thread and
 * linked to tsan.c, which gets a call for each access to memory, instead of to the sanitizer. A state is the memory,
 * the stacks of the threads and what is pending; states are hashed (128 bits), so loops end.
 *
 *   proof_run(name, setup, end)      setup() runs alone: allocates, starts threads; end() runs alone after all of them
 *
 * Errors: a failed proof_check(), a data race, threads that sleep with nobody left to wake them, a plain write to
 * memory that was not declared. */
#ifndef EES_PROOFS_CHECKER_H
#define EES_PROOFS_CHECKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Every execution of one program. Prints the number of states; an error ends the process with its trace, status 1. */
void proof_run(const char *name, void (*setup)(void), void (*end)(void));

/* ---- From setup only ---- */

/* Zeroed memory that all threads see. */
void *proof_alloc(size_t bytes);

/* [p, p + bytes) is one datum: plain accesses to it are checked for races. An atomic object may be a datum too: then it
 * is one that needs to be atomic only for others than this proof is about. */
void proof_datum(void *p, size_t bytes, const char *name);

/* [p, p + bytes) is the proof's own note, not the program's memory: seen by all at once, never a race. */
void proof_note(void *p, size_t bytes);

/* A name for traces; without one, "place N". */
void proof_name(void *atomic, const char *name);

void proof_thread(void (*run)(unsigned me), unsigned me);

/* ---- From anywhere ---- */

void proof_check(bool ok, const char *promise);

/* Any of 0 .. n-1: all are tried. */
unsigned proof_choose(unsigned n);

/* Stands in for syscall(): SYS_futex with WAIT_BITSET and WAKE_BITSET, without timeouts. Sleeping and waking are atomic
 * and totally ordered for one word, as futex(2) says; they publish nothing else. */
long proof_syscall(long nr, ...);

#endif
