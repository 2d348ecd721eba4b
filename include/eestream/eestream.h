/* SPDX-License-Identifier: MIT */
/** eestream: streams video through early-exit Vision Transformers on multicore CPUs.
 *
 *      ees_model *model; ees_engine *engine; ees_source *source; ees_frame frame; ees_result result;
 *      ees_model_open(NULL, NULL, &model, &err);            the embedded model
 *      ees_engine_open(model, NULL, &engine, &err);         one worker a core
 *      ees_source_open("video.mp4", NULL, &source, &err);
 *      one thread:  while (!ees_source_next(source, &frame, &err)) ees_engine_push(engine, &frame, -1, &err);
 *                   ees_engine_finish(engine);
 *      another:     while (!ees_engine_pull(engine, &result, -1, &err)) { use(result); ees_engine_release(engine,
 * &result); }
 *
 *  docs/architecture.md explains the whole; examples/embed.c is the complete program. */
#ifndef EESTREAM_H
#define EESTREAM_H

#include "eestream/engine.h"
#include "eestream/error.h"
#include "eestream/frame.h"
#include "eestream/model.h"
#include "eestream/plan.h"
#include "eestream/quantise.h"
#include "eestream/roofline.h"
#include "eestream/simulate.h"
#include "eestream/sink.h"
#include "eestream/source.h"
#include "eestream/tensors.h"
#include "eestream/version.h"

#ifdef __cplusplus
extern "C" {
#endif

/** "0.1.0": the library that runs. */
EES_API const char *ees_version(void);

/** What this build and machine have, one line a fact ("libav: 59.27.100 (module found)"), for `--version` and bug
 *  reports. Writes at most `n` bytes with the final NUL, returns the full length. */
EES_API size_t ees_build_info(char *buffer, size_t n);

#ifdef __cplusplus
}
#endif
#endif
