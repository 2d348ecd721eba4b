/* SPDX-License-Identifier: MIT */
/* Ensembles answer with a mean q of what the exits so far said ("policies of inclusion", Zero-Time Waste), the final
 * classifier included, and leave if max q >= threshold. The kinds of mean share this: what the members said is kept in
 * the frame, and q becomes the answer. A member whose logits were not finite is left out. */
#ifndef EES_STAGES_POLICIES_MEMBERS_H
#define EES_STAGES_POLICIES_MEMBERS_H

#include "stages/policies/policy.h"

/* ln p of each exit and the final classifier (E+1, K), and q while it is made (K). */
size_t ees__members_floats(unsigned n_exits, size_t n_classes);

/* One mean: what member j weighs at exit k, and ln q but for a constant from the weighted members. */
struct ees__mean {
    double (*weight)(const struct ees__policy_setup *setup, unsigned k, unsigned j);
    /* What a member adds for a class, times its weight, from ln p. */
    double (*term)(float log_p);
    /* @param sum      of weighted terms, @param weight  sum of weights, @param n  of members
     * @param bias  the learned b of exit and class; 0: none is learned */
    float (*log_q)(double sum, double weight, unsigned n, double bias);
};

/* combine() of a policy. */
void ees__members_combine(const struct ees__mean *mean, const struct ees__policy_setup *setup, unsigned exit_idx,
                          struct ees__scores *scores, float *memory);

/* e^w of the learned weights; 1 without. */
double ees__members_learned(const struct ees__policy_setup *setup, unsigned k, unsigned j);

/* Of arithmetic means. */
double ees__members_probability(float log_p);
float ees__members_log_mean(double sum, double weight, unsigned n, double bias);

/* score() of a policy: max q. */
float ees__members_score(const struct ees__scores *scores);

#endif
