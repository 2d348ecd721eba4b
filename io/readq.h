/* SPDX-License-Identifier: MIT */
/* A queue of reads: a few slots, each with one block of a file, or one whole small file, on its way into the slot's
 * own buffer. Runs through io_uring where the kernel allows it, else (or from the moment io_uring fails in any way)
 * through openat and pread at the time the slot is waited for. The bytes are the same either way. One thread at a
 * time. */
#ifndef EES_IO_READQ_H
#define EES_IO_READQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "eestream/source.h"

struct ees__readq;

/* @return 0; EES_EUNSUPPORTED when `io` is EES_IO_URING and the kernel refuses; EES_ENOMEM */
int ees__readq_open(enum ees_io_backend io, unsigned n_slots, struct ees__readq **out, ees_error *err);

/* Start reading `n` bytes at `offset` of `fd` into the slot. The slot is not in use, or was waited for.
 * @return 0 or EES_ENOMEM */
int ees__readq_start_block(struct ees__readq *q, unsigned slot_idx, int fd, uint64_t offset, size_t n);

/* Start opening `path` (which stays valid until the slot was waited for) below `dir_fd` and reading all of it. A
 * file above `max_bytes` fails with EFBIG, one that is not a regular file with EINVAL. */
void ees__readq_start_file(struct ees__readq *q, unsigned slot_idx, int dir_fd, const char *path, size_t max_bytes);

/* Wait until the slot has its bytes.
 * @return number of bytes, below what was asked only at the end of the file; -errno */
int64_t ees__readq_wait(struct ees__readq *q, unsigned slot_idx);

/* The bytes of a slot that was waited for, until it is started again. */
const uint8_t *ees__readq_data(const struct ees__readq *q, unsigned slot_idx);

/* Does it run through io_uring now? */
bool ees__readq_uses_uring(const struct ees__readq *q);

/* Accepts NULL. Waits for reads under way. */
void ees__readq_close(struct ees__readq *q);

#endif
