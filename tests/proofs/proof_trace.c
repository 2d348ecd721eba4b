/* SPDX-License-Identifier: MIT */
/* engine/trace.c itself: the ring of events between a worker and whoever reads the trace; two places, four events. What is
 * read is what was told, whole and in order; what did not fit is counted. */
#include "engine/trace.c"

#include "checker.h"

enum { N_EVENTS = 4, CAPACITY = 2 };

static struct ees__trace *trace;
static uint64_t *least; /* the reader's own */

void *ees__calloc_aligned(size_t n, size_t bytes) { return proof_alloc(n * bytes); }
void ees__free(void *p) { (void)p; }
struct ees__trace *ees__governor_trace(struct ees_engine *e) {
    (void)e;
    return NULL;
}

static void tell(unsigned me) {
    (void)me;
    for (uint64_t i = 1; i <= N_EVENTS; i++)
        ees__trace_tell(trace, &(ees_trace_event){.start_ns = i});
}

static bool read_some(void) {
    ees_trace_event events[CAPACITY];
    size_t n = ees__trace_read(trace, events, CAPACITY);
    for (size_t i = 0; i < n; i++) {
        proof_check(events[i].start_ns > *least && events[i].start_ns <= N_EVENTS, "events arrive in order");
        *least = events[i].start_ns;
    }
    return n > 0;
}

/* A number of times: each time stores rd anew, read or not. */
static void read_trace(unsigned n_times) {
    while (n_times-- > 0)
        read_some();
}

static void setup(void) {
    trace = proof_alloc(sizeof *trace);
    least = proof_alloc(sizeof *least);
    ees__trace_init(trace, CAPACITY);
    atomic_init(&trace->wr, 0);
    atomic_init(&trace->rd, 0);
    atomic_init(&trace->n_lost, 0);
    proof_name(&trace->wr, "wr");
    proof_name(&trace->rd, "rd");
    proof_name(&trace->n_lost, "n_lost");
    for (unsigned i = 0; i < CAPACITY; i++)
        proof_datum(&trace->events[i], sizeof trace->events[i], "event");
    proof_note(least, sizeof *least);
    proof_thread(tell, 0);
    proof_thread(read_trace, 3);
}

static void end(void) {
    while (read_some())
        ;
    proof_check(atomic_load(&trace->n_lost) + atomic_load(&trace->wr) == N_EVENTS,
                "each event is read or counted as lost");
}

int main(void) {
    proof_run("trace, 1 teller, 1 reader", setup, end);
    return 0;
}
