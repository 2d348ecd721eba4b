/* SPDX-License-Identifier: MIT */
/* Named architectures with seeded random weights, for benchmarks. Only the source of weights differs from a model of
 * files: config and chain take the same way. */
#include <stdio.h>
#include <string.h>

#include "common/fail.h"
#include "stages/family.h"
#include "stages/model.h"
#include "stages/weights.h"

struct arch {
    const char *name;
    unsigned n_channels, n_heads;
};

static const struct arch archs[] = {{"vit-ti16", 192, 3}, {"vit-s16", 384, 6}, {"vit-b16", 768, 12}};

static const struct arch *find_arch(const char *name, bool *plain) {
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        size_t n = strlen(archs[i].name);
        if (strncmp(name, archs[i].name, n) != 0)
            continue;
        *plain = strcmp(name + n, "-plain") == 0;
        if (*plain || name[n] == '\0')
            return &archs[i];
    }
    return NULL;
}

/* A config.json as the families write it. */
static int write_config(const struct arch *arch, bool plain, struct ees__json *out, ees_error *err) {
    static const char exits[] = ",\"highway_type\":\"LGViT\",\"num_early_exits\":8,"
                                "\"position_exits\":\"[4,5,6,7,8,9,10,11]\",\"exit_strategy\":\"confidence\"";
    char text[512];
    int n = snprintf(text, sizeof text,
                     "{\"image_size\":224,\"patch_size\":16,\"hidden_size\":%u,\"num_attention_heads\":%u,"
                     "\"num_hidden_layers\":12,\"intermediate_size\":%u,\"layer_norm_eps\":1e-12,\"num_labels\":100%s}",
                     arch->n_channels, arch->n_heads, 4 * arch->n_channels, plain ? "" : exits);
    return ees__json_parse(text, (size_t)n, arch->name, out, err);
}

int ees_model_open_random(const char *name, uint64_t seed, const ees_model_options *options, ees_model **out,
                          ees_error *err) {
    ees_model_options filled;
    bool plain;
    EES_TRY(ees__model_check_options(options, &filled, err));
    const struct arch *arch = find_arch(name, &plain);
    if (!arch)
        return EES_FAIL(err, EES_EINVAL,
                        "architecture '%s' is unknown, there are vit-ti16, vit-s16, vit-b16, each "
                        "also with -plain (no exits)",
                        name);
    struct ees__json config = {0};
    struct ees__weights *weights = NULL;
    int rc = write_config(arch, plain, &config, err);
    if (rc == 0)
        rc = ees__weights_open_random(seed, &weights, err);
    const struct ees__source source = {
        .family = ees__family_by_name(plain ? "hf-vit" : "lgvit-vit"),
        .json = &config,
    };
    if (rc == 0)
        rc = ees__model_build(name, &source, NULL, weights, &filled, out, err);
    if (weights)
        weights->close(weights);
    ees__json_close(&config);
    return rc;
}
