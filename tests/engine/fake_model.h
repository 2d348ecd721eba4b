/* SPDX-License-Identifier: MIT */
/* A stand-in for the stages layer: units that only compute a number from the frame, so that the engine's promises
 * (order, exactly once, same answer under every plan) can be tested without a network, fast, under ThreadSanitizer. */
#ifndef EES_TESTS_FAKE_MODEL_H
#define EES_TESTS_FAKE_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "eestream/engine.h"
#include "stages/stage.h"

enum {
    FAKE_BLOCKS = 6,
    FAKE_EXITS = 2,
    FAKE_UNITS = 2 + 2 * FAKE_BLOCKS + FAKE_EXITS + 1,
    FAKE_CLASSES = 4,
    FAKE_ROWS = 20
};

/* What a test frame's bytes say. With a lag in the policy options a frame also leaves at any exit whose class is its
 * reference's. */
struct fake_frame {
    uint32_t number;
    uint8_t exit;     /* 0 .. FAKE_EXITS */
    uint8_t fails_at; /* unit that fails, 255: none */
    uint8_t degrades; /* not 0: leaves at the first exit at any degrade level above 0 */
    uint8_t held_at;  /* unit it waits in while the model's gate is closed, 255: none */
    uint8_t picture;  /* a picture of one grey value */
};

struct ees_model {
    ees_model_info info;
    ees_unit_info units[FAKE_UNITS];
    char names[FAKE_UNITS][24];
    uint64_t unit_work_ns;      /* each unit computes this long, in the time of its thread */
    bool jitter;                /* units yield or sleep at random, seeded by frame and unit */
    pthread_barrier_t *meeting; /* NULL: none; each frame waits there for another that a second worker brings */
    _Atomic bool closed;        /* the gate */
    _Atomic unsigned n_held;
};

/* ingest, embed, 6 x (attn, mlp), exits after blocks 2 and 4, final */
struct ees_model *fake_model_new(uint64_t unit_work_ns, bool jitter);
void fake_model_free(struct ees_model *m);

/* Frames with `held_at` wait in that unit while the gate is closed; it is open at first. */
void fake_model_gate(struct ees_model *m, bool open);
unsigned fake_model_held(struct ees_model *m); /* how many wait there now */

/* A frame with these bytes, which stay the caller's; of stream 0 unless the caller sets another. */
ees_frame fake_frame(const struct fake_frame *bytes, uint64_t idx);

/* An engine with these options. Fails the test where it cannot be opened. */
ees_engine *fake_engine(const struct ees_model *m, const ees_engine_options *options);

/* The one number a frame must carry when it leaves at `exit`. */
float fake_answer(uint32_t number, unsigned exit);

#endif
