/* SPDX-License-Identifier: MIT */
#include "stages/attend.h"

static size_t head_floats(const struct ees__kernels *kernels, const struct ees__attention *shape) {
    return ees__piece_floats(ees__attention_core(kernels, shape)->packed_floats(shape->t, shape->d));
}

size_t ees__attend_packed_floats(const struct ees__kernels *kernels, const struct ees__attention *shape) {
    return shape->h * head_floats(kernels, shape);
}

static void pack_head(const struct ees__attend *a, size_t head, float *packed) {
    const struct ees__attention *shape = &a->shape;
    ees__attention_core(a->kernels, shape)->pack(shape, a->qkv, 3 * shape->h * shape->d, head, packed);
}

static void pack_heads(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    const struct ees__attend *a = ctx;
    for (size_t head = first; head < end; head++)
        pack_head(a, head, a->packed + head * head_floats(a->kernels, &a->shape));
}

void ees__attend_begin(struct ees__attend *a, const struct ees__run *run) {
    a->all_packed = run->team != NULL;
    if (a->all_packed)
        ees__run_share(run, pack_heads, a, a->shape.h, 1);
}

void ees__attend_rows(const struct ees__attend *a, size_t first, size_t end, float *out, float *scratch) {
    const struct ees__attention *shape = &a->shape;
    const struct ees__attention_core *core = ees__attention_core(a->kernels, shape);
    size_t c = shape->h * shape->d, place = a->all_packed ? head_floats(a->kernels, shape) : 0;
    for (size_t head = 0; head < shape->h; head++) {
        float *packed = a->packed + head * place;
        if (!a->all_packed)
            pack_head(a, head, packed);
        core->run(shape, a->qkv, 3 * c, head, first, end, packed, out, c, scratch);
    }
}
