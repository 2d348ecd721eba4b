/* SPDX-License-Identifier: MIT */
/* The libav module: a shared object apart, so that the engine neither needs libav nor loads its libraries before a
 * source asks for them. It exports one symbol, EES__LIBAV_SYMBOL, of type struct ees__libav_module. */
#ifndef EES_IO_LIBAV_H
#define EES_IO_LIBAV_H

#include "eestream/version.h"
#include "io/source.h"

#define EES__LIBAV_FILE   "eestream-libav.so"
#define EES__LIBAV_SYMBOL "ees__libav_module"

/* The module reads struct ees_source, so it must come from the same build as the library: both sides compare this. */
struct ees__libav_stamp {
    uint32_t major, minor, patch;
    uint32_t source_bytes, frame_bytes;
};

#define EES__LIBAV_STAMP                                                                                               \
    { EES_VERSION_MAJOR, EES_VERSION_MINOR, EES_VERSION_PATCH, sizeof(struct ees_source), sizeof(ees_frame) }

struct ees__libav_module {
    struct ees__libav_stamp stamp; /* first, in every version */
    const struct ees__source_kind *kind;
};

/* Load the module, once a process.
 * @param name    file that needs it, for the message
 * @param module  may be NULL
 * @return 0; EES_EUNSUPPORTED when it is missing or does not fit */
int ees__libav_load(const char *name, const struct ees__libav_module **module, ees_error *err);

#endif
