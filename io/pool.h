/* SPDX-License-Identifier: MIT */
/* A pool of reusable items: taken by one thread, given back by any, also after the pool's owner has closed it.
 *
 * An item is any struct whose first member is a struct ees__pool_item. New items come zeroed; a reused one comes as
 * it was left, so that its memory can be used again: after the first few frames nothing is allocated. */
#ifndef EES_IO_POOL_H
#define EES_IO_POOL_H

#include <stddef.h>

struct ees__pool;

struct ees__pool_item {
    struct ees__pool *pool;
    struct ees__pool_item *next; /* in a free list; meaningless while the item is out */
};

/* @param item_bytes  size of an item
 *  @param fini        releases what an item holds, not the item itself; may be NULL
 *  @return NULL: out of memory */
struct ees__pool *ees__pool_open(size_t item_bytes, void (*fini)(void *item));

/* Take an item. One thread at a time, never after close. @return NULL: out of memory */
void *ees__pool_acquire(struct ees__pool *pool);

/* Give an item back. Any thread. Its signature is that of ees_frame.release. */
void ees__pool_release(void *item);

/* The owner takes no more items. Memory goes when the last item has come back. Accepts NULL. */
void ees__pool_close(struct ees__pool *pool);

#endif
