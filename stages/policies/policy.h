/* SPDX-License-Identifier: MIT */
/* Exit policies: whether a frame leaves at an exit, from what the exit's head says and what the policy remembers of the
 * frame. Formulas and sources: docs/policies.md. Comparisons are in float32, as PyTorch makes them, and strict unless
 * the policy says otherwise: a confidence of exactly 0.8f does not exceed a threshold of 0.8.
 *
 * A policy is up to three steps at each exit, each left out where it has none:
 *
 *   combine   the head's answer becomes the frame's so far (ensembles, votes)
 *   score     a number of that answer, compared with the exit's threshold
 *   count     over the exits so far: leaves when it says so, instead of where the score is beyond the threshold */
#ifndef EES_STAGES_POLICIES_POLICY_H
#define EES_STAGES_POLICIES_POLICY_H

#include "stages/stage.h"

/* What an exit's head says, computed once. */
struct ees__scores {
    bool finite;         /* false: a logit is NaN or infinite; all scores are NaN then */
    unsigned class_idx;  /* argmax, the lowest index among equals */
    float confidence;    /* max softmax */
    float entropy;       /* natural log, not normalised */
    float margin;        /* the largest probability less the second; 1 of one class */
    float gate;          /* the gate's estimate of the error; NaN: the model has none */
    unsigned n_votes;    /* "vote": for class_idx */
    const float *logits; /* (n_classes,) */
    unsigned n_classes;
    unsigned reference; /* as in struct ees__item */
};

/* Of logits alone. @param n_classes  at least 1 */
struct ees__scores ees__scores_compute(const float *logits, size_t n_classes);

/* What stands for ln 0, so that weighted sums of logarithms stay finite. */
#define EES__LEAST_LOG (-1e30f)

/* ln softmax of finite logits. */
void ees__log_softmax(const float *logits, size_t n_classes, float *out);

/* Which scores leave at a threshold, and with it which thresholds let more frames leave. */
enum ees__threshold {
    EES__NO_THRESHOLD,
    EES__LEAVES_ABOVE,    /* a lower threshold is looser */
    EES__LEAVES_AT_LEAST, /* the same, and a score equal to it leaves */
    EES__LEAVES_BELOW,    /* a higher one is looser */
};

struct ees__policy {
    const char *name;
    enum ees__threshold direction;
    float threshold;    /* defaults; LGViT's are those of its classes for ViT and DeiT */
    unsigned patience;  /* 0: the policy counts nothing */
    unsigned lag;       /* 0: a frame is judged without any other */
    bool needs_gate;    /* only models with a gate have it */
    bool needs_members; /* only models with weights of an ensemble have it */
    bool combines_by_patience; /* `combine` reads setup->patience */
    bool takes_weights; /* of a mean's members, from the caller or the config; all 1 by default */

    /* Floats a frame carries from exit to exit for `combine`; NULL: none. */
    size_t (*memory_floats)(unsigned n_exits, size_t n_classes);

    /* At each exit in order of depth and at the final classifier (exit_idx == setup->n_exits), also where the logits
     * are not finite: replace class and scores. `memory` is the frame's; what it holds at exit 0 means nothing. */
    void (*combine)(const struct ees__policy_setup *setup, unsigned exit_idx, struct ees__scores *scores,
                    float *memory);

    /* What thresholds are compared with. NULL: no threshold. */
    float (*score)(const struct ees__scores *scores);

    /* At each early exit in order. `beyond`: the score is beyond the threshold, true without one; false where the
     * logits are not finite (scores->finite), and then the answer is ignored. `state` is EES__POLICY_STATE_BYTES of the
     * frame, zero at its first exit. NULL: leaves where `beyond`. */
    bool (*count)(const struct ees__policy_setup *setup, const struct ees__scores *scores, bool beyond, void *state);
};

/* Does the frame leave here? NaN and infinity never leave; at exit_idx == setup->n_exits every other frame does.
 * `scores` are what the head's logits say, and become the answer the frame would leave with. Reads the item's `seq`,
 * `degrade`, `gate` and `reference`, reads and writes its policy state and memory, sets `degraded`. */
bool ees__policy_decide(const struct ees__policy_setup *setup, unsigned exit_idx, struct ees__scores *scores,
                        struct ees__item *item);

/* Does the frame leave by one threshold, with the state that belongs to it? `score`: of `scores`. */
bool ees__policy_leaves(const struct ees__policy_setup *setup, float threshold, float score,
                        const struct ees__scores *scores, void *state);

/* Is a score beyond a threshold of this policy? */
bool ees__policy_is_beyond(const struct ees__policy *policy, float score, float threshold);

/* ---- Without a model ------------------------------------------------------------------------------------ */

/* What the heads said of one frame. */
struct ees__record {
    const float *logits; /* (n_exits + 1, n_classes), the last row the final classifier's */
    const float *gates;  /* (n_exits,): sigmoid of the gate at each exit; NULL: none */
    unsigned reference;  /* as in struct ees__item */
};

/* A setup for recorded frames. `options` are complete by themselves or resolved. `learned`: of the model that recorded,
 * NULL: ensembles without learned weights. */
int ees__policy_setup_alone(const ees_policy_options *options, unsigned n_exits, unsigned n_classes,
                            const struct ees__policy_weights *learned, struct ees__policy_setup *out, ees_error *err);

/* Walk a record through the exits. `item`: zeroed but for policy_memory (setup->memory_floats) and, if wanted, degrade.
 * @param answer  of the exit it left at; its class may differ from that of the exit's logits. May be NULL
 * @return the exit, setup->n_exits: the final classifier. Its logits need not be finite: then answer->finite is false
 */
unsigned ees__policy_walk(const struct ees__policy_setup *setup, const struct ees__record *record,
                          struct ees__item *item, struct ees__scores *answer);

/* Has the model learned what the policy needs? `policy` and `learned` may be NULL. @return 0; EES_EINVAL */
int ees__policy_check_learned(const struct ees__policy *policy, const struct ees__policy_weights *learned,
                              ees_error *err);

/* NULL: "none", or no such policy. */
const struct ees__policy *ees__policy_find(const char *name);

/* "confidence, entropy, ...": for messages. */
enum { EES__POLICY_LIST_BYTES = 320 };
void ees__policy_list_names(char *text, size_t n_bytes);

#endif
