/* SPDX-License-Identifier: MIT */
/* Pieces of ees_quantise(): a folder rewritten tensor by tensor, and models of two precisions run unit by unit. */
#ifndef EES_STAGES_QUANTISE_H
#define EES_STAGES_QUANTISE_H

#include "eestream/quantise.h"
#include "stages/family.h"
#include "stages/loader.h"
#include "stages/model.h"

/* ---- Folder --------------------------------------------------------------------------------------------- */

/* What becomes of a tensor of the file. */
struct ees__rewrite {
    bool narrow;           /* stored in the new precision */
    const float *divide;   /* (n_elements,): LayerNorm's weight or bias over these; NULL: no */
    const float *multiply; /* (columns,): columns of a matrix times these; NULL: no */
};

struct ees__rewriter {
    const char *in_dir, *out_dir;
    enum ees_dtype dtype; /* of narrow tensors */
    const char *precision;
    struct ees__json config;
    ees_tensors *tensors;
    const struct ees__family *family;
    struct ees__names names;
    struct ees__rewrite *plan; /* by position in the file */
    size_t bytes_before, bytes_after;
};

int ees__rewriter_open(const char *in_dir, const char *out_dir, const char *precision, const ees_model *model,
                       struct ees__rewriter *out, ees_error *err);
void ees__rewriter_close(struct ees__rewriter *r); /* accepts a zeroed one */

/* Positions in the file of the tensors that stand for a canonical one, 0: it has none. */
unsigned ees__rewriter_find(const struct ees__rewriter *r, const char *canonical, size_t positions[EES__MAX_PARTS]);

/* Does the folder that is read have one? It is never copied: it holds for weights and precision it was made with. */
bool ees__rewriter_has_certificate(const struct ees__rewriter *r);

/* Write the folder as planned; units named in `wider` are noted in its config. */
int ees__rewriter_write(struct ees__rewriter *r, const struct ees__quantisation *wider, ees_error *err);

/* ---- Balance -------------------------------------------------------------------------------------------- */

/* Factors a channel for each LayerNorm that one product reads, put into the plan: sqrt(largest |LN's output| / largest
 * |weight|), so that both sides have the same range (SmoothQuant, Xiao et al. 2023, alpha 1/2).
 * @param factors  new memory the plan points into, ees__free() */
int ees__balance(struct ees__rewriter *r, const ees_model *model, const ees_frame *frames, size_t n, float **factors,
                 ees_error *err);

/* ---- Measuring ------------------------------------------------------------------------------------------ */

/* Logits of every exit, (n_frames, n_exits + 1, K), of a chain whose units are `wide`'s where is_wider[unit] says so
 * and `narrow`'s elsewhere. */
int ees__mixed_logits(const ees_model *wide, const ees_model *narrow, const bool *is_wider, const ees_frame *frames,
                      size_t n, float *logits, ees_error *err);

/* Mean over exits and frames of |logits - reference|^2 / |reference - its mean|^2. */
double ees__logits_error(const ees_model_info *info, const float *reference, const float *logits, size_t n_frames);

#endif
