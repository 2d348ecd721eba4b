/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tools/cli/profile_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/cli/fail.h"
#include "tools/cli/progress.h"

/* Per unit and cache state, for costs that are kept: five times the library's default. */
static const uint64_t kept_min_ns = 10000000;

struct cache {
    char key[2048];
    char path[1024]; /* "": no cache */
};

static void note(const struct options *o, const char *what, const char *why) {
    char line[1600];
    if (!o->verbose)
        return;
    snprintf(line, sizeof line, "eestream: profile cache: %s%s%s\n", what, why[0] ? ": " : "", why);
    console_write(line);
}

/* What the library's key leaves out: the frames and how they are decoded. */
static void make_key(const struct options *o, const ees_model *model, const ees_frame *frame, char *out, size_t n) {
    size_t used = ees_profile_key(model, out, n);
    if (used >= n)
        used = n - 1;
    if (frame)
        snprintf(out + used, n - used, "; decode=%d frame=%d:%ux%u:%zu", o->decode, (int)frame->kind, frame->width_px,
                 frame->height_px, frame->bytes);
    else
        snprintf(out + used, n - used, "; decode=%d frame=synthetic", o->decode);
}

/* The key's hash names the file; whether it is the right one is told by the key inside. */
static void find_cache(const struct options *o, struct cache *c) {
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool xdg = base && base[0] == '/'; /* the specification: a relative one is to be ignored */
    c->path[0] = '\0';
    if (o->no_profile_cache || (!xdg && !(home && home[0] == '/')))
        return;
    int n = snprintf(c->path, sizeof c->path, "%s%s/eestream/profiles/%016llx.json", xdg ? base : home,
                     xdg ? "" : "/.cache", (unsigned long long)ees_hash64(c->key, strlen(c->key), 0));
    if (n < 0 || (size_t)n >= sizeof c->path)
        c->path[0] = '\0';
}

static bool load_cached(const struct options *o, const struct cache *c, ees_profile *out) {
    ees_error why = {0};
    struct stat st;
    if (!c->path[0] || (stat(c->path, &st) != 0 && errno == ENOENT))
        return false;
    int rc = ees_profile_load(c->path, c->key, out, &why);
    note(o, rc == 0 ? "used" : "unusable", rc == 0 ? c->path : why.message);
    return rc == 0;
}

static void make_parents(const char *path) {
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(folder, 0755); /* what is missing in the end is told by the save */
        *slash = '/';
    }
}

static void save_cached(const struct options *o, const struct cache *c, const ees_profile *profile) {
    ees_error why = {0};
    if (!c->path[0])
        return;
    make_parents(c->path);
    int rc = ees_profile_save(profile, c->key, c->path, &why);
    note(o, rc == 0 ? "written" : "not written", rc == 0 ? c->path : why.message);
}

static int load_given(const struct options *o, const ees_model *model, ees_profile *out, ees_error *err) {
    CLI_TRY(ees_profile_load(o->profile_path, NULL, out, err));
    const ees_model_info *info = ees_model_get_info(model);
    if (out->n_units != info->n_units)
        return CLI_FAIL(err, EES_EINVAL, "profile %s has %u units, the model %s has %u", o->profile_path, out->n_units,
                        info->name, info->n_units);
    return 0;
}

static int load_or_measure(const struct options *o, const ees_model *model, const ees_frame *frame,
                           const struct cache *c, ees_profile *out, ees_error *err) {
    if (o->profile_path)
        return load_given(o, model, out, err);
    if (load_cached(o, c, out))
        return 0;
    /* What is kept must not be the noise of one moment. */
    CLI_TRY(ees_profile_measure(model, frame, c->path[0] || o->save_profile_path ? kept_min_ns : 0, NULL, out, err));
    save_cached(o, c, out);
    return 0;
}

int profile_get(const struct options *o, const ees_model *model, const ees_frame *frame, ees_profile *out,
                ees_error *err) {
    struct cache c;
    make_key(o, model, frame, c.key, sizeof c.key);
    find_cache(o, &c);
    CLI_TRY(load_or_measure(o, model, frame, &c, out, err));
    return o->save_profile_path ? ees_profile_save(out, c.key, o->save_profile_path, err) : 0;
}
