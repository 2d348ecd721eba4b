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

#define EES_MAX_EXITS  32 /**< early exits of one model, the final classifier not counted */
#define EES_MAX_LAG    64 /**< frames that a policy looks back */
#define EES_MAX_STAGES 8  /**< of a hierarchical backbone */

typedef struct ees_model ees_model;

enum ees_decode {
    EES_DECODE_EXACT = 0, /**< full-resolution JPEG decode, Pillow's resize to the bit */
    EES_DECODE_FAST,      /**< smallest JPEG DCT scale that still covers the model's input, then the same resize */
};

/** A tensor a model was loaded from. Strings live during the call that tells it. */
typedef struct ees_tensor_use {
    const char *name; /**< canonical, whatever the file calls it: "blk.3.attn.qkv.weight" */
    unsigned rank;
    const size_t *shape;
    unsigned n_parts;
    const char *const *parts; /**< the file's tensors that make it, stacked along the first axis */
} ees_tensor_use;

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
    /** Told each tensor as it is read from the file, in the order of the units. NULL: nobody. */
    void (*on_tensor)(void *opaque, const ees_tensor_use *use);
    void *on_tensor_opaque;
    /** Thresholds from `eestream calibrate`. NULL: certificate.json of the model's folder, where there is one; "none";
     * or a file. One that was made for other weights refuses the model. */
    const char *certificate;
} ees_model_options;

typedef struct ees_exit_info {
    unsigned after_block; /**< 1-based */
    const char *head;     /**< "conv1_1", "attention_r2", ... */
} ees_exit_info;

/** Blocks between two merges of a Swin, all of one shape; of a ViT all blocks. */
typedef struct ees_stage_info {
    unsigned n_blocks;
    unsigned grid_height, grid_width; /**< of patches, or of what patches were merged to */
    unsigned n_tokens;                /**< of the grid, and class token, registers and the like */
    unsigned n_channels, n_heads, mlp_width;
    unsigned window_height, window_width; /**< of attention, in tokens; 0: all tokens */
    unsigned shift_height, shift_width;   /**< of the windows of every second block, beginning with the second */
    bool rolls_first; /**< the grid is shifted before it is padded to whole windows, not after */
} ees_stage_info;

/** What a model is. Strings and arrays live as long as the model. */
typedef struct ees_model_info {
    const char *name;    /**< folder name, architecture name of a random model, or "embedded" */
    const char *family;  /**< naming and preprocessing family: "hf-vit", "lgvit-vit", ... */
    const char *kernels; /**< level in use */
    const char
        *precision; /**< of units that are not kept wider: "fp32", "fp16" (stored so, runs in fp32), "bf16", "int8" */
    unsigned image_height_px, image_width_px, patch_px;
    unsigned n_tokens, n_channels, n_heads, mlp_width; /**< of the first stage */
    unsigned n_blocks, n_classes;
    unsigned n_stages;
    ees_stage_info stages[EES_MAX_STAGES];
    double norm_eps;
    const char *pool; /**< what the classifier reads: "class", "class_dist", "class_mean", "norm_mean", "mean_norm" */
    const char *activation; /**< of MLPs: "gelu", "gelu_tanh", "relu", "silu" */
    /** The position table as it is stored, and how it is brought to another grid: "cubic" (a -0.75), "cubic_scaled" (by
     *  (new + 0.1) / old), "cubic_antialias" (a -0.5), "cubic_corners" (align_corners). */
    unsigned table_height, table_width;
    const char *table_filter;
    unsigned n_units;
    unsigned n_exits;
    ees_exit_info exits[EES_MAX_EXITS];
    uint64_t n_params;    /**< parameters of the network as published, before folding and packing */
    size_t weights_bytes; /**< memory held by packed weights */
    size_t state_bytes;   /**< memory of one frame's state between units */
    size_t scratch_bytes; /**< memory one worker needs */
} ees_model_info;

/** One unit of the chain: what the planner places and `inspect` lists. */
typedef struct ees_unit_info {
    const char *name;      /**< "ingest", "embed", "block3.attn", "block3.mlp", "exit0.conv1_1", "merge1", "final" */
    unsigned block;        /**< 1-based block it belongs to, a merge to the one behind it; 0 before the first block */
    int exit_idx;          /**< exit decided after it, -1 none; n_exits: the final classifier */
    double flops;          /**< floating-point operations a frame (2 per multiply-accumulate); 0 for ingest */
    size_t weights_bytes;  /**< packed weights it reads */
    size_t output_bytes;   /**< what it leaves behind for a frame: patches, tokens, or a head's logits */
    const char *precision; /**< of its large products: "fp32", "bf16", "int8" */
} ees_unit_info;

EES_API void ees_model_options_default(ees_model_options *options);

/** Load a model folder (config.json, model.safetensors, optional preprocessor_config.json).
 *  @param dir  NULL: the model embedded in the library
 *  @return 0; EES_EMODEL (file, field, tensor and expectation named); EES_EINVAL; EES_EUNSUPPORTED kernel level
 *          not on this CPU; EES_ENOMEM */
EES_API int ees_model_open(const char *dir, const ees_model_options *options, ees_model **out, ees_error *err);

/** A model of seeded random weights for benchmarks: "vit-ti16", "vit-s16", "vit-b16" (224 px, patch 16), "swin-t"
 *  (224 px, patch 4, window 7), each with 8 exits as LGViT has them and 100 classes. Add "-plain" for one without. */
EES_API int ees_model_open_random(const char *arch, uint64_t seed, const ees_model_options *options, ees_model **out,
                                  ees_error *err);

EES_API const ees_model_info *ees_model_get_info(const ees_model *model);

/** @param unit  0 .. n_units-1; NULL beyond */
EES_API const ees_unit_info *ees_model_get_unit(const ees_model *model, unsigned unit);

/** Label of a class, "class_<i>" style names made up when the config has none; NULL beyond n_classes. */
EES_API const char *ees_model_get_label(const ees_model *model, unsigned class_idx);

/** Index of a label, -1: none. */
EES_API int ees_model_find_label(const ees_model *model, const char *label);

#define EES_HASH_TEXT 32 /**< bytes for a hash as text, the terminating 0 included */

/** What tells these weights from others: "xxh64:" and the XXH64 (seed 0) of model.safetensors in 16 hexadecimal digits,
 * as `xxhsum -H64` prints it. Reads the file again.
 *  @return 0; EES_EMODEL cannot be read; EES_EUNSUPPORTED random weights have no file; EES_ENOMEM */
EES_API int ees_model_hash(const ees_model *model, char out[EES_HASH_TEXT], ees_error *err);

/** Accepts NULL. Every engine on it must be closed before. */
EES_API void ees_model_close(ees_model *model);

/* ---- Exit policies ------------------------------------------------------------------------------------- */

/** When a frame leaves. docs/policies.md has the formulas, their sources and defaults; comparisons in float32, and NaN
 *  never leaves. */
typedef struct ees_policy_options {
    /** NULL: the model's own (config.json); else one of ees_policy_names(). "confidence": max softmax > threshold.
     *  "patience": `patience` exits in a row with one class. "none": always full depth, no early head runs. */
    const char *name;
    unsigned n_thresholds; /**< 0: the model's or the policy's default; 1: for every exit; else one per exit */
    float thresholds[EES_MAX_EXITS];
    unsigned patience; /**< exits counted; 0: the model's or the policy's default */
    unsigned lag;      /**< "temporal": how many frames before its stream's reference frame is, 1 to
                        *   EES_MAX_LAG; 0: the model's or the policy's default */
    /** Frames whose picture differs from the last one that was computed by less than this are not computed and repeat
     * its answer (EES_STATUS_SKIPPED). In grey levels of 0 to 255, of the patch that changed most; noise alone makes
     * some. 0: the model's, none by default and under "none"; below 0: every frame is computed. Off while exits are
     * replayed. */
    float skip_below;
    unsigned n_weights; /**< "ensemble_mean": 0 the model's, or all 1; else n_exits + 1 */
    float weights[EES_MAX_EXITS + 1];
    unsigned n_degraded; /**< 0: the model's; a model without: never degraded; 1: for every exit; else one per exit */
    float degraded[EES_MAX_EXITS]; /**< how far thresholds may move under overload: each equal to its threshold or on
                                    * the side that lets more frames leave (lower for confidence, higher for entropy) */
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

/** Walk a frame's recorded exit logits through a policy without running the model. No other frame came before it
 *  ("temporal" goes to the end).
 *  @param resolved  from ees_policy_resolve(), or complete by itself when model-free
 *  @param logits    (n_exits + 1, n_classes) float32, the last row the final classifier's
 *  @return exit index taken, 0 .. n_exits; EES_EINVAL, also for a policy that logits alone do not decide ("gate") or
 *          that needs learned weights; EES_ENOMEM */
EES_API int ees_policy_walk(const ees_policy_options *resolved, unsigned n_exits, unsigned n_classes,
                            const float *logits, ees_error *err);

/** Can any frame leave early? false under "none", and where counts or thresholds are out of reach: a patience of more
 * than the exits there are, a confidence above 1. */
EES_API bool ees_policy_can_leave(const ees_policy_options *resolved, unsigned n_exits);

/** Names of all policies, NULL-terminated. */
EES_API const char *const *ees_policy_names(void);

/* Replaying: look at recorded logits once, then decide again and again under other thresholds and counts. */

/** Which scores leave at a threshold. */
enum ees_threshold_rule {
    EES_THRESHOLD_NONE, /**< the policy has none */
    EES_THRESHOLD_ABOVE,
    EES_THRESHOLD_AT_LEAST,
    EES_THRESHOLD_BELOW,
};

typedef struct ees_policy_info {
    enum ees_threshold_rule rule;
    bool counts;            /**< what it says at an exit also depends on the exits before */
    unsigned patience;      /**< its default; 0: it takes none */
    bool views_by_patience; /**< what it answers depends on the patience: a view is of one patience only */
    bool looks_back;        /**< and on an earlier frame's answer */
    bool needs_gate;        /**< logits alone do not decide */
    bool needs_members;     /**< needs learned weights of the model */
} ees_policy_info;

/** @return 0; EES_EINVAL unknown name. "none" has no rule and counts nothing */
EES_API int ees_policy_get_info(const char *name, ees_policy_info *out, ees_error *err);

/** What a policy sees at one exit, whatever its thresholds and counts. */
typedef struct ees_exit_view {
    float score;        /**< what the threshold is compared with; NaN: nothing, or not finite */
    float confidence;   /**< of the answer */
    uint32_t class_idx; /**< the answer, should the frame leave here */
    uint16_t n_votes;
    bool finite; /**< false: never leaves here */
} ees_exit_view;

/** What a policy sees of recorded frames.
 *  @param model     gives learned weights; NULL: none
 *  @param resolved  as in ees_policy_walk(); thresholds do not matter, nor does patience without views_by_patience
 *  @param logits    (n_frames, n_exits + 1, n_classes) float32
 *  @param gates     (n_frames, n_exits) what the gate said; NULL: unknown
 *  @param out       (n_frames, n_exits + 1)
 *  @return 0; EES_EINVAL "gate" without gates, ensembles without the weights they need; EES_ENOMEM */
EES_API int ees_policy_view(const ees_model *model, const ees_policy_options *resolved, unsigned n_exits,
                            unsigned n_classes, const float *logits, const float *gates, size_t n_frames,
                            ees_exit_view *out, ees_error *err);

/** Decide for frames seen by ees_policy_view() under the same policy, as an engine would; they follow each other in one
 *  stream.
 *  @param exits  n_frames numbers: the exit each leaves at, 0 .. n_exits
 *  @return 0; EES_EINVAL */
EES_API int ees_policy_replay(const ees_policy_options *resolved, unsigned n_exits, const ees_exit_view *views,
                              size_t n_frames, uint8_t *exits, ees_error *err);

/** What a model's certificate promises; its policy is the model's own. */
typedef struct ees_certificate {
    const char *file;
    ees_policy_options policy;               /**< resolved */
    uint64_t exit_frames[EES_MAX_EXITS + 1]; /**< frames that took each exit when it was made */
} ees_certificate;

/** NULL: the model has none. Lives as long as the model. */
EES_API const ees_certificate *ees_model_get_certificate(const ees_model *model);

/* ---- Looking inside ------------------------------------------------------------------------------------ */

enum ees_tap_kind {
    EES_TAP_PATCHES, /**< after ingest: (N, 3*P*P) normalised patch vectors, element c*P*P + row*P + col */
    EES_TAP_TOKENS,  /**< after embed, each block half and each merge: (T, C) */
    EES_TAP_LOGITS,  /**< after a head: (1, K) */
};

typedef struct ees_tap {
    enum ees_tap_kind kind;
    unsigned unit;
    const ees_unit_info *info;
    size_t rows, cols;
    const float *data; /**< valid during the callback */
    float gate;        /**< after an early exit of a model with a learned gate: its estimate of the error; else NaN */
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
