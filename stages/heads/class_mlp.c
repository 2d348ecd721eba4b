/* SPDX-License-Identifier: MIT */
/* An MLP on the class token as it stands, `mlp`, or behind a LayerNorm, `mlp_ee` (spec 5.6). */
#include <string.h>

#include "common/fail.h"
#include "stages/heads/mlp_list.h"

struct class_mlp {
    struct ees__norm norm; /* mlp_ee */
    float eps;
    struct ees__mlp_list mlp;
};

static void close_class_mlp(void *self) {
    struct class_mlp *m = self;
    if (!m)
        return;
    ees__norm_close(&m->norm);
    ees__mlp_list_close(&m->mlp);
    ees__free(m);
}

static int open_head(struct ees__loader *loader, const char *prefix, bool normed, void **self,
                     struct ees__op_cost *cost, ees_error *err) {
    size_t c = loader->dims->n_channels;
    struct class_mlp *m = ees__calloc_aligned(1, sizeof *m);
    if (!m)
        return EES_FAIL(err, EES_ENOMEM, "no memory for %s", prefix);
    int rc = normed ? ees__load_norm(loader, prefix, "norm", c, &m->norm, err) : 0;
    if (rc == 0)
        rc = ees__mlp_list_open(loader, prefix, c, &m->mlp, err);
    if (rc < 0) {
        close_class_mlp(m);
        return rc;
    }
    m->eps = (float)loader->dims->norm_eps;
    cost->item_floats = ees__piece_floats(c) + ees__mlp_list_floats(&m->mlp, loader->kernels, 1);
    cost->scratch_floats = cost->item_floats;
    cost->flops = ees__mlp_list_flops(&m->mlp);
    *self = m;
    return 0;
}

static int open_mlp(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                    struct ees__op_cost *cost, ees_error *err) {
    return open_head(loader, prefix, false, self, cost, err);
}

static int open_mlp_ee(struct ees__loader *loader, const char *prefix, unsigned number, void **self,
                       struct ees__op_cost *cost, ees_error *err) {
    return open_head(loader, prefix, true, self, cost, err);
}

static void run_class_mlp(const void *self, const struct ees__run *run) {
    const struct class_mlp *m = self;
    size_t c = run->dims->n_channels;
    float *scratch = run->lane->scratch, *rows = ees__cut_piece(&scratch, run->n * c);
    for (size_t i = 0; i < run->n; i++)
        memcpy(rows + i * c, run->states[i], c * sizeof *rows);
    if (m->norm.gamma)
        run->kernels->layernorm(rows, c, run->n, c, m->norm.gamma, m->norm.beta, m->eps, rows, c);
    ees__mlp_list_run(&m->mlp, run, rows, scratch);
}

const struct ees__op ees__head_mlp = {
    .name = "mlp",
    .open = open_mlp,
    .run = run_class_mlp,
    .close = close_class_mlp,
};

const struct ees__op ees__head_mlp_ee = {
    .name = "mlp_ee",
    .open = open_mlp_ee,
    .run = run_class_mlp,
    .close = close_class_mlp,
};
