/* SPDX-License-Identifier: MIT */
/* The terminal: one redrawn line while frames stream, whole lines for everything else, and --progress for programs. */
#ifndef EES_CLI_PROGRESS_H
#define EES_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "eestream/eestream.h"
#include "tools/cli/clock.h"

/* Write text (whole lines) to stderr, clearing the progress line first. Any thread. */
void console_write(const char *text);

struct progress {
    bool animate; /* stderr is a terminal that can redraw a line */
    int fd;       /* --progress; -1: none */
    bool owns_fd;
    uint64_t start_ns, next_line_ns, next_block_ns;
};

/* @param target  --progress: a descriptor number or a file; NULL: none
 * @param quiet   no line on the terminal
 * @return 0; EES_EINVAL descriptor not open; EES_EOUTPUT file cannot be written */
int progress_open(struct progress *p, const char *target, bool quiet, ees_error *err);

/* Does anyone look? Then call progress_tick() at least ten times a second. */
bool progress_wanted(const struct progress *p);

/* Redraw or write what is due. @param n_expected  frames to come in total, -1: unknown */
void progress_tick(struct progress *p, const ees_engine *engine, unsigned n_exits, int64_t n_expected);

/* Last block (progress=end), clear the line, close. */
void progress_close(struct progress *p, const ees_engine *engine, unsigned n_exits);

#endif
