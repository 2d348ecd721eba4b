/* SPDX-License-Identifier: MIT */
/* Depth-first search over all outcomes of all threads: see checker.h. */
#include "checker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { MAX_DEPTH = 2000 };

struct step {
    unsigned thread, place, index;
    enum access access;
    int order;
    bool ok;
    uint64_t value;
};

static const char *program;
static void (*at_end)(void);
static struct step trail[MAX_DEPTH];
static unsigned trail_len;
static uint64_t n_states, n_ends;

/* ---- Errors --------------------------------------------------------------------------------------------- */

static void print_step(const struct step *s) {
    static const char *const accesses[] = {"end",    "load",       "store",      "rmw",   "cas",
                                           "choose", "futex wait", "futex wake", "asleep"};
    static const char *const orders[] = {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"};
    printf("  thread %u: %s", s->thread, accesses[s->access]);
    if (s->access == ACCESS_CHOOSE) {
        printf(" %u\n", s->index);
        return;
    }
    const char *name = world_atomic_name(s->place);
    if (name)
        printf(" %s", name);
    else
        printf(" place %u", s->place);
    if (s->access <= ACCESS_CAS)
        printf(" %s", orders[s->order]);
    printf(" value 0x%llx%s\n", (unsigned long long)s->value, s->access != ACCESS_CAS ? "" : s->ok ? " ok" : " failed");
}

_Noreturn void checker_fail(const char *what, const char *name) {
    printf("%s: BROKEN: %s%s%s\n", program, what, name ? " " : "", name ? name : "");
    for (unsigned i = 0; i < trail_len; i++)
        print_step(&trail[i]);
    if (running >= 0)
        printf("  thread %d: here\n", running);
    exit(1);
}

void proof_check(bool ok, const char *promise) {
    if (!ok)
        checker_fail(promise, NULL);
}

void checker_demand(bool ok, const char *limit) {
    if (!ok) {
        fprintf(stderr, "%s: the checker's limit: %s\n", program, limit);
        exit(2);
    }
}

_Noreturn void memory_full(void) {
    checker_demand(false, "stores to one place that somebody may still read");
    abort();
}

/* ---- Search --------------------------------------------------------------------------------------------- */

static void step(unsigned t, unsigned outcome) {
    struct request r = world.fibers[t].request;
    checker_demand(trail_len < MAX_DEPTH, "length of an execution");
    struct step *s = &trail[trail_len++];
    bool goes_on = outcome_perform(t, outcome);
    *s = (struct step){t, r.place, outcome, r.access, r.order, world.fibers[t].answer.ok, world.fibers[t].answer.value};
    if (r.access == ACCESS_CAS && !s->ok)
        s->order = r.order_failed;
    if (goes_on)
        threads_resume(t);
    memory_normalise(&world.memory);
}

struct snapshot {
    struct world world;
    size_t stack_bytes[MAX_THREADS];
    char stacks[];
};

static struct snapshot *save(void) {
    size_t bytes[MAX_THREADS], total = 0;
    for (unsigned t = 0; t < world.memory.n_threads; t++)
        total += bytes[t] = (size_t)(stacks[t] + STACK_BYTES - world.fibers[t].sp);
    struct snapshot *s = malloc(sizeof *s + total);
    checker_demand(s, "memory");
    s->world = world;
    char *to = s->stacks;
    for (unsigned t = 0; t < world.memory.n_threads; to += bytes[t++]) {
        s->stack_bytes[t] = bytes[t];
        memcpy(to, world.fibers[t].sp, bytes[t]);
    }
    return s;
}

static void restore(const struct snapshot *s) {
    world = s->world;
    const char *from = s->stacks;
    for (unsigned t = 0; t < world.memory.n_threads; from += s->stack_bytes[t++])
        memcpy(world.fibers[t].sp, from, s->stack_bytes[t]);
}

static bool all_ended(void) {
    for (unsigned t = 0; t < world.memory.n_threads; t++)
        if (!world.memory.ended[t])
            return false;
    return true;
}

/* A choice is the thread's own affair: no need to try what others do before it. So is an access to a datum: what others do
 * to it is ordered, or else a race, which shows whoever comes first. */
static int only_thread(void) {
    for (unsigned t = 0; t < world.memory.n_threads; t++) {
        const struct request *r = &world.fibers[t].request;
        if (r->access == ACCESS_CHOOSE ||
            ((r->access == ACCESS_LOAD || r->access == ACCESS_STORE) && world_datum_of(r) >= 0))
            return (int)t;
    }
    return -1;
}

static void explore(void) {
    if (!states_remember())
        return;
    n_states++;
    struct snapshot *here = save();
    unsigned depth = trail_len;
    bool any = false;
    if (all_ended()) {
        n_ends++;
        at_end();
        any = true;
        restore(here);
    }
    int only = only_thread();
    for (unsigned t = 0; t < world.memory.n_threads; t++) {
        if (only >= 0 && t != (unsigned)only)
            continue;
        unsigned n = outcomes_count(t);
        for (unsigned outcome = 0; outcome < n; outcome++) {
            if (!outcome_is_possible(t, outcome))
                continue;
            any = true;
            step(t, outcome);
            explore();
            restore(here);
            trail_len = depth;
        }
    }
    if (!any)
        checker_fail("some thread sleeps, and nobody is left to wake it", NULL);
    free(here);
}

void proof_run(const char *name, void (*setup)(void), void (*end)(void)) {
    program = name;
    at_end = end;
    world_clear();
    threads_clear();
    states_clear();
    trail_len = 0;
    n_states = n_ends = 0;
    in_setup = true;
    setup();
    in_setup = false;
    for (unsigned t = 0; t < world.memory.n_threads; t++)
        threads_resume(t); /* up to its first access */
    explore();
    printf("%s: holds, %llu states, %llu of them final\n", name, (unsigned long long)n_states,
           (unsigned long long)n_ends);
}
