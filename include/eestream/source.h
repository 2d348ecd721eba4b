/* SPDX-License-Identifier: MIT */
/** Sources: anything that yields frames. One string names it:
 *
 *    video.avi            MJPEG in AVI/OpenDML, read natively
 *    video.mjpeg, .mjpg   JPEGs one after the other
 *    video.y4m            YUV4MPEG2
 *    image.jpg            one frame
 *    folder/              all JPEGs (and PNG... with libav) in it, sorted by name, and in its class
 *                         subfolders, whose names become ees_frame.truth
 *    'frames/f_*.jpg'     a glob, as one source
 *    -                    stdin: MJPEG, concatenated JPEGs or Y4M, told by its first bytes;
 *                         with ees_source_options.raw: packed RGB
 *    synthetic:640x480    made-up JPEGs for benchmarks; ",frames=N" after it: how many (300)
 *    anything else        through libav (mp4, mkv, ...), when the build has it
 *
 *  The kind is told by content first, by name second. Frames come in file order, each exactly once. */
#ifndef EESTREAM_SOURCE_H
#define EESTREAM_SOURCE_H

#include <stdbool.h>

#include "eestream/frame.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ees_source ees_source;

enum ees_io_backend {
    EES_IO_AUTO = 0, /**< io_uring when the kernel allows it, else pread */
    EES_IO_URING,    /**< io_uring or EES_EUNSUPPORTED */
    EES_IO_PREAD,
};

typedef struct ees_source_options {
    enum ees_io_backend io; /**< EES_IO_AUTO */
    const char *raw;        /**< NULL; "rgb24:640x480": stdin or the file holds packed frames of that form */
    double raw_fps;         /**< 30: time stamps of sources that carry none (raw, MJPEG, folders) */
    size_t max_frame_bytes; /**< 64 MiB: a compressed frame above it is reported as damaged */
    size_t readahead;       /**< 4: compressed frames read ahead of the consumer */
    int stop_fd;            /**< -1: none; a descriptor of the caller's (an eventfd, the read end of a pipe): once it
                                 is readable or its other end is gone, opening and every later ees_source_next()
                                 return EES_ECANCELED soon. Never read from; open until ees_source_close() */
} ees_source_options;

/** What is known when a source was opened. Strings live as long as the source. */
typedef struct ees_source_info {
    const char *name;    /**< as given to ees_source_open() */
    const char *kind;    /**< "avi", "mjpeg", "images", "y4m", "raw", "libav", "synthetic" */
    const char *backend; /**< "io_uring", "pread", "stream" (a pipe), "libav" or "none" */
    double fps;          /**< 0: unknown */
    int64_t n_frames;    /**< as the container claims, -1: unknown. Never trusted for allocation */
    uint32_t width_px, height_px; /**< 0: unknown */
} ees_source_info;

/** Fill with the defaults noted above. */
EES_API void ees_source_options_default(ees_source_options *options);

/** Open a source. Blocks until the first bytes are there: for ever on a silent pipe or a FIFO without a writer,
 *  unless options->stop_fd ends it.
 *  @param uri      copied
 *  @param options  NULL: defaults
 *  @return 0; EES_ESOURCE missing, unreadable, empty or not a video; EES_EUNSUPPORTED needs libav or a codec
 *          this build lacks; EES_ECANCELED by options->stop_fd, *err is untouched; EES_EINVAL bad options;
 *          EES_ENOMEM */
EES_API int ees_source_open(const char *uri, const ees_source_options *options, ees_source **out, ees_error *err);

EES_API const ees_source_info *ees_source_get_info(const ees_source *source);

/** Next frame in source order. One thread at a time. Blocks on I/O.
 *  @param out  on success a frame that owns a reference (out->release is set): push it into an engine, which
 *              takes the reference over, or call out->release(out->opaque). Valid after ees_source_close().
 *              A frame the source found damaged comes with out->error set and counts like any other.
 *  @return 0; EES_EOF after the last frame; EES_ESOURCE the source broke off (message names the byte offset);
 *          EES_ECANCELED after ees_source_stop() or by options.stop_fd; EES_ENOMEM */
EES_API int ees_source_next(ees_source *source, ees_frame *out, ees_error *err);

/** Make the current and every later ees_source_next() return EES_ECANCELED soon. Any thread, and
 *  async-signal-safe. */
EES_API void ees_source_stop(ees_source *source);

/** Accepts NULL. Frames already handed out stay valid until released. */
EES_API void ees_source_close(ees_source *source);

/** Is this the name of a list file (*.streams, *.list, *.txt)? */
EES_API bool ees_source_is_list(const char *uri);

/** Read a list file: one source a line, '#' starts a comment, blank lines are skipped, relative paths count
 *  from the list's folder.
 *  @param uris    on success an array of `*n_uris` strings in one allocation: free() it
 *  @return 0; EES_ESOURCE missing, unreadable, empty, or too long; EES_ENOMEM */
EES_API int ees_source_read_list(const char *path, char ***uris, size_t *n_uris, ees_error *err);

#ifdef __cplusplus
}
#endif
#endif
