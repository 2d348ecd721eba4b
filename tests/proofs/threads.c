/* SPDX-License-Identifier: MIT */
/* The program's threads: fibers that stop before each access to memory and go on with its outcome. */
#include "world.h"

#include <string.h>

#include "checker.h"

enum { DEAD_BYTES = 4 << 10 }; /* below the stack pointer, cleared: garbage would tell equal states apart */

_Alignas(64) char stacks[MAX_THREADS][STACK_BYTES];
int running = -1;

static ucontext_t scheduler;
static void (*thread_run[MAX_THREADS])(unsigned me);
static unsigned thread_arg[MAX_THREADS];

void threads_clear(void) { memset(stacks, 0, sizeof stacks); }

/* The compiler keeps nothing of the caller in registers across this call: all of it is on the stack, which is hashed. */
__attribute__((noinline)) static void switch_out(struct fiber *f) {
    __builtin_unwind_init();
    f->sp = (char *)__builtin_frame_address(0) - 256;
    swapcontext(&f->context, &scheduler);
}

void threads_resume(unsigned t) {
    struct fiber *f = &world.fibers[t];
    size_t below = (size_t)(f->sp - stacks[t]);
    checker_demand(below > DEAD_BYTES, "stack");
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
    checker_demand(in_setup && t < MAX_THREADS, "threads");
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

/* Alone: there is one message a place, the newest. */
static struct answer answer_alone(const struct request *r) {
    struct place *p = &world.memory.places[r->place];
    uint64_t *newest = &p->messages[p->n - 1].value, old = *newest;
    bool equal = old == r->expected;
    if (r->access == ACCESS_STORE || (r->access == ACCESS_CAS && equal))
        *newest = r->value;
    else if (r->access == ACCESS_RMW)
        *newest = outcome_changed(r, old);
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
