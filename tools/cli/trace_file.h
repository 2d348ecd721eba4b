/* SPDX-License-Identifier: MIT */
/* --trace: what the engine's workers did and when, as Chrome trace JSON, which ui.perfetto.dev and chrome://tracing
 * open.
 *
 *   track "worker N (cpu C)"      visits of frames, units inside them; audits; pieces of other workers' units
 *   counters "frames waiting ..." queue depths, sampled
 *   instants                      re-plans, degrade levels, changes of the affinity mask
 *
 * A regular file is complete JSON after every write, so that a killed process leaves something to open. */
#ifndef EES_CLI_TRACE_FILE_H
#define EES_CLI_TRACE_FILE_H

#include <stdbool.h>

#include "eestream/eestream.h"

#define TRACE_EVENTS 65536u /* a worker may hold until they are taken: seconds of work */

struct trace_file;

/* @return 0; EES_EOUTPUT; EES_ENOMEM */
int trace_file_open(const char *path, struct trace_file **out, ees_error *err);

/* From here events are taken from this engine, which was opened with trace_events. @return as above */
int trace_file_start(struct trace_file *t, const ees_model *model, ees_engine *engine, ees_error *err);

/* Write what happened since. Cheap when called again soon; call it at least ten times a second. NULL: no trace.
 * @return 0; EES_EOUTPUT */
int trace_file_drain(struct trace_file *t, ees_error *err);

/* The rest, and the end of the file. @return 0; EES_EOUTPUT */
int trace_file_finish(struct trace_file *t, ees_error *err);

uint64_t trace_file_events(const struct trace_file *t);

/* Accepts NULL. */
void trace_file_close(struct trace_file *t);

#endif
