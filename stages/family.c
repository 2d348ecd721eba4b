/* SPDX-License-Identifier: MIT */
/* Which family a model belongs to. */
#include "stages/family.h"

#include <stdio.h>
#include <string.h>

#include "stages/stage_list.h"

struct ees__names ees__family_names(const struct ees__family *family, const struct ees__layout *layout) {
    return (struct ees__names){
        .naming = family->naming, .prefix = family->prefix ? family->prefix : "", .layout = layout};
}

const ees_tensor_info *ees__source_find(const struct ees__source *source, const char *canonical) {
    const struct ees__names names = ees__family_names(source->family, source->layout);
    char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME];
    bool found = false;
    if (source->tensors)
        ees__names_locate(&names, source->tensors, canonical, parts, &found);
    return found ? ees_tensors_find(source->tensors, parts[0]) : NULL;
}

static bool has_marker(const struct ees__family *family, const ees_tensors *tensors, unsigned i) {
    const struct ees__source source = {.family = family, .tensors = tensors};
    return !family->markers[i] || ees__source_find(&source, family->markers[i]);
}

/* How well a family fits, 0: not at all. A file that lacks what its config announces goes to the family it claims to be
 * of: reading it as that tells what is missing. */
static int rate(const struct ees__family *family, const ees_tensors *tensors, const char *type,
                const char *architecture) {
    bool same_type = type && family->model_type && strcmp(type, family->model_type) == 0;
    bool same_architecture = architecture && family->architecture && strcmp(architecture, family->architecture) == 0;
    if (type && !same_type)
        return 0;
    if (!has_marker(family, tensors, 0))
        return same_type ? 1 + same_architecture : 0;
    if (family->markers[1] && has_marker(family, tensors, 1))
        return 6;
    return same_architecture ? 5 : family->markers[1] ? 3 : 4;
}

/* "vit", "deit", ...: each once. */
static void list_model_types(char *text, size_t n_bytes) {
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; ees__families[i] && at < n_bytes; i++) {
        char quoted[48];
        if (!ees__families[i]->model_type)
            continue;
        snprintf(quoted, sizeof quoted, "\"%s\"", ees__families[i]->model_type);
        if (!strstr(text, quoted))
            at += (size_t)snprintf(text + at, n_bytes - at, "%s%s", at ? ", " : "", quoted);
    }
}

int ees__family_find(const struct ees__json *config, const ees_tensors *tensors, const struct ees__family **out,
                     ees_error *err) {
    const char *architecture = json_string_value(json_array_get(ees__json_get(config, "architectures"), 0)), *type;
    EES_TRY(ees__json_text(config, "model_type", NULL, &type, err));
    int best = 0;
    *out = NULL;
    for (size_t i = 0; ees__families[i]; i++) {
        int rating = rate(ees__families[i], tensors, type, architecture);
        if (rating > best) {
            best = rating;
            *out = ees__families[i];
        }
    }
    if (*out)
        return 0;
    char known[160];
    list_model_types(known, sizeof known);
    return EES_JSON_REFUSE(config, "model_type", ees__json_get(config, "model_type"), err,
                           "one of %s, or none and tensors named as by timm, torchvision or EEVIT", known);
}

const struct ees__family *ees__family_by_name(const char *name) {
    for (size_t i = 0; ees__families[i]; i++)
        if (strcmp(ees__families[i]->name, name) == 0)
            return ees__families[i];
    return NULL;
}
