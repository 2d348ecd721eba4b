/* SPDX-License-Identifier: MIT */
/* The byte reader and its read queue: the same bytes through io_uring, pread and a pipe; io_uring refused in every way
 * a sandbox does it, at the start and midway; interruptions and short reads. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/reader.h"
#include "io/readq.h"

enum { FILE_BYTES = 3 * 1024 * 1024 + 12345 };

static uint8_t *content;
static char big_path[256];
static struct ees__stop stop;

static int make_content(void **state) {
    if (make_folder(state) < 0 || ees__stop_init(&stop, -1) < 0 || !(content = malloc(FILE_BYTES)))
        return -1;
    uint32_t x = 1;
    for (size_t i = 0; i < FILE_BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        content[i] = (uint8_t)(x >> 24);
    }
    snprintf(big_path, sizeof big_path, "%s", write_file("big", content, FILE_BYTES));
    return 0;
}

static int drop_content(void **state) {
    free(content);
    ees__stop_fini(&stop);
    return remove_folder(state);
}

static bool have_uring(void) {
    struct ees__readq *q;
    if (ees__readq_open(EES_IO_URING, 1, &q, NULL) < 0)
        return false;
    ees__readq_close(q);
    return true;
}

static struct ees__reader *open_path(const char *path, enum ees_io_backend io, size_t readahead) {
    struct ees__reader *r;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ees__reader_open(fd, "test", io, readahead, &stop, &r, NULL), 0);
    return r;
}

/* Is everything from `at` on as it should be? Reads in pieces of odd sizes. */
static bool reads_right(struct ees__reader *r, size_t at) {
    static uint8_t piece[40000];
    size_t want = 1, got;
    while (ees__reader_read(r, piece, want, &got, NULL) == 0 && got > 0) {
        if (at + got > FILE_BYTES || memcmp(piece, content + at, got) != 0)
            return false;
        at += got;
        want = (want * 7 + 13) % sizeof piece + 1;
    }
    return at == FILE_BYTES;
}

static void test_whole_file(void **state) {
    static const enum ees_io_backend backends[] = {EES_IO_AUTO, EES_IO_PREAD, EES_IO_URING};
    for (int i = 0; i < (have_uring() ? 3 : 2); i++)
        for (size_t readahead = 1; readahead <= 128; readahead *= 4) {
            struct ees__reader *r = open_path(big_path, backends[i], readahead);
            assert_int_equal(ees__reader_size(r), FILE_BYTES);
            assert_true(reads_right(r, 0));
            ees__reader_close(r);
        }
}

static void test_backend_names(void **state) {
    struct ees__reader *r = open_path(big_path, EES_IO_PREAD, 4);
    assert_string_equal(ees__reader_backend(r), "pread");
    ees__reader_close(r);
    r = open_path(big_path, EES_IO_AUTO, 4);
    assert_string_equal(ees__reader_backend(r), have_uring() ? "io_uring" : "pread");
    ees__reader_close(r);
}

/* Jumps near and far, forwards and backwards, onto block borders and beyond the end. */
static void check_seeks(enum ees_io_backend io) {
    struct ees__reader *r = open_path(big_path, io, 4);
    uint32_t x = 9;
    for (int i = 0; i < 400; i++) {
        uint8_t bytes[300];
        size_t got;
        x = x * 1664525u + 1013904223u;
        size_t at = (x >> 8) % FILE_BYTES;
        if (i % 5 == 0)
            at = (x >> 8) % 13 * 262144;
        else if (i % 5 < 3)
            at = ees__reader_position(r) + (x >> 8) % 700000;
        ees__reader_seek(r, at);
        assert_int_equal(ees__reader_read(r, bytes, sizeof bytes, &got, NULL), 0);
        size_t left = at < FILE_BYTES ? FILE_BYTES - at : 0;
        assert_int_equal(got, left < sizeof bytes ? left : sizeof bytes);
        if (got)
            assert_memory_equal(bytes, content + at, got);
    }
    ees__reader_seek(r, 777);
    assert_true(reads_right(r, 777));
    ees__reader_close(r);
}

static void test_seeks(void **state) {
    check_seeks(EES_IO_PREAD);
    check_seeks(EES_IO_AUTO);
}

static void test_skip_far(void **state) {
    struct ees__reader *r = open_path(big_path, EES_IO_AUTO, 4);
    const uint8_t *data;
    size_t n;
    assert_int_equal(ees__reader_skip(r, FILE_BYTES - 1, NULL), 0);
    assert_int_equal(ees__reader_view(r, &data, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_int_equal(*data, content[FILE_BYTES - 1]);
    assert_int_equal(ees__reader_skip(r, UINT64_MAX, NULL), 0);
    assert_int_equal(ees__reader_view(r, &data, &n, NULL), 0);
    assert_int_equal(n, 0);
    ees__reader_close(r);
}

/* ---- files read whole ---- */

static void test_small_files(void **state) {
    struct ees__readq *q;
    char paths[3][256];
    for (int io = EES_IO_AUTO; io <= EES_IO_PREAD; io++) {
        if (io == EES_IO_URING && !have_uring())
            continue;
        snprintf(paths[0], sizeof paths[0], "%s", write_file("a", content, 5000));
        snprintf(paths[1], sizeof paths[1], "%s", in_folder("none"));
        snprintf(paths[2], sizeof paths[2], "%s", write_file("empty", "", 0));
        assert_int_equal(ees__readq_open((enum ees_io_backend)io, 4, &q, NULL), 0);
        for (int round = 0; round < 3; round++) { /* errors of one file must not spoil the queue */
            for (unsigned i = 0; i < 3; i++)
                ees__readq_start_file(q, i, AT_FDCWD, paths[i], 6000);
            ees__readq_start_file(q, 3, AT_FDCWD, big_path, 6000);
            assert_int_equal(ees__readq_wait(q, 3), -EFBIG);
            assert_int_equal(ees__readq_wait(q, 0), 5000);
            assert_memory_equal(ees__readq_data(q, 0), content, 5000);
            assert_int_equal(ees__readq_wait(q, 1), -ENOENT);
            assert_int_equal(ees__readq_wait(q, 2), 0);
            ees__readq_start_file(q, 0, AT_FDCWD, in_folder("."), 6000);
            assert_int_equal(ees__readq_wait(q, 0), -EINVAL);
        }
        assert_true(ees__readq_uses_uring(q) == (io != EES_IO_PREAD && have_uring()));
        ees__readq_close(q);
    }
}

/* ---- io_uring refused ---- */

static void deny(int number, int error) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(77);
}

/* In a child: refuse `number` with `error` after `n_before` bytes, read the file, and check bytes and backend. The exit
 * code says what went wrong. */
static void run_denied(int number, int error, size_t n_before, const char *backend) {
    static uint8_t skipped[FILE_BYTES];
    size_t got;
    if (n_before == 0)
        deny(number, error);
    struct ees__reader *r = open_path(big_path, EES_IO_AUTO, 8);
    if (strcmp(ees__reader_backend(r), backend) != 0)
        _exit(2);
    if (n_before > 0) {
        if (ees__reader_read(r, skipped, n_before, &got, NULL) < 0 || memcmp(skipped, content, got) != 0)
            _exit(3);
        deny(number, error);
    }
    if (!reads_right(r, n_before))
        _exit(4);
    ees__reader_close(r);
    _exit(0);
}

static int wait_child(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Drop the file from the page cache, so that requests are still under way when the ring dies. */
static void evict(void) {
    int fd = open(big_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
}

static void check_denied(int number, int error, size_t n_before, const char *backend) {
    evict();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run_denied(number, error, n_before, backend);
    int rc = wait_child(pid);
    if (rc == 77) {
        print_message("skipped: no seccomp filters here\n");
        skip();
    }
    if (rc != 0)
        fail_msg("syscall %d, errno %d, after %zu bytes: %d", number, error, n_before, rc);
}

static void test_setup_denied(void **state) {
    static const int errors[] = {EPERM, ENOSYS, ENOMEM, EINVAL, EACCES};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        check_denied(SYS_io_uring_setup, errors[i], 0, "pread");
}

static void test_probe_denied(void **state) {
    if (!have_uring())
        skip();
    check_denied(SYS_io_uring_register, EPERM, 0, "pread");
    check_denied(SYS_io_uring_register, EINVAL, 0, "pread");
}

/* The ring can be made, but nothing can be handed to it: from the start, and after some blocks. */
static void test_enter_denied(void **state) {
    static const int errors[] = {ENOSYS, EPERM, ENOMEM, EINVAL, EBADF};
    static const size_t after[] = {0, 1, 262144, 262145, 1000000, 3000000, FILE_BYTES};
    if (!have_uring())
        skip();
    for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++)
        for (size_t i = 0; i < sizeof after / sizeof after[0]; i++)
            check_denied(SYS_io_uring_enter, errors[e], after[i], "io_uring");
}

/* The ring dies while one request (on a silent pipe) cannot come back: its buffer is given up, the others are read. */
static void run_lost_request(void) {
    struct ees__readq *q;
    int ends[2], fd = open(big_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pipe(ends) < 0 || ees__readq_open(EES_IO_URING, 3, &q, NULL) < 0)
        _exit(77);
    ees__readq_start_block(q, 0, ends[0], 0, 100000);
    ees__readq_start_block(q, 1, fd, 0, 100000);
    const uint8_t *lost = ees__readq_data(q, 0);
    deny(SYS_io_uring_enter, ENOSYS);
    ees__readq_start_block(q, 2, fd, 100000, 100000); /* notices */
    if (ees__readq_uses_uring(q))
        _exit(2);
    if (ees__readq_wait(q, 1) != 100000 || memcmp(ees__readq_data(q, 1), content, 100000) != 0)
        _exit(3);
    if (ees__readq_wait(q, 2) != 100000 || memcmp(ees__readq_data(q, 2), content + 100000, 100000) != 0)
        _exit(4);
    if (ees__readq_data(q, 0) == lost)
        _exit(5);
    if (ees__readq_wait(q, 0) != -ESPIPE) /* the system call behind it is pread */
        _exit(6);
    ees__readq_close(q);
    _exit(0);
}

static void test_lost_request(void **state) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run_lost_request();
    int rc = wait_child(pid);
    if (rc == 77)
        skip();
    assert_int_equal(rc, 0);
}

/* Asked for by name, a refused io_uring is an error. */
static void test_uring_demanded(void **state) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct ees__readq *q;
        ees_error err = {0};
        deny(SYS_io_uring_setup, EPERM);
        int rc = ees__readq_open(EES_IO_URING, 4, &q, &err);
        _exit(rc == EES_EUNSUPPORTED && err.os_errno == EPERM && err.hint[0] ? 0 : 5);
    }
    int rc = wait_child(pid);
    assert_true(rc == 0 || rc == 77);
}

/* Requests die with the thread that made them: what it started must still be read by another. */
static void *start_reading(void *argument) {
    struct ees__reader **r = argument;
    const uint8_t *data;
    size_t n;
    *r = open_path(big_path, EES_IO_AUTO, 16);
    ees__reader_view(*r, &data, &n, NULL);
    ees__reader_consume(*r, n);
    ees__reader_view(*r, &data, &n, NULL);
    return NULL;
}

static void test_thread_gone(void **state) {
    struct ees__reader *r;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, start_reading, &r), 0);
    pthread_join(thread, NULL);
    assert_true(reads_right(r, ees__reader_position(r)));
    ees__reader_close(r);
}

/* ---- streams ---- */

struct writer {
    int fd;
    size_t piece;
    unsigned pause_us;
};

static void *write_pieces(void *argument) {
    const struct writer *w = argument;
    for (size_t at = 0; at < FILE_BYTES;) {
        size_t n = FILE_BYTES - at < w->piece ? FILE_BYTES - at : w->piece;
        ssize_t done = write(w->fd, content + at, n);
        if (done < 0 &&
            errno == EINTR) /* test_interrupted()'s signals come here too, when the reader has one pending */
            continue;
        if (done < 0)
            break;
        at += (size_t)done;
        if (w->pause_us && at % 16 == 0)
            usleep(w->pause_us);
    }
    close(w->fd);
    return NULL;
}

static void check_pipe(size_t piece, unsigned pause_us) {
    int ends[2];
    pthread_t thread;
    struct ees__reader *r;
    assert_int_equal(pipe(ends), 0);
    struct writer w = {ends[1], piece, pause_us};
    assert_int_equal(pthread_create(&thread, NULL, write_pieces, &w), 0);
    assert_int_equal(ees__reader_open(ends[0], "pipe", EES_IO_URING, 4, &stop, &r, NULL), 0);
    assert_string_equal(ees__reader_backend(r), "stream");
    assert_false(ees__reader_can_seek(r));
    assert_int_equal(ees__reader_size(r), -1);
    const uint8_t *head;
    size_t n;
    assert_int_equal(ees__reader_head(r, 64, &head, &n, NULL), 0);
    assert_int_equal(n, 64); /* although pieces are shorter */
    assert_memory_equal(head, content, 64);
    assert_true(reads_right(r, 0));
    pthread_join(thread, NULL);
    ees__reader_close(r);
}

static void test_pipes(void **state) {
    check_pipe(1 << 20, 0);
    check_pipe(7919, 0);
    check_pipe(61, 0);
}

static void on_alarm(int number) {}

/* A signal every millisecond, without SA_RESTART: every wait is interrupted again and again. */
static void test_interrupted(void **state) {
    const struct sigaction action = {.sa_handler = on_alarm};
    const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    struct sigaction before;
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    check_pipe(997, 50);
    for (int i = 0; i < 5; i++) {
        struct ees__reader *r = open_path(big_path, i % 2 ? EES_IO_PREAD : EES_IO_AUTO, 4);
        assert_true(reads_right(r, 0));
        ees__reader_close(r);
    }
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    sigaction(SIGALRM, &before, NULL);
}

static void test_short_head(void **state) {
    int ends[2];
    struct ees__reader *r;
    const uint8_t *head;
    size_t n;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    close(ends[1]);
    assert_int_equal(ees__reader_open(ends[0], "pipe", EES_IO_AUTO, 4, &stop, &r, NULL), 0);
    assert_int_equal(ees__reader_head(r, 64, &head, &n, NULL), 0);
    assert_int_equal(n, 3);
    assert_memory_equal(head, "abc", 3);
    ees__reader_close(r);
}

/* ---- errors ---- */

/* A regular file whose first page cannot be read: the kernel answers EIO. */
static void test_io_error(void **state) {
    for (int io = EES_IO_AUTO; io <= EES_IO_PREAD; io += EES_IO_PREAD) {
        struct ees__reader *r = open_path("/proc/self/mem", (enum ees_io_backend)io, 4);
        ees_error err = {0};
        const uint8_t *data;
        size_t n;
        assert_int_equal(ees__reader_view(r, &data, &n, &err), EES_ESOURCE);
        assert_int_equal(err.os_errno, EIO);
        assert_non_null(strstr(err.message, "byte 0"));
        assert_int_equal(ees__reader_view(r, &data, &n, NULL), EES_ESOURCE); /* again */
        ees__reader_close(r);
    }
}

/* A file without a size in its inode still has bytes. */
static void test_procfs(void **state) {
    struct ees__reader *r = open_path("/proc/self/status", EES_IO_AUTO, 4);
    char text[6] = "";
    size_t got;
    assert_int_equal(ees__reader_read(r, text, 5, &got, NULL), 0);
    assert_string_equal(text, "Name:");
    ees__reader_close(r);
}

/* A file that becomes shorter ends early, without error. */
static void test_cut(void **state) {
    const char *path = write_file("cut", content, FILE_BYTES);
    struct ees__reader *r = open_path(path, EES_IO_AUTO, 1);
    static uint8_t bytes[FILE_BYTES];
    size_t got;
    assert_int_equal(ees__reader_read(r, bytes, 100, &got, NULL), 0);
    assert_int_equal(truncate(path, 600000), 0);
    assert_int_equal(ees__reader_read(r, bytes, FILE_BYTES, &got, NULL), 0);
    assert_int_equal(got, 600000 - 100);
    ees__reader_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_file),
        cmocka_unit_test(test_backend_names),
        cmocka_unit_test(test_seeks),
        cmocka_unit_test(test_skip_far),
        cmocka_unit_test(test_small_files),
        cmocka_unit_test(test_setup_denied),
        cmocka_unit_test(test_probe_denied),
        cmocka_unit_test(test_enter_denied),
        cmocka_unit_test(test_uring_demanded),
        cmocka_unit_test(test_lost_request),
        cmocka_unit_test(test_thread_gone),
        cmocka_unit_test(test_pipes),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_short_head),
        cmocka_unit_test(test_io_error),
        cmocka_unit_test(test_procfs),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, make_content, drop_content);
}
