/* SPDX-License-Identifier: MIT */
/* Plans as people write them: "replicas", "equal:4", "1-3,4-12", "1-block4.attnx2,block4.mlp-12x1". */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "eestream/plan.h"

struct parser {
    const ees_model *model;
    const ees_model_info *info;
    const char *text;
    ees_error *err;
};

static const ees_unit_info *unit_at(const struct parser *p, unsigned u) { return ees_model_get_unit(p->model, u); }

/* First unit of a 1-based block, or one past the last unit that belongs to it or to a block before. */
static unsigned block_begin(const struct parser *p, unsigned block) {
    unsigned u = 0;
    while (u < p->info->n_units && unit_at(p, u)->block < block)
        u++;
    return u;
}

/* One bound of a range: a block number or a unit's name. @return the first unit of it (end: one past its last), or a
 * negative code */
static int parse_bound(const struct parser *p, const char *word, size_t n, bool end) {
    char *rest;
    unsigned long block = strtoul(word, &rest, 10);
    if (n > 0 && word[0] >= '0' && word[0] <= '9' && rest == word + n) {
        if (block < 1 || block > p->info->n_blocks)
            return EES_FAIL(p->err, EES_EINVAL, "plan '%s': block %lu: the model has blocks 1 to %u", p->text, block,
                            p->info->n_blocks);
        return (int)block_begin(p, (unsigned)block + end);
    }
    for (unsigned u = 0; u < p->info->n_units; u++)
        if (strlen(unit_at(p, u)->name) == n && memcmp(unit_at(p, u)->name, word, n) == 0)
            return (int)(u + end);
    EES_FAIL(p->err, EES_EINVAL, "plan '%s': no block or unit '%.*s'", p->text, (int)n, word);
    return ees__hint(p->err, "eestream inspect lists the units; a group is FIRST-LAST or FIRST-LASTxWORKERS");
}

/* "4-12x2" at [word, word + n) -> *group; n_workers 0: not given. */
static int parse_group(const struct parser *p, const char *word, size_t n, ees_plan_group *group) {
    const char *end = word + n, *dash = memchr(word, '-', n), *times = end;
    for (const char *c = end; c > word && c[-1] != 'x'; c--)
        times = c - 1;
    bool has_workers = times > word && times[-1] == 'x' && times < end && *times >= '0' && *times <= '9';
    const char *last_end = has_workers ? times - 1 : end;
    if (dash && dash >= last_end)
        dash = NULL;
    const char *first_end = dash ? dash : last_end, *last = dash ? dash + 1 : word;
    int from = parse_bound(p, word, (size_t)(first_end - word), false);
    EES_TRY(from);
    int to = parse_bound(p, last, (size_t)(last_end - last), true);
    EES_TRY(to);
    if (to <= from)
        return EES_FAIL(p->err, EES_EINVAL, "plan '%s': group '%.*s' ends before it begins", p->text, (int)n, word);
    unsigned long workers = has_workers ? strtoul(times, NULL, 10) : 0;
    if (has_workers && (workers < 1 || workers > EES_MAX_WORKERS))
        return EES_FAIL(p->err, EES_EINVAL, "plan '%s': group '%.*s': 1 to %d workers", p->text, (int)n, word,
                        EES_MAX_WORKERS);
    *group = (ees_plan_group){.first_unit = (unsigned)from, .end_unit = (unsigned)to, .n_workers = (unsigned)workers};
    return 0;
}

static int too_many_groups(const struct parser *p, unsigned n_workers) {
    return EES_FAIL(p->err, EES_EINVAL, "plan '%s' has more groups than the %u workers, the %u units or %d", p->text,
                    n_workers, p->info->n_units, EES_MAX_GROUPS);
}

static int parse_groups(const struct parser *p, unsigned n_workers, ees_plan *out) {
    for (const char *at = p->text;; at++) {
        size_t n = strcspn(at, ",");
        if (out->n_groups >= n_workers || out->n_groups >= EES_MAX_GROUPS)
            return too_many_groups(p, n_workers);
        ees_plan_group *group = &out->groups[out->n_groups];
        EES_TRY(parse_group(p, at, n, group));
        if (out->n_groups > 0 && group->first_unit != group[-1].end_unit)
            return EES_FAIL(p->err, EES_EINVAL,
                            "plan '%s': group '%.*s' begins with unit %s, expected %s after the group before", p->text,
                            (int)n, at, unit_at(p, group->first_unit)->name, unit_at(p, group[-1].end_unit)->name);
        out->n_groups++;
        at += n;
        if (!*at)
            break;
    }
    /* What comes before the first block and after the last belongs to the outer groups. */
    unsigned first = out->groups[0].first_unit, last = out->groups[out->n_groups - 1].end_unit;
    if (first > block_begin(p, 1) || last < block_begin(p, p->info->n_blocks))
        return EES_FAIL(p->err, EES_EINVAL,
                        "plan '%s' leaves out units: it covers %s to %s, the model has blocks 1 to %u", p->text,
                        unit_at(p, first)->name, unit_at(p, last - 1)->name, p->info->n_blocks);
    out->groups[0].first_unit = 0;
    out->groups[out->n_groups - 1].end_unit = p->info->n_units;
    return 0;
}

/* `n` groups with as equal a number of blocks as can be. */
static int equal_groups(const struct parser *p, unsigned n, unsigned n_workers, ees_plan *out) {
    if (n == 0 || n > n_workers || n > p->info->n_blocks || n > EES_MAX_GROUPS)
        return too_many_groups(p, n_workers);
    for (unsigned g = 0; g < n; g++) {
        out->groups[g].first_unit = g == 0 ? 0 : out->groups[g - 1].end_unit;
        out->groups[g].end_unit = g + 1 == n ? p->info->n_units : block_begin(p, (g + 1) * p->info->n_blocks / n + 1);
    }
    out->n_groups = n;
    return 0;
}

/* Give every group without a number its share of the workers that are left. */
static int deal_out_workers(const struct parser *p, unsigned n_workers, ees_plan *out) {
    unsigned given = 0, open = 0;
    for (unsigned g = 0; g < out->n_groups; g++) {
        given += out->groups[g].n_workers;
        open += out->groups[g].n_workers == 0;
    }
    if (open ? given + open > n_workers : given != n_workers)
        return EES_FAIL(p->err, EES_EINVAL, "plan '%s' asks for %u workers%s, there are %u", p->text, given + open,
                        open ? " or more" : "", n_workers);
    unsigned left = n_workers - given;
    for (unsigned g = 0; g < out->n_groups; g++)
        if (out->groups[g].n_workers == 0) {
            out->groups[g].n_workers = left / open;
            left -= left / open--;
        }
    return 0;
}

int ees_plan_parse(const ees_model *model, const char *text, unsigned n_workers, ees_plan *out, ees_error *err) {
    struct parser p = {.model = model, .info = ees_model_get_info(model), .text = text, .err = err};
    unsigned n;
    int used = 0;
    *out = (ees_plan){.n_workers = n_workers};
    if (n_workers == 0 || n_workers > EES_MAX_WORKERS)
        return EES_FAIL(err, EES_EINVAL, "%u workers: 1 to %d", n_workers, EES_MAX_WORKERS);
    if (strcmp(text, "replicas") == 0)
        EES_TRY(equal_groups(&p, 1, n_workers, out));
    else if (sscanf(text, "equal:%u%n", &n, &used) == 1 && !text[used])
        EES_TRY(equal_groups(&p, n, n_workers, out));
    else
        EES_TRY(parse_groups(&p, n_workers, out));
    return deal_out_workers(&p, n_workers, out);
}
