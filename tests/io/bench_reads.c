/* SPDX-License-Identifier: MIT */
/* bench_reads ROUNDS PATH...: ways to read a file in blocks, or all files of a folder, cached and cold (its pages
 * dropped by posix_fadvise): the queue of io/readq.h with pread and with io_uring, and what it does not do, requests
 * submitted many at a time, also into registered buffers. Milliseconds of wall clock and of the process' CPU time (the
 * kernel's io_uring threads included), medians of rounds that alternate. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "io/readq.h"

enum { BLOCK_BYTES = 256 * 1024, N_SLOTS = 16, MAX_ROUNDS = 99 };
enum way { PREAD, RING, BATCHES, FIXED_BATCHES, N_WAYS };
static const char *const way_names[N_WAYS] = {"pread", "io_uring", "io_uring, batches", "batches, registered buffers"};

/* A file is read block by block, a folder file by file: n pieces either way. */
struct input {
    const char *path;
    int fd;       /* of the file, or the folder */
    char **names; /* NULL: a file */
    size_t n;
    uint64_t file_bytes;
};

static void check(bool good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static size_t piece_bytes(const struct input *in, size_t i) {
    uint64_t left = in->file_bytes - i * BLOCK_BYTES;
    return left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
}

/* ---- The project's queue ------------------------------------------------------------------------------- */

static void start_piece(struct ees__readq *q, const struct input *in, size_t i) {
    if (in->names)
        ees__readq_start_file(q, (unsigned)(i % N_SLOTS), in->fd, in->names[i], 1 << 30);
    else
        check(ees__readq_start_block(q, (unsigned)(i % N_SLOTS), in->fd, i * BLOCK_BYTES, piece_bytes(in, i)) == 0,
              "start");
}

static uint64_t read_by_queue(const struct input *in, enum ees_io_backend io) {
    struct ees__readq *q;
    uint64_t n_bytes = 0;
    check(ees__readq_open(io, N_SLOTS, &q, NULL) == 0, "queue");
    for (size_t i = 0, started = 0; i < in->n; i++) {
        for (; started < in->n && started < i + N_SLOTS; started++)
            start_piece(q, in, started);
        int64_t n = ees__readq_wait(q, (unsigned)(i % N_SLOTS));
        check(n >= 0, "wait");
        n_bytes += (uint64_t)n;
    }
    ees__readq_close(q);
    return n_bytes;
}

/* ---- Many requests a system call ----------------------------------------------------------------------- */

/* Submit what is queued, take n completions. @param results  by slot */
static void run_batch(struct io_uring *ring, unsigned n, int *results) {
    check(io_uring_submit_and_wait(ring, n) >= 0, "submit");
    for (unsigned k = 0; k < n; k++) {
        struct io_uring_cqe *cqe;
        check(io_uring_wait_cqe(ring, &cqe) == 0, "completion");
        check(cqe->res >= 0, "request");
        results[cqe->user_data] = cqe->res;
        io_uring_cqe_seen(ring, cqe);
    }
}

static void queue_read(struct io_uring *ring, unsigned slot, int fd, unsigned char *data, size_t n, uint64_t offset,
                       bool fixed) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    if (fixed)
        io_uring_prep_read_fixed(sqe, fd, data, (unsigned)n, offset, (int)slot);
    else
        io_uring_prep_read(sqe, fd, data, (unsigned)n, offset);
    sqe->user_data = slot;
}

static void open_files(struct io_uring *ring, const struct input *in, size_t at, unsigned n, int *fds) {
    for (unsigned k = 0; k < n; k++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
        io_uring_prep_openat(sqe, in->fd, in->names[at + k], O_RDONLY | O_CLOEXEC, 0);
        sqe->user_data = k;
    }
    run_batch(ring, n, fds);
}

static size_t file_bytes(int fd) {
    struct stat st;
    check(fstat(fd, &st) == 0, "fstat");
    return st.st_size < BLOCK_BYTES ? (size_t)st.st_size : BLOCK_BYTES;
}

static uint64_t read_batches(const struct input *in, unsigned char *buffers, bool fixed) {
    struct io_uring ring;
    struct iovec parts[N_SLOTS];
    uint64_t n_bytes = 0;
    check(io_uring_queue_init(N_SLOTS, &ring, 0) == 0, "ring");
    for (unsigned k = 0; k < N_SLOTS; k++)
        parts[k] = (struct iovec){buffers + (size_t)k * BLOCK_BYTES, BLOCK_BYTES};
    check(!fixed || io_uring_register_buffers(&ring, parts, N_SLOTS) == 0, "register");
    for (size_t at = 0; at < in->n; at += N_SLOTS) {
        unsigned n = in->n - at < N_SLOTS ? (unsigned)(in->n - at) : N_SLOTS;
        int fds[N_SLOTS], got[N_SLOTS];
        if (in->names)
            open_files(&ring, in, at, n, fds);
        for (unsigned k = 0; k < n; k++)
            queue_read(&ring, k, in->names ? fds[k] : in->fd, parts[k].iov_base,
                       in->names ? file_bytes(fds[k]) : piece_bytes(in, at + k), in->names ? 0 : (at + k) * BLOCK_BYTES,
                       fixed);
        run_batch(&ring, n, got);
        for (unsigned k = 0; k < n; k++) {
            n_bytes += (uint64_t)got[k];
            if (in->names)
                close(fds[k]);
        }
    }
    io_uring_queue_exit(&ring);
    return n_bytes;
}

/* ---- Rounds -------------------------------------------------------------------------------------------- */

static void drop_file(int fd) { check(fd >= 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0, "fadvise"); }

static void drop_pages(const struct input *in) {
    if (!in->names)
        drop_file(in->fd);
    for (size_t i = 0; in->names && i < in->n; i++) {
        int fd = openat(in->fd, in->names[i], O_RDONLY);
        drop_file(fd);
        close(fd);
    }
}

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t read_input(const struct input *in, enum way way, unsigned char *buffers) {
    if (way < BATCHES)
        return read_by_queue(in, way == PREAD ? EES_IO_PREAD : EES_IO_URING);
    return read_batches(in, buffers, way == FIXED_BATCHES);
}

static void bench_input(const struct input *in, bool cold, size_t n_rounds, unsigned char *buffers) {
    static double wall[N_WAYS][MAX_ROUNDS], cpu[N_WAYS][MAX_ROUNDS];
    const uint64_t n_bytes = read_input(in, PREAD, buffers); /* fills the cache */
    for (size_t round = 0; round < n_rounds; round++)
        for (unsigned k = 0; k < N_WAYS; k++) {
            enum way way = (enum way)((k + round) % N_WAYS);
            if (cold)
                drop_pages(in);
            double cpu_before = cpu_ms();
            uint64_t before = ees__now_ns();
            if (read_input(in, way, buffers) != n_bytes)
                exit(fprintf(stderr, "%s: bytes are missing\n", in->path));
            wall[way][round] = (double)(ees__now_ns() - before) * 1e-6;
            cpu[way][round] = cpu_ms() - cpu_before;
        }
    for (unsigned way = 0; way < N_WAYS; way++) {
        qsort(wall[way], n_rounds, sizeof(double), by_value);
        qsort(cpu[way], n_rounds, sizeof(double), by_value);
        printf("| %s, %zu pieces, %.1f MB, %s | %s | %.1f (%.1f-%.1f) | %.1f (%.1f-%.1f) |\n", in->path, in->n,
               (double)n_bytes * 1e-6, cold ? "cold" : "cached", way_names[way], wall[way][n_rounds / 2], wall[way][0],
               wall[way][n_rounds - 1], cpu[way][n_rounds / 2], cpu[way][0], cpu[way][n_rounds - 1]);
    }
}

static void list_folder(struct input *in) {
    DIR *dir = opendir(in->path);
    check(dir != NULL, in->path);
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.')
            continue;
        in->names = realloc(in->names, (in->n + 1) * sizeof *in->names);
        check(in->names && (in->names[in->n++] = strdup(d->d_name)), "list");
    }
    closedir(dir);
}

static void open_input(struct input *in, const char *path) {
    struct stat st;
    *in = (struct input){.path = path, .fd = open(path, O_RDONLY)};
    check(in->fd >= 0 && fstat(in->fd, &st) == 0, path);
    in->file_bytes = (uint64_t)st.st_size;
    if (S_ISDIR(st.st_mode))
        list_folder(in);
    else
        in->n = (size_t)((in->file_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
}

int main(int argc, char **argv) {
    unsigned long n_rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    unsigned char *buffers = aligned_alloc(4096, (size_t)N_SLOTS * BLOCK_BYTES);
    if (argc < 3 || n_rounds < 1 || n_rounds > MAX_ROUNDS || !buffers)
        return fprintf(stderr, "usage: bench_reads ROUNDS PATH..., 1 to %d rounds\n", MAX_ROUNDS), 2;
    printf("| input | way | wall ms | CPU ms |\n|---|---|---|---|\n");
    for (int i = 2; i < argc; i++) {
        struct input in;
        open_input(&in, argv[i]);
        bench_input(&in, false, n_rounds, buffers);
        bench_input(&in, true, n_rounds, buffers);
        for (size_t k = 0; k < in.n && in.names; k++)
            free(in.names[k]);
        free(in.names);
        close(in.fd);
    }
    free(buffers);
    return 0;
}
