/* SPDX-License-Identifier: MIT */
/* All loads and stores here are relaxed unless they say otherwise: plans and counters are advice, and frames travel
 * through the rings, which order what was written to them (ring.h). */
#include "engine/sched.h"

#include "common/mem.h"
#include "engine/relaxed.h"

/* ---- Sizes --------------------------------------------------------------------------------------------- */

unsigned ees__largest_batch(const ees_plan *plan, const ees_profile *later) {
    unsigned most = later && later->batch > 1 ? later->batch : 1, n_units = plan->groups[plan->n_groups - 1].end_unit;
    for (unsigned u = 0; u < n_units; u++)
        most = plan->batch[u] > most ? plan->batch[u] : most;
    return most < EES__MAX_BATCH ? most : EES__MAX_BATCH;
}

/* ---- Making and publishing ----------------------------------------------------------------------------- */

/* Room for every slot twice over, as ees__ring_push_until_in() wants it. */
static bool init_queue(struct ees__queue *q, unsigned n_slots) { return ees__ring_init(&q->ring, 2 * n_slots, 0); }

bool ees__sched_init(struct ees__sched *s, unsigned n_units, unsigned n_workers, unsigned n_slots, enum ees_take take) {
    unsigned n_queues = n_workers < n_units ? n_workers : n_units;
    s->n_units = n_units;
    s->n_workers = n_workers;
    s->n_queues = n_queues < EES_MAX_GROUPS ? n_queues : EES_MAX_GROUPS;
    s->take = take;
    s->queues = ees__calloc_aligned(s->n_queues, sizeof *s->queues);
    s->slots = ees__calloc_aligned(n_slots, sizeof *s->slots);
    bool ok = s->queues && s->slots;
    for (unsigned q = 0; ok && q < s->n_queues; q++)
        ok = init_queue(&s->queues[q], n_slots);
    return ok;
}

void ees__sched_fini(struct ees__sched *s) {
    for (unsigned q = 0; s->queues && q < s->n_queues; q++)
        ees__ring_fini(&s->queues[q].ring);
    ees__free(s->queues);
    ees__free(s->slots);
}

bool ees__entry_init(struct ees__entry *entry, double weight, unsigned n_slots) {
    double step = (double)EES__VTIME_ONE / weight;
    entry->step = step < 1 ? 1 : step > 0x1p40 ? UINT64_C(1) << 40 : (uint64_t)step;
    return init_queue(&entry->queue, n_slots);
}

void ees__entry_fini(struct ees__entry *entry) { ees__ring_fini(&entry->queue.ring); }

void ees__sched_add_entry(struct ees__sched *s, struct ees__entry *entry) {
    uint32_t n = LOAD(s->n_entries);
    STORE(entry->vtime, LOAD(s->vtime));
    /* release, pairs with the acquire in ees__sched_entry(). Guards: the entry's ring. If weaker: a worker may pop from a
     * ring whose cells it does not see yet. [sched.entry.store] */
    atomic_store_explicit(&s->entries[n], entry, memory_order_release);
    STORE(s->n_entries, n + 1); /* relaxed: whoever sees the count too early finds NULL and passes over it */
}

/* Workers are dealt to groups in order, each group taking as many of every core type as the plan says. */
static void publish_homes(struct ees__sched *s, const ees_plan *plan, const uint8_t *types) {
    bool dealt[EES_MAX_WORKERS] = {false};
    for (unsigned g = 0; g < plan->n_groups; g++) {
        const ees_plan_group *group = &plan->groups[g];
        unsigned of_type[EES_MAX_CORE_TYPES], left = 0;
        for (unsigned t = 0; t < EES_MAX_CORE_TYPES; t++)
            left += of_type[t] = group->n_of_type[t];
        bool any = !types || left != group->n_workers;
        left = group->n_workers;
        for (unsigned w = 0; w < s->n_workers && left > 0; w++) {
            if (dealt[w] || (!any && of_type[types[w]] == 0))
                continue;
            dealt[w] = true;
            left--;
            if (!any)
                of_type[types[w]]--;
            STORE(s->home[w], (uint16_t)g);
        }
    }
}

void ees__sched_publish(struct ees__sched *s, const ees_plan *plan, const uint8_t *types, unsigned max_batch) {
    for (unsigned g = 0; g < plan->n_groups; g++)
        for (unsigned u = plan->groups[g].first_unit; u < plan->groups[g].end_unit; u++) {
            unsigned batch = plan->batch[u] < 1 ? 1 : plan->batch[u] < max_batch ? plan->batch[u] : max_batch;
            STORE(s->group_of[u], (uint16_t)g);
            STORE(s->end_of[u], (uint16_t)plan->groups[g].end_unit);
            STORE(s->batch_of[u], (uint8_t)batch);
        }
    STORE(s->n_groups, plan->n_groups);
    publish_homes(s, plan, types);
}

/* ---- Putting ------------------------------------------------------------------------------------------- */

static void count_arrival(struct ees__queue *q) {
    uint32_t depth = ees__ring_count(&q->ring), max = LOAD(q->depth_max);
    COUNT(q->n_arrivals, 1);
    COUNT(q->depth_sum, depth);
    while (depth > max && !atomic_compare_exchange_weak_explicit(&q->depth_max, &max, depth, memory_order_relaxed,
                                                                 memory_order_relaxed))
        ;
}

static void put_into(struct ees__queue *q, uint32_t slot) {
    ees__ring_push_until_in(&q->ring, slot);
    count_arrival(q);
}

void ees__sched_admit(struct ees__sched *s, unsigned stream, uint32_t slot) {
    struct ees__entry *entry = ees__sched_entry(s, stream);
    s->slots[slot].unit = 0;
    s->slots[slot].stream = stream;
    STORE(s->slots[slot].age, atomic_fetch_add_explicit(&s->n_admitted, 1, memory_order_relaxed));
    /* A stream that was idle has no claim on the time it did not use. */
    uint64_t now = LOAD(s->vtime);
    if (ees__ring_count(&entry->queue.ring) == 0 && LOAD(entry->vtime) < now)
        STORE(entry->vtime, now);
    put_into(&entry->queue, slot);
}

unsigned ees__sched_put(struct ees__sched *s, uint32_t slot) {
    unsigned group = LOAD(s->group_of[s->slots[slot].unit]);
    put_into(&s->queues[group], slot);
    return group;
}

/* ---- Taking -------------------------------------------------------------------------------------------- */

/* Entries in service order: the one furthest behind among those where frames wait. */
static struct ees__entry *next_entry(struct ees__sched *s) {
    struct ees__entry *best = NULL;
    uint64_t least = UINT64_MAX;
    uint32_t n = LOAD(s->n_entries);
    if (n == 1)
        return ees__sched_entry(s, 0);
    for (uint32_t i = 0; i < n; i++) {
        struct ees__entry *entry = ees__sched_entry(s, i);
        if (!entry || ees__ring_count(&entry->queue.ring) == 0)
            continue;
        uint64_t vtime = LOAD(entry->vtime);
        if (vtime < least) {
            least = vtime;
            best = entry;
        }
    }
    return best;
}

static bool take_fresh(struct ees__sched *s, uint32_t *slot) {
    struct ees__entry *entry = next_entry(s);
    if (!entry || !ees__ring_pop(&entry->queue.ring, slot))
        return false;
    STORE(s->vtime, atomic_fetch_add_explicit(&entry->vtime, entry->step, memory_order_relaxed));
    return true;
}

static uint64_t age_of_head(struct ees__sched *s, struct ees__queue *q) {
    uint32_t slot;
    return ees__ring_peek(&q->ring, &slot) ? LOAD(s->slots[slot].age) : UINT64_MAX;
}

enum { ENTRY = -1, NOWHERE = -2 };

/* The queue (or ENTRY) with the frame that was admitted first. */
static int oldest_place(struct ees__sched *s) {
    struct ees__entry *entry = next_entry(s);
    uint64_t least = entry ? age_of_head(s, &entry->queue) : UINT64_MAX;
    int place = least == UINT64_MAX ? NOWHERE : ENTRY;
    for (unsigned q = 0; q < s->n_queues; q++) {
        uint64_t age = age_of_head(s, &s->queues[q]);
        if (age < least) {
            least = age;
            place = (int)q;
        }
    }
    return place;
}

static bool take_from(struct ees__sched *s, int place, uint32_t *slot) {
    return place == ENTRY ? take_fresh(s, slot) : ees__ring_pop(&s->queues[place].ring, slot);
}

/* @return where the frame came from, NOWHERE: none waits */
static int take_elsewhere(struct ees__sched *s, uint32_t *slot) {
    int n = (int)s->n_queues;
    switch (s->take) {
    case EES_TAKE_DEEPEST:
        for (int place = n - 1; place >= ENTRY; place--)
            if (take_from(s, place, slot))
                return place;
        break;
    case EES_TAKE_UPSTREAM:
        for (int place = ENTRY; place < n; place++)
            if (take_from(s, place, slot))
                return place;
        break;
    case EES_TAKE_OLDEST:
        for (int place; (place = oldest_place(s)) != NOWHERE;)
            if (take_from(s, place, slot))
                return place;
        break;
    }
    return NOWHERE;
}

/* Own queue; for the first group its entry too, after what has begun. */
static int take_at_home(struct ees__sched *s, unsigned home, uint32_t *slot) {
    if (take_from(s, (int)home, slot))
        return (int)home;
    return home == 0 && take_fresh(s, slot) ? ENTRY : NOWHERE;
}

/* More frames at the same position from the same place, no more than this worker's share of what waits there. Only where at least
 * half a batch for every worker waits: a batch gives all its answers at its end, which is late for frames that come one by one. */
static void take_batch(struct ees__sched *s, int place, unsigned unit, struct ees__taken *out) {
    unsigned end = ees__sched_end(s, unit), batch = 1;
    for (unsigned u = unit; u < end; u++)
        batch = LOAD(s->batch_of[u]) > batch ? LOAD(s->batch_of[u]) : batch;
    if (batch == 1)
        return;
    struct ees__entry *entry = place == ENTRY ? next_entry(s) : NULL;
    unsigned waiting =
        place == ENTRY ? (entry ? ees__ring_count(&entry->queue.ring) : 0) : ees__ring_count(&s->queues[place].ring);
    if (2 * waiting < s->n_workers * batch)
        return;
    unsigned most = 1 + waiting / s->n_workers;
    for (most = most < batch ? most : batch; out->n < most; out->n++) {
        uint32_t slot;
        if (!take_from(s, place, &slot))
            return;
        if (s->slots[slot].unit != unit) { /* a plan changed while it waited: another position, another visit */
            ees__sched_put(s, slot);
            return;
        }
        out->slots[out->n] = slot;
    }
}

bool ees__sched_take(struct ees__sched *s, unsigned worker, struct ees__taken *out) {
    unsigned home = LOAD(s->home[worker]);
    int place = take_at_home(s, home, &out->slots[0]);
    if (place == NOWHERE && !s->no_help)
        place = take_elsewhere(s, &out->slots[0]);
    if (place == NOWHERE)
        return false;
    unsigned unit = s->slots[out->slots[0]].unit;
    out->n = 1;
    out->group = LOAD(s->group_of[unit]);
    take_batch(s, place, unit, out);
    return true;
}

bool ees__sched_evict(struct ees__sched *s, unsigned stream, uint32_t *slot) {
    return ees__ring_pop(&ees__sched_entry(s, stream)->queue.ring, slot);
}

unsigned ees__sched_waiting(struct ees__sched *s) {
    unsigned n = 0;
    for (unsigned q = 0; q < s->n_queues; q++)
        n += ees__ring_count(&s->queues[q].ring);
    for (uint32_t i = 0, n_entries = LOAD(s->n_entries); i < n_entries; i++) {
        struct ees__entry *entry = ees__sched_entry(s, i);
        n += entry ? ees__ring_count(&entry->queue.ring) : 0;
    }
    return n;
}
