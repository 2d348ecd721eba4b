/* SPDX-License-Identifier: MIT */
/* What happened when: a ring of events for each thread that tells, emptied by ees_engine_read_trace(). The teller never
 * waits: when nobody reads, events are lost and counted.
 *
 *   field  written by  store    read by  load     guards
 *   wr     teller      release  reader   acquire  the event written before
 *   rd     reader      release  teller   acquire  our read of the event, before it is overwritten
 *   Each side reads its own index relaxed: nobody else writes it. */
#ifndef EES_ENGINE_TRACE_H
#define EES_ENGINE_TRACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/mem.h"
#include "eestream/engine.h"

struct ees__trace {
    ees_trace_event *events; /* NULL: off */
    uint64_t capacity;
    _Alignas(EES_CACHE_LINE) _Atomic uint64_t wr;
    _Atomic uint64_t n_lost;
    _Alignas(EES_CACHE_LINE) _Atomic uint64_t rd;
};

/* @param capacity  0: off. @return false: no memory */
bool ees__trace_init(struct ees__trace *t, unsigned capacity);
void ees__trace_fini(struct ees__trace *t);

static inline bool ees__trace_is_on(const struct ees__trace *t) { return t->events != NULL; }

void ees__trace_tell(struct ees__trace *t, const ees_trace_event *event);
size_t ees__trace_read(struct ees__trace *t, ees_trace_event *out, size_t max);

#endif
