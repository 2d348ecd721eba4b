/* SPDX-License-Identifier: MIT */
/* The figures of `eestream bench --roofline`. The table for people folds units that do the same work into one row. */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "tools/cli/machine.h"
#include "tools/cli/roofline.h"

/* ---- Rows ---------------------------------------------------------------------------------------------- */

/* One unit, several of the same work, or all of a model. Times and work are of all of them together. */
struct row {
    char name[64];
    unsigned n;
    const ees_unit_info *first;                       /* NULL: all units */
    double ns, flops, weights_bytes, bytes, limit_ns; /* bytes: weights and state */
    bool is_computing;                                /* what limits the first */
    double counts[EES_N_COUNTERS];
};

static void add_unit(struct row *row, const ees_unit_roofline *unit) {
    if (row->n++ == 0)
        row->is_computing = unit->compute_ns >= unit->memory_ns;
    row->ns += unit->ns;
    row->flops += unit->flops;
    row->weights_bytes += (double)unit->weights_bytes;
    row->bytes += (double)(unit->weights_bytes + unit->state_bytes);
    row->limit_ns += unit->limit_ns;
    for (unsigned i = 0; i < EES_N_COUNTERS; i++)
        row->counts[i] += unit->counts[i];
}

static struct row make_row(const ees_model *model, const ees_roofline *r, unsigned unit) {
    struct row row = {.first = ees_model_get_unit(model, unit)};
    snprintf(row.name, sizeof row.name, "%s", row.first->name);
    add_unit(&row, &r->units[unit]);
    return row;
}

static struct row sum_all(const ees_roofline *r) {
    struct row row = {.name = "all"};
    for (unsigned u = 0; u < r->n_units; u++)
        add_unit(&row, &r->units[u]);
    return row;
}

/* Length of "block12" before the kind of the unit: letters, then digits; 0: not so. */
static size_t numbered_prefix(const char *name, size_t *n_letters) {
    size_t n = 0;
    while (isalpha((unsigned char)name[n]))
        n++;
    *n_letters = n;
    while (isdigit((unsigned char)name[n]))
        n++;
    return n > *n_letters ? n : 0;
}

/* The same kind of unit with the same work. */
static bool is_alike(const ees_unit_info *a, const ees_unit_info *b) {
    size_t letters_a, letters_b, prefix_a = numbered_prefix(a->name, &letters_a),
                                 prefix_b = numbered_prefix(b->name, &letters_b);
    return prefix_a && prefix_b && letters_a == letters_b && strncmp(a->name, b->name, letters_a) == 0 &&
           strcmp(a->name + prefix_a, b->name + prefix_b) == 0 && a->flops == b->flops &&
           a->weights_bytes == b->weights_bytes && strcmp(a->precision, b->precision) == 0;
}

/* "block1..12.attn": the first and the last of them. */
static void extend_name(struct row *row, const ees_unit_info *last) {
    size_t letters, prefix = numbered_prefix(row->first->name, &letters),
                    last_prefix = numbered_prefix(last->name, &letters);
    snprintf(row->name, sizeof row->name, "%.*s..%.*s%s", (int)prefix, row->first->name, (int)(last_prefix - letters),
             last->name + letters, last->name + last_prefix);
}

/* @return number of rows, in the order of their first units */
static unsigned fold_units(const ees_model *model, const ees_roofline *r, struct row *rows) {
    unsigned n = 0;
    for (unsigned u = 0; u < r->n_units; u++) {
        const ees_unit_info *info = ees_model_get_unit(model, u);
        unsigned k = 0;
        while (k < n && !is_alike(rows[k].first, info))
            k++;
        if (k == n) {
            rows[n++] = make_row(model, r, u);
            continue;
        }
        extend_name(&rows[k], info);
        add_unit(&rows[k], &r->units[u]);
    }
    return n;
}

/* "compute" or "memory"; "" for what has no limit, or several. */
static const char *limit_name(const struct row *row) {
    if (row->limit_ns == 0 || !row->first)
        return "";
    return row->is_computing ? "compute" : "memory";
}

/* ---- Markdown ------------------------------------------------------------------------------------------ */

static void print_read(FILE *f, const char *before, const ees_read_rate *rate, const char *where) {
    fprintf(f, "%s%.1f GB/s from %s (%.4g MiB)", before, rate->bytes_per_s * 1e-9, where,
            (double)rate->bytes / (1 << 20));
}

static void print_core(FILE *f, const ees_roofline *r) {
    if (r->cpu < 0)
        fprintf(f, "a core of type \"%s\", not pinned to it", r->core);
    else
        fprintf(f, "CPU %d, of type \"%s\"", r->cpu, r->core);
    fprintf(f, ", %.2f GHz by a chain of additions\ncomputes at most:", r->cycles_per_s * 1e-9);
    for (unsigned i = 0; i < r->n_peaks; i++)
        fprintf(f, "%s %s %.1f GFLOP/s, %.1f FLOP a cycle", i ? ";" : "", r->peaks[i].precision,
                r->peaks[i].flops_per_s * 1e-9, r->peaks[i].flops_per_cycle);
    print_read(f, "\nreads at most: ", &r->read_private, "the private cache");
    print_read(f, ", ", &r->read_model, "where a model of this size lies");
    print_read(f, ", ", &r->read_memory, "memory");
    if (r->no_counters.code)
        fprintf(f, "\ncounters: none, %s; %s", r->no_counters.message, r->no_counters.hint);
    fprintf(f, "\n\n");
}

static void print_count(FILE *f, double value) {
    if (isnan(value))
        fprintf(f, " - |");
    else
        fprintf(f, " %.3g |", value);
}

static void print_row(FILE *f, const struct row *row, const ees_roofline *r) {
    fprintf(f, "| %s | %u | %.3f | %.1f %% |", row->name, row->n, row->ns * 1e-6 / row->n, 100 * row->ns / r->ns);
    if (row->flops > 0)
        fprintf(f, " %.2f | %.1f | %.2f | %.1f | %s | %.0f %% |", row->flops * 1e-6 / row->n, row->flops / row->ns,
                row->bytes * 1e-6 / row->n, row->flops / row->bytes, limit_name(row), 100 * row->limit_ns / row->ns);
    else
        fprintf(f, " | | %.2f | | | |", row->bytes * 1e-6 / row->n);
    if (!r->no_counters.code) {
        const double *counts = row->counts;
        print_count(f, counts[EES_COUNTER_CYCLES] / row->n);
        print_count(f, counts[EES_COUNTER_INSTRUCTIONS] / counts[EES_COUNTER_CYCLES]);
        print_count(f, counts[EES_COUNTER_CACHE_MISSES] / row->n);
        print_count(f, 100 * counts[EES_COUNTER_STALLED_CYCLES] / counts[EES_COUNTER_CYCLES]);
    }
    fputc('\n', f);
}

static void print_table(FILE *f, const struct bench_model *m, const ees_roofline *r) {
    struct row rows[EES_MAX_UNITS], all = sum_all(r);
    unsigned n = fold_units(m->model, r, rows);
    bool counted = !r->no_counters.code;
    fprintf(f, "| units | n | ms each | time | MFLOP each | GFLOP/s | MB each | FLOP/byte | limit | of the limit |%s\n",
            counted ? " cycles each | instructions a cycle | cache misses each | stalled % |" : "");
    fprintf(f, "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|%s\n", counted ? "---:|---:|---:|---:|" : "");
    for (unsigned i = 0; i < n; i++)
        print_row(f, &rows[i], r);
    all.n = 1; /* the whole is one */
    print_row(f, &all, r);
}

static void print_markdown(FILE *f, const struct bench *b) {
    bench_print_machine(f, b);
    fprintf(f, "input: %s, its first frame again and again, past every head\n", b->o->bench_input);
    for (size_t i = 0; i < b->n_models; i++) {
        const struct bench_model *m = &b->models[i];
        for (unsigned t = 0; t < m->n_rooflines; t++) {
            fprintf(f, "\n## %s%s, %s, kernels %s\n", m->info->name, m->arch ? " (random weights)" : "",
                    m->info->precision, m->info->kernels);
            print_core(f, &m->rooflines[t]);
            print_table(f, m, &m->rooflines[t]);
        }
    }
    fprintf(f, "\nms: CPU time, least of several frames. MB: packed weights, state or picture in, state or logits out, "
               "once each.\n"
               "limit: the longer of FLOP at the peak of the products' precision, and weights at the speed of a model "
               "of this\n"
               "size with state at the private cache's. of the limit: that time against the measured one\n");
}

/* ---- CSV ----------------------------------------------------------------------------------------------- */

static void print_csv_row(FILE *f, const struct bench_model *m, const ees_roofline *r, const struct row *row) {
    fprintf(f, "%s,%s,%s,%s,%s,%.0f,%.6f,%.0f,%.0f,%.0f,%s,", m->info->name, m->info->kernels, r->core, row->name,
            row->first ? row->first->precision : m->info->precision, row->ns, row->ns / r->ns, row->flops,
            row->weights_bytes, row->bytes, limit_name(row));
    if (row->flops > 0)
        fprintf(f, "%.4f", row->limit_ns / row->ns);
    for (unsigned i = 0; i < EES_N_COUNTERS; i++)
        isnan(row->counts[i]) ? fprintf(f, ",") : fprintf(f, ",%.0f", row->counts[i]);
    fputc('\n', f);
}

static void print_csv(FILE *f, const struct bench *b) {
    fprintf(f, "model,kernels,core,unit,precision,ns,share,flops,weights_bytes,bytes,limit,share_of_limit");
    for (unsigned i = 0; i < EES_N_COUNTERS; i++)
        fprintf(f, ",%s", ees_counter_name((enum ees_counter)i));
    fputc('\n', f);
    for (size_t i = 0; i < b->n_models; i++)
        for (unsigned t = 0; t < b->models[i].n_rooflines; t++) {
            const struct bench_model *m = &b->models[i];
            const ees_roofline *r = &m->rooflines[t];
            for (unsigned u = 0; u < r->n_units; u++) {
                struct row row = make_row(m->model, r, u);
                print_csv_row(f, m, r, &row);
            }
            struct row all = sum_all(r);
            print_csv_row(f, m, r, &all);
        }
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static json_t *row_json(const ees_roofline *r, const struct row *row) {
    json_t *json =
        json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "name", row->name, "ms", row->ns * 1e-6, "share", row->ns / r->ns,
                  "flops", row->flops, "weights_bytes", row->weights_bytes, "bytes", row->bytes);
    if (row->first)
        json_object_set_new(json, "precision", json_string(row->first->precision));
    if (row->flops > 0) {
        json_object_set_new(json, "flops_per_s", json_real(1e9 * row->flops / row->ns));
        json_object_set_new(json, "flops_per_byte", json_real(row->flops / row->bytes));
        json_object_set_new(json, "share_of_limit", json_real(row->limit_ns / row->ns));
        if (row->first)
            json_object_set_new(json, "limit", json_string(limit_name(row)));
    }
    for (unsigned i = 0; i < EES_N_COUNTERS; i++)
        if (!isnan(row->counts[i]))
            json_object_set_new(json, ees_counter_name((enum ees_counter)i), json_real(row->counts[i]));
    return json;
}

static json_t *read_json(const ees_read_rate *rate) {
    return json_pack("{s:I, s:f}", "bytes", (json_int_t)rate->bytes, "bytes_per_s", rate->bytes_per_s);
}

static json_t *core_json(const struct bench_model *m, const ees_roofline *r) {
    json_t *units = json_array(), *peaks = json_object();
    struct row all = sum_all(r);
    for (unsigned i = 0; i < r->n_peaks; i++)
        json_object_set_new(peaks, r->peaks[i].precision,
                            json_pack("{s:f, s:f}", "flops_per_s", r->peaks[i].flops_per_s, "flops_per_cycle",
                                      r->peaks[i].flops_per_cycle));
    for (unsigned u = 0; u < r->n_units; u++) {
        struct row row = make_row(m->model, r, u);
        json_array_append_new(units, row_json(r, &row));
    }
    json_t *json = json_pack("{s:s, s:i, s:f, s:o, s:{s:o, s:o, s:o}, s:o, s:o}", "core", r->core, "cpu", r->cpu,
                             "cycles_per_s", r->cycles_per_s, "peaks", peaks, "reads", "private_cache",
                             read_json(&r->read_private), "model", read_json(&r->read_model), "memory",
                             read_json(&r->read_memory), "units", units, "all", row_json(r, &all));
    if (r->no_counters.code)
        json_object_set_new(json, "no_counters",
                            json_pack("{s:s, s:s}", "why", r->no_counters.message, "hint", r->no_counters.hint));
    return json;
}

static json_t *roofline_json(const struct bench *b) {
    char cpu[128], info[4096];
    cpu_model(cpu, sizeof cpu);
    ees_build_info(info, sizeof info);
    json_t *models = json_array();
    for (size_t i = 0; i < b->n_models; i++) {
        const struct bench_model *m = &b->models[i];
        json_t *cores = json_array();
        for (unsigned t = 0; t < m->n_rooflines; t++)
            json_array_append_new(cores, core_json(m, &m->rooflines[t]));
        json_array_append_new(models, json_pack("{s:s, s:b, s:s, s:s, s:o}", "model", m->info->name, "random_weights",
                                                m->arch != NULL, "kernels", m->info->kernels, "precision",
                                                m->info->precision, "cores", cores));
    }
    return json_pack("{s:i, s:s, s:s, s:s, s:f, s:s, s:o}", "v", 1, "version", ees_version(), "build", info, "cpu", cpu,
                     "load_before", b->load_before, "input", b->o->bench_input, "models", models);
}

int roofline_report(const struct bench *b, ees_error *err) {
    return bench_print(b, &(struct bench_printer){print_markdown, print_csv, roofline_json}, err);
}
