/* SPDX-License-Identifier: MIT */
/* Between source.c and the kinds of sources: a kind is one const struct in its own file plus its line in
 * source_list.c. */
#ifndef EES_IO_SOURCE_H
#define EES_IO_SOURCE_H

#include "eestream/source.h"
#include "io/pool.h"
#include "io/reader.h"
#include "io/stop.h"

enum ees__match {
    EES__MATCH_NONE = 0,
    EES__MATCH_LAST_RESORT, /* it might try */
    EES__MATCH_NAME,
    EES__MATCH_CONTENT,
    EES__MATCH_TOLD, /* an option, or the form of the name, leaves no choice */
};

enum ees__place { EES__PLACE_FILE, EES__PLACE_STREAM, EES__PLACE_FOLDER, EES__PLACE_GLOB, EES__PLACE_MADE_UP };

enum { EES__PROBE_BYTES = 64 };

/* What is known before a kind is chosen. */
struct ees__probe {
    const char *uri;
    enum ees__place place;
    const uint8_t *head; /* first bytes of a file or stream, up to EES__PROBE_BYTES */
    size_t n_head;
    const char *raw; /* ees_source_options.raw */
};

/* From ees__source_kind.open: right container, but only libav reads what is inside. The reader is where it was. */
enum { EES__OPEN_ELSEWHERE = 1 };

struct ees__source_kind {
    const char *name;
    size_t state_bytes; /* zeroed before open */
    size_t item_bytes;  /* of the pool's items; the first member is a struct ees__pool_item */
    void (*fini_item)(void *item);
    enum ees__match (*match)(const struct ees__probe *probe);
    /* Fill source->info as far as it is known. On failure close() is called all the same. */
    int (*open)(ees_source *source, ees_error *err);
    /* Fill in all but source_idx, frame_idx and source; out is zeroed but for pts_ns (-1). */
    int (*next)(ees_source *source, ees_frame *out, ees_error *err);
    void (*close)(ees_source *source); /* may be NULL */
};

struct ees_source {
    const struct ees__source_kind *kind;
    void *state;
    struct ees__reader *reader; /* NULL: folders and globs, which read file by file */
    struct ees__pool *pool;
    struct ees__stop stop;
    ees_source_options options; /* raw is NULL once opened */
    ees_source_info info;
    char *name;
    enum ees__place place;
    uint64_t n_frames;   /* handed out so far */
    int end;             /* code that ended the stream, 0 while it runs */
    ees_error end_error; /* its report, repeated by every later call */
};

extern const struct ees__source_kind *const ees__source_list[]; /* NULL-terminated; earlier wins a tie */

/* Reads everything the other kinds do not, through the module; what source.c turns to on EES__OPEN_ELSEWHERE. */
extern const struct ees__source_kind ees__source_libav;

/* Make `kind` the source's, in place of the one before if any: memory, pool, open. @return as ees__source_kind.open */
int ees__source_begin(ees_source *source, const struct ees__source_kind *kind, ees_error *err);

/* Time of frame `idx` at `rate`/`scale` frames a second; -1 when the rate is unknown or the time overflows. */
int64_t ees__frame_time_ns(uint64_t idx, uint64_t scale, uint64_t rate);

/* The same at a rate given as a real number (sources without time stamps). */
int64_t ees__frame_time_at_fps(uint64_t idx, double fps);

/* Does `name` end in one of the extensions (".jpg", ..., NULL-terminated list), whatever the case? */
bool ees__has_extension(const char *name, const char *const extensions[]);

#endif
