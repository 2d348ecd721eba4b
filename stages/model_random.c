/* SPDX-License-Identifier: MIT */
/* Named architectures with seeded random weights, for benchmarks. Only the source of weights differs from a model of
 * files: config and chain take the same way. */
#include <stdio.h>
#include <string.h>

#include "common/fail.h"
#include "stages/family.h"
#include "stages/model.h"
#include "stages/weights.h"

/* Configs as the families write them. */
struct arch {
    const char *name;
    const char *plain_family, *exits_family;
    const char *sizes, *exits;
};

#define VIT(channels, heads, mlp)                                                                                      \
    "\"image_size\":224,\"patch_size\":16,\"hidden_size\":" channels ",\"num_attention_heads\":" heads                 \
    ",\"num_hidden_layers\":12,\"intermediate_size\":" mlp ",\"layer_norm_eps\":1e-12,\"num_labels\":100"
#define VIT_EXITS "\"num_early_exits\":8,\"position_exits\":\"[4,5,6,7,8,9,10,11]\""

/* The published exits are those of 18 blocks in stage 2; here every block of the 6 has one. */
#define SWIN(channels, depths, heads)                                                                                  \
    "\"image_size\":224,\"patch_size\":4,\"embed_dim\":" channels ",\"depths\":" depths ",\"num_heads\":" heads        \
    ",\"window_size\":7,\"num_labels\":100"
#define SWIN_EXITS "\"num_early_exits\":\"[0,1,6,1]\",\"position_exits\":\"[[],[2],[1,2,3,4,5,6],[1]]\""

static const struct arch archs[] = {
    {"vit-ti16", "hf-vit", "lgvit-vit", VIT("192", "3", "768"), VIT_EXITS},
    {"vit-s16", "hf-vit", "lgvit-vit", VIT("384", "6", "1536"), VIT_EXITS},
    {"vit-b16", "hf-vit", "lgvit-vit", VIT("768", "12", "3072"), VIT_EXITS},
    {"swin-t", "hf-swin", "lgvit-swin", SWIN("96", "[2,2,6,2]", "[3,6,12,24]"), SWIN_EXITS},
};

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

static void list_archs(char *text, size_t n_bytes) {
    size_t at = 0;
    for (size_t i = 0; i < sizeof archs / sizeof *archs && at < n_bytes; i++)
        at += (size_t)snprintf(text + at, n_bytes - at, "%s%s", i ? ", " : "", archs[i].name);
}

static int write_config(const struct arch *arch, bool plain, struct ees__json *out, ees_error *err) {
    char text[512];
    int n = snprintf(text, sizeof text, "{%s%s%s}", arch->sizes,
                     plain ? "" : ",\"highway_type\":\"LGViT\",\"exit_strategy\":\"confidence\",",
                     plain ? "" : arch->exits);
    return ees__json_parse(text, (size_t)n, arch->name, out, err);
}

int ees_model_open_random(const char *name, uint64_t seed, const ees_model_options *options, ees_model **out,
                          ees_error *err) {
    ees_model_options filled;
    bool plain;
    EES_TRY(ees__model_check_options(options, &filled, err));
    const struct arch *arch = find_arch(name, &plain);
    if (!arch) {
        char known[96];
        list_archs(known, sizeof known);
        return EES_FAIL(err, EES_EINVAL, "architecture '%s' is unknown, there are %s, each also with -plain (no exits)",
                        name, known);
    }
    struct ees__json config = {0};
    struct ees__weights *weights = NULL;
    int rc = write_config(arch, plain, &config, err);
    if (rc == 0)
        rc = ees__weights_open_random(seed, &weights, err);
    const struct ees__source source = {
        .family = ees__family_by_name(plain ? arch->plain_family : arch->exits_family),
        .json = &config,
    };
    if (rc == 0)
        rc = ees__model_build(name, &source, NULL, weights, &filled, out, err);
    if (weights)
        weights->close(weights);
    ees__json_close(&config);
    return rc;
}
