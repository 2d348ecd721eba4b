/* SPDX-License-Identifier: MIT */
/* The parts of config.json that several families share: labels, exits, thresholds. */
#include "stages/family.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/blocks/blocks.h"
#include "stages/policies/policy.h"
#include "stages/stage_list.h"

void ees__config_fini(struct ees__config *config) {
    for (size_t i = 0; config->labels && i < config->dims.n_classes; i++)
        free(config->labels[i]);
    free(config->labels);
    config->labels = NULL;
}

int ees__config_check_architecture(const struct ees__source *source, ees_error *err) {
    const json_t *list = ees__json_get(source->json, "architectures");
    const char *name = source->family->architecture, *first = json_string_value(json_array_get(list, 0));
    if (list && (!first || strcmp(first, name) != 0))
        return EES_JSON_REFUSE(source->json, "architectures", list, err, "[\"%s\"]", name);
    return 0;
}

/* Keys are class numbers as text, in any order; each class has exactly one (duplicate keys do not parse). */
static int read_label_map(const struct ees__json *json, json_t *map, struct ees__config *config, ees_error *err) {
    size_t n = config->dims.n_classes;
    config->labels = calloc(n, sizeof *config->labels);
    if (!config->labels)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for %zu labels", json->file, n);
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value) {
        char *end = NULL, canonical[24];
        unsigned long idx = strtoul(key, &end, 10);
        snprintf(canonical, sizeof canonical, "%lu", idx);
        if (strcmp(key, canonical) != 0 || idx >= n)
            return EES_FAIL(err, EES_EMODEL, "%s: 'id2label' has the key \"%.40s\", expected \"0\" to \"%zu\"",
                            json->file, key, n - 1);
        if (!json_is_string(value))
            return EES_JSON_REFUSE(json, "id2label", value, err, "a string for each class (see key \"%.20s\")", key);
        config->labels[idx] = strdup(json_string_value(value));
        if (!config->labels[idx])
            return EES_FAIL(err, EES_ENOMEM, "%s: no memory for labels", json->file);
    }
    return 0;
}

int ees__config_read_labels(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    struct ees__dims *d = &config->dims;
    EES_TRY(ees__json_size(json, "num_labels", 1, EES__MAX_CLASSES, 0, &d->n_classes, err));
    json_t *map = ees__json_get(json, "id2label");
    if (!map) {
        d->n_classes = d->n_classes ? d->n_classes : 2; /* Hugging Face leaves two labels out */
        return 0;
    }
    size_t n = json_object_size(map);
    if (!json_is_object(map) || n < 1 || n > EES__MAX_CLASSES)
        return EES_JSON_REFUSE(json, "id2label", map, err, "an object of 1 to %d labels", EES__MAX_CLASSES);
    if (d->n_classes && d->n_classes != n)
        return EES_JSON_REFUSE(json, "num_labels", ees__json_get(json, "num_labels"), err, "the %zu of 'id2label'", n);
    d->n_classes = n;
    return read_label_map(json, map, config, err);
}

/* ---- exits ---------------------------------------------------------------------------------------------- */

/* Can the head read what the backbone has? */
static bool suits(const struct ees__op *head, const struct ees__config *config) {
    return head->tokens == EES__HEAD_ANY || (head->tokens == EES__HEAD_BARE_GRID) == config->dims.bare;
}

static const struct ees__op *find_head(const struct ees__config *config, const char *name, unsigned *number) {
    size_t n = strlen(name);
    char digit = n ? name[n - 1] : '\0';
    for (size_t i = 0; ees__heads[i]; i++) {
        const struct ees__op *head = ees__heads[i];
        bool numbered = head->numbered && n == strlen(head->name) + 1 && strncmp(name, head->name, n - 1) == 0 &&
                        digit >= '1' && digit <= '9';
        *number = numbered ? (unsigned)(digit - '0') : 0;
        if (suits(head, config) && (numbered || (!head->numbered && strcmp(name, head->name) == 0)))
            return head;
    }
    return NULL;
}

static void list_heads(const struct ees__config *config, char *text, size_t n_bytes) {
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; ees__heads[i] && at < n_bytes; i++)
        if (suits(ees__heads[i], config))
            at += (size_t)snprintf(text + at, n_bytes - at, "%s%s%s", at ? ", " : "", ees__heads[i]->name,
                                   ees__heads[i]->numbered ? "1-9" : "");
}

int ees__config_add_exit(const struct ees__json *json, const char *key, const json_t *value, size_t after_block,
                         const char *head, struct ees__config *config, ees_error *err) {
    if (config->n_exits == EES_MAX_EXITS)
        return EES_JSON_REFUSE(json, key, value, err, "at most %d exits", EES_MAX_EXITS);
    struct ees__exit *exit = &config->exits[config->n_exits];
    size_t last = config->n_exits ? exit[-1].after_block : 0;
    if (after_block <= last || after_block > config->dims.n_blocks)
        return EES_JSON_REFUSE(json, key, value, err, "strictly increasing blocks from 1 to %zu",
                               config->dims.n_blocks);
    exit->head = find_head(config, head, &exit->number);
    if (!exit->head) {
        char known[256];
        list_heads(config, known, sizeof known);
        return EES_JSON_REFUSE(json, key, value, err, "heads among %s", known);
    }
    exit->after_block = (unsigned)after_block;
    snprintf(exit->name, sizeof exit->name, "%s", head);
    config->n_exits++;
    return 0;
}

int ees__config_read_policy_name(const struct ees__json *json, const char *key, const char *fallback,
                                 struct ees__config *config, ees_error *err) {
    const char *name;
    EES_TRY(ees__json_text(json, key, fallback, &name, err));
    for (const char *const *known = ees_policy_names(); *known; known++)
        if (strcmp(name, *known) == 0) {
            config->policy.name = *known;
            return 0;
        }
    char list[EES__POLICY_LIST_BYTES];
    ees__policy_list_names(list, sizeof list);
    return EES_JSON_REFUSE(json, key, ees__json_get(json, key), err, "one of %s", list);
}

/* n numbers of a list, or the number itself. */
static int read_numbers(const struct ees__json *json, const char *key, const json_t *value, size_t n, float *out,
                        ees_error *err) {
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_is_array(value) ? json_array_get(value, i) : value;
        out[i] = (float)json_number_value(x);
        if (!json_is_number(x) || !isfinite(out[i]))
            return EES_JSON_REFUSE(json, key, x, err, "numbers");
    }
    return 0;
}

int ees__config_read_per_exit(const struct ees__json *json, const char *key, const struct ees__config *config,
                              float *out, unsigned *n, ees_error *err) {
    const json_t *value = ees__json_get(json, key);
    if (!value)
        return 0;
    if (json_is_array(value) ? json_array_size(value) != config->n_exits : !json_is_number(value))
        return EES_JSON_REFUSE(json, key, value, err, "a number, or a list of %u (one an exit)", config->n_exits);
    *n = json_is_array(value) ? config->n_exits : 1;
    return read_numbers(json, key, value, *n, out, err);
}

int ees__config_read_counted_thresholds(const struct ees__json *json, const char *key, struct ees__config *config,
                                        ees_error *err) {
    ees_policy_options *policy = &config->policy;
    const json_t *value = ees__json_get(json, key);
    size_t n = config->n_exits;
    if (!json_is_array(value) || json_array_size(value) == n)
        return ees__config_read_per_exit(json, key, config, policy->thresholds, &policy->n_thresholds, err);
    if (json_array_size(value) != n + 1)
        return EES_JSON_REFUSE(json, key, value, err, "a number, or a list of %zu (one an exit) and a count", n);
    EES_TRY(read_numbers(json, key, value, n, policy->thresholds, err));
    policy->n_thresholds = (unsigned)n;
    json_int_t count = json_integer_value(json_array_get(value, n));
    if (count < 1 || count > EES_MAX_EXITS)
        return EES_JSON_REFUSE(json, key, json_array_get(value, n), err, "a last entry that counts 1 to %d exits",
                               EES_MAX_EXITS);
    policy->patience = (unsigned)count;
    return 0;
}

/* Of the members of a mean. */
static int read_weights(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    const json_t *value = ees__json_get(json, "weights");
    size_t n = config->n_exits + 1;
    if (!value)
        return 0;
    if (json_array_size(value) != n)
        return EES_JSON_REFUSE(json, "weights", value, err, "a list of %zu (one an exit, and the final classifier's)",
                               n);
    config->policy.n_weights = (unsigned)n;
    return read_numbers(json, "weights", value, n, config->policy.weights, err);
}

int ees__config_read_policy(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    size_t patience, lag;
    EES_TRY(ees__config_read_policy_name(json, "name", "confidence", config, err));
    EES_TRY(ees__json_size(json, "patience", 1, EES_MAX_EXITS, 0, &patience, err));
    EES_TRY(ees__json_size(json, "lag", 1, EES_MAX_LAG, 0, &lag, err));
    ees_policy_options *policy = &config->policy;
    policy->patience = (unsigned)patience;
    policy->lag = (unsigned)lag;
    double skip_below;
    EES_TRY(ees__json_real(json, "skip_below", 0.0, 255.0, 0.0, &skip_below, err));
    policy->skip_below = (float)skip_below;
    EES_TRY(read_weights(json, config, err));
    EES_TRY(ees__config_read_per_exit(json, "thresholds", config, policy->thresholds, &policy->n_thresholds, err));
    return ees__config_read_per_exit(json, "degraded_thresholds", config, policy->degraded, &policy->n_degraded, err);
}

int ees__config_read_early_exits(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    json_t *object = ees__json_get(json, "early_exits");
    if (!object)
        return 0;
    if (!json_is_object(object))
        return EES_JSON_REFUSE(json, "early_exits", object, err, "an object");
    struct ees__json early = ees__json_child(json, "early_exits", object);
    const json_t *list = ees__json_get(&early, "exits"), *entry;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return EES_JSON_REFUSE(&early, "exits", list, err, "a list of {\"after_block\", \"head\"}");
    size_t i;
    json_array_foreach(list, i, entry) {
        const json_t *block = json_object_get(entry, "after_block");
        const char *head = json_string_value(json_object_get(entry, "head"));
        if (!json_is_integer(block) || json_integer_value(block) < 1 || !head)
            return EES_JSON_REFUSE(&early, "exits", entry, err, "{\"after_block\": 4, \"head\": \"conv1_1\"}");
        EES_TRY(ees__config_add_exit(&early, "exits", entry, (size_t)json_integer_value(block), head, config, err));
    }
    json_t *policy = ees__json_get(&early, "policy");
    if (policy && !json_is_object(policy))
        return EES_JSON_REFUSE(&early, "policy", policy, err, "an object");
    struct ees__json child = ees__json_child(&early, "policy", policy);
    return ees__config_read_policy(&child, config, err);
}

/* Weights stored as fp16 are used as float32. */
static int read_precision(const struct ees__json *json, struct ees__quantisation *out, ees_error *err) {
    const char *name;
    EES_TRY(ees__json_text(json, "precision", "fp32", &name, err));
    bool half = strcmp(name, "fp16") == 0;
    if (ees__precision_find(half ? "fp32" : name, &out->precision) < 0)
        return EES_JSON_REFUSE(json, "precision", ees__json_get(json, "precision"), err,
                               "one of \"fp32\", \"fp16\", \"bf16\", \"int8\"");
    out->name = half ? "fp16" : ees__precision_name(out->precision);
    return 0;
}

int ees__config_read_quantisation(const struct ees__json *json, struct ees__config *config, ees_error *err) {
    struct ees__quantisation *q = &config->quantisation;
    q->name = ees__precision_name(q->precision);
    json_t *object = ees__json_get(json, "quantisation");
    if (!object)
        return 0;
    if (!json_is_object(object))
        return EES_JSON_REFUSE(json, "quantisation", object, err, "an object");
    struct ees__json child = ees__json_child(json, "quantisation", object);
    EES_TRY(read_precision(&child, q, err));
    const json_t *list = ees__json_get(&child, "wider"), *entry;
    if (list && (!json_is_array(list) || json_array_size(list) > EES_MAX_UNITS))
        return EES_JSON_REFUSE(&child, "wider", list, err, "a list of at most %d units", EES_MAX_UNITS);
    size_t i;
    json_array_foreach(list, i, entry) {
        const char *unit = json_string_value(entry);
        if (!unit || strlen(unit) >= sizeof q->wider[0])
            return EES_JSON_REFUSE(&child, "wider", entry, err, "names of units, such as \"block1.attn\"");
        snprintf(q->wider[q->n_wider++], sizeof q->wider[0], "%s", unit);
    }
    return 0;
}
