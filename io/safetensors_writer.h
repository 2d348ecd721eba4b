/* SPDX-License-Identifier: MIT */
/* Writes a safetensors file: all tensors are announced, then their bytes follow in the same order. The file appears
 * under its name only when it is complete. */
#ifndef EES_IO_SAFETENSORS_WRITER_H
#define EES_IO_SAFETENSORS_WRITER_H

#include "eestream/tensors.h"

struct ees__tensor_writer;

/* @return 0; EES_ENOMEM; EES_EOUTPUT the file cannot be made */
int ees__tensor_writer_open(const char *path, struct ees__tensor_writer **out, ees_error *err);

/* Announce a tensor: name, dtype, rank and shape of `info` count. */
int ees__tensor_writer_add(struct ees__tensor_writer *w, const ees_tensor_info *info, ees_error *err);

/* `n` floats of the next tensor's elements, in order, converted to its dtype: F32, F16 and BF16 to the nearest, I8 as
 * it is. The first call ends announcements. */
int ees__tensor_writer_put(struct ees__tensor_writer *w, enum ees_dtype dtype, const float *values, size_t n,
                           ees_error *err);

/* Bytes on disk, on success. */
int ees__tensor_writer_finish(struct ees__tensor_writer *w, size_t *n_bytes, ees_error *err);
void ees__tensor_writer_close(struct ees__tensor_writer *w); /* accepts NULL; drops an unfinished file */

#endif
