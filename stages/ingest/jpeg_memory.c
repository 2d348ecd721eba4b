/* SPDX-License-Identifier: MIT */
/* A memory manager for libjpeg, by the public struct jpeg_memory_mgr: bump allocation in one block. What does not fit
 * in the block is allocated beside it and given back after the image; the block then grows to what that image needed,
 * up to KEEP_BYTES, so that one large picture does not hold its memory for ever.
 *
 * Pools are not told apart: once the decompressor exists, the only permanent objects libjpeg makes are quantisation and
 * Huffman tables. Those must not outlive a picture (a damaged one would be decoded with the tables of the one before).
 *
 * Coefficient arrays (progressive and multi-scan files) are held in memory whole: there is no backing store, the limit
 * stands in its place. Sample arrays with backing store only occur with two-pass colour quantisation, which is never
 * asked for; they stay with libjpeg. */
#include "stages/ingest/jpeg_memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>

#include "common/mem.h"
#include "eestream/error.h"

enum {
    ALIGN_BYTES = 64,       /* libjpeg-turbo's SIMD code may write up to 64 bytes past a row's end: rows are padded */
    KEEP_BYTES = 32 << 20,  /* a 10 Mpx progressive 4:2:0 frame */
    GRAIN_BYTES = 64 << 10, /* the block grows in steps, so that a few bytes more do not reallocate it */
};

/* Stands before the bytes handed out, which are aligned by hand. */
struct ees__jpeg_extra {
    struct ees__jpeg_extra *next;
};

/* libjpeg only declares this type; whoever supplies the methods defines it. */
struct jvirt_barray_control {
    JBLOCKARRAY rows; /* NULL until realised */
    JDIMENSION n_rows, blocks_per_row, max_access;
    struct jvirt_barray_control *next;
};

static struct ees__jpeg_memory *get_memory(j_common_ptr cinfo) { return cinfo->client_data; }

static void give_up(j_common_ptr cinfo, int failure) {
    get_memory(cinfo)->failure = failure;
    ERREXIT1(cinfo, JERR_OUT_OF_MEMORY, 0);
}

/* The pages come from calloc: untouched parts of a coefficient array cost no memory. */
static void *alloc_extra(j_common_ptr cinfo, size_t bytes) {
    struct ees__jpeg_memory *memory = get_memory(cinfo);
    size_t total;
    if (!ees__add(bytes, sizeof(struct ees__jpeg_extra) + ALIGN_BYTES, &total))
        give_up(cinfo, EES_EDAMAGED);
    struct ees__jpeg_extra *extra = calloc(1, total);
    if (!extra)
        give_up(cinfo, EES_ENOMEM);
    extra->next = memory->extras;
    memory->extras = extra;
    return (void *)ees__round_up((uintptr_t)(extra + 1), ALIGN_BYTES);
}

static void *alloc_image(j_common_ptr cinfo, size_t bytes, bool zeroed) {
    struct ees__jpeg_memory *memory = get_memory(cinfo);
    if (bytes > memory->max_bytes)
        give_up(cinfo, EES_EDAMAGED);
    bytes = ees__round_up(bytes, ALIGN_BYTES);
    if (bytes > memory->max_bytes - memory->image_bytes)
        give_up(cinfo, EES_EDAMAGED);
    void *p;
    if (bytes <= memory->block_bytes - memory->block_used) {
        p = memory->block + memory->block_used;
        memory->block_used += bytes;
        if (zeroed)
            memset(p, 0, bytes);
    } else {
        p = alloc_extra(cinfo, bytes);
    }
    memory->image_bytes += bytes;
    return p;
}

static void *alloc_bytes(j_common_ptr cinfo, int pool, size_t bytes) {
    (void)pool;
    return alloc_image(cinfo, bytes, false);
}

/* An array of `n_rows` pointers to rows of `row_bytes` each. */
static void *alloc_rows(j_common_ptr cinfo, size_t row_bytes, JDIMENSION n_rows, bool zeroed) {
    size_t bytes;
    if (!ees__mul(row_bytes, n_rows, &bytes))
        give_up(cinfo, EES_EDAMAGED);
    unsigned char **rows = alloc_image(cinfo, n_rows * sizeof *rows, false);
    unsigned char *data = alloc_image(cinfo, bytes, zeroed);
    for (JDIMENSION i = 0; i < n_rows; i++)
        rows[i] = data + i * row_bytes;
    return rows;
}

static JSAMPARRAY alloc_sarray(j_common_ptr cinfo, int pool, JDIMENSION samples_per_row, JDIMENSION n_rows) {
    (void)pool;
    return alloc_rows(cinfo, ees__round_up((size_t)samples_per_row * sizeof(JSAMPLE), ALIGN_BYTES), n_rows, false);
}

static JBLOCKARRAY alloc_barray(j_common_ptr cinfo, int pool, JDIMENSION blocks_per_row, JDIMENSION n_rows) {
    (void)pool;
    return alloc_rows(cinfo, (size_t)blocks_per_row * sizeof(JBLOCK), n_rows, false);
}

static jvirt_barray_ptr request_virt_barray(j_common_ptr cinfo, int pool, boolean pre_zero, JDIMENSION blocks_per_row,
                                            JDIMENSION n_rows, JDIMENSION max_access) {
    struct ees__jpeg_memory *memory = get_memory(cinfo);
    (void)pool, (void)pre_zero; /* zeroed always: what was not written reads as 0 */
    jvirt_barray_ptr array = alloc_image(cinfo, sizeof *array, false);
    *array = (struct jvirt_barray_control){NULL, n_rows, blocks_per_row, max_access, memory->arrays};
    memory->arrays = array;
    return array;
}

static void realize_virt_arrays(j_common_ptr cinfo) {
    struct ees__jpeg_memory *memory = get_memory(cinfo);
    for (; memory->arrays; memory->arrays = memory->arrays->next)
        memory->arrays->rows =
            alloc_rows(cinfo, (size_t)memory->arrays->blocks_per_row * sizeof(JBLOCK), memory->arrays->n_rows, true);
    memory->original.realize_virt_arrays(cinfo);
}

static JBLOCKARRAY access_virt_barray(j_common_ptr cinfo, jvirt_barray_ptr array, JDIMENSION first, JDIMENSION n,
                                      boolean writable) {
    (void)writable;
    if (!array->rows || n > array->max_access || first > array->n_rows || n > array->n_rows - first)
        ERREXIT(cinfo, JERR_BAD_VIRTUAL_ACCESS);
    return array->rows + first;
}

/* Give the extras back, and make the block large enough to do without them the next time. */
static void free_pool(j_common_ptr cinfo, int pool) {
    struct ees__jpeg_memory *memory = get_memory(cinfo);
    memory->original.free_pool(cinfo, pool);
    if (pool != JPOOL_IMAGE)
        return;
    bool grow = memory->extras && memory->image_bytes <= KEEP_BYTES;
    while (memory->extras) {
        struct ees__jpeg_extra *next = memory->extras->next;
        free(memory->extras);
        memory->extras = next;
    }
    if (grow) {
        free(memory->block);
        memory->block_bytes = ees__round_up(memory->image_bytes, GRAIN_BYTES);
        memory->block = aligned_alloc(ALIGN_BYTES, memory->block_bytes);
        if (!memory->block)
            memory->block_bytes = 0;
    }
    memory->block_used = memory->image_bytes = 0;
    memory->arrays = NULL;
}

void ees__jpeg_memory_attach(struct ees__jpeg_memory *memory, j_decompress_ptr cinfo, size_t max_bytes) {
    struct jpeg_memory_mgr *methods = cinfo->mem;
    memory->original = *methods;
    memory->max_bytes = max_bytes;
    cinfo->client_data = memory;
    methods->alloc_small = alloc_bytes;
    methods->alloc_large = alloc_bytes;
    methods->alloc_sarray = alloc_sarray;
    methods->alloc_barray = alloc_barray;
    methods->request_virt_barray = request_virt_barray;
    methods->realize_virt_arrays = realize_virt_arrays;
    methods->access_virt_barray = access_virt_barray;
    methods->free_pool = free_pool;
}

void ees__jpeg_memory_fini(struct ees__jpeg_memory *memory) { free(memory->block); }
