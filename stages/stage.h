/* SPDX-License-Identifier: MIT */
/* The interface between the engine and what it runs: a model is a chain of units, a unit advances the state of frames by
 * one step, on whichever thread holds them.
 *
 * Who owns what: the engine owns items, states and a lane a worker; a model owns its units and their weights, which
 * are read-only once open. A unit touches nothing but its items, its lane and its weights, so two workers may run
 * the same unit on different frames at once. */
#ifndef EES_STAGES_STAGE_H
#define EES_STAGES_STAGE_H

#include "eestream/model.h"

struct ees__kernels;
struct ees__lane;
struct ees__policy;

enum { EES__POLICY_STATE_BYTES = 16 };

/* What a frame carries from unit to unit. */
struct ees__item {
    const ees_frame *frame; /* read by the ingest unit only */
    uint64_t seq;           /* number of the frame within its engine: position in a replay */
    /* model->info.state_bytes: patches (N, 3*P*P) after ingest, tokens (T, C) from embed on. The engine attaches it
     * before the first unit and may take it away when the frame is answered. */
    float *state;
    float *logits;          /* (K,) of the head that ran last */
    /* (E+1, K) of every head that ran, then the gates of the early ones (E), NaN in a model without; NULL: nobody wants them,
     * and heads are passed over under "none" */
    float *all_logits;
    float degrade;          /* 0 .. 1, set by the engine before a visit: how far thresholds move to their degraded values */
    /* Zeroed when the frame enters. [0] as if degrade were 0, [1] under the thresholds as they were moved. */
    _Alignas(8) unsigned char policy_state[2][EES__POLICY_STATE_BYTES];
    float *policy_memory;   /* the setup's memory_floats, of any content when the frame enters; NULL where that is 0 */
    float gate;             /* of the exit head that ran last, where the model has a gate */
    unsigned reference;     /* class + 1 of the earlier frame the policy compares with (its lag); 0: it has no answer */

    /* The best answer so far: of the latest head, where its logits are finite, whether the frame left there or not. */
    int exit_idx;           /* -1: no head ran yet, or the latest gave logits that are not finite */
    unsigned block;         /* block it answered after */
    unsigned class_idx;
    float confidence, entropy; /* of `logits` */
    bool degraded;          /* left here, and would have gone on with degrade 0 */
    unsigned n_nonfinite;   /* early heads whose logits were not finite: never an exit */

    unsigned n_warnings;
    ees_error error; /* set when a unit failed */
};

/* Of an item's all_logits. At most 33 times what a head packs: no overflow. */
static inline size_t ees__all_logits_floats(unsigned n_exits, size_t n_classes) {
    return ((size_t)n_exits + 1) * n_classes + n_exits;
}

/* What a model has learned for its policies. Read-only, the model's. */
struct ees__policy_weights {
    float *gate;               /* (n_gate + 1,): a weight an element of the exits' pooled vectors, then the bias; NULL: none */
    size_t n_gate;
    float *member, *member_bias; /* (E+1, E+1) and (E+1, K): of ensembles, E early exits; NULL: none */
};

/* A policy with its parameters filled in; read-only while an engine runs. */
struct ees__policy_setup {
    const struct ees__policy *policy; /* NULL: "none" */
    unsigned n_exits, n_classes;
    float thresholds[EES_MAX_EXITS];
    bool degrades;                    /* false: items' `degrade` changes nothing */
    float degraded[EES_MAX_EXITS];    /* thresholds at degrade 1, each on the looser side or equal */
    unsigned patience;
    unsigned lag;                        /* items need the answer of the frame so many before as `reference`; 0: they do not */
    float weights[EES_MAX_EXITS + 1];    /* of the members of a mean */
    const struct ees__policy_weights *learned; /* NULL: walked without a model */
    size_t memory_floats;                /* an item's policy_memory */
    float skip_below;                    /* change of the picture below which a frame is not computed; 0: all are */
    const uint8_t *replay; /* forced exits, NULL: off */
    size_t n_replay;
};

/* Scratch memory and decoder of one worker, for batches of up to max_batch frames.
 * @return NULL: out of memory, or more than memory can hold */
struct ees__lane *ees__lane_open(const ees_model *model, unsigned max_batch);
void ees__lane_close(struct ees__lane *lane);

/* A part of a unit's work: [first, end) of some range, with the lane of the thread it runs on. Parts of one range are
 * independent, whatever their bounds are. */
typedef void ees__part_fn(void *ctx, size_t first, size_t end, struct ees__lane *lane);

/* Workers that help one of them inside a unit. */
struct ees__team {
    /* Run part(ctx, ...) over [0, n), n >= 1, in pieces of `grain` (the last may be shorter), on the caller with its lane
     * `own` and on helpers, each with a lane of its own of the same model. Everything the caller wrote before is
     * visible to the helpers, everything they wrote is visible to the caller when it returns. Pieces may be of other
     * sizes: results do not depend on it, only speed does. */
    void (*share)(struct ees__team *team, ees__part_fn *part, void *ctx, size_t n, size_t grain, struct ees__lane *own);
    unsigned n_members; /* at most so many work on a loop, the caller among them; at least 1 */
};

enum ees__unit_rc {
    EES__UNIT_NEXT = 0, /* go on with the next unit */
    EES__UNIT_DONE = 1, /* answered: item->exit_idx and what belongs to it are set */
    /* negative: item->error holds the report; the frame leaves as failed */
};

/* Run unit `unit` of the model on n items at that unit, 1 <= n <= the lane's max_batch, each with a state and logits of
 * its own; rc[i] tells what became of items[i]. Heads of early exits are passed over (EES__UNIT_NEXT at once) under
 * the policy "none". The last unit never gives EES__UNIT_NEXT.
 *
 * An item's result does not depend, to the last bit, on the items beside it nor on the team (levels of kernels whose rows
 * are independent: all but "blas").
 * @param team  NULL: alone. A team runs the items of a batch one after the other; ingest is always run alone
 * @return number of items that go on */
int ees__unit_run(const ees_model *model, const struct ees__policy_setup *setup, unsigned unit,
                  struct ees__item *const items[], unsigned n, int rc[], struct ees__lane *lane,
                  struct ees__team *team);

/* ---- What a core can do at most ------------------------------------------------------------------------- */

/* `n` rounds of nothing but the multiply-adds that the model's products of a precision are made of ("fp32", "bf16",
 * "int8"). @return operations done, 2 a multiply-add; 0: its kernels have no such products */
double ees__peak_run(const ees_model *model, const char *precision, size_t n);

/* Bring memory into registers as fast as the model's kernels can. `bytes`: a multiple of 4096. */
void ees__read_run(const ees_model *model, const void *from, size_t bytes);

/* ---- How much a frame's picture changed ----------------------------------------------------------------- */

size_t ees__picture_floats(const ees_model *model);

/* A small picture from a frame's state after ingest. */
void ees__picture_make(const ees_model *model, const float *patches, float *picture);

/* In grey levels of 0 to 255, of the patch that changed most. */
float ees__picture_change(const ees_model *model, const float *a, const float *b);

/* ---- Policies ------------------------------------------------------------------------------------------- */

/* Check and fill a setup from resolved options (ees_policy_resolve()); `replay` is borrowed. */
int ees__policy_setup(const ees_model *model, const ees_policy_options *resolved, struct ees__policy_setup *out,
                      ees_error *err);

#endif
