/* SPDX-License-Identifier: MIT */
/* What ops load their weights with: reads tensors, packs matrices for the kernel level, keeps count. */
#ifndef EES_STAGES_LOADER_H
#define EES_STAGES_LOADER_H

#include "stages/op.h"
#include "stages/weights.h"

struct ees__loader {
    struct ees__weights *weights;
    const struct ees__kernels *kernels;
    const struct ees__dims *dims;    /* of the unit at hand */
    size_t n_rows;                   /* of its result that are read: see struct ees__run */
    enum ees__precision precision;   /* of its large products */
    unsigned unit;                   /* its index */
    struct ees__large_matrix *large; /* matrices of large products so far, for those who rewrite a file */
    size_t n_large;
    struct ees__buffer staging; /* the matrix at hand: one block for all, or freed ones would fragment the heap */
    uint64_t n_params;          /* read so far, BatchNorm's running statistics left out */
    size_t n_packed_bytes;      /* kept so far by ops */
    size_t n_pooled;            /* what the classifier loaded last reads: a head's pooled vector */
};

/* A matrix of a large product, which a precision is for. */
struct ees__large_matrix {
    char name[64]; /* canonical: "blk.3.attn.qkv.weight" */
    unsigned unit;
};

/* LayerNorm. */
struct ees__norm {
    float *gamma, *beta;
};

/* BatchNorm in eval mode as y = scale x + shift (spec 5.3), in double because it is folded into other weights. */
struct ees__batch_norm {
    double *scale, *shift; /* one allocation */
};

#define EES_SHAPE(...)                                                                                                 \
    (&(const struct ees__tensor_shape){sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t), {__VA_ARGS__}})

/* Frees the staging memory and, unless it was taken, the list of large matrices. */
void ees__loader_fini(struct ees__loader *loader);

/* Read tensor `prefix`.`leaf` into new memory (ees__free()). An empty prefix has no dot. */
int ees__load_tensor(struct ees__loader *loader, const char *prefix, const char *leaf,
                     const struct ees__tensor_shape *shape, float **out, ees_error *err);

/* The same into staging memory: valid until the next ees__stage_tensor() or ees__load_linear(). */
int ees__stage_tensor(struct ees__loader *loader, const char *prefix, const char *leaf,
                      const struct ees__tensor_shape *shape, float **out, ees_error *err);

/* Length of an axis of a tensor as it is stored, for widths that only tensors tell; `fallback` where the source has no
 * such tensor. @return 0; EES_EMODEL: not from 1 to EES__MAX_WIDTH */
enum { EES__MAX_WIDTH = 1 << 16 };
int ees__load_size(struct ees__loader *loader, const char *prefix, const char *leaf, unsigned axis, size_t fallback,
                   size_t *out, ees_error *err);

/* Refuses a tensor whose axis is not of the length the input makes, as of a head trained at another size.
 * @param what  is counted along that axis: "tokens" */
int ees__check_input(struct ees__loader *loader, const char *prefix, const char *leaf, unsigned axis, size_t expected,
                     const char *what, ees_error *err);

/* y = x W^T (+ b) in the unit's precision. `shape` is the weight's in files: (n, k), or any whose product after the
 * first axis is k. */
int ees__load_linear(struct ees__loader *loader, const char *prefix, const char *leaf,
                     const struct ees__tensor_shape *shape, bool has_bias, struct ees__linear *out, ees_error *err);

/* The same with a factor an output, tensor `factors` (n,), folded into weight and bias (layer scale, spec 1.3). NULL:
 * none. */
int ees__load_scaled_linear(struct ees__loader *loader, const char *prefix, const char *leaf, const char *factors,
                            const struct ees__tensor_shape *shape, bool has_bias, struct ees__linear *out,
                            ees_error *err);

/* The same in float32 always: what makes logits. */
int ees__load_f32_linear(struct ees__loader *loader, const char *prefix, const char *leaf,
                         const struct ees__tensor_shape *shape, bool has_bias, struct ees__linear *out, ees_error *err);

/* The classifier of `prefix`, in float32: "head.cls" on rows of n_inputs; of a distilled model the mean of it and
 * "head.dist", which is one matrix on rows [class ; distillation] twice as long. */
int ees__load_classifier(struct ees__loader *loader, const char *prefix, size_t n_inputs, struct ees__linear *out,
                         ees_error *err);

/* Pack a matrix that is in memory already, in float32: for one that is not the file's, being folded or a part. */
int ees__pack_linear(struct ees__loader *loader, const float *w, const float *bias, size_t n, size_t k,
                     struct ees__linear *out, ees_error *err);

int ees__load_norm(struct ees__loader *loader, const char *prefix, const char *leaf, size_t n, struct ees__norm *out,
                   ees_error *err);
void ees__norm_close(struct ees__norm *norm); /* accepts a zeroed one */

/* A buffer of integers that a file may hold although it follows from the sizes: it must be the `n` of `expected`. */
int ees__check_buffer(struct ees__loader *loader, const char *prefix, const char *leaf, const float *expected, size_t n,
                      ees_error *err);

int ees__load_batch_norm(struct ees__loader *loader, const char *prefix, const char *leaf, size_t n,
                         struct ees__batch_norm *out, ees_error *err);
void ees__batch_norm_close(struct ees__batch_norm *norm); /* accepts a zeroed one */

#endif
