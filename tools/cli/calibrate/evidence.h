/* SPDX-License-Identifier: MIT */
/* What a log says about a policy: how right, sure and costly each exit is. Right means the true class where the log has
 * labels, else the class of full depth. */
#ifndef EES_CLI_EVIDENCE_H
#define EES_CLI_EVIDENCE_H

#include <jansson.h>

#include "tools/cli/calibrate/log.h"
#include "tools/cli/calibrate/search.h"
#include "tools/cli/statistics.h"

/* Does this frame count? Of a log with labels those that have one, else all. */
bool log_usable(const struct log *l, size_t frame);

/* Class of a frame at full depth by the final classifier's logits. */
unsigned log_full_class(const struct log *l, size_t frame);

/* What `policy` sees of the log; costs are nanoseconds, or blocks. A frame is lost where full depth is right and the
 * exit is not.
 * @return 0; EES_EINVAL a policy that cannot be replayed; EES_ENOMEM */
int seen_open(struct seen *s, const struct log *l, const ees_model *model, const ees_policy_options *policy,
              bool blocks, ees_error *err);
void seen_close(struct seen *s);

struct exit_evidence {
    uint64_t n_right;               /* of all frames, were each answered here */
    uint64_t n_left, n_left_right;  /* of the frames that leave here */
    struct reliability reliability; /* of the confidence, over all frames */
    double auroc;                   /* of the policy's score as a predictor of a right answer; NaN: there is none */
};

struct evidence {
    size_t n;
    struct exit_evidence exits[EES_MAX_EXITS + 1];
    uint64_t n_full_right;    /* at full depth, by the plain final classifier */
    uint64_t n_right, n_same; /* under the policy: right, and of full depth's class */
    double mean_block, mean_ns;
};

/* Of `frames` as they left in the last replay. @return 0; EES_ENOMEM */
int evidence_collect(struct evidence *out, const struct log *l, const struct seen *s, const size_t *frames, size_t n,
                     ees_error *err);

/* 0 of nothing. */
double share_of(uint64_t part, uint64_t whole);

/* [{"to": 0.1, "frames": n, "confidence": mean, "right": share}, ...] */
json_t *reliability_json(const struct reliability *r);

/* Frames a second that the machine of the log can carry at a mean cost. */
double log_fps(const struct log *l, double mean_ns);

#endif
