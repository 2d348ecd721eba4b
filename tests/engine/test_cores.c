/* SPDX-License-Identifier: MIT */
/* Cores from made-up trees of /sys and /proc, and from text. */
#define _GNU_SOURCE
#include <ftw.h>
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

#include <cmocka.h>

#include "engine/affinity.h"
#include "engine/cores.h"

/* ---- A machine in a temporary folder ------------------------------------------------------------------- */

static char root[64], sys_root[80], proc_root[80];

static void make_parents(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
}

__attribute__((format(printf, 2, 3))) static void put(const char *text, const char *format, ...) {
    char path[512], name[400];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s/%s", root, name);
    make_parents(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

__attribute__((format(printf, 3, 4))) static void put_cpu(int cpu, const char *name, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(text, "sys/devices/system/cpu/cpu%d/%s", cpu, name);
}

static int set_up(void **state) {
    snprintf(root, sizeof root, "/tmp/ees-cores-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(sys_root, sizeof sys_root, "%s/sys", root);
    snprintf(proc_root, sizeof proc_root, "%s/proc", root);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *where) { return remove(path); }

static int tear_down(void **state) { return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static void detect(unsigned n_cpus, ees_cores *out) {
    int cpus[512];
    for (unsigned i = 0; i < n_cpus; i++)
        cpus[i] = (int)i;
    assert_int_equal(ees__cores_detect_at(sys_root, proc_root, cpus, n_cpus, out, NULL), 0);
    unsigned n = 0;
    for (unsigned t = 0; t < out->n_types; t++) {
        n += out->types[t].n_cores;
        assert_true(out->types[t].n_cores > 0 && out->types[t].capacity > 0);
        assert_true(t == 0 || out->types[t].capacity < out->types[t - 1].capacity);
    }
    assert_int_equal(n, out->n_cores);
    assert_true(out->n_workers >= 1 && out->n_workers <= out->n_cores);
    assert_true(out->types[0].capacity == 1);
}

/* ---- Types --------------------------------------------------------------------------------------------- */

/* Numbered as Exynos and RK3588 boards do: the little ones first. */
static void test_big_little(void **state) {
    ees_cores c;
    for (int cpu = 0; cpu < 8; cpu++) {
        put_cpu(cpu, "cpu_capacity", "%d\n", cpu < 4 ? 414 : 1024);
        put_cpu(cpu, "cache/index2/level", "2\n");
        put_cpu(cpu, "cache/index2/size", "%s\n", cpu < 4 ? "128K" : "512K");
        put_cpu(cpu, "cache/index2/shared_cpu_list", "%d\n", cpu);
    }
    detect(8, &c);
    assert_int_equal(c.n_types, 2);
    assert_int_equal(c.n_workers, 8);
    assert_string_equal(c.types[0].name, "big");
    assert_string_equal(c.types[1].name, "little");
    assert_int_equal(c.types[0].n_cores, 4);
    assert_true(fabs(c.types[1].capacity - 414. / 1024) < 1e-12);
    assert_int_equal(c.types[0].private_cache_bytes, 512 << 10);
    assert_int_equal(c.types[1].private_cache_bytes, 128 << 10);
    assert_int_equal(c.types[0].last_cache_bytes, 512 << 10);
    assert_int_equal(c.types[1].last_cache_bytes, 128 << 10);
    const int order[] = {4, 5, 6, 7, 0, 1, 2, 3};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(c.cpu[i], order[i]);
        assert_int_equal(c.type[i], i / 4);
    }
    unsigned n_of_type[2];
    ees_cores_count(&c, 6, n_of_type);
    assert_int_equal(n_of_type[0], 4);
    assert_int_equal(n_of_type[1], 2);
    ees_cores_count(&c, 11, n_of_type); /* three more than cores: on the first again */
    assert_int_equal(n_of_type[0], 7);
}

static void test_three_types(void **state) {
    ees_cores c;
    for (int cpu = 0; cpu < 8; cpu++) /* 4 + 3 + 1; the fast ones of one kind differ a little */
        put_cpu(cpu, "cpu_capacity", "%d\n", cpu < 4 ? 250 : cpu < 6 ? 760 : cpu == 6 ? 745 : 1024);
    detect(8, &c);
    assert_int_equal(c.n_types, 3);
    assert_string_equal(c.types[1].name, "mid");
    assert_int_equal(c.types[0].n_cores, 1);
    assert_int_equal(c.types[1].n_cores, 3);
    assert_int_equal(c.types[2].n_cores, 4);
    assert_int_equal(c.cpu[0], 7);
    assert_true(fabs(c.types[1].capacity - 755. / 1024) < 1e-12);
}

/* Five speeds: the slowest two become one type. */
static void test_too_many_types(void **state) {
    static const int capacities[] = {100, 200, 400, 700, 1024};
    ees_cores c;
    for (int cpu = 0; cpu < 5; cpu++)
        put_cpu(cpu, "cpu_capacity", "%d\n", capacities[cpu]);
    detect(5, &c);
    assert_int_equal(c.n_types, EES_MAX_CORE_TYPES);
    assert_int_equal(c.types[3].n_cores, 2);
    assert_true(fabs(c.types[3].capacity - 150. / 1024) < 1e-12);
}

/* A hybrid without capacities: frequencies that differ clearly make types, favoured cores do not. */
static void test_frequencies(void **state) {
    ees_cores c;
    for (int cpu = 0; cpu < 6; cpu++)
        put_cpu(cpu, "cpufreq/cpuinfo_max_freq", "%d\n", cpu == 0 ? 5200000 : cpu < 4 ? 5000000 : 3900000);
    detect(6, &c);
    assert_int_equal(c.n_types, 2);
    assert_int_equal(c.types[0].n_cores, 4);
    put_cpu(4, "cpufreq/cpuinfo_max_freq", "4800000\n");
    put_cpu(5, "cpufreq/cpuinfo_max_freq", "4900000\n");
    detect(6, &c);
    assert_int_equal(c.n_types, 1);
    assert_string_equal(c.types[0].name, "core");
    put_cpu(5, "cpufreq/cpuinfo_max_freq", "fast\n"); /* one core says nothing: no types */
    put_cpu(4, "cpufreq/cpuinfo_max_freq", "100000\n");
    detect(6, &c);
    assert_int_equal(c.n_types, 1);
}

/* ---- Siblings and caches ------------------------------------------------------------------------------- */

static void test_smt(void **state) {
    ees_cores c;
    for (int cpu = 0; cpu < 8; cpu++) { /* siblings i and i + 4, L2 a core; as servers number them */
        put_cpu(cpu, "topology/thread_siblings_list", "%d,%d\n", cpu % 4, cpu % 4 + 4);
        put_cpu(cpu, "cache/index0/level", "1\n");
        put_cpu(cpu, "cache/index0/size", "32K\n");
        put_cpu(cpu, "cache/index1/level", "2\n");
        put_cpu(cpu, "cache/index1/size", "2M\n");
        put_cpu(cpu, "cache/index1/shared_cpu_list", "%d,%d\n", cpu % 4, cpu % 4 + 4);
    }
    detect(8, &c);
    assert_int_equal(c.n_cores, 8);
    assert_int_equal(c.n_workers, 4);
    assert_int_equal(c.types[0].private_cache_bytes, 2 << 20);
    for (int i = 0; i < 8; i++)
        assert_int_equal(c.cpu[i], i);
    const int some[] = {2, 5, 6}; /* a mask with one whole core and the second thread of another */
    assert_int_equal(ees__cores_detect_at(sys_root, proc_root, some, 3, &c, NULL), 0);
    assert_int_equal(c.n_workers, 2);
    assert_int_equal(c.cpu[0], 2);
    assert_int_equal(c.cpu[1], 5);
    assert_int_equal(c.cpu[2], 6);
}

static void test_adjacent_siblings(void **state) {
    ees_cores c;
    for (int cpu = 0; cpu < 4; cpu++)
        put_cpu(cpu, "topology/thread_siblings_list", "%d-%d\n", cpu & ~1, cpu | 1);
    detect(4, &c);
    const int order[] = {0, 2, 1, 3};
    for (int i = 0; i < 4; i++)
        assert_int_equal(c.cpu[i], order[i]);
}

/* Fast cores with two threads and slow ones with one: every physical core comes before the second threads. */
static void test_hybrid_smt(void **state) {
    ees_cores c;
    for (int cpu = 0; cpu < 6; cpu++) {
        put_cpu(cpu, "cpu_capacity", "%d\n", cpu < 4 ? 1024 : 600);
        if (cpu < 4)
            put_cpu(cpu, "topology/thread_siblings_list", "%d-%d\n", cpu & ~1, cpu | 1);
    }
    detect(6, &c);
    const int order[] = {0, 2, 4, 5, 1, 3};
    for (int i = 0; i < 6; i++)
        assert_int_equal(c.cpu[i], order[i]);
    assert_int_equal(c.n_workers, 4);
}

static void test_shared_cache(void **state) {
    ees_cores c;
    for (int cpu = 0; cpu < 4; cpu++) {
        put_cpu(cpu, "cache/index2/level", "2\n");
        put_cpu(cpu, "cache/index2/size", "1024K\n");
        put_cpu(cpu, "cache/index2/shared_cpu_list", "0-3\n");
    }
    detect(4, &c);
    assert_int_equal(c.types[0].private_cache_bytes, 256 << 10);
    for (int cpu = 0; cpu < 4; cpu++) /* the same four threads are two physical cores */
        put_cpu(cpu, "topology/thread_siblings_list", "%d-%d\n", cpu & ~1, cpu | 1);
    detect(4, &c);
    assert_int_equal(c.types[0].private_cache_bytes, 512 << 10);
}

/* ---- Quota --------------------------------------------------------------------------------------------- */

static void test_quota_v2(void **state) {
    ees_cores c;
    put("0::/system.slice/job.scope\n", "proc/self/cgroup");
    put("max 100000\n", "sys/fs/cgroup/system.slice/job.scope/cpu.max");
    detect(4, &c);
    assert_true(c.quota == 0);
    assert_int_equal(c.n_workers, 4);
    put("150000 100000\n", "sys/fs/cgroup/system.slice/cpu.max"); /* a group above limits too */
    detect(4, &c);
    assert_true(c.quota == 1.5);
    assert_int_equal(c.n_workers, 2);
    assert_int_equal(c.n_cores, 4);
    put("25000 50000\n", "sys/fs/cgroup/system.slice/job.scope/cpu.max");
    detect(4, &c);
    assert_true(c.quota == 0.5);
    assert_int_equal(c.n_workers, 1);
    put("900000 100000\n", "sys/fs/cgroup/system.slice/job.scope/cpu.max");
    put("900000 100000\n", "sys/fs/cgroup/system.slice/cpu.max");
    detect(4, &c);
    assert_int_equal(c.n_workers, 4);
}

/* A container sees its own group as the root. */
static void test_quota_of_container(void **state) {
    ees_cores c;
    put("0::/\n", "proc/self/cgroup");
    put("200000 100000\n", "sys/fs/cgroup/cpu.max");
    detect(4, &c);
    assert_int_equal(c.n_workers, 2);
    put("0::/../../docker/abc\n", "proc/self/cgroup");
    detect(4, &c);
    assert_int_equal(c.n_workers, 2);
}

static void test_quota_v1(void **state) {
    ees_cores c;
    put("5:cpuset:/a\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a\n", "proc/self/cgroup");
    put("150000\n", "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us");
    put("100000\n", "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us");
    detect(4, &c);
    assert_true(c.quota == 1.5);
    put("-1\n", "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us");
    detect(4, &c);
    assert_true(c.quota == 0);
    put("300000\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us"); /* the container's own, under the short name */
    put("100000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us");
    detect(4, &c);
    assert_true(c.quota == 3);
}

/* ---- Odd machines -------------------------------------------------------------------------------------- */

static void test_nothing_there(void **state) {
    ees_cores c;
    detect(3, &c);
    assert_int_equal(c.n_types, 1);
    assert_int_equal(c.n_cores, 3);
    assert_int_equal(c.n_workers, 3);
    assert_int_equal(c.types[0].private_cache_bytes, 0);
    assert_true(c.quota == 0);
}

static void test_garbage(void **state) {
    static const char *const junk[] = {
        "",      "\n",    "-5\n",  "nan\n",         "1e999\n", "99999999999999999999999K\n",
        "0-\n",  "3-1\n", "a,b\n", "0-999999999\n", ",,,,\n",  "\xff\xfe\n",
        "max\n", "1 0\n", "0 0\n", "-1 -1\n"};
    static const char *const files[] = {
        "cpu_capacity",       "cpufreq/cpuinfo_max_freq", "topology/thread_siblings_list", "online",
        "cache/index0/level", "cache/index0/size",        "cache/index0/shared_cpu_list"};
    for (size_t j = 0; j < sizeof junk / sizeof junk[0]; j++) {
        ees_cores c;
        for (int cpu = 0; cpu < 4; cpu++)
            for (size_t f = 0; f < sizeof files / sizeof files[0]; f++)
                put(junk[j], "sys/devices/system/cpu/cpu%d/%s", cpu, files[f]);
        for (int cpu = 0; cpu < 4; cpu++)
            put_cpu(cpu, "cache/index0/level", "2\n");
        put(junk[j], "sys/fs/cgroup/cpu.max");
        put(j % 2 ? "0::/\n" : junk[j], "proc/self/cgroup");
        detect(4, &c);
        assert_int_equal(c.n_cores, 4);
        assert_int_equal(c.n_types, 1);
        assert_true(c.quota == 0);
    }
}

static void test_offline(void **state) {
    ees_cores c;
    put_cpu(1, "online", "0\n");
    put_cpu(2, "online", "1\n");
    detect(4, &c);
    assert_int_equal(c.n_cores, 3);
    assert_int_equal(c.cpu[1], 2);
    const int only[] = {1}; /* the mask says that it runs */
    assert_int_equal(ees__cores_detect_at(sys_root, proc_root, only, 1, &c, NULL), 0);
    assert_int_equal(c.n_cores, 1);
    assert_int_equal(c.cpu[0], 1);
}

static void test_three_hundred_cores(void **state) {
    ees_cores c;
    for (int cpu = 0; cpu < 300; cpu++)
        put_cpu(cpu, "cpu_capacity", "%d\n", cpu < 100 ? 400 : 1024);
    detect(300, &c);
    assert_int_equal(c.n_cores, EES_MAX_WORKERS);
    assert_int_equal(c.types[0].n_cores, 200);
    assert_int_equal(c.types[1].n_cores, EES_MAX_WORKERS - 200);
    for (int cpu = 0; cpu < 300; cpu++)
        put_cpu(cpu, "cpu_capacity", "%d\n", cpu < 44 ? 400 : 1024);
    detect(300, &c); /* the slow ones are the ones left out */
    assert_int_equal(c.n_types, 1);
    assert_int_equal(c.n_cores, EES_MAX_WORKERS);
}

static void test_this_machine(void **state) {
    ees_cores c;
    int cpus[EES_MAX_WORKERS];
    assert_int_equal(ees_cores_detect(&c, NULL), 0);
    assert_int_equal(c.n_cores, ees__affinity_cpus(cpus, EES_MAX_WORKERS));
    struct ees__affinity_mask mask = ees__affinity_save();
    if (ees__affinity_pin(pthread_self(), c.cpu[0]) >= 0) {
        ees_cores one;
        assert_int_equal(ees_cores_detect(&one, NULL), 0);
        assert_int_equal(one.n_cores, 1);
        assert_int_equal(one.cpu[0], c.cpu[0]);
    }
    ees__affinity_restore(&mask);
    assert_int_equal(c.n_cores, ees__affinity_cpus(cpus, EES_MAX_WORKERS));
}

/* ---- Text ---------------------------------------------------------------------------------------------- */

static void test_parse(void **state) {
    ees_cores c;
    assert_int_equal(ees_cores_parse("8", &c, NULL), 0);
    assert_int_equal(c.n_cores, 8);
    assert_int_equal(c.n_workers, 8);
    assert_int_equal(c.n_types, 1);
    assert_int_equal(c.cpu[7], -1);
    assert_int_equal(ees_cores_parse("little=4,big=4,mid=2", &c, NULL), 0);
    assert_int_equal(c.n_types, 3);
    assert_string_equal(c.types[0].name, "big");
    assert_string_equal(c.types[2].name, "little");
    assert_true(c.types[1].capacity == 0.75 && c.types[2].capacity == 0.4);
    assert_int_equal(c.type[0], 0);
    assert_int_equal(c.type[4], 1);
    assert_int_equal(c.type[9], 2);
    assert_int_equal(ees_cores_parse("a=2@2,b=254@0.5", &c, NULL), 0);
    assert_int_equal(c.n_cores, 256);
    assert_true(c.types[0].capacity == 1 && c.types[1].capacity == 0.25);
    assert_int_equal(ees_cores_parse("big=1@0.3,little=1", &c, NULL), 0); /* as told */
    assert_string_equal(c.types[0].name, "little");
}

static void test_parse_refuses(void **state) {
    static const struct {
        const char *text, *says;
    } bad[] = {{"", "'' is not a number of cores"},
               {"0", "1 to 256"},
               {"257", "257 cores"},
               {"-1", "not a number"},
               {"8x", "not a number"},
               {"99999", "not a number"},
               {"big", "not a number"},
               {"big=", "'' is not a number"},
               {"=4", "name ''"},
               {"big=4,", "no NAME=COUNT"},
               {",", "no NAME=COUNT"},
               {"big=4,8", "'8' has no NAME=COUNT"},
               {"fast=4", "speed of 'fast'"},
               {"a=4@", "speed ''"},
               {"a=4@0", "speed '0'"},
               {"a=4@nan", "speed 'nan'"},
               {"a=4@inf", "speed 'inf'"},
               {"a=4@-1", "speed '-1'"},
               {"a=4@1x", "speed '1x'"},
               {"a=4@1e9", "0.001 to 1000"},
               {"a@1=4", "no NAME=COUNT"},
               {"big=2,big=2", "given twice"},
               {"a=200@1,b=57@1", "257 cores"},
               {"a=1@1,b=1@1,c=1@1,d=1@1,e=1@1", "more than 4 types"},
               {"a b=4@1", "name 'a b'"},
               {"abcdefghijklmnop=4@1", "1 to 15"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ees_cores c;
        ees_error err = {0};
        assert_int_equal(ees_cores_parse(bad[i].text, &c, &err), EES_EINVAL);
        if (!strstr(err.message, bad[i].says))
            fail_msg("'%s': %s", bad[i].text, err.message);
        assert_null(strchr(err.message, '\n'));
    }
}

#define IN_TREE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_TREE(test_big_little),
        IN_TREE(test_three_types),
        IN_TREE(test_too_many_types),
        IN_TREE(test_frequencies),
        IN_TREE(test_smt),
        IN_TREE(test_adjacent_siblings),
        IN_TREE(test_hybrid_smt),
        IN_TREE(test_shared_cache),
        IN_TREE(test_quota_v2),
        IN_TREE(test_quota_of_container),
        IN_TREE(test_quota_v1),
        IN_TREE(test_nothing_there),
        IN_TREE(test_garbage),
        IN_TREE(test_offline),
        IN_TREE(test_three_hundred_cores),
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
