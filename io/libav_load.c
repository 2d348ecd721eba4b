/* SPDX-License-Identifier: MIT */
/* Finds and loads the libav module, and stands in the list of sources for what it reads.
 *
 * Looked up in this order: $EESTREAM_MODULE_DIR; "eestream/" beside the library or program that holds this code;
 * beside it; the folder it is installed to. The module is never unloaded: its frames carry pointers to its code. */
#define _GNU_SOURCE
#include "io/libav.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fail.h"

#ifndef EES_MODULE_INSTALL_DIR /* set by the build */
#error "EES_MODULE_INSTALL_DIR is not defined"
#endif

static int refuse(const char *name, const char *why, ees_error *err) {
    EES_FAIL(err, EES_EUNSUPPORTED, "%s: not MJPEG in AVI, JPEG, MJPEG or Y4M, so it needs libav: %s", name, why);
    ees__hint(err, "install libavformat59 libavcodec59 libswscale6 and rebuild, or convert: ffmpeg -i IN -c:v mjpeg "
                   "-q:v 3 OUT.avi");
    return EES_EUNSUPPORTED;
}

/* Folder of the file this code was loaded from, with its '/'; "" when unknown. */
static void own_folder(char folder[PATH_MAX]) {
    Dl_info info;
    folder[0] = '\0';
    char *known = NULL;
    if (dladdr((void *)(uintptr_t)own_folder, &info) && info.dli_fname && strchr(info.dli_fname, '/'))
        known = realpath(info.dli_fname, folder);
    if (!known) /* a program started through PATH is known by its bare name only */
        known = realpath("/proc/self/exe", folder);
    char *slash = known ? strrchr(folder, '/') : NULL;
    *(slash ? slash + 1 : folder) = '\0';
}

/* @return the handle; NULL with `why` set when the file is there but cannot be used */
static void *try_folder(const char *folder, const char *below, char *why, size_t n_why) {
    char path[PATH_MAX + 64];
    int n = snprintf(path, sizeof path, "%s%s" EES__LIBAV_FILE, folder, below);
    if (!folder[0] || n < 0 || n >= (int)sizeof path || access(path, R_OK) != 0)
        return NULL;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    const char *report = handle ? NULL : dlerror();
    if (!handle)
        snprintf(why, n_why, "%s", report ? report : "the module cannot be loaded");
    return handle;
}

static void *open_module(char *why, size_t n_why) {
    char own[PATH_MAX];
    const char *told = secure_getenv("EESTREAM_MODULE_DIR");
    void *handle = NULL;
    own_folder(own);
    if (told && told[0])
        handle = try_folder(told, "/", why, n_why);
    if (!handle)
        handle = try_folder(own, "eestream/", why, n_why);
    if (!handle)
        handle = try_folder(own, "", why, n_why);
    if (!handle)
        handle = try_folder(EES_MODULE_INSTALL_DIR, "/", why, n_why);
    return handle;
}

int ees__libav_load(const char *name, const struct ees__libav_module **out, ees_error *err) {
    static const struct ees__libav_stamp stamp = EES__LIBAV_STAMP;
    char why[256] = "the module " EES__LIBAV_FILE " is not installed";
    void *handle = open_module(why, sizeof why); /* the loader counts: a second time costs little */
    if (!handle)
        return refuse(name, why, err);
    const struct ees__libav_module *module = dlsym(handle, EES__LIBAV_SYMBOL);
    if (!module || memcmp(&module->stamp, &stamp, sizeof stamp) != 0)
        return refuse(name, "the module found belongs to another version", err);
    if (out)
        *out = module;
    return 0;
}

/* Signatures of files that only libav reads; anything else it may try in the end. */
static enum ees__match match(const struct ees__probe *probe) {
    static const struct {
        unsigned at, n;
        const char *bytes;
    } signatures[] = {
        {4, 4, "ftyp"},
        {0, 4, "\x1a\x45\xdf\xa3"},
        {0, 8, "\x89PNG\r\n\x1a\n"},
        {8, 4, "WEBP"},
        {0, 4, "GIF8"},
        {0, 4, "II*\0"},
        {0, 4, "MM\0*"},
        {0, 4, "FLV\1"},
        {0, 4, "OggS"},
        {0, 4, "\x30\x26\xb2\x75"},
        {0, 4, "DKIF"},
    };
    if (probe->place != EES__PLACE_FILE && probe->place != EES__PLACE_STREAM)
        return EES__MATCH_NONE;
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++)
        if (probe->n_head >= signatures[i].at + signatures[i].n &&
            memcmp(probe->head + signatures[i].at, signatures[i].bytes, signatures[i].n) == 0)
            return EES__MATCH_CONTENT;
    return EES__MATCH_LAST_RESORT;
}

static int open_through_module(ees_source *s, ees_error *err) {
    const struct ees__libav_module *module;
    EES_TRY(ees__libav_load(s->name, &module, err));
    return ees__source_begin(s, module->kind, err);
}

const struct ees__source_kind ees__source_libav = {
    .name = "libav",
    .state_bytes = 1,
    .item_bytes = sizeof(struct ees__pool_item),
    .match = match,
    .open = open_through_module,
};
