/* SPDX-License-Identifier: MIT */
#include "engine/trace.h"

#include "engine/internal.h"
#include "engine/relaxed.h"

bool ees__trace_init(struct ees__trace *t, unsigned capacity) {
    t->capacity = capacity;
    t->events = capacity ? ees__calloc_aligned(capacity, sizeof *t->events) : NULL;
    return !capacity || t->events;
}

void ees__trace_fini(struct ees__trace *t) {
    ees__free(t->events);
    t->events = NULL;
}

void ees__trace_tell(struct ees__trace *t, const ees_trace_event *event) {
    if (!t->events)
        return;
    uint64_t wr = atomic_load_explicit(&t->wr, memory_order_relaxed);
    /* acquire, pairs with the release of rd in ees__trace_read(). Guards: the reader's copy of the place we write next. If
     * weaker: an event may be torn. Test: test_engine (trace) under TSan. [trace.rd.load] */
    if (wr - atomic_load_explicit(&t->rd, memory_order_acquire) >= t->capacity) {
        COUNT_OWN(t->n_lost, 1);
        return;
    }
    t->events[wr % t->capacity] = *event;
    /* release, pairs with the acquire of wr in ees__trace_read(). Guards: the event just written. [trace.wr.store] */
    atomic_store_explicit(&t->wr, wr + 1, memory_order_release);
}

size_t ees__trace_read(struct ees__trace *t, ees_trace_event *out, size_t max) {
    if (!t->events)
        return 0;
    uint64_t rd = atomic_load_explicit(&t->rd, memory_order_relaxed);
    /* acquire, pairs with the release of wr in ees__trace_tell(). Guards: the events up to wr. [trace.wr.load] */
    uint64_t n = atomic_load_explicit(&t->wr, memory_order_acquire) - rd;
    if (n > max)
        n = max;
    for (uint64_t i = 0; i < n; i++)
        out[i] = t->events[(rd + i) % t->capacity];
    /* release, pairs with the acquire of rd in ees__trace_tell(). Guards: our copies above. [trace.rd.store] */
    atomic_store_explicit(&t->rd, rd + n, memory_order_release);
    return (size_t)n;
}

size_t ees_engine_read_trace(ees_engine *e, ees_trace_event *out, size_t max) {
    size_t n = 0;
    for (unsigned w = 0; w < e->n_workers && n < max; w++)
        n += ees__trace_read(&e->workers[w].trace, out + n, max - n);
    return n + ees__trace_read(ees__governor_trace(e), out + n, max - n);
}
