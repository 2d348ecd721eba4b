/* SPDX-License-Identifier: MIT */
/* The verbs. Each takes parsed options and returns the exit code; errors are printed by the verb. */
#ifndef EES_CLI_VERBS_H
#define EES_CLI_VERBS_H

#include "tools/cli/fail.h"
#include "tools/cli/options.h"

const char *verb_name(enum verb_id verb);

enum exit_code verb_run(const struct options *o);
enum exit_code verb_bench(const struct options *o);
enum exit_code verb_plan(const struct options *o);
enum exit_code verb_inspect(const struct options *o);
enum exit_code verb_verify(const struct options *o);
enum exit_code verb_quantise(const struct options *o);
enum exit_code verb_demo(const struct options *o);
enum exit_code verb_calibrate(const struct options *o);
enum exit_code verb_analyse(const struct options *o);
enum exit_code verb_doctor(const struct options *o);

#endif
