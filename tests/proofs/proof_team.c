/* SPDX-License-Identifier: MIT */
/* engine/team.c itself: a leader shares two loops, one after the other, helpers join when they like. Each piece of each
 * loop runs once, on rows that are written, and the leader finds all rows of a loop when it goes on. */
#include <stdint.h>
#include <string.h>

#include "common/clock.h"
static uint64_t no_clock(void) { return 0; } /* patience has no limit here: time would be part of the state */
#define ees__now_ns no_clock
#include "engine/team.c"

#include "checker.h"

enum { MAX_ROUNDS = 2, N_PIECES = 2 };

static unsigned n_rounds;

static struct leading {
    struct ees__leader leader;
    uint32_t in[MAX_ROUNDS + 1], out[MAX_ROUNDS][N_PIECES];
} * leading;

static struct ees__worker worker; /* for its lane, which part() does not use */

int sched_yield(void) { return 0; }
void ees__event_notify_all(struct ees__event *e) { (void)e; }
void ees__trace_tell(struct ees__trace *t, const ees_trace_event *event) {
    (void)t;
    (void)event;
}

static void part(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    uint32_t *in = ctx;
    (void)lane;
    proof_check(end == first + 1 && end <= N_PIECES, "a piece is one of the loop's");
    proof_check(*in == 1, "a piece reads what the leader wrote");
    uint32_t *out = &leading->out[in - leading->in][first];
    proof_check(++*out == 1, "a piece runs once");
}

static void no_part(void *ctx, size_t first, size_t end, struct ees__lane *lane) {
    (void)ctx, (void)first, (void)end, (void)lane;
    proof_check(false, "a helper runs the loop that the round is about");
}

static void lead(unsigned me) {
    (void)me;
    for (unsigned round = 0; round < n_rounds; round++) {
        leading->in[round] = 1;
        leading->leader.team.share(&leading->leader.team, part, &leading->in[round], N_PIECES, 1, NULL);
        for (unsigned i = 0; i < N_PIECES; i++)
            proof_check(leading->out[round][i] == 1, "all pieces are done when the leader goes on");
    }
}

static void help(unsigned me) {
    (void)me;
    do
        help_one(&worker, &leading->leader);
    while (proof_choose(2));
}

static void setup(void) {
    struct ees__leader *l;
    leading = proof_alloc(sizeof *leading);
    l = &leading->leader;
    ees__leader_init(l, NULL, 2);
    atomic_init(&l->round, 0);
    atomic_init(&l->part, no_part);
    atomic_init(&l->ctx, &leading->in[MAX_ROUNDS]) /* no round's */;
    atomic_init(&l->n, 0);
    atomic_init(&l->n_done, 0);
    proof_name(&l->round, "round");
    proof_name(&l->part, "part");
    proof_name(&l->ctx, "ctx");
    proof_name(&l->n, "n");
    proof_name(&l->n_done, "n_done");
    for (unsigned round = 0; round < MAX_ROUNDS; round++) {
        proof_datum(&leading->in[round], sizeof leading->in[round], "rows to read");
        for (unsigned i = 0; i < N_PIECES; i++)
            proof_datum(&leading->out[round][i], sizeof leading->out[round][i], "rows to write");
    }
    proof_thread(lead, 0);
    proof_thread(help, 0);
}

static void setup_two(void) {
    setup();
    proof_thread(help, 1);
}

static void end(void) {}

int main(int argc, char **argv) {
    n_rounds = 2;
    proof_run("team, 1 helper, 2 loops", setup, end);
    n_rounds = 1;
    proof_run("team, 2 helpers, 1 loop", setup_two, end);
    if (argc > 1 && strcmp(argv[1], "full") == 0) {
        n_rounds = 2;
        proof_run("team, 2 helpers, 2 loops", setup_two, end);
    }
    return 0;
}
