/* SPDX-License-Identifier: MIT */
/* Opening a model from files: a folder's, or the embedded ones. Nothing in a file names another file, so none is
 * opened beside the three of the folder. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fail.h"
#include "stages/certificate.h"
#include "stages/embedded.h"
#include "stages/family.h"
#include "stages/model.h"
#include "stages/weights.h"

/* The files of a model, as far as they are open. */
struct sources {
    struct ees__json config, preproc; /* preproc.root NULL: none */
    ees_tensors *tensors;
    const char *tensors_name;
};

static void close_sources(struct sources *s) {
    ees__json_close(&s->config);
    ees__json_close(&s->preproc);
    ees_tensors_close(s->tensors);
}

static int build_from_sources(const char *name, const struct sources *s, const ees_model_options *options,
                              ees_model **out, ees_error *err) {
    struct ees__source source = {.json = &s->config, .tensors = s->tensors};
    struct ees__weights *weights;
    EES_TRY(ees__family_find(&s->config, s->tensors, &source.family, err));
    EES_TRY(ees__weights_open_file(s->tensors_name, s->tensors, source.family, options, &weights, err));
    int rc = ees__model_build(name, &source, s->preproc.root ? &s->preproc : NULL, weights, options, out, err);
    weights->close(weights);
    return rc;
}

static int join(const char *dir, const char *file, char **path, ees_error *err) {
    if (asprintf(path, "%s/%s", dir, file) < 0) {
        *path = NULL;
        return EES_FAIL(err, EES_ENOMEM, "out of memory");
    }
    return 0;
}

static int open_folder_files(const char *config, const char *preproc, const char *weights, struct sources *s,
                             ees_error *err) {
    EES_TRY(ees__json_load(config, &s->config, err));
    if (access(preproc, F_OK) == 0)
        EES_TRY(ees__json_load(preproc, &s->preproc, err));
    int rc = ees_tensors_open(weights, &s->tensors, err);
    if (rc == EES_EMODEL && access(weights, F_OK) != 0)
        ees__hint(
            err,
            "weights are read from model.safetensors only; eestream-convert makes it from .bin, .pth and .onnx files");
    return rc;
}

/* The folder's own name, for people. */
static const char *name_folder(char *dir) {
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        dir[--n] = '\0';
    const char *slash = strrchr(dir, '/');
    return slash && slash[1] ? slash + 1 : dir;
}

/* The thresholds that were found for these weights, if there are any. `beside`: certificate.json of the folder, NULL:
 * none. */
static int use_certificate(ees_model *model, const char *given, const char *beside, ees_error *err) {
    if (given && strcmp(given, "none") == 0)
        return 0;
    if (given)
        return ees__certificate_apply(model, given, err);
    return beside && access(beside, F_OK) == 0 ? ees__certificate_apply(model, beside, err) : 0;
}

/* What makes a network complete: it knows its file, and has its certificate's thresholds. */
static int finish(ees_model *model, char **weights_file, const ees_model_options *options, const char *beside,
                  ees_error *err) {
    model->embedded = !*weights_file;
    model->weights_file = *weights_file;
    *weights_file = NULL;
    return use_certificate(model, options->certificate, beside, err);
}

static int give(ees_model *model, int rc, ees_model **out) {
    if (rc < 0)
        ees_model_close(model);
    else
        *out = model;
    return rc;
}

static int open_folder(char *dir, const ees_model_options *options, ees_model **out, ees_error *err) {
    struct sources s = {0};
    char *config = NULL, *preproc = NULL, *weights = NULL, *certificate = NULL;
    const char *name = name_folder(dir);
    ees_model *model = NULL;
    int rc = join(dir, "config.json", &config, err);
    if (rc == 0)
        rc = join(dir, "preprocessor_config.json", &preproc, err);
    if (rc == 0)
        rc = join(dir, "model.safetensors", &weights, err);
    if (rc == 0)
        rc = join(dir, "certificate.json", &certificate, err);
    if (rc == 0)
        rc = open_folder_files(config, preproc, weights, &s, err);
    if (rc == 0) {
        s.tensors_name = weights;
        rc = build_from_sources(name, &s, options, &model, err);
    }
    close_sources(&s);
    if (rc == 0)
        rc = finish(model, &weights, options, certificate, err);
    free(config);
    free(preproc);
    free(weights);
    free(certificate);
    return give(model, rc, out);
}

static const char embedded_weights[] = "embedded model.safetensors";

static int open_embedded(const ees_model_options *options, ees_model **out, ees_error *err) {
    struct ees__embedded_model files;
    if (!ees__embedded_get(&files))
        return EES_FAIL(err, EES_EUNSUPPORTED, "this build has no embedded model: name a model folder");
    struct sources s = {.tensors_name = embedded_weights};
    ees_model *model = NULL;
    char *no_file = NULL;
    int rc = ees__json_parse(files.config.data, files.config.n_bytes, "embedded config.json", &s.config, err);
    if (rc == 0)
        rc = ees__json_parse(files.preproc.data, files.preproc.n_bytes, "embedded preprocessor_config.json", &s.preproc,
                             err);
    if (rc == 0)
        rc = ees_tensors_open_memory(files.weights.data, files.weights.n_bytes, s.tensors_name, &s.tensors, err);
    if (rc == 0)
        rc = build_from_sources("embedded", &s, options, &model, err);
    close_sources(&s);
    if (rc == 0)
        rc = finish(model, &no_file, options, NULL, err);
    return give(model, rc, out);
}

int ees_model_open(const char *dir, const ees_model_options *options, ees_model **out, ees_error *err) {
    ees_model_options filled;
    EES_TRY(ees__model_check_options(options, &filled, err));
    if (!dir)
        return open_embedded(&filled, out, err);
    if (!*dir)
        return EES_FAIL(err, EES_EINVAL, "the model folder has an empty name");
    char *copy = strdup(dir);
    if (!copy)
        return EES_FAIL(err, EES_ENOMEM, "out of memory");
    int rc = open_folder(copy, &filled, out, err);
    free(copy);
    return rc;
}

static int open_weights(const ees_model *model, ees_tensors **out, ees_error *err) {
    struct ees__embedded_model files;
    if (model->weights_file)
        return ees_tensors_open(model->weights_file, out, err);
    if (!model->embedded || !ees__embedded_get(&files))
        return EES_FAIL(err, EES_EUNSUPPORTED, "%s has random weights: no file, no hash", model->info.name);
    return ees_tensors_open_memory(files.weights.data, files.weights.n_bytes, embedded_weights, out, err);
}

int ees_model_hash(const ees_model *model, char out[EES_HASH_TEXT], ees_error *err) {
    ees_tensors *tensors;
    uint64_t hash;
    EES_TRY(open_weights(model, &tensors, err));
    int rc = ees_tensors_hash(tensors, &hash, err);
    ees_tensors_close(tensors);
    if (rc == 0)
        snprintf(out, EES_HASH_TEXT, "xxh64:%016llx", (unsigned long long)hash);
    return rc;
}
