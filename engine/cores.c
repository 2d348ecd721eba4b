/* SPDX-License-Identifier: MIT */
/* The cores a thread may use: types, siblings, caches. Everything read is a hint of the system's; what is missing or
 * garbled is taken as the plainest machine, so that no odd /sys keeps a stream from running. */
#define _GNU_SOURCE
#include "engine/cores.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/mem.h"
#include "engine/affinity.h"

enum { MAX_CANDIDATES = 4096, MAX_CACHE_INDEX = 8 };

/* A core is of the type above it when it is at least this fast: "favoured" cores of one kind differ by a few percent. */
static const double same_type_from = 0.9;

struct candidate {
    int cpu;
    int core;        /* physical: the lowest number of its threads */
    bool is_sibling; /* of a candidate before it */
    double capacity; /* in the kernel's unit, then relative to the fastest type */
    unsigned type;
    size_t cache_bytes, last_cache_bytes;
};

struct detection {
    const char *sys, *proc;
    struct candidate *cores;
    unsigned n;
};

/* ---- Files --------------------------------------------------------------------------------------------- */

int ees__read_first_line(char *line, int n, const char *format, ...) {
    char path[1280];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(path, sizeof path, format, args);
    va_end(args);
    FILE *f = length > 0 && (size_t)length < sizeof path ? fopen(path, "re") : NULL;
    if (!f)
        return false;
    bool ok = fgets(line, n, f) != NULL;
    fclose(f);
    if (ok)
        line[strcspn(line, "\n")] = '\0';
    return ok && line[0] != '\0';
}

#define CPU_LINE(d, cpu, line, name)                                                                                   \
    ees__read_first_line((line), sizeof(line), "%s/devices/system/cpu/cpu%d/%s", (d)->sys, (cpu), (name))

static double read_number(const struct detection *d, int cpu, const char *name) {
    char line[64], *end;
    if (!CPU_LINE(d, cpu, line, name))
        return 0;
    double value = strtod(line, &end);
    return end != line && !*end && isfinite(value) && value > 0 ? value : 0;
}

/* The next number of a list as "0-3,8"; *range_end carries an open range. @return false: the end, or garbage */
static bool next_of_list(const char **text, int *cpu, int *range_end) {
    if (*cpu < *range_end) {
        ++*cpu;
        return true;
    }
    char *end;
    long first = strtol(*text, &end, 10), last = first;
    if (end == *text || first < 0 || first > 1 << 20)
        return false;
    if (*end == '-') {
        const char *from = end + 1;
        last = strtol(from, &end, 10);
        if (end == from || last < first || last > 1 << 20)
            return false;
    }
    *text = *end == ',' ? end + 1 : end;
    *cpu = (int)first;
    *range_end = (int)last;
    return true;
}

/* ---- One core ------------------------------------------------------------------------------------------ */

/* Number of the physical core: its lowest thread. */
static int physical_core(const struct detection *d, int cpu) {
    char line[256];
    const char *at = line;
    int lowest = cpu, sibling = -1, range_end = -1;
    if (!CPU_LINE(d, cpu, line, "topology/thread_siblings_list"))
        return cpu;
    while (next_of_list(&at, &sibling, &range_end))
        if (sibling < lowest)
            lowest = sibling;
    return lowest;
}

/* Physical cores in a list of threads. */
static unsigned count_physical(const struct detection *d, const char *list) {
    int cpu = -1, range_end = -1;
    unsigned n = 0;
    while (next_of_list(&list, &cpu, &range_end))
        n += physical_core(d, cpu) == cpu;
    return n;
}

/* "1024K" */
static size_t parse_size(const char *text) {
    char *end;
    unsigned long size = strtoul(text, &end, 10);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    return end == text || size > SIZE_MAX >> shift ? 0 : (size_t)size << shift;
}

/* L2 of a core, or its share of one that several physical cores have, and the largest of all its caches. 0: unknown */
static void read_caches(const struct detection *d, struct candidate *c) {
    for (int index = 0; index < MAX_CACHE_INDEX; index++) {
        char name[48], line[256];
        snprintf(name, sizeof name, "cache/index%d/size", index);
        size_t size = CPU_LINE(d, c->cpu, line, name) ? parse_size(line) : 0;
        if (size > c->last_cache_bytes)
            c->last_cache_bytes = size;
        snprintf(name, sizeof name, "cache/index%d/level", index);
        if (c->cache_bytes > 0 || !CPU_LINE(d, c->cpu, line, name) || strcmp(line, "2") != 0)
            continue;
        snprintf(name, sizeof name, "cache/index%d/shared_cpu_list", index);
        unsigned n_sharing = CPU_LINE(d, c->cpu, line, name) ? count_physical(d, line) : 1;
        c->cache_bytes = n_sharing > 1 ? size / n_sharing : size;
    }
}

static bool is_offline(const struct detection *d, int cpu) {
    char line[16];
    return CPU_LINE(d, cpu, line, "online") && strcmp(line, "0") == 0;
}

static void read_cores(struct detection *d, const int *cpus, unsigned n_cpus) {
    for (unsigned i = 0; i < n_cpus && d->n < MAX_CANDIDATES; i++)
        if (!is_offline(d, cpus[i]))
            d->cores[d->n++] = (struct candidate){.cpu = cpus[i]};
    if (d->n == 0) /* the mask knows better than the file */
        d->cores[d->n++] = (struct candidate){.cpu = cpus[0]};
    for (unsigned i = 0; i < d->n; i++) {
        struct candidate *c = &d->cores[i];
        c->core = physical_core(d, c->cpu);
        read_caches(d, c);
        for (unsigned j = i; j > 0 && !c->is_sibling && d->cores[j - 1].cpu >= c->core; j--)
            c->is_sibling = d->cores[j - 1].core == c->core;
    }
}

/* ---- Types --------------------------------------------------------------------------------------------- */

/* Read one number of every core. @return false: some core has none, the numbers say nothing */
static bool read_capacities(struct detection *d, const char *name) {
    for (unsigned i = 0; i < d->n; i++) {
        d->cores[i].capacity = read_number(d, d->cores[i].cpu, name);
        if (d->cores[i].capacity == 0)
            return false;
    }
    return true;
}

static int by_capacity(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->capacity != y->capacity)
        return x->capacity < y->capacity ? 1 : -1;
    return x->cpu < y->cpu ? -1 : x->cpu > y->cpu;
}

/* One thread of every physical core first; both halves fastest type first. */
static int by_use(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->is_sibling != y->is_sibling)
        return x->is_sibling ? 1 : -1;
    if (x->type != y->type)
        return x->type < y->type ? -1 : 1;
    return x->cpu < y->cpu ? -1 : x->cpu > y->cpu;
}

/* Sort into types; the last one takes whatever is slower still. @return number of types */
static unsigned sort_into_types(struct detection *d) {
    if (!read_capacities(d, "cpu_capacity") && !read_capacities(d, "cpufreq/cpuinfo_max_freq"))
        for (unsigned i = 0; i < d->n; i++)
            d->cores[i].capacity = 1;
    qsort(d->cores, d->n, sizeof *d->cores, by_capacity);
    unsigned type = 0;
    double fastest = d->cores[0].capacity; /* of the type */
    for (unsigned i = 0; i < d->n; i++) {
        if (d->cores[i].capacity < same_type_from * fastest && type + 1 < EES_MAX_CORE_TYPES) {
            type++;
            fastest = d->cores[i].capacity;
        }
        d->cores[i].type = type;
    }
    qsort(d->cores, d->n, sizeof *d->cores, by_use);
    return type + 1;
}

static const char *type_name(unsigned type, unsigned n_types) {
    static const char *const names[EES_MAX_CORE_TYPES][EES_MAX_CORE_TYPES] = {
        {"core"}, {"big", "little"}, {"big", "mid", "little"}, {"big", "mid", "low", "little"}};
    return names[n_types - 1][type];
}

/* Mean capacity, the least private cache (what fits it fits all) and the largest last one. */
static void describe_type(const struct detection *d, unsigned type, ees_core_type *out) {
    double sum = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < d->n; i++) {
        const struct candidate *c = &d->cores[i];
        if (c->type != type)
            continue;
        if (n == 0 || c->cache_bytes < out->private_cache_bytes)
            out->private_cache_bytes = c->cache_bytes;
        if (c->last_cache_bytes > out->last_cache_bytes)
            out->last_cache_bytes = c->last_cache_bytes;
        sum += c->capacity;
        n++;
    }
    out->capacity = sum / n;
}

/* Fill out->types and recommend workers for the cores that are listed. */
static void summarise(const struct detection *d, unsigned n_types, ees_cores *out) {
    unsigned n_physical = 0;
    for (unsigned t = 0; t < n_types; t++) {
        describe_type(d, t, &out->types[t]);
        snprintf(out->types[t].name, sizeof out->types[t].name, "%s", type_name(t, n_types));
    }
    double fastest = out->types[0].capacity;
    for (unsigned t = 0; t < n_types; t++)
        out->types[t].capacity /= fastest;
    for (unsigned i = 0; i < out->n_cores; i++) {
        out->cpu[i] = d->cores[i].cpu;
        out->type[i] = (uint8_t)d->cores[i].type;
        out->types[out->type[i]].n_cores++;
        n_physical += !d->cores[i].is_sibling;
    }
    out->n_types = n_types;
    out->n_workers = n_physical;
    out->quota = ees__cores_quota(d->sys, d->proc);
    if (out->quota > 0 && ceil(out->quota) < n_physical)
        out->n_workers = (unsigned)ceil(out->quota);
}

/* Cores beyond EES_MAX_WORKERS are cut from the end: siblings, then the slowest types, which may leave these empty. */
static void drop_empty_types(ees_cores *out) {
    while (out->n_types > 1 && out->types[out->n_types - 1].n_cores == 0)
        out->types[--out->n_types] = (ees_core_type){0};
}

int ees__cores_detect_at(const char *sys, const char *proc, const int *cpus, unsigned n_cpus, ees_cores *out,
                         ees_error *err) {
    struct detection d = {.sys = sys, .proc = proc, .cores = ees__calloc_aligned(MAX_CANDIDATES, sizeof *d.cores)};
    if (!d.cores)
        return EES_FAIL(err, EES_ENOMEM, "no memory to look at %u cores", n_cpus);
    read_cores(&d, cpus, n_cpus);
    unsigned n_types = sort_into_types(&d);
    *out = (ees_cores){.n_cores = d.n < EES_MAX_WORKERS ? d.n : EES_MAX_WORKERS};
    summarise(&d, n_types, out);
    drop_empty_types(out);
    ees__free(d.cores);
    return 0;
}

/* What /sys does not tell of the caches, the C library may know. */
static void ask_library(ees_cores *cores) {
    long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE), l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    for (unsigned t = 0; t < cores->n_types; t++) {
        ees_core_type *type = &cores->types[t];
        if (type->private_cache_bytes == 0 && l2 > 0)
            type->private_cache_bytes = (size_t)l2;
        if (type->last_cache_bytes == 0 && (l2 > 0 || l3 > 0))
            type->last_cache_bytes = (size_t)(l3 > l2 ? l3 : l2);
    }
}

int ees_cores_detect(ees_cores *out, ees_error *err) {
    int *cpus = ees__calloc_aligned(MAX_CANDIDATES, sizeof *cpus);
    if (!cpus)
        return EES_FAIL(err, EES_ENOMEM, "no memory for a list of cores");
    unsigned n = ees__affinity_cpus(cpus, MAX_CANDIDATES);
    int rc = ees__cores_detect_at("/sys", "/proc", cpus, n, out, err);
    ees__free(cpus);
    if (rc == 0)
        ask_library(out);
    return rc;
}

void ees_cores_count(const ees_cores *cores, unsigned n_workers, unsigned *n_of_type) {
    memset(n_of_type, 0, cores->n_types * sizeof *n_of_type);
    for (unsigned i = 0; i < n_workers && cores->n_cores > 0; i++)
        n_of_type[cores->type[i % cores->n_cores]]++;
}
