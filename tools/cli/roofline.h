/* SPDX-License-Identifier: MIT */
/* What `eestream bench --roofline` measured, as Markdown, CSV or JSON. */
#ifndef EES_CLI_ROOFLINE_H
#define EES_CLI_ROOFLINE_H

#include "tools/cli/bench.h"

/* @return 0; EES_EOUTPUT; EES_ENOMEM */
int roofline_report(const struct bench *b, ees_error *err);

#endif
