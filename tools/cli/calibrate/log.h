/* SPDX-License-Identifier: MIT */
/* The log of a recording: what every exit of a model said of every frame, and what each unit costs. Recorded once, it
 * answers for any policy and threshold without the model. docs/calibration.md has the file's format (safetensors). */
#ifndef EES_CLI_LOG_H
#define EES_CLI_LOG_H

#include "tools/cli/options.h"

#define LOG_HEADS_TEXT 1024

struct log {
    size_t n, room;
    unsigned n_exits, n_classes, n_blocks, n_units;
    float *logits;   /* (n, n_exits + 1, n_classes) */
    float *gates;    /* (n, n_exits): NaN: the model has no gate */
    int32_t *labels; /* (n,): true class, -1: unknown */
    int32_t *inputs; /* (n,): which of the inputs the frame is from, from 0 */
    int64_t *frames; /* (n,): its number in there; NULL when loaded */
    size_t n_labels; /* that are known */
    size_t n_failed; /* frames without logits: not in here */

    unsigned exit_block[EES_MAX_EXITS + 1]; /* 1-based, the last one n_blocks */
    double exit_ns[EES_MAX_EXITS + 1];      /* one core's time up to an answer there, the heads on the way included */
    double full_ns;                         /* to the end without early heads */
    double n_cores;                         /* as many cores of that kind is the machine worth */
    float unit_ns[EES_MAX_UNITS];
    int32_t unit_exit[EES_MAX_UNITS], unit_block[EES_MAX_UNITS];
    char model_name[128], model_hash[EES_HASH_TEXT], data_hash[EES_HASH_TEXT], kernels[16];
    char precision[8], input[32];
    char heads[LOG_HEADS_TEXT]; /* "conv1_1,attention_r2,final" */
};

/* Zeroed numbers and the model's shape. @return 0; EES_EMODEL, EES_EINVAL a model without exits */
int log_init(struct log *l, const ees_model *model, ees_error *err);

/* Does the model have a gate? */
bool log_has_gates(const struct log *l);

/* Room for one frame more. @return 0; EES_ENOMEM */
int log_reserve(struct log *l, ees_error *err);

/* Fill exit_ns and full_ns from the units'. */
void log_sum_costs(struct log *l);

/* Head of an exit into `out`; the last one is "final". */
void log_head(const struct log *l, unsigned exit_idx, char *out, size_t n);

/* Appears whole or not at all. @return 0; EES_EOUTPUT; EES_ENOMEM */
int log_save(const struct log *l, const char *path, ees_error *err);

/* @return 0; EES_EINVAL naming file and field; EES_ENOMEM */
int log_load(struct log *l, const char *path, ees_error *err);

/* Was it recorded with this model? @param path  stands in the message */
int log_check_model(const struct log *l, const char *path, const ees_model *model, ees_error *err);

void log_fini(struct log *l);

/* ---- record.c ---- */

/* The model to record with, without a certificate: one that is there may be of other weights. */
int log_open_model(const struct options *o, ees_model **out, ees_error *err);

/* Without inputs, the log of --log. With inputs, they are streamed through the model at full depth, every head running,
 * with labels where the inputs or --truth have them; --log keeps that.
 * @param model  used where there are inputs
 * @return 0; EES_ECANCELED interrupted (as far as it got is not used); the first failure */
int log_obtain(struct log *l, const struct options *o, const ees_model *model, ees_error *err);

#endif
