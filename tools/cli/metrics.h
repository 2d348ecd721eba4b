/* SPDX-License-Identifier: MIT */
/* The engine's counters as Prometheus text: in a file that is replaced once a second (--metrics), and on stderr. */
#ifndef EES_CLI_METRICS_H
#define EES_CLI_METRICS_H

#include "tools/cli/stream.h"

struct metrics {
    const char *path; /* NULL: no file */
    const struct stream *stream;
    const ees_model *model;
    const ees_engine *engine;
    uint64_t next_ns;
};

/* Replace the file when it is time. @return 0; EES_EOUTPUT; EES_ENOMEM */
int metrics_tick(struct metrics *m, ees_error *err);

/* Replace the file now. */
int metrics_write(const struct metrics *m, ees_error *err);

/* To the terminal, or whatever stderr is. */
void metrics_print(const struct metrics *m);

#endif
