/* SPDX-License-Identifier: MIT */
/** Rewriting a model folder in a narrower precision, with what that costs measured on the caller's frames.
 *
 *  The folder keeps its family's tensor names. config.json gets an object
 *
 *      "quantisation": {"precision": "int8", "wider": ["block1.attn"]}
 *
 *  where `wider` names units (see `eestream inspect`) that run in float32. Matrices of large products are stored
 *
 *      int8  q as I8 with "<matrix>_scale", F32 (n,): W_jp = scale_j q_jp, q in [-127, 127], scale above 0
 *      bf16  as BF16, fp16 as F16 (which run in float32)
 *
 *  and everything else as it was. For int8, what LayerNorm hands to a product is balanced first: a factor a channel
 * moves from LayerNorm's weight and bias into the product's matrix, which changes nothing in exact arithmetic. */
#ifndef EESTREAM_QUANTISE_H
#define EESTREAM_QUANTISE_H

#include "eestream/model.h"
#include "eestream/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ees_quantise_options {
    const char *precision; /**< NULL: "int8"; "bf16", "fp16" */
    const char *kernels;   /**< level that measures, see ees_model_options */
    /** Frames to calibrate and measure with, at least one; each is read several times. `release` is not called. */
    const ees_frame *frames;
    size_t n_frames;
    bool choose_wider;        /**< keep units wider until `max_changed` is met, the ones that cost most first */
    double max_changed;       /**< share of frames whose answer may be another class; 0: 0.01 */
    const char *const *wider; /**< units kept wider in any case */
    size_t n_wider;
} ees_quantise_options;

typedef struct ees_quantise_report {
    size_t n_frames;
    size_t n_changed;                                                       /**< frames whose answer is another class */
    size_t n_moved;                                                         /**< frames that leave at another exit */
    double largest_logit_difference, mean_logit_difference;                 /**< over all exits of all frames */
    size_t exits_before[EES_MAX_EXITS + 1], exits_after[EES_MAX_EXITS + 1]; /**< frames by exit */
    size_t bytes_before, bytes_after;                                       /**< of model.safetensors */
    unsigned n_wider;
    char wider[EES_MAX_UNITS][40]; /**< units that stay in float32 */
    bool leaves_certificate; /**< the folder read has a certificate.json, which does not hold for the one written */
    uint32_t *class_before, *class_after; /**< (n_frames,) answers; ees_quantise_report_fini() */
} ees_quantise_report;

/** A certificate.json stays behind, and its thresholds are not used: those of config.json are, before and after.
 *  @param out_dir  made if it is not there; model.safetensors, config.json and preprocessor_config.json are replaced
 *  @return 0; EES_EINVAL; EES_EMODEL; EES_EOUTPUT; EES_ENOMEM; EES_EDAMAGED a frame cannot be read */
EES_API int ees_quantise(const char *in_dir, const char *out_dir, const ees_quantise_options *options,
                         ees_quantise_report *report, ees_error *err);
EES_API void ees_quantise_report_fini(ees_quantise_report *report);

#ifdef __cplusplus
}
#endif
#endif
