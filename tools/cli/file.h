/* SPDX-License-Identifier: MIT */
/* Small whole files: counts, truth tables, policies, metrics. */
#ifndef EES_CLI_FILE_H
#define EES_CLI_FILE_H

#include <stddef.h>

#include <jansson.h>

#include "eestream/error.h"

/* Read a file of at most `max` bytes; a NUL follows the last. @return 0 and a buffer to free(); code on failure */
int file_read(const char *path, size_t max, int code, char **text, size_t *n, ees_error *err);

/* Parse a whole file as JSON. @return 0; `code` naming line and column */
int file_read_json(const char *path, int code, json_t **out, ees_error *err);

/* Write JSON to a new file ("-": stdout), one trailing newline.
 * @param json  given up here; NULL, which jansson makes of a lack of memory, cannot be written
 * @return 0; EES_EOUTPUT */
int file_write_json(const char *path, json_t *json, ees_error *err);

/* Everything printed must have gone out: a full disk or a closed pipe shows in the exit code. @return 0; EES_EOUTPUT */
int file_finish_stdout(ees_error *err);

/* Replace what a file holds in one step: who reads it sees the old text or the new one, whole. What is not a regular
 * file (a pipe, a device) is written to. @return 0; EES_EOUTPUT; EES_ENOMEM */
int file_replace(const char *path, const char *text, size_t n, ees_error *err);

/* All of it. @return 0 or the errno */
int file_write_all(int fd, const char *text, size_t n);

/* A JSON string of a name that may hold any bytes: what is no UTF-8 is shown with '?'. */
json_t *json_text(const char *name);

#endif
