/* SPDX-License-Identifier: MIT */
/* Progress on a terminal (at most ten times a second) and as ffmpeg-like key=value blocks (once a second). Both read
 * the engine's own counters, so they cost the frames nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "tools/cli/fail.h"
#include "tools/cli/progress.h"
#include "tools/cli/text.h"

#define LINE_PERIOD_NS  100000000u
#define BLOCK_PERIOD_NS 1000000000u

/* The terminal is one thing for the whole process: error lines come from the reader, progress from the writer. */
static pthread_mutex_t console_lock = PTHREAD_MUTEX_INITIALIZER;
static bool line_drawn;

static bool write_all(int fd, const char *text) {
    size_t n = strlen(text);
    while (n > 0) {
        ssize_t done = write(fd, text, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        text += done;
        n -= (size_t)done;
    }
    return true;
}

/* Draw `text` as the progress line, or clear that line when NULL; then write `after`, whole lines. */
static void draw(const char *text, const char *after) {
    pthread_mutex_lock(&console_lock);
    if (line_drawn || text)
        write_all(STDERR_FILENO, "\r\033[K");
    if (after)
        write_all(STDERR_FILENO, after);
    if (text)
        write_all(STDERR_FILENO, text);
    line_drawn = text != NULL;
    pthread_mutex_unlock(&console_lock);
}

void console_write(const char *text) { draw(NULL, text); }

static bool can_animate(void) {
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
}

static int open_target(struct progress *p, const char *target, ees_error *err) {
    if (target[strspn(target, "0123456789")] == '\0') {
        p->fd = atoi(target);
        if (strlen(target) > 9 || fcntl(p->fd, F_GETFD) < 0) {
            p->fd = -1;
            return CLI_FAIL(err, EES_EINVAL, "--progress %s: no open descriptor of that number", target);
        }
        return 0;
    }
    p->fd = open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (p->fd < 0)
        return CLI_FAIL_OS(err, EES_EOUTPUT, errno, "--progress %s", target);
    p->owns_fd = true;
    return 0;
}

int progress_open(struct progress *p, const char *target, bool quiet, ees_error *err) {
    uint64_t now = now_ns();
    *p = (struct progress){.fd = -1, .start_ns = now, .next_line_ns = now, .next_block_ns = now + BLOCK_PERIOD_NS};
    p->animate = !quiet && can_animate();
    return target ? open_target(p, target, err) : 0;
}

bool progress_wanted(const struct progress *p) { return p->animate || p->fd >= 0; }

static uint64_t n_answered(const ees_stats *s) { return s->n_ok + s->n_skipped + s->n_dropped + s->n_failed; }

static double fps_of(const ees_stats *s) { return s->wall_ns ? 1e9 * (double)n_answered(s) / (double)s->wall_ns : 0; }

static void draw_line(const ees_stats *s, unsigned n_exits, int64_t n_expected) {
    char line[512];
    struct text l = text_in(line, sizeof line);
    uint64_t n = n_answered(s);
    double fps = fps_of(s);
    text_add(&l, "frame %llu", (unsigned long long)n);
    if (n_expected > 0)
        text_add(&l, "/%lld", (long long)n_expected);
    text_add(&l, "  %.1f fps", fps);
    if (n_expected > (int64_t)n && fps > 0) {
        long eta_s = (long)((double)(n_expected - (int64_t)n) / fps + 0.5);
        text_add(&l, "  eta %ld:%02ld", eta_s / 60, eta_s % 60);
    }
    text_add(&l, "  p50 %.1f p99 %.1f ms", (double)s->latency.p50_ns * 1e-6, (double)s->latency.p99_ns * 1e-6);
    if (n_exits > 0 && s->n_ok > 0) {
        text_add(&l, "  exits %%");
        for (unsigned i = 0; i <= n_exits; i++)
            text_add(&l, " %.0f", 100.0 * (double)s->n_by_exit[i] / (double)s->n_ok);
    }
    struct winsize size;
    size_t width = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : 79;
    if (l.n > width)
        line[width] = '\0';
    draw(line, NULL);
}

static void write_block(struct progress *p, const ees_stats *s, unsigned n_exits, const char *state) {
    char line[512];
    struct text l = text_in(line, sizeof line);
    text_add(&l, "frame=%llu\nfps=%.2f\nok=%llu\nskipped=%llu\ndropped=%llu\nfailed=%llu\n",
             (unsigned long long)n_answered(s), fps_of(s), (unsigned long long)s->n_ok,
             (unsigned long long)s->n_skipped, (unsigned long long)s->n_dropped, (unsigned long long)s->n_failed);
    text_add(&l, "latency_p50_ms=%.3f\nlatency_p99_ms=%.3f\nexits=", (double)s->latency.p50_ns * 1e-6,
             (double)s->latency.p99_ns * 1e-6);
    for (unsigned i = 0; i <= n_exits; i++)
        text_add(&l, i ? ",%llu" : "%llu", (unsigned long long)s->n_by_exit[i]);
    text_add(&l, "\nelapsed_s=%.3f\nprogress=%s\n", (double)(now_ns() - p->start_ns) * 1e-9, state);
    if (write_all(p->fd, line))
        return;
    if (p->owns_fd) /* whoever listened is gone; the frames matter more */
        close(p->fd);
    p->fd = -1;
}

void progress_tick(struct progress *p, const ees_engine *engine, unsigned n_exits, int64_t n_expected) {
    if (!progress_wanted(p))
        return;
    uint64_t now = now_ns();
    bool line_due = p->animate && now >= p->next_line_ns, block_due = p->fd >= 0 && now >= p->next_block_ns;
    if (!line_due && !block_due)
        return;
    ees_stats stats;
    ees_engine_get_stats(engine, &stats);
    if (line_due) {
        draw_line(&stats, n_exits, n_expected);
        p->next_line_ns = now + LINE_PERIOD_NS;
    }
    if (block_due) {
        write_block(p, &stats, n_exits, "continue");
        p->next_block_ns = now + BLOCK_PERIOD_NS;
    }
}

void progress_close(struct progress *p, const ees_engine *engine, unsigned n_exits) {
    if (p->fd >= 0 && engine) {
        ees_stats stats;
        ees_engine_get_stats(engine, &stats);
        write_block(p, &stats, n_exits, "end");
    }
    if (p->animate)
        draw(NULL, NULL);
    if (p->owns_fd && p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}
