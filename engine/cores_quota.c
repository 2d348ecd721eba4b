/* SPDX-License-Identifier: MIT */
/* CPU quota of control groups. Each group on the way up may set one and the least counts. Version 2 keeps quota and
 * period in cpu.max, version 1 in two files of the cpu controller. Inside a container the path that the kernel tells
 * may not exist below the mount; its root then is the container's own group, so the way up ends well there. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cores.h"

enum { MAX_PATH = 1024 };

/* "150000 100000" in cpu.max: 1.5. "max 100000", garbage or nothing: 0. */
static double read_v2(const char *dir, const char *group) {
    char line[128];
    double quota, period;
    if (!ees__read_first_line(line, sizeof line, "%s%s/cpu.max", dir, group) ||
        sscanf(line, "%lf %lf", &quota, &period) != 2)
        return 0;
    return quota > 0 && period > 0 ? quota / period : 0;
}

static double read_v1(const char *dir, const char *group) {
    char line[128];
    double quota, period;
    if (!ees__read_first_line(line, sizeof line, "%s%s/cpu.cfs_quota_us", dir, group) ||
        sscanf(line, "%lf", &quota) != 1 || !(quota > 0)) /* -1: no limit */
        return 0;
    if (!ees__read_first_line(line, sizeof line, "%s%s/cpu.cfs_period_us", dir, group) ||
        sscanf(line, "%lf", &period) != 1 || !(period > 0))
        return 0;
    return quota / period;
}

/* The least quota from `group` ("/a/b") up to the root (""). Cuts `group`. */
static double walk_up(double (*read_quota)(const char *dir, const char *group), const char *dir, char *group) {
    double least = 0;
    for (char *slash = group + strlen(group); slash; slash = strrchr(group, '/')) {
        *slash = '\0';
        double quota = read_quota(dir, group);
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
    }
    return least;
}

/* Is `word` in the list "a,b,c"? */
static bool lists(const char *list, size_t n, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; at + length <= list + n; at++)
        if (memcmp(at, word, length) == 0 && (at == list || at[-1] == ',') &&
            (at + length == list + n || at[length] == ','))
            return true;
    return false;
}

/* One line of /proc/self/cgroup: "ID:CONTROLLERS:/PATH", version 2 with neither number nor controllers: "0::/PATH". */
static double quota_of_line(const char *sys, char *line) {
    char dir[MAX_PATH];
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return 0;
    size_t n = (size_t)(path - ++controllers);
    path++;
    path[strcspn(path, "\n")] = '\0';
    if (n == 0) {
        snprintf(dir, sizeof dir, "%s/fs/cgroup", sys);
        return walk_up(read_v2, dir, path);
    }
    if (!lists(controllers, n, "cpu"))
        return 0;
    snprintf(dir, sizeof dir, "%s/fs/cgroup/%.*s", sys, (int)n, controllers);
    char again[MAX_PATH];
    snprintf(again, sizeof again, "%s", path);
    double quota = walk_up(read_v1, dir, path);
    snprintf(dir, sizeof dir, "%s/fs/cgroup/cpu", sys); /* some mount it by this name only */
    return quota > 0 ? quota : walk_up(read_v1, dir, again);
}

double ees__cores_quota(const char *sys, const char *proc) {
    char line[MAX_PATH];
    double least = 0;
    snprintf(line, sizeof line, "%s/self/cgroup", proc);
    FILE *f = fopen(line, "re");
    while (f && fgets(line, sizeof line, f)) {
        double quota = quota_of_line(sys, line);
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
    }
    if (f)
        fclose(f);
    return least;
}
