/* SPDX-License-Identifier: MIT */
/* The handle behind eestream/tensors.h: opens a file or a block of memory, keeps the checked header, reads tensors.
 * Nothing changes after open, and files are read with pread, so any number of threads may read at once. */
#define _GNU_SOURCE
#include "eestream/tensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/hash.h"
#include "common/mem.h"
#include "io/safetensors_header.h"
#include "io/widen.h"

enum { LENGTH_BYTES = 8, CHUNK_BYTES = 32 * 1024 };

struct ees_tensors {
    char *name;                /* for messages */
    int fd;                    /* -1: in memory */
    const unsigned char *data; /* NULL: in a file */
    size_t n_bytes;
    size_t data_begin; /* first byte after the header */
    struct ees__tensor_header header;
    size_t *by_name; /* indices of header.entries, sorted by name */
};

static int read_bytes(const ees_tensors *t, size_t at, void *dst, size_t n, ees_error *err) {
    if (t->data) {
        memcpy(dst, t->data + at, n);
        return 0;
    }
    char *to = dst;
    while (n > 0) {
        ssize_t got = pread(t->fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return EES_FAIL_OS(err, EES_EMODEL, errno, "%s: cannot read byte %zu", t->name, at);
        if (got == 0)
            return EES_FAIL(err, EES_EMODEL, "%s: file ends at byte %zu, it became shorter while it was read", t->name,
                            at);
        to += got, at += (size_t)got, n -= (size_t)got;
    }
    return 0;
}

static int read_header_length(const ees_tensors *t, size_t *out, ees_error *err) {
    unsigned char bytes[LENGTH_BYTES];
    if (t->n_bytes < sizeof bytes) {
        EES_FAIL(err, EES_EMODEL, "%s: %zu bytes are too few for a safetensors file", t->name, t->n_bytes);
        ees__hint(err, "truncated download? Fetch the file again");
        return EES_EMODEL;
    }
    EES_TRY(read_bytes(t, 0, bytes, sizeof bytes, err));
    uint64_t n = 0;
    for (int i = LENGTH_BYTES; i-- > 0;)
        n = n << 8 | bytes[i];
    if (n > EES__TENSORS_MAX_HEADER_BYTES) {
        EES_FAIL(err, EES_EMODEL, "%s: header length %llu is above %u", t->name, (unsigned long long)n,
                 EES__TENSORS_MAX_HEADER_BYTES);
        ees__hint(err, "this is not a safetensors file");
        return EES_EMODEL;
    }
    if (n > t->n_bytes - LENGTH_BYTES) {
        EES_FAIL(err, EES_EMODEL, "%s: header of %llu bytes does not fit the file of %zu bytes", t->name,
                 (unsigned long long)n, t->n_bytes);
        ees__hint(err, "truncated download? Fetch the file again");
        return EES_EMODEL;
    }
    *out = (size_t)n;
    return 0;
}

static int read_header(ees_tensors *t, ees_error *err) {
    size_t n;
    EES_TRY(read_header_length(t, &n, err));
    char *text = malloc(n + 1);
    if (!text)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a header of %zu bytes", t->name, n);
    int rc = read_bytes(t, LENGTH_BYTES, text, n, err);
    t->data_begin = LENGTH_BYTES + n;
    if (rc == 0)
        rc = ees__tensor_header_parse(text, n, t->n_bytes - t->data_begin, t->name, &t->header, err);
    free(text);
    return rc;
}

static int compare_names(const void *left, const void *right, void *context) {
    const struct ees__tensor_entry *entries = context;
    return strcmp(entries[*(const size_t *)left].info.name, entries[*(const size_t *)right].info.name);
}

static int sort_names(ees_tensors *t, ees_error *err) {
    t->by_name = ees__calloc_aligned(t->header.n, sizeof *t->by_name);
    if (!t->by_name)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for %zu tensors", t->name, t->header.n);
    for (size_t i = 0; i < t->header.n; i++)
        t->by_name[i] = i;
    qsort_r(t->by_name, t->header.n, sizeof *t->by_name, compare_names, t->header.entries);
    return 0;
}

static int alloc_handle(const char *name, ees_tensors **out, ees_error *err) {
    ees_tensors *t = ees__calloc_aligned(1, sizeof *t);
    char *copy = strdup(name);
    if (!t || !copy) {
        ees__free(t);
        free(copy);
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory", name);
    }
    t->name = copy;
    t->fd = -1;
    *out = t;
    return 0;
}

/* Read and check the header; on failure the handle is gone. */
static int finish_open(ees_tensors *t, ees_tensors **out, ees_error *err) {
    int rc = read_header(t, err);
    if (rc == 0)
        rc = sort_names(t, err);
    if (rc < 0)
        ees_tensors_close(t);
    else
        *out = t;
    return rc;
}

static int open_file(ees_tensors *t, const char *path, ees_error *err) {
    t->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us */
    struct stat st;
    if (t->fd < 0 || fstat(t->fd, &st) < 0)
        return EES_FAIL_OS(err, EES_EMODEL, errno, "%s: cannot open", path);
    if (!S_ISREG(st.st_mode))
        return EES_FAIL(err, EES_EMODEL, "%s: not a regular file, expected a safetensors file", path);
    t->n_bytes = (size_t)st.st_size;
    return 0;
}

int ees_tensors_open(const char *path, ees_tensors **out, ees_error *err) {
    ees_tensors *t = NULL;
    EES_TRY(alloc_handle(path, &t, err));
    int rc = open_file(t, path, err);
    if (rc < 0) {
        ees_tensors_close(t);
        return rc;
    }
    return finish_open(t, out, err);
}

int ees_tensors_open_memory(const void *data, size_t n_bytes, const char *name, ees_tensors **out, ees_error *err) {
    ees_tensors *t = NULL;
    EES_TRY(alloc_handle(name, &t, err));
    t->data = data;
    t->n_bytes = n_bytes;
    return finish_open(t, out, err);
}

size_t ees_tensors_count(const ees_tensors *tensors) { return tensors->header.n; }

const ees_tensor_info *ees_tensors_at(const ees_tensors *tensors, size_t idx) {
    return idx < tensors->header.n ? &tensors->header.entries[idx].info : NULL;
}

const ees_tensor_info *ees_tensors_find(const ees_tensors *tensors, const char *name) {
    size_t first = 0, last = tensors->header.n;
    while (first < last) {
        size_t middle = first + (last - first) / 2;
        const ees_tensor_info *info = &tensors->header.entries[tensors->by_name[middle]].info;
        int order = strcmp(name, info->name);
        if (order == 0)
            return info;
        if (order < 0)
            last = middle;
        else
            first = middle + 1;
    }
    return NULL;
}

/* Read in chunks through the stack and widen; a chunk is a whole number of elements. */
static int read_widened(const ees_tensors *t, const ees_tensor_info *info, size_t at, float *dst, ees_error *err) {
    unsigned char chunk[CHUNK_BYTES];
    size_t size = ees__dtype_bytes(info->dtype), per_chunk = sizeof chunk / size;
    for (size_t done = 0; done < info->n_elements;) {
        size_t n = info->n_elements - done < per_chunk ? info->n_elements - done : per_chunk;
        EES_TRY(read_bytes(t, at + done * size, chunk, n * size, err));
        ees__widen_f32(info->dtype, chunk, n, dst + done);
        done += n;
    }
    return 0;
}

int ees_tensors_read_f32(const ees_tensors *tensors, const ees_tensor_info *info, float *dst, ees_error *err) {
    /* `info` came from this handle, as the first member of its entry. */
    const struct ees__tensor_entry *entry = (const struct ees__tensor_entry *)info;
    size_t at = tensors->data_begin + entry->begin;
    if (info->dtype == EES_DTYPE_F32)
        return read_bytes(tensors, at, dst, info->n_bytes, err);
    return read_widened(tensors, info, at, dst, err);
}

const char *ees_tensors_get_metadata(const ees_tensors *tensors, const char *key) {
    return json_string_value(json_object_get(tensors->header.metadata, key));
}

int ees_tensors_hash(const ees_tensors *tensors, uint64_t *out, ees_error *err) {
    unsigned char chunk[CHUNK_BYTES];
    struct ees__hash hash;
    ees__hash_init(&hash, 0);
    for (size_t at = 0; at < tensors->n_bytes; at += sizeof chunk) {
        size_t n = tensors->n_bytes - at < sizeof chunk ? tensors->n_bytes - at : sizeof chunk;
        EES_TRY(read_bytes(tensors, at, chunk, n, err));
        ees__hash_add(&hash, chunk, n);
    }
    *out = ees__hash_value(&hash);
    return 0;
}

void ees_tensors_close(ees_tensors *tensors) {
    if (!tensors)
        return;
    if (tensors->fd >= 0)
        close(tensors->fd);
    ees__tensor_header_fini(&tensors->header);
    ees__free(tensors->by_name);
    free(tensors->name);
    ees__free(tensors);
}
