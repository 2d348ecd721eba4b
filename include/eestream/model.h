/* SPDX-License-Identifier: MIT */
/** Models: a chain of units with exits. Loaded once, read-only afterwards, shared by any number of engines.
 *
 *  Shape letters as in the papers: T tokens, C channels, H attention heads, D = C/H, F MLP width, K classes,
 *  P patch side, N patch tokens. Blocks are 1-based, exits 0-based; exit index == number of exits means the
 *  final classifier. */
#ifndef EESTREAM_MODEL_H
#define EESTREAM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "eestream/error.h"
#include "eestream/frame.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EES_MAX_EXITS 32 /**< early exits of one model, the final classifier not counted */

typedef struct ees_model ees_model;

enum ees_decode {
    EES_DECODE_EXACT = 0, /**< full-resolution JPEG decode, Pillow's resize to the bit */
    EES_DECODE_FAST,      /**< smallest JPEG DCT scale that still covers the model's input, then the same resize */
};

typedef struct ees_model_options {
    /** Kernel level: NULL or "auto" the best this CPU has; "avx512vnni", "avx2", "dotprod", "neon", "scalar", ... */
    const char *kernels;
    /** Of the large products: NULL as the model's folder says, or "fp32", "bf16", "int8". int8 rounds weights by output
     *  and activations by token as they come; a CPU without bf16 runs such models in fp32. */
    const char *precision;
    bool allow_nonfinite; /**< false: a NaN or Inf weight refuses the model, naming tensor and index */
    enum ees_decode decode;
    uint64_t max_pixels; /**< 0: default 40 Mpx. A larger frame is damaged (decompression bombs) */
    /** Input of the network, multiples of its patch; both 0: what the model was trained with. Position tables are
     *  resampled as the model's own framework does it, preprocessing is scaled with it. */
    unsigned image_height_px, image_width_px;
} ees_model_options;

typedef struct ees_exit_info {
    unsigned after_block; /**< 1-based */
    const char *head;     /**< "conv1_1", "attention_r2", ... */
} ees_exit_info;

/** What a model is. Strings and arrays live as long as the model. */
typedef struct ees_model_info {
    const char *name;    /**< folder name, architecture name of a random model, or "embedded" */
    const char *family;  /**< naming and preprocessing family: "hf-vit", "lgvit-vit", ... */
    const char *kernels; /**< level in use */
    const char *precision; /**< of units that are not kept wider: "fp32", "fp16" (stored so, runs in fp32), "bf16", "int8" */
    unsigned image_height_px, image_width_px, patch_px;
    unsigned n_tokens, n_channels, n_heads, mlp_width, n_blocks, n_classes;
    double norm_eps;
    unsigned n_units;
    unsigned n_exits;
    ees_exit_info exits[EES_MAX_EXITS];
    uint64_t n_params;     /**< parameters of the network as published, before folding and packing */
    size_t weights_bytes;  /**< memory held by packed weights */
    size_t state_bytes;    /**< memory of one frame's state between units */
    size_t scratch_bytes;  /**< memory one worker needs */
} ees_model_info;

/** One unit of the chain: what the planner places and `inspect` lists. */
typedef struct ees_unit_info {
    const char *name;      /**< "ingest", "embed", "block3.attn", "block3.mlp", "exit0.conv1_1", "final" */
    unsigned block;        /**< 1-based block it belongs to; 0 before the first block */
    int exit_idx;          /**< exit decided after it, -1 none; n_exits: the final classifier */
    double flops;          /**< floating-point operations a frame (2 per multiply-accumulate); 0 for ingest */
    size_t weights_bytes;  /**< packed weights it reads */
    const char *precision; /**< of its large products: "fp32", "bf16", "int8" */
} ees_unit_info;

EES_API void ees_model_options_default(ees_model_options *options);

/** Load a model folder (config.json, model.safetensors, optional preprocessor_config.json).
 *  @param dir  NULL: the model embedded in the library
 *  @return 0; EES_EMODEL (file, field, tensor and expectation named); EES_EINVAL; EES_EUNSUPPORTED kernel level
 *          not on this CPU; EES_ENOMEM */
EES_API int ees_model_open(const char *dir, const ees_model_options *options, ees_model **out, ees_error *err);

/** A model of seeded random weights for benchmarks: "vit-ti16", "vit-s16", "vit-b16" (224 px, patch 16, the 8 LGViT
 *  exits, 100 classes). Add "-plain" for one without exits. */
EES_API int ees_model_open_random(const char *arch, uint64_t seed, const ees_model_options *options, ees_model **out,
                                  ees_error *err);

EES_API const ees_model_info *ees_model_get_info(const ees_model *model);

/** @param unit  0 .. n_units-1; NULL beyond */
EES_API const ees_unit_info *ees_model_get_unit(const ees_model *model, unsigned unit);

/** Label of a class, "class_<i>" style names made up when the config has none; NULL beyond n_classes. */
EES_API const char *ees_model_get_label(const ees_model *model, unsigned class_idx);

/** Index of a label, -1: none. */
EES_API int ees_model_find_label(const ees_model *model, const char *label);

/** Accepts NULL. Every engine on it must be closed before. */
EES_API void ees_model_close(ees_model *model);

/* ---- Exit policies ------------------------------------------------------------------------------------- */

/** When a frame leaves. The formulas and their sources are in stages/policies/; strict comparisons, in float32, and
 *  NaN never leaves. */
typedef struct ees_policy_options {
    /** NULL: the model's own (config.json). "confidence": max softmax > threshold. "entropy": -sum p ln p < threshold.
     *  "patience": `patience` exits in a row with one class. "patient_and_confident": `patience` exits in a row with
     *  entropy < threshold. "none": always full depth, no early head runs. */
    const char *name;
    unsigned n_thresholds;           /**< 0: the model's or the policy's default; 1: for every exit; else one per exit */
    float thresholds[EES_MAX_EXITS];
    unsigned patience;               /**< 0: default of the policy */
    unsigned n_degraded;             /**< 0: the model's; a model without: never degraded; 1: for every exit; else one per exit */
    float degraded[EES_MAX_EXITS];   /**< how far thresholds may move under overload: each equal to its threshold or on the
                                      *   side that lets more frames leave (lower for confidence, higher for entropy) */
    /** Forced exits for benchmarks: frame i leaves at replay[i % n_replay] (0 .. n_exits), whatever its logits say;
     *  every head on the way still runs. NULL: off. Copied. */
    const uint8_t *replay;
    size_t n_replay;
} ees_policy_options;

/** The policy an engine would use with these options on this model, defaults filled in (replay left NULL).
 *  @return 0; EES_EINVAL unknown name, threshold count or value, a degraded threshold stricter than its
 *  threshold or of a policy without. The model's degraded thresholds yield to thresholds given here */
EES_API int ees_policy_resolve(const ees_model *model, const ees_policy_options *options, ees_policy_options *out,
                               ees_error *err);

/** Walk a frame's recorded exit logits through a policy without running the model.
 *  @param resolved  from ees_policy_resolve(), or complete by itself when model-free
 *  @param logits    (n_exits + 1, n_classes) float32, the last row the final classifier's
 *  @return exit index taken, 0 .. n_exits; EES_EINVAL */
EES_API int ees_policy_walk(const ees_policy_options *resolved, unsigned n_exits, unsigned n_classes,
                            const float *logits, ees_error *err);

/** Names of all policies, NULL-terminated. */
EES_API const char *const *ees_policy_names(void);

/* ---- Looking inside ------------------------------------------------------------------------------------ */

enum ees_tap_kind {
    EES_TAP_PATCHES, /**< after ingest: (N, 3*P*P) normalised patch vectors, element c*P*P + row*P + col */
    EES_TAP_TOKENS,  /**< after embed and each block half: (T, C) */
    EES_TAP_LOGITS,  /**< after a head: (1, K) */
};

typedef struct ees_tap {
    enum ees_tap_kind kind;
    unsigned unit;
    const ees_unit_info *info;
    size_t rows, cols;
    const float *data; /**< valid during the callback */
} ees_tap;

/** Run one frame through every unit and every head on the calling thread, calling `tap` after each unit. The frame's
 *  `release` is not called. Allocates; for tests, verification and calibration, not for streaming.
 *  @return 0; EES_EDAMAGED; EES_EINVAL tensor of another shape; EES_ENOMEM; or what `tap` returned when not 0 */
EES_API int ees_model_trace(const ees_model *model, const ees_frame *frame,
                            int (*tap)(void *opaque, const ees_tap *tap), void *opaque, ees_error *err);

#ifdef __cplusplus
}
#endif
#endif
