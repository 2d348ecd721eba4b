/* SPDX-License-Identifier: MIT */
/* The interface between the engine and what it runs: a model is a chain of units, a unit advances one frame's state by
 * one step, on whichever thread holds the frame.
 *
 * Who owns what: the engine owns an item a slot and a lane a worker; a model owns its units and their weights, which
 * are read-only once open. A unit touches nothing but its item, its lane and its weights, so two workers may run
 * the same unit on two frames at once. */
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
    float *state;           /* model->info.state_bytes: patches (N, 3*P*P) after ingest, tokens (T, C) from embed on */
    float *logits;          /* (K,) of the head that ran last */
    _Alignas(8) unsigned char policy_state[EES__POLICY_STATE_BYTES]; /* zeroed when the frame enters */
    int exit_idx;           /* exit that answered, -1 until then */
    unsigned block;         /* block it answered after */
    unsigned class_idx;
    float confidence, entropy; /* of `logits` */
    unsigned n_warnings;
    ees_error error; /* set when a unit failed */
};

/* A policy with its parameters filled in; read-only while an engine runs. */
struct ees__policy_setup {
    const struct ees__policy *policy; /* NULL: "none" */
    float thresholds[EES_MAX_EXITS];
    unsigned patience;
    const uint8_t *replay; /* forced exits, NULL: off */
    size_t n_replay;
};

/* Scratch memory and decoder of one worker. @return NULL: out of memory */
struct ees__lane *ees__lane_open(const ees_model *model);
void ees__lane_close(struct ees__lane *lane);

enum ees__unit_rc {
    EES__UNIT_NEXT = 0, /* go on with the next unit */
    EES__UNIT_DONE = 1, /* answered: item->exit_idx and what belongs to it are set */
    /* negative: item->error holds the report; the frame leaves as failed */
};

/* Run unit `unit` of the model on `item`. Heads of early exits are passed over (EES__UNIT_NEXT at once) under the
 * policy "none". The last unit never returns EES__UNIT_NEXT. */
int ees__unit_run(const ees_model *model, const struct ees__policy_setup *policy, unsigned unit,
                  struct ees__item *item, struct ees__lane *lane);

/* Check and fill a setup from resolved options (ees_policy_resolve()); `replay` is borrowed. */
int ees__policy_setup(const ees_model *model, const ees_policy_options *resolved, struct ees__policy_setup *out,
                      ees_error *err);

#endif
