/* SPDX-License-Identifier: MIT */
/* engine/ring.h and engine/wait.c together, as workers use them: producers push and notify, workers take or sleep. Here a
 * worker takes one frame and is busy for ever, which is the worst that can happen to the others: a frame that waits
 * while a worker sleeps stays there, and the checker reports the sleeper. */
#include "engine/wait.c"

#include "checker.h"
#include "engine/ring.h"

static struct ees__ring *queue;
static struct ees__event *work;
static uint32_t *frames;
static unsigned char *taken;

void *ees__calloc_aligned(size_t n, size_t bytes) { return proof_alloc(n * bytes); }

/* ees__engine_enqueue() */
static void produce(unsigned me) {
    frames[me] = 1;
    while (!ees__ring_push(queue, me))
        ;
    ees__event_notify(work, EES__WAKE_ANY);
}

/* take() */
static bool take(uint32_t *frame) {
    bool got = ees__ring_pop(queue, frame);
    if (got && ees__event_has_waiters(work) && ees__ring_count(queue) > 0)
        ees__event_notify(work, EES__WAKE_ANY);
    return got;
}

/* wait_for_work() */
static void serve(unsigned me) {
    uint32_t frame, key;
    while (key = ees__event_prepare(work), !take(&frame))
        ees__event_wait(work, key, me, UINT64_MAX);
    ees__event_cancel(work);
    proof_check(!taken[frame]++ && frames[frame] == 1, "a frame is taken once, whole");
}

static void setup(void) {
    queue = proof_alloc(sizeof *queue);
    work = proof_alloc(sizeof *work);
    frames = proof_alloc(2 * sizeof *frames);
    taken = proof_alloc(2);
    ees__ring_init(queue, 2, UINT32_MAX);
    ees__event_init(work);
    proof_name(&queue->wr, "wr");
    proof_name(&queue->rd, "rd");
    proof_name(&queue->cells[0].seq, "seq 0");
    proof_name(&queue->cells[1].seq, "seq 1");
    proof_name(&work->word, "event");
    atomic_init(&queue->cells[0].value, 0);
    atomic_init(&queue->cells[1].value, 0);
    proof_datum(&queue->cells[0].value, sizeof queue->cells[0].value, "cell 0");
    proof_datum(&queue->cells[1].value, sizeof queue->cells[1].value, "cell 1");
    proof_datum(&frames[0], sizeof *frames, "frame 0");
    proof_datum(&frames[1], sizeof *frames, "frame 1");
    proof_note(taken, 2);
    for (unsigned i = 0; i < 2; i++) {
        proof_thread(produce, i);
        proof_thread(serve, i);
    }
}

static void end(void) { proof_check(taken[0] == 1 && taken[1] == 1, "both frames were taken"); }

int main(void) {
    proof_run("handover, 2 producers, 2 workers", setup, end);
    return 0;
}
