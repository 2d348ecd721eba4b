/* SPDX-License-Identifier: MIT */
#include "tools/cli/mix.h"
#include "tools/cli/fail.h"

int mix_open(struct replay *r, const struct options *o, const ees_model_info *info, bool is_random, ees_error *err) {
    *r = (struct replay){0};
    if (o->exit_share.n && o->replay_path)
        return CLI_FAIL(err, EES_EINVAL, "--exit-share and --replay-exits: give one of the two");
    if (o->full_depth && (o->exit_share.n || o->replay_path))
        return CLI_FAIL(err, EES_EINVAL, "--full-depth takes no early exit: drop --exit-share, --replay-exits and --log");
    if (o->replay_run && !o->replay_path)
        return CLI_FAIL(err, EES_EINVAL, "--replay-run %s needs --replay-exits FILE", o->replay_run);
    if (o->exit_share.n && o->exit_share.n != info->n_exits + 1)
        return CLI_FAIL(err, EES_EINVAL,
                        "--exit-share has %u numbers, the model needs %u: one per exit, the final one last",
                        o->exit_share.n, info->n_exits + 1);
    if (o->full_depth)
        return 0;
    if (o->exit_share.n)
        return replay_from_share(r, o->exit_share.values, info->n_exits, err);
    if (o->replay_path)
        return replay_open(r, o->replay_path, o->replay_run, info->n_exits, err);
    return is_random && info->n_exits > 0 ? replay_default(r, info->n_exits, err) : 0;
}
