/* SPDX-License-Identifier: MIT */
/* Queue of reads over io_uring with openat/pread behind it.
 *
 * io_uring is an optimisation here, never an authority: a slot whose request fails, comes back short or never
 * returns is finished with plain system calls, and only their errors are reported. When a system call succeeds where
 * the ring failed, or the ring itself fails (EPERM, ENOSYS, ENOMEM... from setup, probe or enter, at any time), the
 * ring is retired and the queue goes on without it.
 *
 * The one danger is a request that is still in the kernel's hands when the ring is retired: it may write into its
 * buffer later. So retiring first reaps completions straight from the shared memory, which needs no system call of
 * the ring's own; a buffer whose request has not come back after that is given up for good (leaked on purpose), and
 * the slot gets a new one. */
#define _GNU_SOURCE
#include "io/readq.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fail.h"
#include "common/mem.h"

enum {
    RETIRE_LIMIT_MS = 2000,
    RETIRE_POLL_US = 200,
    MAX_REQUEST = 1 << 30,
    OPEN_FLAGS = O_RDONLY | O_CLOEXEC | O_NONBLOCK
};

enum phase { PHASE_DONE = 0, PHASE_OPEN, PHASE_READ };

struct slot {
    enum phase phase;
    bool in_ring;        /* handed to the ring and not yet reaped: the kernel may write to data */
    unsigned submit_seq; /* position in the submission queue, when in_ring */
    int ring_errno;      /* what the ring said against this slot, 0: nothing */
    int fd;              /* file to read */
    bool own_fd;         /* opened by us: closed when done */
    int dir_fd;
    const char *path;
    uint64_t offset;
    size_t want, got, max_bytes;
    int error; /* errno of a finished slot */
    uint8_t *data;
    size_t capacity;
};

struct ees__readq {
    struct io_uring ring;
    bool has_ring, retiring;
    unsigned n_submitted; /* requests put into the submission queue so far */
    unsigned n_slots;
    struct slot slots[];
};

/* Grow the slot's buffer; its content is lost. */
static int reserve(struct slot *slot, size_t n) {
    if (n <= slot->capacity)
        return 0;
    size_t slack = slot->capacity ? n / 4 : 0; /* it grows again and again: files of different sizes */
    size_t capacity = ees__round_up(n + slack, 4096);
    uint8_t *data = ees__calloc_aligned(capacity, 1);
    if (!data)
        return -1;
    ees__free(slot->data);
    slot->data = data;
    slot->capacity = capacity;
    return 0;
}

static void finish_slot(struct slot *slot, int error) {
    slot->phase = PHASE_DONE;
    slot->error = error;
    if (slot->own_fd)
        close(slot->fd);
    slot->own_fd = false;
}

/* The file is open: learn its size, make room. A step of ees__readq_start_file(). */
static void begin_file_read(struct slot *slot, int fd) {
    struct stat st;
    slot->fd = fd;
    slot->own_fd = true;
    slot->phase = PHASE_READ;
    if (fstat(fd, &st) < 0) {
        finish_slot(slot, errno);
        return;
    }
    if (!S_ISREG(st.st_mode)) {
        finish_slot(slot, EINVAL);
    } else if ((uint64_t)st.st_size > slot->max_bytes) {
        finish_slot(slot, EFBIG);
    } else if (reserve(slot, (size_t)st.st_size) < 0) {
        finish_slot(slot, ENOMEM);
    } else {
        slot->want = (size_t)st.st_size;
        if (slot->want == 0)
            finish_slot(slot, 0);
    }
}

/* ---- without the ring ---- */

static void open_sync(struct slot *slot) {
    int fd = openat(slot->dir_fd, slot->path, OPEN_FLAGS);
    if (fd < 0)
        finish_slot(slot, errno);
    else
        begin_file_read(slot, fd);
}

static void read_sync(struct slot *slot) {
    while (slot->got < slot->want) {
        ssize_t n = pread(slot->fd, slot->data + slot->got, slot->want - slot->got, (off_t)(slot->offset + slot->got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            finish_slot(slot, errno);
            return;
        }
        if (n == 0)
            break;
        slot->got += (size_t)n;
    }
    finish_slot(slot, 0);
}

static void complete_sync(struct slot *slot) {
    if (slot->phase == PHASE_OPEN)
        open_sync(slot);
    if (slot->phase == PHASE_READ)
        read_sync(slot);
}

/* ---- with the ring ---- */

static void retire_ring(struct ees__readq *q);

/* Queue the slot's next request. Where that is not possible the slot simply stays as it is, for complete_sync(). */
static void queue_request(struct ees__readq *q, struct slot *slot) {
    if (!q->has_ring || q->retiring || slot->phase == PHASE_DONE)
        return;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
    if (!sqe)
        return;
    size_t n = slot->want - slot->got;
    if (slot->phase == PHASE_OPEN)
        io_uring_prep_openat(sqe, slot->dir_fd, slot->path, OPEN_FLAGS, 0);
    else
        io_uring_prep_read(sqe, slot->fd, slot->data + slot->got, n < MAX_REQUEST ? (unsigned)n : MAX_REQUEST,
                           slot->offset + slot->got);
    io_uring_sqe_set_data(sqe, slot);
    slot->in_ring = true;
    slot->submit_seq = q->n_submitted++;
}

static void submit(struct ees__readq *q) {
    if (!q->has_ring || q->retiring)
        return;
    int rc = io_uring_submit(&q->ring);
    if (rc < 0 && rc != -EINTR) /* after EINTR the requests are still queued: the wait submits them */
        retire_ring(q);
}

static void handle_completion(struct ees__readq *q, const struct io_uring_cqe *cqe) {
    struct slot *slot = io_uring_cqe_get_data(cqe);
    slot->in_ring = false;
    if (cqe->res < 0) {
        slot->ring_errno = -cqe->res;
    } else if (slot->phase == PHASE_OPEN) {
        begin_file_read(slot, cqe->res);
        queue_request(q, slot);
    } else {
        slot->got += (size_t)cqe->res;
        if (slot->got == slot->want || cqe->res == 0)
            finish_slot(slot, 0);
    }
}

/* Reap all completions that have arrived, without a system call. */
static void reap(struct ees__readq *q) {
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe(&q->ring, head, cqe) {
        handle_completion(q, cqe);
        n++;
    }
    io_uring_cq_advance(&q->ring, n);
}

static bool any_in_ring(const struct ees__readq *q) {
    for (unsigned i = 0; i < q->n_slots; i++)
        if (q->slots[i].in_ring)
            return true;
    return false;
}

/* Requests the kernel has not taken from the submission queue will never run. */
static void forget_unsubmitted(struct ees__readq *q) {
    /* acquire, pairs with the kernel's release of the head once it has copied an entry */
    unsigned taken = __atomic_load_n(q->ring.sq.khead, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < q->n_slots; i++)
        if (q->slots[i].in_ring && (int)(q->slots[i].submit_seq - taken) >= 0)
            q->slots[i].in_ring = false;
}

/* The kernel may write to the buffer at any later time: leave it alone for ever. */
static void abandon_buffer(struct slot *slot) {
    slot->in_ring = false;
    if (slot->phase != PHASE_READ)
        return;
    size_t capacity = slot->capacity;
    slot->data = NULL;
    slot->capacity = 0;
    slot->got = 0;
    if (reserve(slot, capacity) < 0)
        finish_slot(slot, ENOMEM);
}

static void retire_ring(struct ees__readq *q) {
    const struct timespec pause = {.tv_nsec = RETIRE_POLL_US * 1000};
    uint64_t give_up_ns = ees__now_ns() + RETIRE_LIMIT_MS * 1000000ull;
    q->retiring = true;
    forget_unsubmitted(q);
    reap(q);
    while (any_in_ring(q) && ees__now_ns() < give_up_ns) {
        nanosleep(&pause, NULL); /* entering the kernel also lets it post completions that wait for this thread */
        reap(q);
    }
    io_uring_queue_exit(&q->ring);
    q->has_ring = false;
    for (unsigned i = 0; i < q->n_slots; i++)
        if (q->slots[i].in_ring)
            abandon_buffer(&q->slots[i]);
}

static void wait_in_ring(struct ees__readq *q, const struct slot *slot) {
    while (slot->in_ring && q->has_ring) {
        struct io_uring_cqe *cqe;
        int rc = io_uring_submit(&q->ring); /* what handle_completion() queued, what EINTR left; free when empty */
        if (rc >= 0 || rc == -EINTR)
            rc = io_uring_wait_cqe(&q->ring, &cqe);
        if (rc < 0 && rc != -EINTR)
            retire_ring(q);
        else
            reap(q);
    }
}

/* Did the ring refuse something that the system calls could do? Cancelled requests (their thread has ended) and
 * interruptions say nothing about the next ones. */
static bool ring_was_wrong(const struct slot *slot) {
    return slot->ring_errno && slot->error == 0 && slot->ring_errno != ECANCELED && slot->ring_errno != EINTR &&
           slot->ring_errno != EAGAIN;
}

/* ---- interface ---- */

/* @return 0 or errno */
static int open_ring(struct ees__readq *q) {
    int rc = io_uring_queue_init(q->n_slots, &q->ring, 0);
    if (rc < 0)
        return -rc;
    struct io_uring_probe *probe = io_uring_get_probe_ring(&q->ring);
    bool usable =
        probe && io_uring_opcode_supported(probe, IORING_OP_READ) && io_uring_opcode_supported(probe, IORING_OP_OPENAT);
    io_uring_free_probe(probe);
    if (!usable) {
        io_uring_queue_exit(&q->ring);
        return EOPNOTSUPP;
    }
    q->has_ring = true;
    return 0;
}

int ees__readq_open(enum ees_io_backend io, unsigned n_slots, struct ees__readq **out, ees_error *err) {
    struct ees__readq *q = ees__calloc_aligned(1, sizeof *q + n_slots * sizeof q->slots[0]);
    if (!q)
        return EES_FAIL(err, EES_ENOMEM, "no memory for a queue of %u reads", n_slots);
    q->n_slots = n_slots;
    int refused = io == EES_IO_PREAD ? 0 : open_ring(q);
    if (refused && io == EES_IO_URING) {
        ees__free(q);
        EES_FAIL_OS(err, EES_EUNSUPPORTED, refused, "io_uring is not usable here");
        ees__hint(err, "use the io backend 'auto' or 'pread'");
        return EES_EUNSUPPORTED;
    }
    *out = q;
    return 0;
}

int ees__readq_start_block(struct ees__readq *q, unsigned slot_idx, int fd, uint64_t offset, size_t n) {
    struct slot *slot = &q->slots[slot_idx];
    if (reserve(slot, n) < 0)
        return EES_ENOMEM;
    slot->phase = PHASE_READ;
    slot->fd = fd;
    slot->offset = offset;
    slot->want = n;
    slot->got = 0;
    slot->error = slot->ring_errno = 0;
    queue_request(q, slot);
    submit(q);
    return 0;
}

void ees__readq_start_file(struct ees__readq *q, unsigned slot_idx, int dir_fd, const char *path, size_t max_bytes) {
    struct slot *slot = &q->slots[slot_idx];
    slot->phase = PHASE_OPEN;
    slot->dir_fd = dir_fd;
    slot->path = path;
    slot->max_bytes = max_bytes;
    slot->offset = 0;
    slot->want = slot->got = 0;
    slot->error = slot->ring_errno = 0;
    queue_request(q, slot);
    submit(q);
}

int64_t ees__readq_wait(struct ees__readq *q, unsigned slot_idx) {
    struct slot *slot = &q->slots[slot_idx];
    wait_in_ring(q, slot);
    complete_sync(slot);
    if (q->has_ring && ring_was_wrong(slot))
        retire_ring(q);
    return slot->error ? -(int64_t)slot->error : (int64_t)slot->got;
}

const uint8_t *ees__readq_data(const struct ees__readq *q, unsigned slot_idx) { return q->slots[slot_idx].data; }

bool ees__readq_uses_uring(const struct ees__readq *q) { return q->has_ring; }

void ees__readq_close(struct ees__readq *q) {
    if (!q)
        return;
    if (q->has_ring)
        retire_ring(q);
    for (unsigned i = 0; i < q->n_slots; i++) {
        finish_slot(&q->slots[i], 0);
        ees__free(q->slots[i].data);
    }
    ees__free(q);
}
