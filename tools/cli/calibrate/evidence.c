/* SPDX-License-Identifier: MIT */
#include "tools/cli/calibrate/evidence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/fail.h"

bool log_usable(const struct log *l, size_t frame) { return l->n_labels == 0 || l->labels[frame] >= 0; }

unsigned log_full_class(const struct log *l, size_t frame) {
    const float *z = l->logits + (frame * (l->n_exits + 1) + l->n_exits) * l->n_classes;
    unsigned best = 0;
    for (unsigned i = 1; i < l->n_classes; i++)
        best = z[i] > z[best] ? i : best;
    return best;
}

double log_fps(const struct log *l, double mean_ns) { return mean_ns > 0 ? l->n_cores * 1e9 / mean_ns : 0; }

/* The class an answer is measured by. */
static unsigned true_class(const struct log *l, size_t frame) {
    return l->n_labels ? (unsigned)l->labels[frame] : log_full_class(l, frame);
}

/* ---- What a policy sees -------------------------------------------------------------------------------- */

static void fill_lost(struct seen *s, const struct log *l) {
    size_t n_rows = (size_t)l->n_exits + 1;
    for (size_t i = 0; i < l->n; i++) {
        unsigned truth = log_usable(l, i) ? true_class(l, i) : 0;
        bool full_right = log_full_class(l, i) == truth;
        for (size_t e = 0; e < n_rows; e++)
            s->lost[i * n_rows + e] = full_right && s->views[i * n_rows + e].class_idx != truth;
    }
}

int seen_open(struct seen *s, const struct log *l, const ees_model *model, const ees_policy_options *policy,
              bool blocks, ees_error *err) {
    size_t n = l->n * ((size_t)l->n_exits + 1);
    *s = (struct seen){.policy = *policy, .n_exits = l->n_exits, .n = l->n};
    CLI_TRY(ees_policy_get_info(policy->name, &s->info, err));
    if (s->info.views_by_patience && s->policy.patience == 0) /* what is seen is of one patience */
        s->policy.patience = s->info.patience;
    for (unsigned e = 0; e <= l->n_exits; e++)
        s->cost[e] = blocks ? l->exit_block[e] : l->exit_ns[e];
    s->views = malloc(n * sizeof *s->views);
    s->lost = malloc(n);
    s->exits = malloc(l->n);
    int rc = s->views && s->lost && s->exits ? 0 : CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu frames", l->n);
    const float *gates = s->info.needs_gate && log_has_gates(l) ? l->gates : NULL;
    if (rc == 0)
        rc = ees_policy_view(model, &s->policy, l->n_exits, l->n_classes, l->logits, gates, l->n, s->views, err);
    if (rc == 0)
        fill_lost(s, l);
    else
        seen_close(s);
    return rc;
}

void seen_close(struct seen *s) {
    free(s->views);
    free(s->lost);
    free(s->exits);
    *s = (struct seen){0};
}

/* ---- Evidence ------------------------------------------------------------------------------------------ */

static void collect_exit(struct exit_evidence *out, const struct log *l, const struct seen *s, unsigned e,
                         const size_t *frames, size_t n, struct scored *space) {
    size_t n_scored = 0;
    double sign = s->info.rule == EES_THRESHOLD_BELOW ? -1 : 1;
    *out = (struct exit_evidence){0};
    for (size_t i = 0; i < n; i++) {
        const ees_exit_view *v = &s->views[frames[i] * ((size_t)l->n_exits + 1) + e];
        bool right = v->finite && v->class_idx == true_class(l, frames[i]), left = s->exits[frames[i]] == e;
        out->n_right += right;
        out->n_left += left;
        out->n_left_right += left && right;
        if (v->finite)
            reliability_add(&out->reliability, (double)v->confidence, right);
        if (!isnan(v->score))
            space[n_scored++] = (struct scored){.score = sign * (double)v->score, .right = right};
    }
    out->auroc = area_under_roc(space, n_scored);
}

int evidence_collect(struct evidence *out, const struct log *l, const struct seen *s, const size_t *frames, size_t n,
                     ees_error *err) {
    struct scored *space = malloc((n + 1) * sizeof *space);
    *out = (struct evidence){.n = n};
    if (!space)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu frames", n);
    for (unsigned e = 0; e <= l->n_exits; e++) {
        struct exit_evidence *at = &out->exits[e];
        collect_exit(at, l, s, e, frames, n, space);
        out->n_right += at->n_left_right;
        out->mean_block += (double)at->n_left * l->exit_block[e] / (double)(n ? n : 1);
        out->mean_ns += (double)at->n_left * l->exit_ns[e] / (double)(n ? n : 1);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned full = log_full_class(l, frames[i]);
        out->n_full_right += full == true_class(l, frames[i]);
        out->n_same += s->views[frames[i] * ((size_t)l->n_exits + 1) + s->exits[frames[i]]].class_idx == full;
    }
    free(space);
    return 0;
}

double share_of(uint64_t part, uint64_t whole) { return whole ? (double)part / (double)whole : 0; }

json_t *reliability_json(const struct reliability *r) {
    json_t *list = json_array();
    for (unsigned b = 0; b < N_BINS; b++)
        json_array_append_new(list, json_pack("{s:f, s:I, s:f, s:f}", "to", (b + 1) / (double)N_BINS, "frames",
                                              (json_int_t)r->n[b], "confidence",
                                              r->n[b] ? r->confidence[b] / (double)r->n[b] : 0, "right",
                                              share_of(r->n_right[b], r->n[b])));
    return list;
}
