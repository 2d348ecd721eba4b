/* SPDX-License-Identifier: MIT */
/* The `eestream` command: finds the verb, parses its options, runs it. Uses the public headers only. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli/file.h"
#include "tools/cli/verbs.h"

struct verb {
    enum verb_id id;
    const char *name, *usage, *help;
    enum exit_code (*run)(const struct options *o);
};

static const struct verb verbs[] = {
    {VERB_RUN, "run", "INPUT... [options]", "stream videos, images or folders through a model", verb_run},
    {VERB_BENCH, "bench", "[options]", "measure one worker, replicas and the planned pipeline", verb_bench},
    {VERB_PLAN, "plan", "[options]", "which cores run which blocks, and the speed to expect", verb_plan},
    {VERB_CALIBRATE, "calibrate", "INPUT... --target NAME=X [options]", "thresholds for a target, with a certificate",
     verb_calibrate},
    {VERB_ANALYSE, "analyse", "INPUT...|--log FILE [options]",
     "what each exit is worth on labelled frames or any video", verb_analyse},
    {VERB_INSPECT, "inspect", "[DIR] [options]", "what a model is: blocks, exits, cost, memory", verb_inspect},
    {VERB_VERIFY, "verify", "DIR [options]", "compare a model with its reference's numbers", verb_verify},
    {VERB_QUANTISE, "quantise", "IN_DIR OUT_DIR --inputs FRAMES [options]", "write a model in int8, bf16 or fp16",
     verb_quantise},
    {VERB_DEMO, "demo", "[options]", "the embedded model on the embedded clip", verb_demo},
    {VERB_DOCTOR, "doctor", "", "what this machine and build have, and what is missing", verb_doctor},
};
#define N_VERBS (sizeof verbs / sizeof verbs[0])

const char *verb_name(enum verb_id id) {
    for (size_t i = 0; i < N_VERBS; i++)
        if (verbs[i].id == id)
            return verbs[i].name;
    return "";
}

static const struct verb *find_verb(const char *name) {
    for (size_t i = 0; i < N_VERBS; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

static void print_help(FILE *out) {
    fputs("eestream streams video through early-exit Vision Transformers on multicore CPUs.\n\n"
          "Examples\n"
          "  eestream demo                                  see it work, nothing else needed\n"
          "  eestream run video.avi --out results.jsonl     one JSON line a frame\n"
          "  eestream run frames/ --model DIR --summary s.json\n"
          "  ffmpeg -i cam.mp4 -f mjpeg - | eestream run -  from a pipe\n"
          "  eestream run live:cam.avi --deadline-ms 50     a camera: late frames get an earlier exit\n"
          "  eestream bench --arch vit-s16 --workers 4      throughput against replicas\n"
          "  eestream calibrate frames/ --target loss=0.01 --model DIR\n"
          "  eestream plan --explain                        which cores run which blocks\n\n"
          "Verbs\n",
          out);
    for (size_t i = 0; i < N_VERBS; i++)
        fprintf(out, "  %-9s %s\n", verbs[i].name, verbs[i].help);
    fputs("  help      options of a verb: eestream help run\n\n"
          "Inputs\n"
          "  MJPEG in AVI, raw MJPEG, Y4M, JPEG, a folder or a glob of images, - for stdin, mp4 and mkv through\n"
          "  libav; or a list file (.streams, .list, .txt) with one input a line. live:INPUT comes by its time "
          "stamps.\n\n"
          "Exit codes\n"
          "  0 done   1 internal   2 usage   3 source   4 model   5 output   6 damaged or dropped frames (--strict)\n"
          "  7 stalled   130 interrupted, after draining\n\n"
          "  --version prints the build; -q is silent, -v says more.\n",
          out);
}

static void print_version(void) {
    char info[4096];
    ees_build_info(info, sizeof info);
    printf("eestream %s\n%s", ees_version(), info);
}

static void print_verb_help(const struct verb *verb) {
    printf("eestream %s %s\n  %s\n", verb->name, verb->usage, verb->help);
    options_print_help(stdout, verb->id);
}

/* Help and version are output too. */
static enum exit_code finish_stdout(void) {
    ees_error err = {0};
    return file_finish_stdout(&err) == 0 ? EXIT_DONE : leave_with(&err, false);
}

static enum exit_code unknown_verb(const char *word) {
    ees_error err = {0};
    const char *names[N_VERBS + 2] = {0};
    for (size_t i = 0; i < N_VERBS; i++)
        names[i] = verbs[i].name;
    names[N_VERBS] = "help";
    const char *near = nearest_name(word, names);
    CLI_FAIL(&err, EES_EINVAL, "unknown verb '%s'", word);
    if (near)
        cli_hint(&err, "did you mean eestream %s?", near);
    else if (access(word, F_OK) == 0)
        cli_hint(&err, "to stream it: eestream run %.100s", word);
    else
        cli_hint(&err, "eestream --help lists all");
    return leave_with(&err, false);
}

static enum exit_code help_for(const char *word) {
    if (!word) {
        print_help(stdout);
        return finish_stdout();
    }
    const struct verb *verb = find_verb(word);
    if (!verb)
        return unknown_verb(word);
    print_verb_help(verb);
    return finish_stdout();
}

static enum exit_code run_verb(const struct verb *verb, int argc, char **argv) {
    struct options o;
    ees_error err = {0};
    int rc = options_parse(&o, verb->id, argc, argv, &err);
    enum exit_code code;
    if (rc < 0)
        code = leave_with(&err, o.verbose);
    else if (o.help)
        code = help_for(verb->name);
    else
        code = verb->run(&o);
    options_fini(&o);
    return code;
}

/* A closed stdin, stdout or stderr would be taken by the next file that is opened, and a message meant for stderr end
 * in the results. In its place comes a file that refuses: reading stdin and writing the others stay the errors they
 * are. */
static void fill_standard_descriptors(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) /* open() gives the lowest number that is free, which is this one */
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv) {
    fill_standard_descriptors();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of the write, told like any other */
    signal(SIGXFSZ, SIG_IGN); /* and so is the limit of file sizes */
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        print_version();
        return finish_stdout();
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        return help_for(strcmp(word, "help") == 0 && argc > 2 ? argv[2] : NULL);
    const struct verb *verb = find_verb(word);
    return verb ? run_verb(verb, argc - 2, argv + 2) : unknown_verb(word);
}
