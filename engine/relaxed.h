/* SPDX-License-Identifier: MIT */
/* Relaxed accesses to atomics that carry no other data: counters, advice, words that one thread writes. Whoever needs
 * an order between such a word and something else says at the access where it comes from. */
#ifndef EES_ENGINE_RELAXED_H
#define EES_ENGINE_RELAXED_H

#include <stdatomic.h>

#define LOAD(x)     atomic_load_explicit(&(x), memory_order_relaxed)
#define STORE(x, v) atomic_store_explicit(&(x), (v), memory_order_relaxed)
#define COUNT(x, n) atomic_fetch_add_explicit(&(x), (n), memory_order_relaxed)

/* A counter with a single writer, the caller: no read-modify-write needed. */
#define COUNT_OWN(x, n) STORE(x, LOAD(x) + (n))

#endif
