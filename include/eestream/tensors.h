/* SPDX-License-Identifier: MIT */
/** safetensors files: 8-byte little-endian header length, JSON header, raw tensor bytes.
 *  Source of the format: Hugging Face safetensors README. The whole header is checked on open (length <= 100 MB,
 *  no duplicate keys, no holes, no overlap, dtype x shape = byte range, all products overflow-checked) before any
 *  tensor byte is read. Tensors are read with pread into the caller's memory, never mapped: a file cut while it is
 *  read gives an error, not SIGBUS. Safe for concurrent reads from any thread. */
#ifndef EESTREAM_TENSORS_H
#define EESTREAM_TENSORS_H

#include <stddef.h>
#include <stdint.h>
#include <stdint.h>

#include "eestream/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EES_TENSOR_MAX_RANK 8

enum ees_dtype {
    EES_DTYPE_F32,
    EES_DTYPE_F16,
    EES_DTYPE_BF16,
    EES_DTYPE_F64,
    EES_DTYPE_I64,
    EES_DTYPE_I32,
    EES_DTYPE_I16,
    EES_DTYPE_I8,
    EES_DTYPE_U8,
    EES_DTYPE_BOOL,
};

typedef struct ees_tensor_info {
    const char *name; /**< owned by the ees_tensors */
    enum ees_dtype dtype;
    unsigned rank;
    size_t shape[EES_TENSOR_MAX_RANK];
    size_t n_elements;
    size_t n_bytes;
} ees_tensor_info;

typedef struct ees_tensors ees_tensors;

/** @return 0; EES_EMODEL missing, unreadable or malformed (the message names the tensor); EES_ENOMEM */
EES_API int ees_tensors_open(const char *path, ees_tensors **out, ees_error *err);

/** The same from memory, which must outlive the handle. `name` stands in messages. */
EES_API int ees_tensors_open_memory(const void *data, size_t n_bytes, const char *name, ees_tensors **out,
                                    ees_error *err);

EES_API size_t ees_tensors_count(const ees_tensors *tensors);
EES_API const ees_tensor_info *ees_tensors_at(const ees_tensors *tensors, size_t idx);         /**< in file order */
EES_API const ees_tensor_info *ees_tensors_find(const ees_tensors *tensors, const char *name); /**< NULL: none */

/** Read a tensor as float32; F16, BF16, F64 and integers are converted.
 *  @param dst  info->n_elements floats, row-major
 *  @return 0; EES_EMODEL short read or I/O error */
EES_API int ees_tensors_read_f32(const ees_tensors *tensors, const ees_tensor_info *info, float *dst, ees_error *err);

/** The string under a key of the header's __metadata__. NULL: none. */
EES_API const char *ees_tensors_get_metadata(const ees_tensors *tensors, const char *key);

/** XXH64, seed 0, of the whole file, as `xxhsum -H64` prints it.
 *  @return 0; EES_EMODEL short read or I/O error */
EES_API int ees_tensors_hash(const ees_tensors *tensors, uint64_t *out, ees_error *err);

/** XXH64 of a block of memory. To go on over several blocks, give each the hash of the one before as its seed. */
EES_API uint64_t ees_hash64(const void *data, size_t n_bytes, uint64_t seed);

/** Accepts NULL. */
EES_API void ees_tensors_close(ees_tensors *tensors);

/* ---- Writing ------------------------------------------------------------------------------------------- */

/** Writes a file: all tensors are announced, then their bytes follow in the same order. The file appears under its name
 *  only when it is complete. */
typedef struct ees_tensor_writer ees_tensor_writer;

/** @return 0; EES_ENOMEM; EES_EOUTPUT the file cannot be made */
EES_API int ees_tensor_writer_open(const char *path, ees_tensor_writer **out, ees_error *err);

/** Announce a tensor: name, dtype, rank and shape of `info` count. @return 0; EES_ENOMEM */
EES_API int ees_tensor_writer_add(ees_tensor_writer *w, const ees_tensor_info *info, ees_error *err);

/** `n` more elements, in order, of the dtype the tensor was announced with: F32, F16 and BF16 rounded to nearest even,
 * I8 as they are. The first call ends announcements. @return 0; EES_EOUTPUT; EES_ENOMEM */
EES_API int ees_tensor_writer_put(ees_tensor_writer *w, enum ees_dtype dtype, const float *values, size_t n,
                                  ees_error *err);

/** @param n_bytes  size of the file. @return 0; EES_EOUTPUT; EES_ENOMEM */
EES_API int ees_tensor_writer_finish(ees_tensor_writer *w, size_t *n_bytes, ees_error *err);
EES_API void ees_tensor_writer_close(ees_tensor_writer *w); /**< accepts NULL; drops an unfinished file */

#ifdef __cplusplus
}
#endif
#endif
