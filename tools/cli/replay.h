/* SPDX-License-Identifier: MIT */
/* Exit mixes: recorded or declared shares of frames per exit, and the sequence of forced exits made from them. */
#ifndef EES_CLI_REPLAY_H
#define EES_CLI_REPLAY_H

#include "eestream/eestream.h"

#define REPLAY_WINDOW 64u /* frames that hold the mix as closely as whole frames allow */

struct replay {
    uint8_t *exits; /* 0 .. n_exits; NULL: none */
    size_t n;
    bool is_expected; /* frames decide, and are expected to leave so; false: they are forced to */
    double share[EES_MAX_EXITS + 1];
    char description[160];
};

/* A counts file ({"runs": {NAME: {"exits": {"exit_3": {"count": N}, ..., "final": {...}}}}}) or the JSONL of
 * `eestream run`. @param run  NULL: the first
 * @return 0; EES_EINVAL, also when the file has another number of exits than the model; EES_ENOMEM */
int replay_open(struct replay *r, const char *path, const char *run, unsigned n_exits, ees_error *err);

/* Published LGViT ViT-B/16 counts on CIFAR-100: thresholds 0.8, 0.9, 0.99. */
enum published_mix { PUBLISHED_80, PUBLISHED_90, PUBLISHED_99, N_PUBLISHED };

/* Those counts. @return as replay_open() */
int replay_published(struct replay *r, enum published_mix which, unsigned n_exits, ees_error *err);

/* The one of threshold 0.8. @return as replay_open() */
int replay_default(struct replay *r, unsigned n_exits, ees_error *err);

/* From any shares >= 0 with a positive sum. */
int replay_from_share(struct replay *r, const double *share, unsigned n_exits, ees_error *err);

void replay_close(struct replay *r);

#endif
