/* SPDX-License-Identifier: MIT */
/* Counts become a sequence in which every window of 64 frames holds the mix as closely as whole frames allow, in
 * seeded random order within the window: short measurements see the right mix, neighbours stay unpredictable. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"
#include "tools/cli/file.h"
#include "tools/cli/replay.h"
#include "tools/cli/statistics.h"

#define MIN_SEQUENCE     1000u
#define MAX_SEQUENCE     100000u
#define MAX_REPLAY_BYTES ((size_t)1 << 30)

static void shuffle_exits(uint8_t *x, size_t n, uint64_t *state) {
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)(next_random(state) % i);
        uint8_t swap = x[i - 1];
        x[i - 1] = x[j];
        x[j] = swap;
    }
}

/* The exit that lags its share most after i frames. */
static unsigned most_due(const double *share, const size_t *used, unsigned n, size_t i) {
    unsigned best = 0;
    double best_lag = -1e300;
    for (unsigned e = 0; e < n; e++) {
        double lag = share[e] * (double)(i + 1) - (double)used[e];
        if (share[e] > 0 && lag > best_lag) {
            best = e;
            best_lag = lag;
        }
    }
    return best;
}

static int fill_sequence(struct replay *r, unsigned n_exits, size_t n, ees_error *err) {
    r->n = n < MIN_SEQUENCE ? MIN_SEQUENCE : n > MAX_SEQUENCE ? MAX_SEQUENCE : n;
    r->exits = malloc(r->n);
    if (!r->exits)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu replayed exits", r->n);
    size_t used[EES_MAX_EXITS + 1] = {0};
    for (size_t i = 0; i < r->n; i++) {
        unsigned e = most_due(r->share, used, n_exits + 1, i);
        r->exits[i] = (uint8_t)e;
        used[e]++;
    }
    uint64_t state = 1;
    for (size_t at = 0; at < r->n; at += REPLAY_WINDOW)
        shuffle_exits(r->exits + at, r->n - at < REPLAY_WINDOW ? r->n - at : REPLAY_WINDOW, &state);
    return 0;
}

static int from_counts(struct replay *r, const double *counts, unsigned n_exits, double *total, ees_error *err) {
    *total = 0;
    for (unsigned e = 0; e <= n_exits; e++) {
        if (counts[e] < 0)
            return CLI_FAIL(err, EES_EINVAL, "exit share %u is %g: shares are not negative", e, counts[e]);
        *total += counts[e];
    }
    if (!(*total > 0))
        return CLI_FAIL(err, EES_EINVAL, "the exit shares sum to %g", *total);
    for (unsigned e = 0; e <= n_exits; e++)
        r->share[e] = counts[e] / *total;
    return fill_sequence(r, n_exits, *total < MAX_SEQUENCE ? (size_t)*total : MAX_SEQUENCE, err);
}

int replay_from_share(struct replay *r, const double *share, unsigned n_exits, ees_error *err) {
    double total;
    *r = (struct replay){0};
    snprintf(r->description, sizeof r->description, "shares given");
    return from_counts(r, share, n_exits, &total, err);
}

int replay_published(struct replay *r, enum published_mix which, unsigned n_exits, ees_error *err) {
    enum { N = 8 };
    static const struct {
        const char *threshold;
        double counts[N + 1];
    } mixes[N_PUBLISHED] = {{"0.8", {4330, 1556, 943, 894, 1136, 498, 236, 94, 313}},
                            {"0.9", {3234, 1481, 878, 991, 1539, 675, 317, 174, 711}},
                            {"0.99", {1149, 1105, 663, 999, 2103, 1087, 539, 316, 2039}}};
    double total;
    *r = (struct replay){0};
    if (n_exits != N) {
        CLI_FAIL(err, EES_EINVAL, "the built-in exit mixes have %d exits, the model %u", N, n_exits);
        return cli_hint(err, "give one with --replay-exits");
    }
    snprintf(r->description, sizeof r->description,
             "built-in mix: LGViT ViT-B/16 on CIFAR-100 at threshold %s, published counts", mixes[which].threshold);
    return from_counts(r, mixes[which].counts, n_exits, &total, err);
}

int replay_default(struct replay *r, unsigned n_exits, ees_error *err) {
    return replay_published(r, PUBLISHED_80, n_exits, err);
}

/* ---- Counts file --------------------------------------------------------------------------------------- */

static const json_t *pick_run(const json_t *runs, const char *wanted, const char **name) {
    if (wanted) {
        *name = wanted;
        return json_object_get(runs, wanted);
    }
    void *first = json_object_iter((json_t *)runs);
    *name = first ? json_object_iter_key(first) : "";
    return first ? json_object_iter_value(first) : NULL;
}

struct counted_exit {
    long order; /* the K of "exit_K"; the final classifier sorts last */
    double count;
};

static int by_order(const void *a, const void *b) {
    long x = ((const struct counted_exit *)a)->order, y = ((const struct counted_exit *)b)->order;
    return (x > y) - (x < y);
}

static int read_counted(const char *path, const char *key, const json_t *entry, struct counted_exit *out,
                        ees_error *err) {
    char *end = NULL;
    bool final = strcmp(key, "final") == 0;
    out->order = final ? LONG_MAX : strncmp(key, "exit_", 5) == 0 ? strtol(key + 5, &end, 10) : -1;
    const json_t *count = json_object_get(entry, "count");
    out->count = json_number_value(count);
    if ((!final && (!end || end == key + 5 || *end)) || !json_is_number(count))
        return CLI_FAIL(err, EES_EINVAL, "%s: exits.%.40s: expected exit_K or final, with a count", path, key);
    return 0;
}

static int read_counts(struct replay *r, const char *path, const char *wanted, const json_t *root, unsigned n_exits,
                       ees_error *err) {
    const char *name;
    const json_t *exits = json_object_get(pick_run(json_object_get(root, "runs"), wanted, &name), "exits");
    if (!exits)
        return CLI_FAIL(err, EES_EINVAL, "%s: no exits at runs.%.60s.exits", path, name);
    struct counted_exit list[EES_MAX_EXITS + 1];
    unsigned n = 0;
    const char *key;
    json_t *entry;
    if (json_object_size(exits) != n_exits + 1)
        return CLI_FAIL(err, EES_EINVAL, "%s: run %.60s has %zu exits with the final one, the model %u", path, name,
                        json_object_size(exits), n_exits + 1);
    json_object_foreach((json_t *)exits, key, entry) CLI_TRY(read_counted(path, key, entry, &list[n++], err));
    qsort(list, n, sizeof list[0], by_order);
    double counts[EES_MAX_EXITS + 1], total;
    for (unsigned e = 0; e < n; e++)
        counts[e] = list[e].count;
    CLI_TRY(from_counts(r, counts, n_exits, &total, err));
    snprintf(r->description, sizeof r->description, "%.80s, run %.40s, %.0f frames", path, name, total);
    return 0;
}

/* ---- JSONL --------------------------------------------------------------------------------------------- */

/* The "exit" field of each line. Frames without an answer have none to replay, and those that were skipped took no
 * exit. */
static int read_line(struct replay *r, const char *path, size_t line, const char *text, size_t n, unsigned n_exits,
                     ees_error *err) {
    json_error_t where;
    json_t *object = json_loadb(text, n, 0, &where);
    if (!object)
        return CLI_FAIL(err, EES_EINVAL, "%s: line %zu is not JSON: %s", path, line, where.text);
    const json_t *exit_field = json_object_get(object, "exit");
    const char *status = json_string_value(json_object_get(object, "status"));
    bool computed = !status || strcmp(status, ees_status_name(EES_STATUS_SKIPPED)) != 0;
    json_int_t e = computed && json_is_integer(exit_field) ? json_integer_value(exit_field) : -1;
    json_decref(object);
    if (e > (json_int_t)n_exits)
        return CLI_FAIL(err, EES_EINVAL, "%s: line %zu: exit %lld, the model has 0 to %u", path, line, (long long)e,
                        n_exits);
    if (e >= 0) {
        r->exits[r->n++] = (uint8_t)e;
        r->share[e]++;
    }
    return 0;
}

static int read_lines(struct replay *r, const char *path, const char *text, size_t n, unsigned n_exits,
                      ees_error *err) {
    size_t n_lines = 1;
    for (size_t i = 0; i < n; i++)
        n_lines += text[i] == '\n';
    r->exits = malloc(n_lines);
    if (!r->exits)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu replayed exits", n_lines);
    size_t line = 0;
    for (const char *at = text, *end = text + n; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline ? newline : end) - at);
        line++;
        if (length > 0)
            CLI_TRY(read_line(r, path, line, at, length, n_exits, err));
        at += length + 1;
    }
    if (r->n == 0)
        return CLI_FAIL(err, EES_EINVAL, "%s: no line with an \"exit\" field", path);
    for (unsigned e = 0; e <= n_exits; e++)
        r->share[e] /= (double)r->n;
    snprintf(r->description, sizeof r->description, "%.80s, %zu recorded frames", path, r->n);
    return 0;
}

int replay_open(struct replay *r, const char *path, const char *run, unsigned n_exits, ees_error *err) {
    char *text;
    size_t n;
    *r = (struct replay){0};
    CLI_TRY(file_read(path, MAX_REPLAY_BYTES, EES_EINVAL, &text, &n, err));
    json_t *root = json_loadb(text, n, 0, NULL);
    int rc = json_object_get(root, "runs") ? read_counts(r, path, run, root, n_exits, err)
                                           : read_lines(r, path, text, n, n_exits, err);
    json_decref(root);
    free(text);
    if (rc < 0) {
        replay_close(r);
        cli_hint(err, "a counts file has runs.NAME.exits.exit_K.count; eestream run writes JSONL with exit fields");
    }
    return rc;
}

void replay_close(struct replay *r) {
    free(r->exits);
    r->exits = NULL;
    r->n = 0;
}
