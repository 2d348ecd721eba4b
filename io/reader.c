/* SPDX-License-Identifier: MIT */
/* A window of bytes over a read queue (regular files) or over poll() and read() (everything else).
 *
 * A file is cut into blocks of BLOCK_BYTES; block b travels in slot b % n_slots. After a seek one block is read
 * alone and the number under way doubles with each block used, so that a demuxer that jumps about does not drag
 * megabytes along. A stream has one block that is filled when it is empty. */
#define _GNU_SOURCE
#include "io/reader.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/mem.h"
#include "io/readq.h"

enum { BLOCK_BYTES = 256 * 1024, MAX_READAHEAD = 64, PIPE_BYTES = 1024 * 1024 };
#define FAR_AWAY ((uint64_t)1 << 60) /* beyond any file, below the limits of off_t */
_Static_assert(EES__READER_HEAD_BYTES <= BLOCK_BYTES, "the head is part of the first block");

struct ees__reader {
    int fd;
    const char *name;
    const char *backend;
    struct ees__stop *stop;
    uint64_t position;

    /* the block at hand; `position` may lie outside: the next view loads the block that holds it */
    const uint8_t *data;
    uint64_t data_begin;
    size_t n_data;
    bool loaded;

    struct ees__readq *queue; /* NULL: a stream */
    unsigned n_slots;
    unsigned n_ahead;        /* blocks to keep under way now, 1..n_slots */
    uint64_t first, started; /* blocks [first, started) are under way or loaded */
    int64_t size;

    uint8_t *stream_block; /* NULL: a file */
};

static int open_file(struct ees__reader *r, enum ees_io_backend io, size_t readahead, ees_error *err) {
    r->n_slots = readahead < 1 ? 1 : readahead > MAX_READAHEAD ? MAX_READAHEAD : (unsigned)readahead;
    r->n_ahead = 1;
    EES_TRY(ees__readq_open(io, r->n_slots, &r->queue, err));
    r->backend = ees__readq_uses_uring(r->queue) ? "io_uring" : "pread";
    return 0;
}

static int open_stream(struct ees__reader *r, ees_error *err) {
    r->size = -1;
    r->backend = "stream";
    r->stream_block = ees__calloc_aligned(BLOCK_BYTES, 1);
    if (!r->stream_block)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a read buffer", r->name);
    fcntl(r->fd, F_SETPIPE_SZ, PIPE_BYTES); /* fewer wake-ups; no harm where it is refused or no pipe */
    return 0;
}

int ees__reader_open(int fd, const char *name, enum ees_io_backend io, size_t readahead, struct ees__stop *stop,
                     struct ees__reader **out, ees_error *err) {
    struct ees__reader *r = ees__calloc_aligned(1, sizeof *r);
    if (!r) {
        close(fd);
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory", name);
    }
    struct stat st;
    r->fd = fd;
    r->name = name;
    r->stop = stop;
    bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    off_t begin = regular ? lseek(fd, 0, SEEK_CUR) : 0; /* stdin may stand inside a file */
    r->position = begin > 0 ? (uint64_t)begin : 0;
    r->size = regular ? (int64_t)st.st_size : -1;
    int rc = regular ? open_file(r, io, readahead, err) : open_stream(r, err);
    if (rc < 0)
        ees__reader_close(r);
    else
        *out = r;
    return rc;
}

/* ---- files ---- */

/* Bytes to ask for from `at` on: a whole block, or less at the end of a short file. A file may have more bytes than its
 * size said (procfs, or it grew): behind the known end whole blocks are asked for. */
static size_t block_bytes(const struct ees__reader *r, uint64_t at) {
    uint64_t left = at < (uint64_t)r->size ? (uint64_t)r->size - at : BLOCK_BYTES;
    return left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
}

static int start_blocks(struct ees__reader *r, ees_error *err) {
    for (; r->started < r->first + r->n_ahead; r->started++) {
        uint64_t at = r->started * BLOCK_BYTES;
        if (r->started != r->first && at >= (uint64_t)r->size)
            break; /* nothing to read ahead; the block at hand is asked for in any case */
        if (ees__readq_start_block(r->queue, (unsigned)(r->started % r->n_slots), r->fd, at, block_bytes(r, at)) < 0)
            return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a read buffer", r->name);
    }
    return 0;
}

/* Move the window to the block that holds `position`. */
static void move_window(struct ees__reader *r) {
    uint64_t block = r->position / BLOCK_BYTES;
    bool inside = block >= r->first && block < r->started;
    if (block == r->first + 1)
        r->n_ahead = r->n_ahead * 2 < r->n_slots ? r->n_ahead * 2 : r->n_slots;
    else if (!inside)
        r->n_ahead = 1;
    /* A slot may only be started again once its read is over. */
    for (uint64_t last = inside ? block : r->started; r->first < last; r->first++)
        ees__readq_wait(r->queue, (unsigned)(r->first % r->n_slots));
    if (!inside)
        r->first = r->started = block;
}

static int load_block(struct ees__reader *r, ees_error *err) {
    move_window(r);
    EES_TRY(start_blocks(r, err));
    unsigned slot = (unsigned)(r->first % r->n_slots);
    int64_t n = ees__readq_wait(r->queue, slot);
    if (n < 0)
        return EES_FAIL_OS(err, n == -ENOMEM ? EES_ENOMEM : EES_ESOURCE, (int)-n, "%s: cannot read at byte %llu",
                           r->name, (unsigned long long)(r->first * BLOCK_BYTES));
    r->data = ees__readq_data(r->queue, slot);
    r->data_begin = r->first * BLOCK_BYTES;
    r->n_data = (size_t)n;
    r->loaded = true;
    return 0;
}

/* ---- streams ---- */

static int wait_readable(struct ees__reader *r, ees_error *err) {
    struct pollfd fds[3] = {{.fd = r->fd, .events = POLLIN},
                            {.fd = r->stop->fd, .events = POLLIN},
                            {.fd = r->stop->caller_fd, .events = POLLIN}}; /* -1 is passed over */
    while (poll(fds, 3, -1) < 0)
        if (errno != EINTR)
            return EES_FAIL_OS(err, EES_ESOURCE, errno, "%s: cannot wait for byte %llu", r->name,
                               (unsigned long long)r->position);
    if (ees__stop_wanted(r->stop))
        return EES_ECANCELED;
    return 0;
}

/* Append what has arrived to the block at hand. *n is 0 at the end. */
static int read_some(struct ees__reader *r, size_t *n, ees_error *err) {
    for (;;) {
        EES_TRY(wait_readable(r, err));
        ssize_t got = read(r->fd, r->stream_block + r->n_data, BLOCK_BYTES - r->n_data);
        if (got >= 0) {
            r->n_data += (size_t)got;
            *n = (size_t)got;
            return 0;
        }
        if (errno != EINTR && errno != EAGAIN)
            return EES_FAIL_OS(err, EES_ESOURCE, errno, "%s: cannot read at byte %llu", r->name,
                               (unsigned long long)(r->data_begin + r->n_data));
    }
}

static int load_stream(struct ees__reader *r, ees_error *err) {
    size_t n;
    r->data = r->stream_block;
    r->data_begin = r->position;
    r->n_data = 0;
    r->loaded = true;
    return read_some(r, &n, err);
}

/* ---- interface ---- */

static bool at_hand(const struct ees__reader *r) {
    return r->loaded && r->position >= r->data_begin && r->position < r->data_begin + r->n_data;
}

int ees__reader_view(struct ees__reader *r, const uint8_t **data, size_t *n, ees_error *err) {
    if (ees__stop_wanted(r->stop))
        return EES_ECANCELED;
    if (!at_hand(r))
        EES_TRY(r->queue ? load_block(r, err) : load_stream(r, err));
    uint64_t into = r->position - r->data_begin;
    *n = into < r->n_data ? r->n_data - (size_t)into : 0;
    *data = *n ? r->data + into : NULL;
    return 0;
}

int ees__reader_head(struct ees__reader *r, size_t n, const uint8_t **data, size_t *n_have, ees_error *err) {
    EES_TRY(ees__reader_view(r, data, n_have, err));
    size_t got = *n_have;
    while (!r->queue && got > 0 && r->n_data < n)
        EES_TRY(read_some(r, &got, err));
    if (!r->queue)
        *n_have = r->n_data;
    if (*n_have > n)
        *n_have = n;
    return 0;
}

void ees__reader_consume(struct ees__reader *r, size_t n) { r->position += n; }

int ees__reader_read(struct ees__reader *r, void *dst, size_t n, size_t *n_got, ees_error *err) {
    *n_got = 0;
    while (n > 0) {
        const uint8_t *data;
        size_t have;
        EES_TRY(ees__reader_view(r, &data, &have, err));
        if (have == 0)
            break;
        if (have > n)
            have = n;
        memcpy((char *)dst + *n_got, data, have);
        ees__reader_consume(r, have);
        *n_got += have;
        n -= have;
    }
    return 0;
}

int ees__reader_skip(struct ees__reader *r, uint64_t n, ees_error *err) {
    if (r->queue) {
        r->position = n < FAR_AWAY - r->position ? r->position + n : FAR_AWAY;
        return 0;
    }
    while (n > 0) {
        const uint8_t *data;
        size_t have;
        EES_TRY(ees__reader_view(r, &data, &have, err));
        if (have == 0)
            break;
        if (have > n)
            have = (size_t)n;
        ees__reader_consume(r, have);
        n -= have;
    }
    return 0;
}

void ees__reader_seek(struct ees__reader *r, uint64_t position) { r->position = position; }

bool ees__reader_can_seek(const struct ees__reader *r) { return r->queue != NULL; }
uint64_t ees__reader_position(const struct ees__reader *r) { return r->position; }
int64_t ees__reader_size(const struct ees__reader *r) { return r->size; }
const char *ees__reader_name(const struct ees__reader *r) { return r->name; }
const char *ees__reader_backend(const struct ees__reader *r) { return r->backend; }

void ees__reader_close(struct ees__reader *r) {
    if (!r)
        return;
    ees__readq_close(r->queue);
    ees__free(r->stream_block);
    close(r->fd);
    ees__free(r);
}
