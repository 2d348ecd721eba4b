/* SPDX-License-Identifier: MIT */
/* eestream's side of a comparison: opens a model once, then for each line "N" on stdin streams N frames through an engine
 * and prints the seconds they took; "logits" prints those of the frame. Full depth, tensor input, as the peers get it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <eestream/eestream.h>

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const ees_error *err) {
    fprintf(stderr, "stream_worker: %s\n", err->message);
    exit(1);
}

static void pull_one(ees_engine *engine, int print) {
    ees_result r;
    ees_error err = {0};
    if (ees_engine_pull(engine, &r, -1, &err) != 0 || r.status != EES_STATUS_OK)
        die(&err);
    for (unsigned i = 0; print && i < r.n_classes; i++)
        printf("%.9g%c", (double)r.logits[i], i + 1 < r.n_classes ? ' ' : '\n');
    ees_engine_release(engine, &r);
}

static void stream(ees_engine *engine, const ees_frame *frame, long n, int print) {
    ees_error err = {0};
    long pushed = 0, pulled = 0;
    while (pulled < n) {
        int rc = pushed < n ? ees_engine_push(engine, frame, 0, &err) : EES_EAGAIN;
        if (rc == 0) {
            pushed++;
        } else if (rc == EES_EAGAIN) {
            pull_one(engine, print);
            pulled++;
        } else {
            die(&err);
        }
    }
}

int main(int argc, char **argv) {
    ees_error err = {0};
    ees_model *model;
    ees_engine *engine;
    ees_engine_options options;
    if (argc != 4) {
        fprintf(stderr, "usage: stream_worker MODEL_DIR WORKERS IMAGE.f32 < commands\n");
        return 2;
    }
    ees_engine_options_default(&options);
    options.n_workers = (unsigned)atoi(argv[2]);
    options.plan = "replicas";
    options.policy.name = "none";
    if (ees_model_open(argv[1], NULL, &model, &err) != 0 || ees_engine_open(model, &options, &engine, &err) != 0)
        die(&err);
    const ees_model_info *info = ees_model_get_info(model);
    size_t n_floats = (size_t)3 * info->image_height_px * info->image_width_px;
    float *image = malloc(n_floats * sizeof *image);
    FILE *f = fopen(argv[3], "rb");
    if (!image || !f || fread(image, sizeof *image, n_floats, f) != n_floats) {
        fprintf(stderr, "stream_worker: %s: %zu floats expected\n", argv[3], n_floats);
        return 1;
    }
    fclose(f);
    ees_frame frame = {.kind = EES_FRAME_TENSOR, .width_px = info->image_width_px, .height_px = info->image_height_px,
                       .data = {image}, .pts_ns = -1};
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        double start_s = now_s();
        int print = strncmp(line, "logits", 6) == 0;
        stream(engine, &frame, print ? 1 : atol(line), print);
        if (!print)
            printf("%.9f\n", now_s() - start_s);
        fflush(stdout);
    }
    ees_engine_close(engine);
    ees_model_close(model);
    free(image);
    return 0;
}
