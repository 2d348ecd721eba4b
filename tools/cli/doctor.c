/* SPDX-License-Identifier: MIT */
/* `eestream doctor`: what the build and the machine have, and what costs speed or formats. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli/file.h"
#include "tools/cli/machine.h"
#include "tools/cli/text.h"
#include "tools/cli/verbs.h"

static unsigned n_missing;

__attribute__((format(printf, 3, 4))) static void say(bool good, const char *what, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("%s %-10s ", good ? "  ok     " : "  MISSING", what);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    n_missing += !good;
}

static void check_cores(void) {
    unsigned n = allowed_cores(), online = online_cores();
    say(n >= online, "cores", "%u allowed of %u online%s", n, online,
        n < online ? " (affinity mask or container limit)" : "");
}

/* Open a temporary file holding `bytes` and return the library's own answer. */
static int try_source(const char *suffix, const void *bytes, size_t n, enum ees_io_backend io, ees_error *err) {
    ees_source_options options;
    ees_source_options_default(&options);
    options.io = io;
    char path[64];
    snprintf(path, sizeof path, "/tmp/eestream-doctor-XXXXXX%s", suffix);
    int fd = mkstemps(path, (int)strlen(suffix));
    if (fd < 0)
        return CLI_FAIL_OS(err, EES_ESOURCE, errno, "%s", path);
    ees_source *source = NULL;
    int rc = write(fd, bytes, n) == (ssize_t)n ? ees_source_open(path, &options, &source, err) : EES_ESOURCE;
    ees_source_close(source);
    close(fd);
    unlink(path);
    return rc;
}

static void check_uring(void) {
    ees_error err = {0};
    bool good = try_source(".mjpeg", "", 0, EES_IO_URING, &err) != EES_EUNSUPPORTED;
    say(good, "io_uring", "%s", good ? "the kernel allows it" : "refused: files are read with pread, same results");
}

/* A picture that only libav reads, cut after its signature: refused as damaged by libav, as unsupported without it. */
static void check_libav(void) {
    static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    ees_error err = {0};
    bool good = try_source(".png", png, sizeof png - 1, EES_IO_AUTO, &err) != EES_EUNSUPPORTED;
    say(good, "libav", "%s", good ? "mp4, mkv and more can be read" : "module not found or unusable: no mp4, mkv, PNG");
}

static void check_kernels(void) {
    static const char *const levels[] = {"avx512bf16", "avx512vnni", "avx512", "avx2vnni", "avx2",
                                         "i8mm",       "dotprod",    "neon",   "blas",     "scalar"};
    char good[128], bad[128];
    struct text usable = text_in(good, sizeof good), missing = text_in(bad, sizeof bad);
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        ees_model_options options;
        ees_model_options_default(&options);
        options.kernels = levels[i];
        ees_model *model = NULL;
        bool works = ees_model_open(NULL, &options, &model, NULL) == 0;
        text_add(works ? &usable : &missing, " %s", levels[i]);
        ees_model_close(model);
    }
    say(usable.n > 0, "kernels", "usable:%s; not on this machine or in this build:%s", good,
        missing.n > 0 ? bad : " none");
}

static void check_model(void) {
    ees_model *model = NULL;
    ees_error err = {0};
    if (ees_model_open(NULL, NULL, &model, &err) == 0)
        say(true, "model", "embedded, %u classes, kernels %s", ees_model_get_info(model)->n_classes,
            ees_model_get_info(model)->kernels);
    else
        say(false, "model", "%s", err.message);
    ees_model_close(model);
}

static void check_governor(void) {
    char governor[64];
    cpu_governor(governor, sizeof governor);
    say(strcmp(governor, "powersave") != 0, "governor", "%s", governor[0] ? governor : "not controlled from here");
}

static void print_build(void) {
    char info[4096];
    ees_build_info(info, sizeof info);
    printf("eestream %s\n%s\n", ees_version(), info);
}

enum exit_code verb_doctor(const struct options *o) {
    ees_error err = {0};
    if (o->n_inputs > 0) {
        CLI_FAIL(&err, EES_EINVAL, "doctor takes no argument, '%s' is given", o->inputs[0]);
        return leave_with(&err, o->verbose);
    }
    print_build();
    check_cores();
    check_kernels();
    check_model();
    check_uring();
    check_libav();
    check_governor();
    printf(n_missing ? "\n%u missing: slower or fewer formats, results stay the same\n" : "\nnothing is missing\n",
           n_missing);
    return file_finish_stdout(&err) == 0 ? EXIT_DONE : leave_with(&err, o->verbose);
}
