/* SPDX-License-Identifier: MIT */
/* A path of policy parameters from strict to loose, found on one half of the frames: the fewest losses for each cost.
 * The other half never enters here, which is what lets certify.c trust it. */
#ifndef EES_CLI_SEARCH_H
#define EES_CLI_SEARCH_H

#include "eestream/eestream.h"

/* What one policy sees of all frames, and what each exit would cost and lose. */
struct seen {
    ees_policy_options policy; /* thresholds are the search's, and so is a patience of 0 */
    ees_policy_info info;
    unsigned n_exits;
    size_t n;
    ees_exit_view *views;           /* (n, n_exits + 1) */
    uint8_t *lost;                  /* (n, n_exits + 1): is the frame lost by the answer there? */
    double cost[EES_MAX_EXITS + 1]; /* up to an answer at each exit */
    uint8_t *exits;                 /* (n,): of the last replay */
};

struct outcome {
    size_t n, n_lost;
    double cost; /* mean */
    uint64_t exit_frames[EES_MAX_EXITS + 1];
};

/* Replay all frames, count those in `frames`. @return 0; EES_EINVAL */
int seen_replay(struct seen *s, const ees_policy_options *policy, const size_t *frames, size_t n, struct outcome *out,
                ees_error *err);

struct path_point {
    ees_policy_options policy;
    struct outcome outcome; /* on the frames of the search */
};

struct path {
    struct path_point *points; /* strictest first: cost falls */
    size_t n, room;
};

/* @return 0; EES_EINVAL; EES_ENOMEM */
int search_path(struct seen *s, const size_t *frames, size_t n, struct path *out, ees_error *err);
void path_fini(struct path *path);

#endif
