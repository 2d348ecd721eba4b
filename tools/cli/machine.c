/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tools/cli/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

unsigned allowed_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? (unsigned)n : 1;
}

unsigned online_cores(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

/* First line of a file, or what follows `key` and a colon on the first line that starts with it. */
static int read_line(const char *path, const char *key, char *out, size_t n) {
    char line[512];
    int found = 0;
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        if (key && strncmp(line, key, strlen(key)) != 0)
            continue;
        const char *value = key ? strchr(line, ':') : line;
        if (!value)
            continue;
        value += key ? 1 + strspn(value + 1, " \t") : 0;
        snprintf(out, n, "%.*s", (int)strcspn(value, "\n"), value);
        found = 1;
    }
    if (f)
        fclose(f);
    return found;
}

void cpu_model(char *out, size_t n) {
    if (!read_line("/proc/cpuinfo", "model name", out, n) && !read_line("/proc/device-tree/model", NULL, out, n))
        snprintf(out, n, "unknown");
}

double load_average(void) {
    double load;
    return getloadavg(&load, 1) == 1 ? load : -1;
}

void cpu_governor(char *out, size_t n) {
    if (!read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", NULL, out, n))
        out[0] = '\0';
}
