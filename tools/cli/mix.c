/* SPDX-License-Identifier: MIT */
#include "tools/cli/mix.h"

#include <stdio.h>

#include "tools/cli/fail.h"

const ees_certificate *mix_certificate(const struct options *o, const ees_model *model) {
    bool own = !o->policy && !o->thresholds.n && !o->patience && !o->lag && !o->exit_weights.n && !o->full_depth &&
               !o->replay_path;
    return own ? ees_model_get_certificate(model) : NULL;
}

const uint8_t *mix_forced(const struct replay *r) { return r->is_expected ? NULL : r->exits; }

static int from_certificate(struct replay *r, const ees_certificate *certificate, unsigned n_exits, ees_error *err) {
    double frames[EES_MAX_EXITS + 1], total = 0;
    for (unsigned e = 0; e <= n_exits; e++)
        total += frames[e] = (double)certificate->exit_frames[e];
    CLI_TRY(replay_from_share(r, frames, n_exits, err));
    r->is_expected = true;
    snprintf(r->description, sizeof r->description, "%.100s, %.0f frames", certificate->file, total);
    return 0;
}

static int check_options(const struct options *o, const ees_model_info *info, ees_error *err) {
    if (o->exit_share.n && o->replay_path)
        return CLI_FAIL(err, EES_EINVAL, "--exit-share and --replay-exits: give one of the two");
    if (o->full_depth && (o->exit_share.n || o->replay_path))
        return CLI_FAIL(err, EES_EINVAL,
                        "--full-depth takes no early exit: drop --exit-share, --replay-exits and --log");
    if (o->replay_run && !o->replay_path)
        return CLI_FAIL(err, EES_EINVAL, "--replay-run %s needs --replay-exits FILE", o->replay_run);
    if (o->exit_share.n && o->exit_share.n != info->n_exits + 1)
        return CLI_FAIL(err, EES_EINVAL,
                        "--exit-share has %u numbers, the model needs %u: one per exit, the final one last",
                        o->exit_share.n, info->n_exits + 1);
    return 0;
}

int mix_open(struct replay *r, const struct options *o, const ees_model *model, bool is_random, ees_error *err) {
    const ees_model_info *info = ees_model_get_info(model);
    const ees_certificate *certificate = mix_certificate(o, model);
    *r = (struct replay){0};
    CLI_TRY(check_options(o, info, err));
    if (o->full_depth)
        return 0;
    if (o->exit_share.n)
        return replay_from_share(r, o->exit_share.values, info->n_exits, err);
    if (o->replay_path)
        return replay_open(r, o->replay_path, o->replay_run, info->n_exits, err);
    if (certificate)
        return from_certificate(r, certificate, info->n_exits, err);
    return is_random && info->n_exits > 0 ? replay_default(r, info->n_exits, err) : 0;
}
