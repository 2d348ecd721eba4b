/* SPDX-License-Identifier: MIT */
/* main() for a fuzz target without libFuzzer: runs it over files, and over the files in folders. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static unsigned n_run;

static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) < 0) {
        perror(path);
        return 1;
    }
    uint8_t *data = malloc((size_t)st.st_size + 1);
    size_t n = data ? fread(data, 1, (size_t)st.st_size, f) : 0;
    fclose(f);
    printf("%s: %zu bytes\n", path, n);
    fflush(stdout); /* so that a crash has a name */
    LLVMFuzzerTestOneInput(data, n);
    for (size_t cut = 0; cut < n && n < 4096; cut += 1 + n / 64) /* and cut short */
        LLVMFuzzerTestOneInput(data, cut);
    free(data);
    n_run++;
    return 0;
}

static int replay_folder(const char *path, DIR *dir) {
    int failed = 0;
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, d->d_name);
        if (d->d_name[0] != '.')
            failed |= replay_file(name);
    }
    closedir(dir);
    return failed;
}

int main(int argc, char **argv) {
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        failed |= dir ? replay_folder(argv[i], dir) : replay_file(argv[i]);
    }
    printf("%u files\n", n_run);
    return failed || n_run == 0;
}
