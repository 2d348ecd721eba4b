/* SPDX-License-Identifier: MIT */
/** Sinks: results as lines of text. A line is written whole or not at all, and nothing is allocated a frame.
 *
 *  A JSON object has v, source, frame, pts_s, status, exit, block, class, label, confidence, entropy, latency_ms. What not
 *  every frame has is there only when there is something to say: early ("degraded", "deadline": overload or a deadline
 *  made the answer early), same_as (a skipped frame: the number of the
 *  one whose answer it repeats), change (frames that may be skipped: in grey levels), nonfinite (exit heads on the way that gave NaN or infinite logits), warnings, truth, error, and
 *  what the options below add. A frame without an answer (dropped, failed) has nulls from exit to entropy. */
#ifndef EESTREAM_SINK_H
#define EESTREAM_SINK_H

#include "eestream/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ees_sink ees_sink;

enum ees_sink_format {
    EES_SINK_JSONL = 0, /**< one JSON object a line, "v":1; fields are only ever added */
    EES_SINK_CSV,       /**< a header line, then one record a line (RFC 4180 quoting) */
    EES_SINK_NULL,      /**< counts only */
};

typedef struct ees_sink_options {
    enum ees_sink_format format;
    bool logits; /**< false; true: adds the logits to each object, to the last bit (9 digits). JSONL only */
    bool flush;  /**< false; true: write out after each line (pipes, terminals) */
    /** NULL; `n_units` names of the model's units: adds "visits" to each object, one a worker that ran the frame:
     *  {"worker":0,"group":0,"units":"ingest-block4.mlp","batch":1,"wait_ms":0.012,"run_ms":3.4}; units is empty when
     *  the worker only found the frame late or damaged. JSONL only; the names must outlive the sink. */
    const char *const *unit_names;
    unsigned n_units;
} ees_sink_options;

/** @param path  "-": stdout; a file is created or truncated
 *  @return 0; EES_EOUTPUT; EES_ENOMEM */
EES_API int ees_sink_open(const char *path, const ees_sink_options *options, ees_sink **out, ees_error *err);

/** Write one result. One thread at a time.
 *  @return 0; EES_EOUTPUT disk full, closed pipe (no SIGPIPE): what was written before ends with a whole line
 *          wherever the file can be cut back */
EES_API int ees_sink_write(ees_sink *sink, const ees_result *result, ees_error *err);

/** Write out what is buffered. */
EES_API int ees_sink_flush(ees_sink *sink, ees_error *err);

/** Flush, close, free. Accepts NULL.
 *  @return 0; EES_EOUTPUT when the last bytes could not be written */
EES_API int ees_sink_close(ees_sink *sink, ees_error *err);

#ifdef __cplusplus
}
#endif
#endif
