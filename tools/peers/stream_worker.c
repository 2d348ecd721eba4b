/* SPDX-License-Identifier: MIT */
/* eestream's side of a comparison: opens a model once, then for each line "N" on stdin streams N frames through an engine
 * and prints "done"; "logits" prints those of the frame. Tensor input, as the peers get it; full depth, or exits forced by
 * a file whose bytes name the exit of each frame. */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <eestream/eestream.h>

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

/* @param max_inside  frames pushed and not yet pulled */
static void stream(ees_engine *engine, const ees_frame *frame, long n, long max_inside, int print) {
    ees_error err = {0};
    long pushed = 0, pulled = 0;
    while (pulled < n) {
        int rc = pushed < n && pushed - pulled < max_inside ? ees_engine_push(engine, frame, 0, &err) : EES_EAGAIN;
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

/* All of a file. @return NULL: it cannot be read; the caller frees it otherwise */
static void *read_file(const char *path, size_t *n_bytes) {
    FILE *f = fopen(path, "rb");
    void *data = NULL;
    if (f && fseek(f, 0, SEEK_END) == 0 && (*n_bytes = (size_t)ftell(f)) > 0 && (data = malloc(*n_bytes)) != NULL) {
        rewind(f);
        if (fread(data, 1, *n_bytes, f) != *n_bytes) {
            free(data);
            data = NULL;
        }
    }
    if (f)
        fclose(f);
    if (!data) {
        fprintf(stderr, "stream_worker: %s cannot be read\n", path);
        exit(1);
    }
    return data;
}

int main(int argc, char **argv) {
    ees_error err = {0};
    ees_model *model;
    ees_engine *engine;
    ees_engine_options options;
    ees_model_options model_options;
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: stream_worker MODEL_DIR fp32|bf16|int8 WORKERS throughput|latency IMAGE.f32 [EXITS] "
                        "< commands\n");
        return 2;
    }
    size_t n_bytes, n_exits = 0;
    float *image = read_file(argv[5], &n_bytes);
    uint8_t *exits = argc == 7 ? read_file(argv[6], &n_exits) : NULL;
    ees_engine_options_default(&options);
    options.n_workers = (unsigned)atoi(argv[3]);
    bool latency = strcmp(argv[4], "latency") == 0;
    options.hint = latency ? EES_HINT_LATENCY : EES_HINT_THROUGHPUT;
    options.policy.replay = exits;
    options.policy.n_replay = n_exits;
    if (!exits)
        options.policy.name = "none";
    ees_model_options_default(&model_options);
    model_options.precision = argv[2];
    if (ees_model_open(argv[1], &model_options, &model, &err) != 0 || ees_engine_open(model, &options, &engine, &err) != 0)
        die(&err);
    const ees_model_info *info = ees_model_get_info(model);
    if (n_bytes != (size_t)3 * info->image_height_px * info->image_width_px * sizeof *image) {
        fprintf(stderr, "stream_worker: %s: 3x%ux%u floats expected\n", argv[5], info->image_height_px,
                info->image_width_px);
        return 1;
    }
    ees_frame frame = {.kind = EES_FRAME_TENSOR, .width_px = info->image_width_px, .height_px = info->image_height_px,
                       .data = {image}, .pts_ns = -1};
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        int print = strncmp(line, "logits", 6) == 0;
        stream(engine, &frame, print ? 1 : atol(line), latency ? 1 : LONG_MAX, print);
        if (!print)
            puts("done");
        fflush(stdout);
    }
    ees_engine_close(engine);
    ees_model_close(model);
    free(exits);
    free(image);
    return 0;
}
