/* SPDX-License-Identifier: MIT */
/* Bytes in order from a file, a pipe or stdin: a window over what was read ahead. One thread at a time. */
#ifndef EES_IO_READER_H
#define EES_IO_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "eestream/source.h"
#include "io/stop.h"

struct ees__reader;

/* Most bytes ees__reader_head() can show. */
#define EES__READER_HEAD_BYTES 4096u

/* Take over `fd`. A regular file is read in blocks ahead of the consumer, anything else as a stream that is polled
 * together with `stop`.
 * @param name       stands in messages, outlives the reader
 * @param readahead  blocks to keep under way
 * @return 0; EES_EUNSUPPORTED (see ees__readq_open()); EES_ENOMEM. On failure `fd` is closed as well. */
int ees__reader_open(int fd, const char *name, enum ees_io_backend io, size_t readahead, struct ees__stop *stop,
                     struct ees__reader **out, ees_error *err);

/* The first bytes, up to EES__READER_HEAD_BYTES, fewer when the input is shorter. Only before anything was consumed. */
int ees__reader_head(struct ees__reader *r, size_t n, const uint8_t **data, size_t *n_have, ees_error *err);

/* What lies at the current position: at least one byte, none at the end. Valid until the next call.
 * @return 0; EES_ESOURCE I/O error; EES_ECANCELED; EES_ENOMEM */
int ees__reader_view(struct ees__reader *r, const uint8_t **data, size_t *n, ees_error *err);

/* Move past `n` bytes of the current view. */
void ees__reader_consume(struct ees__reader *r, size_t n);

/* Copy `n` bytes and move past them; *n_got is less only at the end of the input. */
int ees__reader_read(struct ees__reader *r, void *dst, size_t n, size_t *n_got, ees_error *err);

/* Move past `n` bytes. A stream stops at its end, a file goes beyond: the next view is empty in both. */
int ees__reader_skip(struct ees__reader *r, uint64_t n, ees_error *err);

/* Go to a byte. Only when ees__reader_can_seek(). */
void ees__reader_seek(struct ees__reader *r, uint64_t position);

bool ees__reader_can_seek(const struct ees__reader *r);
uint64_t ees__reader_position(const struct ees__reader *r);
int64_t ees__reader_size(const struct ees__reader *r); /* -1: unknown */
const char *ees__reader_name(const struct ees__reader *r);
const char *ees__reader_backend(const struct ees__reader *r); /* "io_uring", "pread", "stream" */

/* Accepts NULL. */
void ees__reader_close(struct ees__reader *r);

#endif
