/* SPDX-License-Identifier: MIT */
/* Which family a model belongs to, and how its tensors are called. */
#include "stages/family.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "stages/stage_list.h"

static void list_model_types(char *text, size_t n_bytes) {
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; ees__families[i] && at < n_bytes; i++)
        at += (size_t)snprintf(text + at, n_bytes - at, "%s\"%s\" (%s)", i ? ", " : "", ees__families[i]->model_type,
                               ees__families[i]->name);
}

int ees__family_find(const struct ees__json *config, const ees_tensors *tensors, const struct ees__family **out,
                     ees_error *err) {
    const char *type;
    EES_TRY(ees__json_text(config, "model_type", NULL, &type, err));
    const struct ees__family *by_type = NULL;
    for (size_t i = 0; ees__families[i]; i++) {
        const struct ees__family *family = ees__families[i];
        if (type && strcmp(type, family->model_type) != 0)
            continue;
        if (ees_tensors_find(tensors, family->marker)) {
            *out = family;
            return 0;
        }
        if (type && !by_type)
            by_type = family;
    }
    /* Without its marker a file cannot load; reading it as the type it claims to be tells why. */
    *out = by_type;
    if (by_type)
        return 0;
    char known[160];
    list_model_types(known, sizeof known);
    return EES_JSON_REFUSE(config, "model_type", ees__json_get(config, "model_type"), err, "one of %s", known);
}

const struct ees__family *ees__family_by_name(const char *name) {
    for (size_t i = 0; ees__families[i]; i++)
        if (strcmp(ees__families[i]->name, name) == 0)
            return ees__families[i];
    return NULL;
}

/* "blk.3.attn.qkv" -> "blk.#.attn.qkv" and "3". A canonical name holds one index at most. */
static void split_index(const char *base, size_t n, char *generic, char *index) {
    size_t n_generic = 0, n_index = 0;
    for (size_t i = 0; i < n; i++) {
        bool starts = i > 0 && base[i - 1] == '.' && isdigit((unsigned char)base[i]);
        if (!starts) {
            generic[n_generic++] = base[i];
            continue;
        }
        while (i < n && isdigit((unsigned char)base[i]))
            index[n_index++] = base[i++];
        generic[n_generic++] = '#';
        i--;
    }
    generic[n_generic] = index[n_index] = '\0';
}

/* Length of the name without ".weight" and its like. */
static size_t base_length(const char *name) {
    static const char *const suffixes[] = {".weight", ".bias", ".running_mean", ".running_var"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t n_suffix = strlen(suffixes[i]);
        if (n > n_suffix && strcmp(name + n - n_suffix, suffixes[i]) == 0)
            return n - n_suffix;
    }
    return n;
}

static bool expand(const char *pattern, const char *index, const char *suffix, char out[EES__MAX_TENSOR_NAME]) {
    const char *hash = strchr(pattern, '#');
    int n = hash ? snprintf(out, EES__MAX_TENSOR_NAME, "%.*s%s%s%s", (int)(hash - pattern), pattern, index, hash + 1,
                            suffix)
                 : snprintf(out, EES__MAX_TENSOR_NAME, "%s%s", pattern, suffix);
    return n > 0 && n < EES__MAX_TENSOR_NAME;
}

unsigned ees__family_map_name(const struct ees__family *family, const char *canonical,
                              char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME]) {
    char generic[EES__MAX_TENSOR_NAME], index[EES__MAX_TENSOR_NAME];
    size_t n_base = base_length(canonical);
    if (n_base >= EES__MAX_TENSOR_NAME)
        return 0;
    split_index(canonical, n_base, generic, index);
    for (const struct ees__name_rule *rule = family->names; rule->canonical; rule++) {
        if (strcmp(rule->canonical, generic) != 0)
            continue;
        unsigned n = 0;
        for (; n < EES__MAX_PARTS && rule->parts[n]; n++)
            if (!expand(rule->parts[n], index, canonical + n_base, parts[n]))
                return 0;
        return n;
    }
    return expand(canonical, "", "", parts[0]) ? 1 : 0;
}

bool ees__family_ignores(const struct ees__family *family, const char *tensor) {
    for (const char *const *pattern = family->unused; *pattern; pattern++)
        if (fnmatch(*pattern, tensor, 0) == 0)
            return true;
    return false;
}
