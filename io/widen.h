/* SPDX-License-Identifier: MIT */
/* Converts the element types of tensors.h to float32. */
#ifndef EES_IO_WIDEN_H
#define EES_IO_WIDEN_H

#include "eestream/tensors.h"

/* Bytes of one element. */
size_t ees__dtype_bytes(enum ees_dtype dtype);

/* "F32"; NULL when the value is none of enum ees_dtype. */
const char *ees__dtype_name(enum ees_dtype dtype);

/* The dtype of that name in `*out`. @return 0, or -1 when this build does not read it */
int ees__dtype_from_name(const char *name, enum ees_dtype *out);

/* dst[i] = (float)src[i] for `n` little-endian elements at any alignment; dst and src do not overlap. Values that
 * float32 cannot hold are rounded to nearest even (F64, I64, I32), beyond its range they become infinite. */
void ees__widen_f32(enum ees_dtype dtype, const void *src, size_t n, float *dst);

#endif
