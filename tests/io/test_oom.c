/* SPDX-License-Identifier: MIT */
/* Memory that runs out: every allocation of opening and reading each kind of source fails once, and from there on for
 * good. The outcome is either the right one or EES_ENOMEM with nothing leaked (AddressSanitizer) and nothing hanging.
 */
#define _GNU_SOURCE
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eestream/tensors.h"

/* ---- allocation under control (linker option --wrap) ---- */

static unsigned n_until_failure; /* 0: never */
static unsigned n_allocations;
static bool for_good, failed;

static bool fails(void) {
    n_allocations++;
    if (n_until_failure == 0 || --n_until_failure > 0)
        return false;
    n_until_failure = for_good; /* the next one fails again, or none does */
    return failed = true;
}

void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
char *__wrap_strdup(const char *s);

void *__wrap_malloc(size_t n) { return fails() ? NULL : __real_malloc(n); }
void *__wrap_realloc(void *p, size_t n) { return fails() ? NULL : __real_realloc(p, n); }
void *__wrap_aligned_alloc(size_t alignment, size_t n) { return fails() ? NULL : __real_aligned_alloc(alignment, n); }
char *__wrap_strdup(const char *s) { return fails() ? NULL : __real_strdup(s); }

/* Fail the 1st, 2nd, ... allocation of `attempt` until it gets through without meeting one. attempt() returns
 * EES_ENOMEM, or anything else when its outcome was right. */
static void exhaust(int (*attempt)(void *argument), void *argument) {
    for (int good = 0; good < 2; good++)
        for (unsigned n = 1;; n++) {
            for_good = good != 0;
            failed = false;
            n_until_failure = n;
            int rc = attempt(argument);
            n_until_failure = 0;
            if (!failed) {
                assert_true(n > 2);
                assert_int_not_equal(rc, EES_ENOMEM);
                break;
            }
            assert_int_equal(rc, EES_ENOMEM);
            assert_true(n < 10000);
        }
}

/* ---- sources ---- */

struct read {
    const char *uri;
    const char *raw;
    unsigned n_frames;
};

static int read_frames(void *argument) {
    const struct read *r = argument;
    ees_source_options options = default_options();
    ees_source *s;
    ees_frame frames[4]; /* some stay out until the end */
    ees_error err = {0};
    unsigned n = 0;
    options.raw = r->raw;
    options.io = EES_IO_PREAD;
    int rc = ees_source_open(r->uri, &options, &s, &err);
    if (rc < 0)
        return rc == err.code ? rc : EES_EINTERNAL;
    for (; (rc = ees_source_next(s, &frames[n % 4], &err)) == 0; n++)
        if (n % 4 == 3)
            for (int i = 0; i < 4; i++)
                frames[i].release(frames[i].opaque);
    ees_source_close(s);
    for (unsigned i = 0; i < n % 4; i++)
        frames[i].release(frames[i].opaque);
    if (rc == EES_EOF)
        return n == r->n_frames ? rc : EES_EINTERNAL;
    return rc == err.code ? rc : EES_EINTERNAL;
}

static void put_frames(struct bytes *b, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        put_jpeg(b, i, 3000u << i, i % 2); /* growing, with and without tables */
}

static void test_mjpeg(void **state) {
    struct bytes b = {0};
    put_frames(&b, 6);
    struct read r = {write_file("x.mjpeg", b.data, b.n), NULL, 6};
    exhaust(read_frames, &r);
    drop(&b);
}

static void test_images(void **state) {
    make_subfolder("d");
    make_subfolder("d/class");
    for (unsigned i = 0; i < 6; i++) {
        struct bytes b = {0};
        char name[32];
        put_jpeg(&b, i, 2000u << i, 1);
        snprintf(name, sizeof name, i % 2 ? "d/%u.jpg" : "d/class/%u.jpg", i);
        write_file(name, b.data, b.n);
        drop(&b);
    }
    struct read r = {in_folder("d"), NULL, 6};
    exhaust(read_frames, &r);
    r.uri = in_folder("d/*.jpg");
    r.n_frames = 3;
    exhaust(read_frames, &r);
}

static void test_y4m_and_raw(void **state) {
    struct bytes b = {0};
    put_text(&b, "YUV4MPEG2 W4 H2\n");
    for (int i = 0; i < 5; i++)
        put_text(&b, "FRAME\n123456789012");
    struct read r = {write_file("x.y4m", b.data, b.n), NULL, 5};
    exhaust(read_frames, &r);
    r = (struct read){write_file("x.raw", b.data, 48), "rgb24:4x2", 2};
    exhaust(read_frames, &r);
    drop(&b);
}

static void test_avi(void **state) {
    struct bytes b = {0}, jpeg = {0};
    put_text(&b, "RIFF....AVI LIST....hdrlLIST....strlstrh");
    put_u32(&b, 56);
    put_text(&b, "vidsMJPG");
    put_zeros(&b, 12);
    put_u32(&b, 1);
    put_u32(&b, 25);
    put_zeros(&b, 28);
    put_text(&b, "LIST");
    put_u32(&b, 0);
    put_text(&b, "movi");
    for (unsigned i = 0; i < 6; i++) {
        jpeg.n = 0;
        put_jpeg(&jpeg, i, 3000u << i, i % 2);
        put_text(&b, "00dc");
        put_u32(&b, i == 3 ? 7 : (uint32_t)jpeg.n); /* one has to be searched for */
        put(&b, jpeg.data, jpeg.n + (jpeg.n & 1));
    }
    struct read r = {write_file("x.avi", b.data, b.n), NULL, 6};
    exhaust(read_frames, &r);
    drop(&b);
    drop(&jpeg);
}

static void test_made_up(void **state) {
    struct read r = {"synthetic:64x48,frames=20", NULL, 20};
    exhaust(read_frames, &r);
}

/* Once its buffers have grown to the largest frame, a source allocates nothing. */
static void check_steady(const char *uri, unsigned n_frames) {
    ees_source *s;
    ees_frame frame, last = {0};
    unsigned n = 0;
    assert_int_equal(ees_source_open(uri, NULL, &s, NULL), 0);
    for (; ees_source_next(s, &frame, NULL) == 0; n++) {
        if (n > 0)
            last.release(last.opaque); /* two are out at a time */
        last = frame;
        if (n == n_frames / 2)
            n_allocations = 0;
    }
    assert_int_equal(n_allocations, 0);
    assert_int_equal(n, n_frames);
    last.release(last.opaque);
    ees_source_close(s);
}

static void test_steady(void **state) {
    struct bytes b = {0};
    make_subfolder("steady");
    for (unsigned i = 0; i < 100; i++) {
        char name[32];
        size_t begin = b.n;
        put_jpeg(&b, i, 5000, i % 2);
        snprintf(name, sizeof name, "steady/%02u.jpg", i);
        write_file(name, b.data + begin, b.n - begin);
    }
    check_steady(write_file("steady.mjpeg", b.data, b.n), 100);
    check_steady(in_folder("steady"), 100);
    drop(&b);
}

/* ---- lists and tensors ---- */

static int read_list(void *path) {
    char **uris;
    size_t n;
    int rc = ees_source_read_list(path, &uris, &n, NULL);
    if (rc == 0)
        free(uris);
    return rc;
}

static void test_list(void **state) {
    char path[256];
    snprintf(path, sizeof path, "%s", write_file("a.list", "b\nc\n", 4));
    for_good = false;
    for (unsigned n = 1; n < 4;
         n++) { /* stdio allocates inside the C library, out of our reach: only ours are counted */
        n_until_failure = n;
        int rc = read_list(path);
        assert_int_equal(rc, n_until_failure ? 0 : EES_ENOMEM);
        n_until_failure = 0;
    }
}

static int open_tensors(void *path) {
    ees_tensors *t;
    ees_error err = {0};
    int rc = ees_tensors_open(path, &t, &err);
    if (rc == 0)
        ees_tensors_close(t);
    return rc == err.code ? rc : EES_EINTERNAL;
}

static void test_tensors(void **state) {
    struct bytes b = {0};
    const char *json = "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                       "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}";
    char path[256];
    put_u32(&b, (uint32_t)strlen(json));
    put_u32(&b, 0);
    put_text(&b, json);
    put_zeros(&b, 4);
    snprintf(path, sizeof path, "%s", write_file("x.safetensors", b.data, b.n));
    exhaust(open_tensors, path);
    drop(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mjpeg), cmocka_unit_test(test_images),  cmocka_unit_test(test_y4m_and_raw),
        cmocka_unit_test(test_avi),   cmocka_unit_test(test_made_up), cmocka_unit_test(test_steady),
        cmocka_unit_test(test_list),  cmocka_unit_test(test_tensors),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
