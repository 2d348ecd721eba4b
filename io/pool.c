/* SPDX-License-Identifier: MIT */
/* Pool of frame buffers between a source and whoever releases its frames.
 *
 *  field     written by            store             read by          load                guards
 *  returned  releasers (push)      CAS release       owner (take all) exchange acquire    the item's content and `next`
 *  refs      owner, releasers      sub acq_rel       whoever gets 0   (the same sub)      every item's memory
 *  free      owner only            plain                                                  -
 *
 * `returned` is a stack that many push to and one empties as a whole, so a pop never compares pointers and there
 * is no ABA. refs counts the owner (1) and the items that are out. */
#include "io/pool.h"

#include <stdatomic.h>

#include "common/mem.h"

struct ees__pool {
    struct ees__pool_item *free; /* owner's own list */
    size_t item_bytes;
    void (*fini)(void *item);
    _Alignas(EES_CACHE_LINE) _Atomic(struct ees__pool_item *) returned;
    atomic_size_t refs;
};

struct ees__pool *ees__pool_open(size_t item_bytes, void (*fini)(void *item)) {
    struct ees__pool *pool = ees__calloc_aligned(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->item_bytes = item_bytes;
    pool->fini = fini;
    atomic_init(&pool->returned, NULL);
    atomic_init(&pool->refs, 1);
    return pool;
}

static struct ees__pool_item *new_item(struct ees__pool *pool) {
    struct ees__pool_item *item = ees__calloc_aligned(1, pool->item_bytes);
    if (item)
        item->pool = pool;
    return item;
}

void *ees__pool_acquire(struct ees__pool *pool) {
    if (!pool->free)
        /* acquire, pairs with the release in ees__pool_release(). Guards: what the releaser did to the item. If weaker:
         * we could write a frame into memory that a worker's late reads still see. Test: tests/io/test_pool.c (TSan) */
        pool->free = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);
    struct ees__pool_item *item = pool->free;
    if (item)
        pool->free = item->next;
    else
        item = new_item(pool);
    if (item)
        /* relaxed: the owner holds a reference of its own, so the count cannot reach 0 meanwhile */
        atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
    return item;
}

static void free_list(struct ees__pool *pool, struct ees__pool_item *item) {
    while (item) {
        struct ees__pool_item *next = item->next;
        if (pool->fini)
            pool->fini(item);
        ees__free(item);
        item = next;
    }
}

static void drop_reference(struct ees__pool *pool) {
    /* acq_rel: release so that our push above happens before the count is seen lower; acquire so that the last one
     * sees all other pushes before it frees them. If weaker: an item is missed or freed twice. Test: test_pool.c */
    if (atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_acq_rel) != 1)
        return;
    /* relaxed: all pushes happened before the decrements that led here */
    free_list(pool, atomic_load_explicit(&pool->returned, memory_order_relaxed));
    free_list(pool, pool->free);
    ees__free(pool);
}

void ees__pool_release(void *released) {
    struct ees__pool_item *item = released;
    struct ees__pool *pool = item->pool;
    /* relaxed: only a first guess, the exchange below checks it */
    item->next = atomic_load_explicit(&pool->returned, memory_order_relaxed);
    /* release, pairs with the acquire in ees__pool_acquire(). Guards: the releaser's reads of the frame and item->next.
     * On failure relaxed: item->next is only the next guess. */
    while (!atomic_compare_exchange_weak_explicit(&pool->returned, &item->next, item, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    drop_reference(pool);
}

void ees__pool_close(struct ees__pool *pool) {
    if (pool)
        drop_reference(pool);
}
