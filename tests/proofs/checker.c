/* SPDX-License-Identifier: MIT */
/* Depth-first search over all outcomes of all threads: see checker.h. */
#include "checker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "explore.h"
#include "memory.h"

enum {
    STACK_BYTES = 64 << 10,
    DEAD_BYTES = 4 << 10,  /* below the stack pointer, cleared: garbage would tell equal states apart */
    ARENA_BYTES = 2 << 10,
    MAX_NOTES = 8,
    MAX_DEPTH = 2000,
};

struct span {
    char *at;
    size_t bytes;
    const char *name;
};

struct fiber {
    ucontext_t context;
    char *sp; /* the living part of its stack is [sp, end of stack) */
    struct request request;
    struct answer answer;
};

struct step {
    unsigned thread, place, index;
    enum access access;
    int order;
    bool ok;
    uint64_t value;
};

/* Everything that changes along an execution, but for the stacks. */
static struct world {
    struct memory memory;
    struct fiber fibers[MAX_THREADS];
    _Alignas(64) char arena[ARENA_BYTES];
} world;

static _Alignas(64) char stacks[MAX_THREADS][STACK_BYTES];
static ucontext_t scheduler;
static int running = -1; /* thread, or -1: setup and end */
static bool in_setup;

static size_t arena_used;
static struct span data[MAX_DATA], notes[MAX_NOTES], atomics[MAX_PLACES];
static unsigned n_notes;
static void (*thread_run[MAX_THREADS])(unsigned me);
static unsigned thread_arg[MAX_THREADS];

static const char *program;
static void (*at_end)(void);
static struct step trail[MAX_DEPTH];
static unsigned trail_len;
static uint64_t n_states, n_ends;

/* ---- Errors --------------------------------------------------------------------------------------------- */

static void print_step(const struct step *s) {
    static const char *const accesses[] = {"end", "load", "store", "rmw", "cas", "choose", "futex wait", "futex wake", "asleep"};
    static const char *const orders[] = {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"};
    printf("  thread %u: %s", s->thread, accesses[s->access]);
    if (s->access == ACCESS_CHOOSE) {
        printf(" %u\n", s->index);
        return;
    }
    if (atomics[s->place].name)
        printf(" %s", atomics[s->place].name);
    else
        printf(" place %u", s->place);
    if (s->access <= ACCESS_CAS)
        printf(" %s", orders[s->order]);
    printf(" value 0x%llx%s\n", (unsigned long long)s->value,
           s->access != ACCESS_CAS ? "" : s->ok ? " ok" : " failed");
}

static _Noreturn void fail(const char *what, const char *name) {
    printf("%s: BROKEN: %s%s%s\n", program, what, name ? " " : "", name ? name : "");
    for (unsigned i = 0; i < trail_len; i++)
        print_step(&trail[i]);
    if (running >= 0)
        printf("  thread %d: here\n", running);
    exit(1);
}

void proof_check(bool ok, const char *promise) {
    if (!ok)
        fail(promise, NULL);
}

static void demand(bool ok, const char *limit) {
    if (!ok) {
        fprintf(stderr, "%s: the checker's limit: %s\n", program, limit);
        exit(2);
    }
}

_Noreturn void memory_full(void) {
    demand(false, "stores to one place that somebody may still read");
    abort();
}

/* ---- Declarations --------------------------------------------------------------------------------------- */

void *proof_alloc(size_t bytes) {
    void *at = world.arena + arena_used;
    arena_used += (bytes + 63) / 64 * 64;
    demand(in_setup && arena_used <= ARENA_BYTES, "memory");
    return at;
}

void proof_datum(void *p, size_t bytes, const char *name) {
    demand(in_setup && world.memory.n_data < MAX_DATA, "data");
    data[world.memory.n_data++] = (struct span){p, bytes, name};
}

void proof_note(void *p, size_t bytes) {
    demand(in_setup && n_notes < MAX_NOTES, "notes");
    notes[n_notes++] = (struct span){p, bytes, NULL};
}

void proof_name(void *atomic, const char *name) { atomics[explore_place(atomic)].name = name; }

static bool inside(const struct span *s, const char *p) { return p >= s->at && p < s->at + s->bytes; }

unsigned explore_place_around(const void *address, unsigned *shift) {
    for (unsigned i = 0; i < world.memory.n_places; i++)
        if (inside(&atomics[i], address)) {
            *shift = 8 * (unsigned)((const char *)address - atomics[i].at);
            return i;
        }
    fail("an atomic access to memory that setup did not initialise", NULL);
}

unsigned explore_place(const volatile void *atomic) {
    struct memory *m = &world.memory;
    for (unsigned i = 0; i < m->n_places; i++)
        if (atomics[i].at == (const volatile char *)atomic)
            return i;
    if (!in_setup)
        fail("an atomic access to memory that setup did not initialise", NULL);
    demand(m->n_places < MAX_PLACES, "atomic objects");
    atomics[m->n_places] = (struct span){(char *)(uintptr_t)atomic, sizeof(uint64_t), NULL};
    m->places[m->n_places].n = 1;
    return m->n_places++;
}

static void access_datum(unsigned t, unsigned datum, bool write) {
    if (write ? !memory_write_datum(&world.memory, t, datum) : !memory_read_datum(&world.memory, t, datum))
        fail(write ? "data race: write to" : "data race: read of", data[datum].name);
}

void explore_plain(const volatile void *address, bool write) {
    const char *p = (const char *)(uintptr_t)address;
    if (running < 0 || p < world.arena || p >= world.arena + ARENA_BYTES)
        return;
    for (unsigned i = 0; i < n_notes; i++)
        if (inside(&notes[i], p))
            return;
    for (unsigned i = 0; i < world.memory.n_data; i++)
        if (inside(&data[i], p)) {
            access_datum((unsigned)running, i, write);
            return;
        }
    if (write)
        fail("a plain write to memory that is no datum", NULL);
}

/* ---- Threads -------------------------------------------------------------------------------------------- */

/* The compiler keeps nothing of the caller in registers across this call: all of it is on the stack, which is hashed. */
__attribute__((noinline)) static void switch_out(struct fiber *f) {
    __builtin_unwind_init();
    f->sp = (char *)__builtin_frame_address(0) - 256;
    swapcontext(&f->context, &scheduler);
}

static void switch_in(unsigned t) {
    struct fiber *f = &world.fibers[t];
    size_t below = (size_t)(f->sp - stacks[t]);
    demand(below > DEAD_BYTES, "stack");
    memset(f->sp - DEAD_BYTES, 0, DEAD_BYTES);
    running = (int)t;
    swapcontext(&scheduler, &f->context);
    running = -1;
}

static void thread_main(int t) {
    thread_run[t](thread_arg[t]);
    struct fiber *f = &world.fibers[t];
    f->request = (struct request){.access = ACCESS_ENDED};
    world.memory.ended[t] = true;
    f->sp = stacks[t] + STACK_BYTES; /* nothing of it matters any more */
    setcontext(&scheduler);
}

void proof_thread(void (*run)(unsigned me), unsigned me) {
    unsigned t = world.memory.n_threads++;
    demand(in_setup && t < MAX_THREADS, "threads");
    struct fiber *f = &world.fibers[t];
    thread_run[t] = run;
    thread_arg[t] = me;
    memset(&world.memory.seen[t], 0, sizeof world.memory.seen[t]);
    memset(world.memory.seen[t].knows, 0xff, sizeof world.memory.seen[t].knows);
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stacks[t];
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->sp = stacks[t] + STACK_BYTES;
    makecontext(&f->context, (void (*)(void))thread_main, 1, (int)t);
}

static uint64_t changed(const struct request *r, uint64_t old) {
    switch (r->change) {
    case CHANGE_ADD: return (old + r->value) & r->mask;
    case CHANGE_SUB: return (old - r->value) & r->mask;
    case CHANGE_OR: return old | r->value;
    case CHANGE_AND: return old & r->value;
    case CHANGE_EXCHANGE: break;
    }
    return r->value;
}

/* Alone: there is one message a place, the newest. */
static struct answer answer_alone(const struct request *r) {
    struct place *p = &world.memory.places[r->place];
    uint64_t *newest = &p->messages[p->n - 1].value, old = *newest;
    bool equal = old == r->expected;
    if (r->access == ACCESS_STORE || (r->access == ACCESS_CAS && equal))
        *newest = r->value;
    else if (r->access == ACCESS_RMW)
        *newest = changed(r, old);
    return (struct answer){r->access == ACCESS_WAKE || r->access == ACCESS_CHOOSE ? 0 : old, equal};
}

struct answer explore_request(struct request r) {
    if (running < 0)
        return answer_alone(&r);
    struct fiber *f = &world.fibers[running];
    f->request = r;
    switch_out(f);
    return f->answer;
}

/* ---- Outcomes ------------------------------------------------------------------------------------------- */

static bool may_wake(unsigned waker, unsigned sleeper) {
    const struct request *r = &world.fibers[waker].request, *s = &world.fibers[sleeper].request;
    return s->access == ACCESS_ASLEEP && s->place == r->place && (s->bits & r->bits);
}

static bool nobody_to_wake(unsigned waker) {
    for (unsigned t = 0; t < world.memory.n_threads; t++)
        if (may_wake(waker, t))
            return false;
    return true;
}

/* Outcomes of a pending access are numbered; not each number is possible. */
static unsigned n_outcomes(unsigned t) {
    const struct request *r = &world.fibers[t].request;
    switch (r->access) {
    case ACCESS_LOAD: case ACCESS_RMW: case ACCESS_WAIT: return world.memory.places[r->place].n;
    case ACCESS_STORE: return world.memory.places[r->place].n + 1;
    case ACCESS_CAS: return 2 * world.memory.places[r->place].n; /* odd: fails */
    case ACCESS_CHOOSE: return r->n;
    case ACCESS_WAKE: return r->n == 1 ? world.memory.n_threads + 1 : 1; /* whom; the last: nobody */
    case ACCESS_ASLEEP: case ACCESS_ENDED: break;
    }
    return 0;
}

static bool is_possible(unsigned t, unsigned outcome) {
    const struct request *r = &world.fibers[t].request;
    const struct memory *m = &world.memory;
    unsigned i = outcome / 2;
    switch (r->access) {
    case ACCESS_LOAD: return memory_can_load(m, t, r->place, outcome, r->order);
    case ACCESS_STORE: return memory_can_store(m, t, r->place, outcome, r->order);
    case ACCESS_RMW: return memory_can_rmw(m, t, r->place, outcome, r->order);
    case ACCESS_CAS:
        if (outcome % 2 == 1)
            return memory_can_load(m, t, r->place, i, r->order_failed) &&
                   (r->weak || m->places[r->place].messages[i].value != r->expected);
        return memory_can_rmw(m, t, r->place, i, r->order) && m->places[r->place].messages[i].value == r->expected;
    case ACCESS_WAIT: return memory_can_load(m, t, r->place, outcome, __ATOMIC_RELAXED) && outcome >= m->kernel_at[r->place];
    case ACCESS_WAKE:
        if (r->n != 1)
            return true;
        return outcome < m->n_threads ? may_wake(t, outcome) : nobody_to_wake(t);
    case ACCESS_CHOOSE: return true;
    case ACCESS_ASLEEP: case ACCESS_ENDED: break;
    }
    return false;
}

static void wake(unsigned sleeper) {
    world.fibers[sleeper].answer.ok = true;
    /* It goes on when it is its turn: a choice of one outcome. */
    world.fibers[sleeper].request = (struct request){.access = ACCESS_CHOOSE, .n = 1};
}

static struct answer do_wake(unsigned t, unsigned outcome) {
    struct memory *m = &world.memory;
    const struct request *r = &world.fibers[t].request;
    uint64_t woken = 0;
    if (m->kernel_at[r->place] < m->seen[t].at[r->place])
        m->kernel_at[r->place] = m->seen[t].at[r->place];
    for (unsigned s = 0; s < m->n_threads; s++)
        if (may_wake(t, s) && (r->n != 1 || s == outcome)) {
            wake(s);
            woken++;
        }
    return (struct answer){.value = woken};
}

/* The datum that an atomic access is to as well, or -1. */
static int datum_of(const struct request *r) {
    for (unsigned i = 0; i < world.memory.n_data && r->access <= ACCESS_CAS; i++)
        if (inside(&data[i], atomics[r->place].at))
            return (int)i;
    return -1;
}

/* @return false: the thread fell asleep */
static bool perform(unsigned t, unsigned outcome) {
    struct fiber *f = &world.fibers[t];
    struct memory *m = &world.memory;
    struct request *r = &f->request;
    struct answer a = {0};
    int datum = datum_of(r);
    if (datum >= 0)
        access_datum(t, (unsigned)datum, r->access != ACCESS_LOAD);
    switch (r->access) {
    case ACCESS_LOAD: a.value = memory_load(m, t, r->place, outcome, r->order); break;
    case ACCESS_STORE: memory_store(m, t, r->place, outcome, r->order, a.value = r->value); break;
    case ACCESS_RMW:
        a.value = m->places[r->place].messages[outcome].value;
        memory_rmw(m, t, r->place, outcome, r->order, changed(r, a.value));
        break;
    case ACCESS_CAS:
        a.ok = outcome % 2 == 0;
        if (a.ok)
            memory_rmw(m, t, r->place, outcome / 2, r->order, a.value = r->value);
        else
            a.value = memory_load(m, t, r->place, outcome / 2, r->order_failed);
        break;
    case ACCESS_CHOOSE: a = (struct answer){.value = outcome, .ok = true}; break;
    case ACCESS_WAKE: a = do_wake(t, outcome); break;
    case ACCESS_WAIT:
        a.value = memory_load(m, t, r->place, outcome, __ATOMIC_RELAXED);
        if ((a.value & r->mask) == r->expected)
            r->access = ACCESS_ASLEEP;
        break;
    case ACCESS_ASLEEP: case ACCESS_ENDED: break;
    }
    f->answer = a;
    return r->access != ACCESS_ASLEEP;
}

static void step(unsigned t, unsigned outcome) {
    struct request r = world.fibers[t].request;
    demand(trail_len < MAX_DEPTH, "length of an execution");
    struct step *s = &trail[trail_len++];
    bool goes_on = perform(t, outcome);
    *s = (struct step){t, r.place, outcome, r.access, r.order, world.fibers[t].answer.ok, world.fibers[t].answer.value};
    if (r.access == ACCESS_CAS && !s->ok)
        s->order = r.order_failed;
    if (goes_on)
        switch_in(t);
    memory_normalise(&world.memory);
}

/* ---- States seen ---------------------------------------------------------------------------------------- */

struct hash {
    uint64_t a, b;
};

static struct hash *seen;
static uint64_t seen_size, seen_used;

static uint64_t mix(uint64_t x, uint64_t y) {
    unsigned __int128 product = (unsigned __int128)(x ^ 0x9e3779b97f4a7c15u) * (y ^ 0xd1342543de82ef95u);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static void hash_bytes(struct hash *h, const void *bytes, size_t n) {
    const char *p = bytes;
    for (uint64_t word; n > 0; p += sizeof word) {
        size_t k = n < sizeof word ? n : sizeof word;
        word = 0;
        memcpy(&word, p, k);
        h->a = mix(h->a + word, 0xa0761d6478bd642fu);
        h->b = mix(h->b ^ word, 0xe7037ed1a0b428dbu) + h->a;
        n -= k;
    }
}

#define HASH(h, object) hash_bytes((h), &(object), sizeof(object))

static struct hash hash_world(void) {
    struct hash h = {1, 2};
    const struct memory *m = &world.memory;
    HASH(&h, m->ended);
    HASH(&h, m->newest_sc);
    HASH(&h, m->kernel_at);
    hash_bytes(&h, m->seen, m->n_threads * sizeof m->seen[0]);
    for (unsigned p = 0; p < m->n_places; p++) {
        HASH(&h, m->places[p].n);
        for (unsigned i = 0; i < m->places[p].n; i++) {
            HASH(&h, m->places[p].messages[i].value);
            HASH(&h, m->places[p].messages[i].view);
            HASH(&h, m->places[p].messages[i].attached);
        }
    }
    for (unsigned t = 0; t < m->n_threads; t++) {
        const struct fiber *f = &world.fibers[t];
        HASH(&h, f->request.access);
        HASH(&h, f->answer);
        hash_bytes(&h, f->sp, (size_t)(stacks[t] + STACK_BYTES - f->sp));
    }
    hash_bytes(&h, world.arena, arena_used);
    return h;
}

static void insert(struct hash h);

static void grow(void) {
    struct hash *old = seen;
    uint64_t n = seen_size;
    seen_size = n ? 2 * n : 1 << 16;
    seen = calloc(seen_size, sizeof *seen);
    demand(seen, "memory for states");
    seen_used = 0;
    for (uint64_t i = 0; i < n; i++)
        if (old[i].a | old[i].b)
            insert(old[i]);
    free(old);
}

static struct hash *find(struct hash h) {
    uint64_t i = h.a & (seen_size - 1);
    while ((seen[i].a | seen[i].b) && (seen[i].a != h.a || seen[i].b != h.b))
        i = (i + 1) & (seen_size - 1);
    return &seen[i];
}

static void insert(struct hash h) {
    *find(h) = h;
    seen_used++;
}

/* @return false: been here */
static bool remember(void) {
    struct hash h = hash_world(), *at;
    if (3 * seen_used >= 2 * seen_size)
        grow();
    at = find(h);
    if (at->a | at->b)
        return false;
    insert(h);
    return true;
}

/* ---- Search --------------------------------------------------------------------------------------------- */

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
    demand(s, "memory");
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
        if (r->access == ACCESS_CHOOSE || ((r->access == ACCESS_LOAD || r->access == ACCESS_STORE) && datum_of(r) >= 0))
            return (int)t;
    }
    return -1;
}

static void explore(void) {
    if (!remember())
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
        unsigned n = n_outcomes(t);
        for (unsigned outcome = 0; outcome < n; outcome++) {
            if (!is_possible(t, outcome))
                continue;
            any = true;
            step(t, outcome);
            explore();
            restore(here);
            trail_len = depth;
        }
    }
    if (!any)
        fail("some thread sleeps, and nobody is left to wake it", NULL);
    free(here);
}

void proof_run(const char *name, void (*setup)(void), void (*end)(void)) {
    program = name;
    at_end = end;
    memset(&world, 0, sizeof world);
    memset(stacks, 0, sizeof stacks);
    memset(atomics, 0, sizeof atomics);
    arena_used = 0;
    n_notes = trail_len = 0;
    n_states = n_ends = seen_size = seen_used = 0;
    free(seen);
    seen = NULL;
    grow();
    in_setup = true;
    setup();
    in_setup = false;
    for (unsigned t = 0; t < world.memory.n_threads; t++)
        switch_in(t); /* up to its first access */
    explore();
    printf("%s: holds, %llu states, %llu of them final\n", name, (unsigned long long)n_states,
           (unsigned long long)n_ends);
}
