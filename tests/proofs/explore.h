/* SPDX-License-Identifier: MIT */
/* Between tsan.c, which sees the accesses, and the checker, which decides their outcome. */
#ifndef EES_PROOFS_EXPLORE_H
#define EES_PROOFS_EXPLORE_H

#include <stdbool.h>
#include <stdint.h>

enum access {
    ACCESS_ENDED,
    ACCESS_LOAD,
    ACCESS_STORE,
    ACCESS_RMW,
    ACCESS_CAS,
    ACCESS_CHOOSE,
    ACCESS_WAIT,
    ACCESS_WAKE,
    ACCESS_ASLEEP
};
enum change { CHANGE_ADD, CHANGE_SUB, CHANGE_OR, CHANGE_AND, CHANGE_EXCHANGE };

/* What a thread is about to do. */
struct request {
    enum access access;
    enum change change;
    int order, order_failed;
    bool weak;         /* CAS that may fail for no reason */
    unsigned place, n; /* n: of CHOOSE, or how many to WAKE */
    unsigned bits;     /* futex bitset */
    uint64_t value, expected;
    uint64_t mask; /* of the object's width */
};

struct answer {
    uint64_t value; /* loaded; of the others: before */
    bool ok;        /* CAS; WAIT: slept and was woken */
};

/* Alone (setup, end): at once, on the newest message. On a thread: when the exploration says so. */
struct answer explore_request(struct request r);

/* The place of an atomic object; in setup a new one is made. */
unsigned explore_place(const volatile void *atomic);

/* `shift`: by how many bits the address lies inside the object. */
unsigned explore_place_around(const void *address, unsigned *shift);

void explore_plain(const volatile void *address, bool write);

#endif
