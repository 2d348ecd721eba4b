/* SPDX-License-Identifier: MIT */
/* Views and messages: see memory.h. */
#include "memory.h"

#include <string.h>

#define KNOWS_WRITE 0x80u
#define KNOWS_READS 0x7fu

static bool is_acquire(int order) { return order != __ATOMIC_RELAXED && order != __ATOMIC_RELEASE; }
static bool is_release(int order) { return order >= __ATOMIC_RELEASE; }

static void join(struct view *into, const struct view *from) {
    for (unsigned p = 0; p < MAX_PLACES; p++)
        if (into->at[p] < from->at[p])
            into->at[p] = from->at[p];
    for (unsigned d = 0; d < MAX_DATA; d++)
        into->knows[d] |= from->knows[d];
}

/* The oldest message that thread `t` may still read. */
static unsigned oldest(const struct memory *m, unsigned t, unsigned place, int order) {
    unsigned seen = m->seen[t].at[place], sc = order == __ATOMIC_SEQ_CST ? m->newest_sc[place] : 0;
    return seen > sc ? seen : sc;
}

bool memory_can_load(const struct memory *m, unsigned t, unsigned place, unsigned i, int order) {
    return i >= oldest(m, t, place, order) && i < m->places[place].n;
}

static bool is_gap(const struct place *p, unsigned i) { return i >= p->n || !p->messages[i].attached; }

bool memory_can_store(const struct memory *m, unsigned t, unsigned place, unsigned i, int order) {
    return i > oldest(m, t, place, order) && i <= m->places[place].n && is_gap(&m->places[place], i);
}

bool memory_can_rmw(const struct memory *m, unsigned t, unsigned place, unsigned i, int order) {
    return memory_can_load(m, t, place, i, order) && is_gap(&m->places[place], i + 1);
}

uint64_t memory_load(struct memory *m, unsigned t, unsigned place, unsigned i, int order) {
    const struct message *message = &m->places[place].messages[i];
    m->seen[t].at[place] = (uint8_t)i;
    if (is_acquire(order))
        join(&m->seen[t], &message->view);
    return message->value;
}

static void shift_index(uint8_t *at, unsigned from) { *at += *at >= from; }

static struct message *insert(struct memory *m, unsigned t, unsigned place, unsigned i) {
    struct place *p = &m->places[place];
    if (p->n == MAX_MESSAGES)
        memory_full();
    for (unsigned q = 0; q < m->n_places; q++)
        for (unsigned k = 0; k < m->places[q].n; k++)
            shift_index(&m->places[q].messages[k].view.at[place], i);
    for (unsigned k = 0; k < m->n_threads; k++)
        shift_index(&m->seen[k].at[place], i);
    shift_index(&m->newest_sc[place], i);
    shift_index(&m->kernel_at[place], i);
    memmove(&p->messages[i + 1], &p->messages[i], (p->n - i) * sizeof p->messages[0]);
    p->n++;
    memset(&p->messages[i], 0, sizeof p->messages[i]);
    m->seen[t].at[place] = (uint8_t)i;
    return &p->messages[i];
}

void memory_store(struct memory *m, unsigned t, unsigned place, unsigned i, int order, uint64_t value) {
    struct message *message = insert(m, t, place, i);
    message->value = value;
    if (is_release(order))
        message->view = m->seen[t];
    if (order == __ATOMIC_SEQ_CST)
        m->newest_sc[place] = (uint8_t)i;
}

void memory_rmw(struct memory *m, unsigned t, unsigned place, unsigned i, int order, uint64_t value) {
    memory_load(m, t, place, i, order);
    struct message *message = insert(m, t, place, i + 1);
    message->value = value;
    message->attached = true;
    message->view = m->places[place].messages[i].view;
    if (is_release(order))
        join(&message->view, &m->seen[t]);
    if (order == __ATOMIC_SEQ_CST)
        m->newest_sc[place] = (uint8_t)(i + 1);
}

/* A new access: nobody knows of it but thread `t`. */
static void new_access(struct memory *m, unsigned t, unsigned datum, unsigned keep, unsigned add) {
    for (unsigned p = 0; p < m->n_places; p++)
        for (unsigned i = 0; i < m->places[p].n; i++) {
            uint8_t *knows = &m->places[p].messages[i].view.knows[datum];
            *knows = (uint8_t)((*knows & keep) | add);
        }
    for (unsigned k = 0; k < m->n_threads; k++)
        m->seen[k].knows[datum] =
            k == t ? KNOWS_WRITE | KNOWS_READS : (uint8_t)((m->seen[k].knows[datum] & keep) | add);
}

bool memory_read_datum(struct memory *m, unsigned t, unsigned datum) {
    uint8_t mine = m->seen[t].knows[datum];
    new_access(m, t, datum, ~(1u << t), 0);
    m->seen[t].knows[datum] = (uint8_t)(mine | 1u << t);
    return mine & KNOWS_WRITE;
}

/* The reads before need not be remembered: who knows of this write knows of them. */
bool memory_write_datum(struct memory *m, unsigned t, unsigned datum) {
    bool knew = m->seen[t].knows[datum] == (KNOWS_WRITE | KNOWS_READS);
    new_access(m, t, datum, 0, KNOWS_READS);
    return knew;
}

static void forget_messages(struct memory *m, unsigned place) {
    struct place *p = &m->places[place];
    unsigned base = p->n - 1;
    for (unsigned t = 0; t < m->n_threads; t++)
        if (!m->ended[t] && m->seen[t].at[place] < base)
            base = m->seen[t].at[place];
    memmove(p->messages, &p->messages[base], (p->n - base) * sizeof p->messages[0]);
    p->n -= base;
    p->messages[0].attached = false;
#define REBASE(at) (at) = (uint8_t)((at) > base ? (at)-base : 0)
    for (unsigned t = 0; t < m->n_threads; t++)
        REBASE(m->seen[t].at[place]);
    REBASE(m->newest_sc[place]);
    REBASE(m->kernel_at[place]);
    for (unsigned q = 0; q < m->n_places; q++)
        for (unsigned i = 0; i < m->places[q].n; i++)
            REBASE(m->places[q].messages[i].view.at[place]);
}

static void forget_knowledge(struct memory *m, unsigned datum) {
    uint8_t common = KNOWS_WRITE | KNOWS_READS;
    for (unsigned t = 0; t < m->n_threads; t++)
        if (!m->ended[t])
            common &= m->seen[t].knows[datum];
    for (unsigned q = 0; q < m->n_places; q++)
        for (unsigned i = 0; i < m->places[q].n; i++)
            m->places[q].messages[i].view.knows[datum] |= common;
}

void memory_normalise(struct memory *m) {
    for (unsigned t = 0; t < m->n_threads; t++)
        if (m->ended[t])
            memset(&m->seen[t], 0, sizeof m->seen[t]);
    for (unsigned p = 0; p < m->n_places; p++)
        forget_messages(m, p);
    for (unsigned d = 0; d < m->n_data; d++)
        forget_knowledge(m, d);
}
