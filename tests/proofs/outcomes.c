/* SPDX-License-Identifier: MIT */
/* What may come of an access that is pending, by the rules of memory.h; and of futex calls and choices. */
#include "world.h"

uint64_t outcome_changed(const struct request *r, uint64_t old) {
    switch (r->change) {
    case CHANGE_ADD:
        return (old + r->value) & r->mask;
    case CHANGE_SUB:
        return (old - r->value) & r->mask;
    case CHANGE_OR:
        return old | r->value;
    case CHANGE_AND:
        return old & r->value;
    case CHANGE_EXCHANGE:
        break;
    }
    return r->value;
}

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

unsigned outcomes_count(unsigned t) {
    const struct request *r = &world.fibers[t].request;
    switch (r->access) {
    case ACCESS_LOAD:
    case ACCESS_RMW:
    case ACCESS_WAIT:
        return world.memory.places[r->place].n;
    case ACCESS_STORE:
        return world.memory.places[r->place].n + 1;
    case ACCESS_CAS:
        return 2 * world.memory.places[r->place].n; /* odd: fails */
    case ACCESS_CHOOSE:
        return r->n;
    case ACCESS_WAKE:
        return r->n == 1 ? world.memory.n_threads + 1 : 1; /* whom; the last: nobody */
    case ACCESS_ASLEEP:
    case ACCESS_ENDED:
        break;
    }
    return 0;
}

bool outcome_is_possible(unsigned t, unsigned outcome) {
    const struct request *r = &world.fibers[t].request;
    const struct memory *m = &world.memory;
    unsigned i = outcome / 2;
    switch (r->access) {
    case ACCESS_LOAD:
        return memory_can_load(m, t, r->place, outcome, r->order);
    case ACCESS_STORE:
        return memory_can_store(m, t, r->place, outcome, r->order);
    case ACCESS_RMW:
        return memory_can_rmw(m, t, r->place, outcome, r->order);
    case ACCESS_CAS:
        if (outcome % 2 == 1)
            return memory_can_load(m, t, r->place, i, r->order_failed) &&
                   (r->weak || m->places[r->place].messages[i].value != r->expected);
        return memory_can_rmw(m, t, r->place, i, r->order) && m->places[r->place].messages[i].value == r->expected;
    case ACCESS_WAIT:
        return memory_can_load(m, t, r->place, outcome, __ATOMIC_RELAXED) && outcome >= m->kernel_at[r->place];
    case ACCESS_WAKE:
        if (r->n != 1)
            return true;
        return outcome < m->n_threads ? may_wake(t, outcome) : nobody_to_wake(t);
    case ACCESS_CHOOSE:
        return true;
    case ACCESS_ASLEEP:
    case ACCESS_ENDED:
        break;
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

bool outcome_perform(unsigned t, unsigned outcome) {
    struct fiber *f = &world.fibers[t];
    struct memory *m = &world.memory;
    struct request *r = &f->request;
    struct answer a = {0};
    int datum = world_datum_of(r);
    if (datum >= 0)
        world_access_datum(t, (unsigned)datum, r->access != ACCESS_LOAD);
    switch (r->access) {
    case ACCESS_LOAD:
        a.value = memory_load(m, t, r->place, outcome, r->order);
        break;
    case ACCESS_STORE:
        memory_store(m, t, r->place, outcome, r->order, a.value = r->value);
        break;
    case ACCESS_RMW:
        a.value = m->places[r->place].messages[outcome].value;
        memory_rmw(m, t, r->place, outcome, r->order, outcome_changed(r, a.value));
        break;
    case ACCESS_CAS:
        a.ok = outcome % 2 == 0;
        if (a.ok)
            memory_rmw(m, t, r->place, outcome / 2, r->order, a.value = r->value);
        else
            a.value = memory_load(m, t, r->place, outcome / 2, r->order_failed);
        break;
    case ACCESS_CHOOSE:
        a = (struct answer){.value = outcome, .ok = true};
        break;
    case ACCESS_WAKE:
        a = do_wake(t, outcome);
        break;
    case ACCESS_WAIT:
        a.value = memory_load(m, t, r->place, outcome, __ATOMIC_RELAXED);
        if ((a.value & r->mask) == r->expected)
            r->access = ACCESS_ASLEEP;
        break;
    case ACCESS_ASLEEP:
    case ACCESS_ENDED:
        break;
    }
    f->answer = a;
    return r->access != ACCESS_ASLEEP;
}
