/* SPDX-License-Identifier: MIT */
/* Profiles: measured on the fake model, scaled, saved and read back, and what damaged files say. */
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "eestream/plan.h"
#include "engine/affinity.h"
#include "fake_model.h"

static char folder[64], path[96];

static int set_up(void **state) {
    snprintf(folder, sizeof folder, "/tmp/ees-profile-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/p.json", folder);
    return 0;
}

static int tear_down(void **state) {
    unlink(path);
    return rmdir(folder); /* fails when a temporary file was left behind */
}

static void make_profile(ees_profile *p) {
    memset(p, 0, sizeof *p);
    p->n_units = 3;
    p->n_types = 2;
    p->batch = 4;
    for (unsigned t = 0; t < 2; t++) {
        snprintf(p->types[t].name, sizeof p->types[t].name, "%s", t ? "little" : "big");
        p->types[t].private_cache_bytes = (size_t)1 << (20 - t);
        for (unsigned u = 0; u < 3; u++) {
            p->types[t].cold_ns[u] = 1e6 / 3 * (u + 1) * (t + 1);
            p->types[t].warm_ns[u] = 0.1 + u;
            p->types[t].batch_ns[u] = 1e-3 * (u + 7);
        }
    }
    for (unsigned u = 0; u < 3; u++)
        p->weights_bytes[u] = 12345678u * (u + 1);
}

static void test_round_trip(void **state) {
    static ees_profile p, back;
    make_profile(&p);
    assert_int_equal(ees_profile_save(&p, "a key", path, NULL), 0);
    for (int i = 0; i < 2; i++) {
        memset(&back, 0, sizeof back);
        assert_int_equal(ees_profile_load(path, i ? "a key" : NULL, &back, NULL), 0);
        assert_memory_equal(&back, &p, sizeof p); /* to the last bit */
    }
    ees_error err = {0};
    back.batch = 77;
    assert_int_equal(ees_profile_load(path, "another", &back, &err), EES_EINVAL);
    assert_int_equal(back.batch, 77); /* untouched */
    assert_non_null(strstr(err.message, "'key' is \"a key\", expected 'another"));
    p.batch = 5; /* an older file is replaced */
    assert_int_equal(ees_profile_save(&p, "a key", path, NULL), 0);
    assert_int_equal(ees_profile_load(path, "a key", &back, NULL), 0);
    assert_int_equal(back.batch, 5);
}

static void test_unwritable(void **state) {
    static ees_profile p;
    ees_error err = {0};
    make_profile(&p);
    assert_int_equal(ees_profile_save(&p, "k", "/nowhere/at/all.json", &err), EES_EOUTPUT);
    assert_non_null(strstr(err.message, "/nowhere/at/all.json"));
    err = (ees_error){0};
    assert_int_equal(ees_profile_save(&p, "k", folder, &err), EES_EOUTPUT); /* a folder is in the way */
    char beside[160];
    snprintf(beside, sizeof beside, "%s.%ld.tmp", folder, (long)gettid());
    assert_int_not_equal(access(beside, F_OK), 0); /* nothing is left behind */
    err = (ees_error){0};
    assert_int_equal(ees_profile_load("/nowhere/at/all.json", NULL, &p, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "/nowhere/at/all.json"));
}

#define TYPE_TAIL "\"private_cache_bytes\":9,\"cold_ns\":[1,2],\"warm_ns\":[1,2],\"batch_ns\":[1,2]}"
#define HEAD      "{\"format\":\"eestream-profile-1\",\"key\":\"k\",\"batch\":2,"

static void test_damaged(void **state) {
    static ees_profile p;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "JSON"},
        {"[]", "no JSON object"},
        {"{\"format\":", "JSON"},
        {"{}", "'format' is missing"},
        {"{\"format\":\"other\"}", "'format' is \"other\", expected 'eestream-profile-1'"},
        {"{\"format\":\"eestream-profile-1\",\"batch\":0}", "'batch' is 0, expected an integer from 1 to 255"},
        {"{\"format\":\"eestream-profile-1\",\"batch\":1e3}", "'batch' is"},
        {HEAD "\"weights_bytes\":[]}", "'weights_bytes' is []"},
        {HEAD "\"weights_bytes\":7}", "'weights_bytes' is 7, expected a list of 1 to 256"},
        {HEAD "\"weights_bytes\":[1,-2]}", "'weights_bytes[1]' is -2"},
        {HEAD "\"weights_bytes\":[1,2.5]}", "'weights_bytes[1]' is 2.5"},
        {HEAD "\"weights_bytes\":[1,9223372036854775807]}", "'weights_bytes[1]' is 9223372036854775807"},
        {HEAD "\"weights_bytes\":[1,2]}", "'core_types' is missing"},
        {HEAD "\"weights_bytes\":[1,2],\"core_types\":[1]}", "'core_types[0]' is 1, expected an object"},
        {HEAD "\"weights_bytes\":[1,2],\"core_types\":[{},{},{},{},{}]}", "a list of 1 to 4"},
        {HEAD "\"weights_bytes\":[1,2],\"core_types\":[{" TYPE_TAIL "]}", "'core_types[0].name' is missing"},
        {HEAD "\"weights_bytes\":[1,2],\"core_types\":[{\"name\":\"abcdefghijklmnopq\"," TYPE_TAIL "]}",
         "a name of 1 to 15"},
        {HEAD "\"weights_bytes\":[1,2,3],\"core_types\":[{\"name\":\"a\"," TYPE_TAIL "]}",
         "'core_types[0].cold_ns' has 2 numbers, expected 3"},
        {HEAD "\"weights_bytes\":[1,2],\"core_types\":[{\"name\":\"a\",\"cold_ns\":[1,-1]}]}",
         "'core_types[0].cold_ns[1]' is -1"},
        {HEAD "\"weights_bytes\":[1,2],\"core_types\":[{\"name\":\"a\",\"cold_ns\":[1,1e300]}]}",
         "nanoseconds from 0 to 1e+15"},
        {HEAD "\"weights_bytes\":[1,2],\"core_types\":[{\"name\":\"a\",\"cold_ns\":[1,\"x\"]}]}",
         "'core_types[0].cold_ns[1]' is \"x\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ees_error err = {0};
        FILE *f = fopen(path, "w");
        fputs(bad[i].text, f);
        fclose(f);
        p.batch = 99;
        assert_int_equal(ees_profile_load(path, NULL, &p, &err), EES_EINVAL);
        if (!strstr(err.message, bad[i].says) || !strstr(err.message, "p.json") || strchr(err.message, '\n'))
            fail_msg("%s: %s", bad[i].text, err.message);
        assert_int_equal(p.batch, 99);
    }
}

/* Every file cut short is refused. */
static void test_truncated(void **state) {
    static ees_profile p;
    static char text[16384];
    make_profile(&p);
    assert_int_equal(ees_profile_save(&p, "k", path, NULL), 0);
    FILE *f = fopen(path, "r");
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    assert_true(n > 100 && n < sizeof text);
    for (size_t cut = 0; cut + 2 < n; cut += 7) { /* the last two: a brace and a line's end */
        assert_int_equal(truncate(path, 0), 0);
        f = fopen(path, "w");
        fwrite(text, 1, cut, f);
        fclose(f);
        assert_int_equal(ees_profile_load(path, NULL, &p, NULL), EES_EINVAL);
    }
}

static void test_scale(void **state) {
    static ees_profile p, scaled;
    ees_cores cores;
    make_profile(&p);
    assert_int_equal(ees_cores_parse("big=1,mid=2@0.5,little=4", &cores, NULL), 0);
    ees_profile_scale(&p, &cores, &scaled);
    assert_int_equal(scaled.n_types, 3);
    assert_int_equal(scaled.n_units, 3);
    assert_int_equal(scaled.batch, 4);
    assert_string_equal(scaled.types[1].name, "mid");
    assert_true(scaled.types[0].cold_ns[1] == p.types[0].cold_ns[1]);
    assert_true(fabs(scaled.types[1].cold_ns[1] - 2 * p.types[0].cold_ns[1]) < 1e-6);
    assert_true(fabs(scaled.types[1].batch_ns[2] - 2 * p.types[0].batch_ns[2]) < 1e-9);
    assert_true(scaled.types[2].cold_ns[1] == p.types[1].cold_ns[1]); /* measured: its capacity does not matter */
    assert_int_equal(scaled.types[1].private_cache_bytes, 1 << 20);   /* not told: as the measured one */
    cores.types[1].private_cache_bytes = 4096;
    ees_profile_scale(&p, &cores, &p); /* in place */
    assert_int_equal(p.types[1].private_cache_bytes, 4096);
    assert_true(p.types[2].cold_ns[1] == scaled.types[2].cold_ns[1]);
}

static void test_measure(void **state) {
    static ees_profile p;
    struct ees_model *m = fake_model_new(20000, false);
    int before[EES_MAX_WORKERS], after[EES_MAX_WORKERS];
    unsigned n = ees__affinity_cpus(before, EES_MAX_WORKERS);
    for (unsigned u = 0; u < FAKE_UNITS; u++)
        m->units[u].weights_bytes = 1000 + u;
    /* The same core twice, as two types: each is visited, the mask comes back. Units of the fake model run in order only,
     * so nothing may be measured warm: no cache. */
    ees_cores cores = {
        .n_cores = 2,
        .n_types = 2,
        .n_workers = 2,
        .cpu = {before[0], before[n - 1]},
        .type = {0, 1},
        .types = {{.name = "a", .n_cores = 1, .capacity = 1}, {.name = "b", .n_cores = 1, .capacity = 0.5}}};
    assert_int_equal(ees_profile_measure(m, NULL, 50000, &cores, &p, NULL), 0);
    assert_int_equal(p.n_units, FAKE_UNITS);
    assert_int_equal(p.n_types, 2);
    assert_string_equal(p.types[1].name, "b");
    for (unsigned u = 0; u < FAKE_UNITS; u++) {
        assert_int_equal(p.weights_bytes[u], 1000 + u);
        for (unsigned t = 0; t < 2; t++) {
            assert_true(p.types[t].cold_ns[u] >= 20000);
            assert_true(p.types[t].warm_ns[u] == p.types[t].cold_ns[u]);
            assert_true(p.types[t].batch_ns[u] > 0);
        }
    }
    assert_int_equal(ees__affinity_cpus(after, EES_MAX_WORKERS), n);
    assert_memory_equal(before, after, n * sizeof before[0]);
    /* A core that is gone: scaled from the one that is there. */
    cores.cpu[1] = 60000;
    assert_int_equal(ees_profile_measure(m, NULL, 50000, &cores, &p, NULL), 0);
    for (unsigned u = 0; u < FAKE_UNITS; u++)
        assert_true(fabs(p.types[1].cold_ns[u] - 2 * p.types[0].cold_ns[u]) < 1e-6);
    cores.cpu[1] = -1;
    ees_error err = {0};
    assert_int_equal(ees_profile_measure(m, NULL, 0, &cores, &p, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "core 1 ('b') is not of this machine"));
    fake_model_free(m);
}

static void test_key(void **state) {
    struct ees_model *m = fake_model_new(0, false);
    char key[2048], other[2048], cut[10];
    size_t n = ees_profile_key(m, key, sizeof key);
    assert_int_equal(n, strlen(key));
    assert_int_equal(ees_profile_key(m, cut, sizeof cut), n);
    assert_int_equal(strlen(cut), 9);
    assert_int_equal(ees_profile_key(m, NULL, 0), n);
    m->info.kernels = "avx512";
    ees_profile_key(m, other, sizeof other);
    assert_string_not_equal(key, other);
    m->info.kernels = NULL;
    m->info.n_channels++;
    ees_profile_key(m, other, sizeof other);
    assert_string_not_equal(key, other);
    fake_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unwritable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncated, set_up, tear_down),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_measure),
        cmocka_unit_test(test_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
