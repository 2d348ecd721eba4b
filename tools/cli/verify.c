/* SPDX-License-Identifier: MIT */
/* `eestream verify`: runs each reference image through every unit and compares with the numbers the model's own
 * framework computed for it, then walks the recorded policies over our logits. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli/file.h"
#include "tools/cli/verify_inputs.h"
#include "tools/cli/verbs.h"

#define LOGITS_TOLERANCE 1e-4 /* absolute */
#define STATE_TOLERANCE  1e-4 /* of the largest element of the tensor */

/* Of narrower precisions, for logits and states alike, of the largest element: some three times what the embedded model
 * shows. Whether answers change is told by `eestream quantise`. */
static const struct {
    const char *precision;
    double tolerance;
} narrow_tolerances[] = {{"fp16", 3e-3}, {"bf16", 3e-2}, {"int8", 1e-1}};

/* One expected tensor of shape (rows of the batch, ...) and how far we are from it. */
struct compared {
    const ees_tensor_info *info;
    float *values;
    size_t n_images, per_image;
    double largest; /* |ours - expected| over all images */
    bool is_index;  /* prediction: must match exactly */
    bool relative;
};

struct verify {
    const struct options *o;
    ees_model *model;
    const ees_model_info *info;
    struct verify_inputs inputs;
    ees_tensors *expected;
    float *logits; /* ours: (B, n_exits + 1, K) */
    size_t n_images, image;
    struct compared *tensors;
    size_t n_tensors, n_skipped;
    unsigned n_decisions;
    double largest;
    bool out;
};

/* ---- Loading ------------------------------------------------------------------------------------------- */

/* What is given, or else the file of that name in the folder. */
static const char *path_of(const char *dir, const char *given, const char *name, char path[4096]) {
    snprintf(path, 4096, "%s/%s", dir, name);
    return given ? given : path;
}

static int read_tensor(const ees_tensors *file, const ees_tensor_info *info, float **out, ees_error *err) {
    *out = malloc(info->n_elements * sizeof **out + sizeof **out);
    if (!*out)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %s (%zu elements)", info->name, info->n_elements);
    return ees_tensors_read_f32(file, info, *out, err);
}

/* Is `name` "<head><number><tail>"? @return the number, -1: no */
static int numbered(const char *name, const char *head, const char *tail) {
    size_t n = strlen(head);
    char *end;
    if (strncmp(name, head, n) != 0 || name[n] < '0' || name[n] > '9')
        return -1;
    long number = strtol(name + n, &end, 10);
    return strcmp(end, tail) == 0 && number < 100000 ? (int)number : -1;
}

static bool is_known(const struct verify *v, const char *name) {
    int exit_idx = numbered(name, "exit.", ".logits"), block = numbered(name, "hidden.", "");
    return strcmp(name, "logits") == 0 || strcmp(name, "prediction") == 0 || strcmp(name, "embeddings") == 0 ||
           (exit_idx >= 0 && exit_idx < (int)v->info->n_exits) || (block >= 0 && block < (int)v->info->n_blocks);
}

static int load_expected(struct verify *v, ees_error *err) {
    size_t n = ees_tensors_count(v->expected);
    v->tensors = calloc(n + 1, sizeof *v->tensors);
    if (!v->tensors)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++) {
        const ees_tensor_info *info = ees_tensors_at(v->expected, i);
        if (!is_known(v, info->name)) {
            v->n_skipped++;
            continue;
        }
        struct compared *c = &v->tensors[v->n_tensors++];
        *c = (struct compared){.info = info, .is_index = strcmp(info->name, "prediction") == 0};
        c->relative = strcmp(info->name, "embeddings") == 0 || numbered(info->name, "hidden.", "") >= 0;
        if (info->rank == 0 || info->shape[0] == 0 || info->shape[0] > v->n_images)
            return CLI_FAIL(err, EES_EINVAL, "%s covers %zu images, the inputs hold %zu", info->name,
                            info->rank ? info->shape[0] : 0, v->n_images);
        c->n_images = info->shape[0];
        c->per_image = info->n_elements / c->n_images;
        CLI_TRY(read_tensor(v->expected, info, &c->values, err));
    }
    return v->n_tensors ? 0 : CLI_FAIL(err, EES_EINVAL, "the expected file holds no tensor to compare");
}

/* ---- Tensors ------------------------------------------------------------------------------------------- */

static struct compared *find(struct verify *v, const char *name) {
    for (size_t i = 0; i < v->n_tensors; i++)
        if (strcmp(v->tensors[i].info->name, name) == 0)
            return &v->tensors[i];
    return NULL;
}

/* NaN anywhere counts as infinitely far. */
static void compare(struct verify *v, const char *name, const float *ours, size_t n) {
    struct compared *c = find(v, name);
    if (!c || v->image >= c->n_images)
        return;
    if (c->per_image != n) {
        c->largest = INFINITY;
        return;
    }
    const float *expected = c->values + v->image * n;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)ours[i] - (double)expected[i]);
        if (!(d <= c->largest))
            c->largest = isnan(d) ? INFINITY : d;
    }
}

static unsigned argmax(const float *x, unsigned n) {
    unsigned best = 0;
    for (unsigned i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static float *our_logits(const struct verify *v, size_t image, unsigned exit_idx) {
    return v->logits + (image * (v->info->n_exits + 1u) + exit_idx) * v->info->n_classes;
}

/* The unit after which the state is `hidden.{block-1}`: the last of its block that is not a head. */
static bool ends_block(const struct verify *v, unsigned unit) {
    const ees_unit_info *info = ees_model_get_unit(v->model, unit);
    if (info->block == 0)
        return false;
    const ees_unit_info *next = ees_model_get_unit(v->model, unit + 1);
    return !next || next->block != info->block || next->exit_idx >= 0;
}

static void compare_tokens(struct verify *v, const ees_tap *tap) {
    char name[32];
    size_t n = tap->rows * tap->cols;
    if (strcmp(tap->info->name, "embed") == 0) {
        compare(v, "embeddings", tap->data, n);
    } else if (ends_block(v, tap->unit)) {
        snprintf(name, sizeof name, "hidden.%u", tap->info->block - 1);
        compare(v, name, tap->data, n);
    }
}

static void compare_logits(struct verify *v, const ees_tap *tap) {
    unsigned exit_idx = (unsigned)tap->info->exit_idx;
    memcpy(our_logits(v, v->image, exit_idx), tap->data, tap->cols * sizeof *tap->data);
    if (exit_idx < v->info->n_exits) {
        char name[32];
        snprintf(name, sizeof name, "exit.%u.logits", exit_idx);
        compare(v, name, tap->data, tap->cols);
        return;
    }
    float prediction = (float)argmax(tap->data, (unsigned)tap->cols);
    compare(v, "logits", tap->data, tap->cols);
    compare(v, "prediction", &prediction, 1);
}

static int on_tap(void *opaque, const ees_tap *tap) {
    if (tap->kind == EES_TAP_TOKENS)
        compare_tokens(opaque, tap);
    else if (tap->kind == EES_TAP_LOGITS)
        compare_logits(opaque, tap);
    return 0;
}

static int trace_images(struct verify *v, ees_error *err) {
    v->logits = calloc(v->n_images * (v->info->n_exits + 1u) * v->info->n_classes, sizeof *v->logits);
    if (!v->logits)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for the logits of %zu images", v->n_images);
    for (v->image = 0; v->image < v->n_images; v->image++) {
        ees_frame frame;
        CLI_TRY(verify_inputs_frame(&v->inputs, v->info, v->image, &frame, err));
        CLI_TRY(ees_model_trace(v->model, &frame, on_tap, v, err));
    }
    return 0;
}

/* 0: float32, which has tolerances of its own. */
static double narrow_tolerance(const struct verify *v) {
    for (size_t i = 0; i < sizeof narrow_tolerances / sizeof *narrow_tolerances; i++)
        if (strcmp(narrow_tolerances[i].precision, v->info->precision) == 0)
            return narrow_tolerances[i].tolerance;
    return 0;
}

static double tolerance_of(const struct verify *v, const struct compared *c) {
    float largest = 0; /* float: gcc 12 for aarch64 fails on this reduction in double */
    double narrow = narrow_tolerance(v), share = narrow > 0 ? narrow : c->relative ? STATE_TOLERANCE : 0;
    if (c->is_index)
        return 0;
    if (share == 0)
        return LOGITS_TOLERANCE;
    for (size_t i = 0; i < c->info->n_elements; i++)
        largest = fmaxf(largest, fabsf(c->values[i]));
    return share * (double)largest;
}

static void report_tensors(struct verify *v) {
    printf("%-22s %12s %12s   in %s\n", "tensor", "difference", "allowed", v->info->precision);
    for (size_t i = 0; i < v->n_tensors; i++) {
        const struct compared *c = &v->tensors[i];
        double tolerance = tolerance_of(v, c);
        bool good = c->largest <= tolerance;
        printf("%-22s %12.3g %12.3g  %s\n", c->info->name, c->largest, tolerance, good ? "ok" : "OUT");
        v->out |= !good;
        v->largest = fmax(v->largest, c->largest);
    }
    for (size_t i = 0; v->n_skipped && i < ees_tensors_count(v->expected); i++)
        if (!is_known(v, ees_tensors_at(v->expected, i)->name))
            printf("%-22s not compared\n", ees_tensors_at(v->expected, i)->name);
}

/* ---- Decisions ----------------------------------------------------------------------------------------- */

static int read_case(const struct verify *v, const json_t *test, ees_policy_options *out, ees_error *err) {
    const json_t *threshold = json_object_get(test, "threshold"), *name = json_object_get(test, "policy");
    ees_policy_options asked = {.name = json_string_value(name),
                                .patience = (unsigned)json_integer_value(json_object_get(test, "patience"))};
    if (!asked.name)
        return CLI_FAIL(err, EES_EINVAL, "policies: a case without \"policy\"");
    if (json_is_number(threshold)) {
        asked.n_thresholds = 1;
        asked.thresholds[0] = (float)json_number_value(threshold);
    }
    if (json_array_size(threshold) > EES_MAX_EXITS)
        return CLI_FAIL(err, EES_EINVAL, "policies: more than %d thresholds", EES_MAX_EXITS);
    for (size_t i = 0; i < json_array_size(threshold); i++)
        asked.thresholds[asked.n_thresholds++] = (float)json_number_value(json_array_get(threshold, i));
    return ees_policy_resolve(v->model, &asked, out, err);
}

/* @return 1 right, 0 wrong, negative on failure */
static int check_image(const struct verify *v, const json_t *test, const ees_policy_options *policy, size_t image,
                       ees_error *err) {
    const ees_model_info *m = v->info;
    int e = ees_policy_walk(policy, m->n_exits, m->n_classes, our_logits(v, image, 0), err);
    CLI_TRY(e);
    unsigned block = (unsigned)e < m->n_exits ? m->exits[e].after_block : m->n_blocks;
    const json_t *exits = json_object_get(test, "exit_index"), *blocks = json_object_get(test, "blocks_run"),
                 *classes = json_object_get(test, "prediction");
    return json_integer_value(json_array_get(exits, image)) == e &&
           json_integer_value(json_array_get(blocks, image)) == block &&
           json_integer_value(json_array_get(classes, image)) ==
               argmax(our_logits(v, image, (unsigned)e), m->n_classes);
}

/* In a narrower precision a frame near a threshold may decide otherwise: told, and left to `eestream quantise` to
 * judge. */
static int check_case(struct verify *v, const json_t *test, ees_error *err) {
    ees_policy_options policy;
    size_t n = json_array_size(json_object_get(test, "exit_index")), n_right = 0;
    const char *id = json_string_value(json_object_get(test, "id"));
    if (n == 0 || n > v->n_images)
        return CLI_FAIL(err, EES_EINVAL, "policies: case %s has %zu results for %zu images", id ? id : "?", n,
                        v->n_images);
    CLI_TRY(read_case(v, test, &policy, err));
    for (size_t i = 0; i < n; i++) {
        int rc = check_image(v, test, &policy, i, err);
        CLI_TRY(rc);
        n_right += (size_t)rc;
    }
    bool narrow = narrow_tolerance(v) > 0;
    printf("policy %-30s %zu of %zu decisions  %s\n", id ? id : "?", n_right, n,
           n_right == n ? "ok"
           : narrow     ? "changed"
                        : "OUT");
    v->n_decisions += (unsigned)n;
    v->out |= n_right != n && !narrow;
    return 0;
}

/* policies.json beside the expected tensors is optional; one that was named is not. */
static int check_policies(struct verify *v, const char *dir, ees_error *err) {
    char path[4096];
    const char *given = v->o->expect_policies, *expected = v->o->expect_outputs;
    const char *slash = expected ? strrchr(expected, '/') : NULL;
    if (given)
        snprintf(path, sizeof path, "%s", given);
    else if (expected)
        snprintf(path, sizeof path, "%.*spolicies.json", slash ? (int)(slash + 1 - expected) : 0, expected);
    else
        snprintf(path, sizeof path, "%s/policies.json", dir);
    if (!given && access(path, F_OK) != 0)
        return 0;
    json_t *root;
    CLI_TRY(file_read_json(path, EES_EINVAL, &root, err));
    json_t *cases = json_object_get(root, "cases"), *test;
    size_t i;
    int rc = json_array_size(cases) ? 0 : CLI_FAIL(err, EES_EINVAL, "%s: no cases", path);
    json_array_foreach(cases, i, test) if (rc == 0) rc = check_case(v, test, err);
    json_decref(root);
    return rc;
}

/* ---- Verb ---------------------------------------------------------------------------------------------- */

/* The model for inputs of this size, which need not be the training's. */
static int open_model(struct verify *v, const char *dir, ees_error *err) {
    const ees_tensor_info *info = v->inputs.pixels;
    struct options o = *v->o;
    char size[48];
    if (info && info->rank == 4) {
        snprintf(size, sizeof size, "%zux%zu", info->shape[3], info->shape[2]);
        o.image_size = size;
    }
    o.model_dir = dir;
    CLI_TRY(options_open_model(&o, NULL, &v->model, err));
    v->info = ees_model_get_info(v->model);
    return 0;
}

static int verify(struct verify *v, const char *dir, ees_error *err) {
    char path[4096];
    CLI_TRY(verify_inputs_open(path_of(dir, v->o->expect_inputs, "inputs.safetensors", path), &v->inputs, err));
    v->n_images = v->inputs.n_images;
    CLI_TRY(open_model(v, dir, err));
    CLI_TRY(ees_tensors_open(path_of(dir, v->o->expect_outputs, "expected.safetensors", path), &v->expected, err));
    CLI_TRY(load_expected(v, err));
    CLI_TRY(trace_images(v, err));
    report_tensors(v);
    CLI_TRY(check_policies(v, dir, err));
    printf("verify: %zu tensors, %u decisions, largest difference %.3g: %s\n", v->n_tensors, v->n_decisions, v->largest,
           v->out ? "OUT" : "ok");
    return file_finish_stdout(err);
}

static void close_all(struct verify *v) {
    for (size_t i = 0; i < v->n_tensors; i++)
        free(v->tensors[i].values);
    free(v->tensors);
    free(v->logits);
    verify_inputs_close(&v->inputs);
    ees_tensors_close(v->expected);
    ees_model_close(v->model);
}

enum exit_code verb_verify(const struct options *o) {
    struct verify v = {.o = o};
    ees_error err = {0};
    if (o->n_inputs != 1) {
        CLI_FAIL(&err, EES_EINVAL, "verify takes one model folder, %zu are given", o->n_inputs);
        return leave_with(&err, o->verbose);
    }
    verify(&v, o->inputs[0], &err);
    close_all(&v);
    if (err.code)
        return leave_with(&err, o->verbose);
    return v.out ? EXIT_INTERNAL : EXIT_DONE;
}
