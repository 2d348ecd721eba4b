/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "engine/counters.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <math.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fail.h"

static const struct {
    const char *name;
    uint64_t event; /* PERF_TYPE_HARDWARE */
} events[EES_N_COUNTERS] = {
    [EES_COUNTER_CYCLES] = {"cycles", PERF_COUNT_HW_CPU_CYCLES},
    [EES_COUNTER_INSTRUCTIONS] = {"instructions", PERF_COUNT_HW_INSTRUCTIONS},
    [EES_COUNTER_CACHE_MISSES] = {"cache_misses", PERF_COUNT_HW_CACHE_MISSES},
    [EES_COUNTER_STALLED_CYCLES] = {"stalled_cycles", PERF_COUNT_HW_STALLED_CYCLES_BACKEND},
};

const char *ees_counter_name(enum ees_counter counter) { return events[counter].name; }

static int open_event(uint64_t event) {
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof attr,
        .config = event,
        .exclude_kernel = 1,
        .exclude_hv = 1,
        .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
    };
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static const char *find_hint(int os_errno) {
    if (os_errno == EACCES || os_errno == EPERM)
        return "set /proc/sys/kernel/perf_event_paranoid to 2 or less; in a container, allow the call (--cap-add "
               "PERFMON)";
    if (os_errno == ENOSYS)
        return "this kernel, container or emulator does not have the call";
    return "this processor, or the virtual machine, shows none";
}

int ees__counters_open(struct ees__counters *c, ees_error *why) {
    int first_errno = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < EES_N_COUNTERS; i++) {
        c->fd[i] = open_event(events[i].event);
        n += c->fd[i] >= 0;
        if (c->fd[i] < 0 && first_errno == 0)
            first_errno = errno;
    }
    if (n > 0)
        return 0;
    int rc = EES_FAIL_OS(why, EES_EUNSUPPORTED, first_errno, "perf_event_open");
    ees__hint(why, "%s", find_hint(first_errno));
    return rc;
}

void ees__counters_close(struct ees__counters *c) {
    for (unsigned i = 0; i < EES_N_COUNTERS; i++)
        if (c->fd[i] >= 0)
            close(c->fd[i]);
}

static double read_event(int fd) {
    struct {
        uint64_t count, enabled_ns, running_ns;
    } value;
    if (fd < 0 || read(fd, &value, sizeof value) != sizeof value || value.running_ns == 0)
        return NAN;
    return (double)value.count * ((double)value.enabled_ns / (double)value.running_ns);
}

void ees__counters_read(const struct ees__counters *c, double counts[EES_N_COUNTERS]) {
    for (unsigned i = 0; i < EES_N_COUNTERS; i++)
        counts[i] = read_event(c->fd[i]);
}
