/* SPDX-License-Identifier: MIT */
/* bench_front ARCH PRECISION VIDEO FRAMES ROUNDS SHARE,SHARE,...: a video of JPEGs through a model of random weights,
 * and the two things it cannot be faster than: decoding the same JPEGs and nothing else, and the same exits of frames
 * that are decoded and normalised already. All on every core, alternating; a JSON line a round. tools/measure/front.py
 * runs it. SHARE: of frames by exit, the final classifier last. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jpeglib.h>

#include "eestream/eestream.h"

enum { STREAM, COMPUTE, DECODE, N_WAYS, MAX_PICTURES = 256, N_TENSORS = 8, ROWS = 4 };
static const char *const way_names[N_WAYS] = {"stream", "compute", "decode"};

struct bench {
    const char *video;
    size_t n_frames; /* a repetition */
    unsigned n_cores, n_pictures;
    ees_frame pictures[MAX_PICTURES]; /* the video's first ones, in memory */
    ees_frame tensors[N_TENSORS];
    ees_model *model;
    ees_engine *engine;
    atomic_size_t next; /* frame to decode */
};

/* What a repetition took: frames a second, and CPU time a frame, which other jobs on the machine do not stretch. */
struct figures {
    double fps, cpu_ms;
};

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check(int rc, const ees_error *err) {
    if (rc == 0)
        return;
    fprintf(stderr, "bench_front: %s\n", err->message);
    exit(1);
}

static void keep(void *opaque) { (void)opaque; }

/* ---- Decoding alone ------------------------------------------------------------------------------------ */

static void decode(struct jpeg_decompress_struct *cinfo, const ees_frame *picture, unsigned char **rows) {
    JSAMPROW row[ROWS];
    jpeg_mem_src(cinfo, picture->data[0], picture->bytes);
    jpeg_read_header(cinfo, TRUE);
    cinfo->out_color_space = JCS_EXT_RGBX;
    jpeg_start_decompress(cinfo);
    const size_t row_bytes = (size_t)cinfo->output_width * 4;
    if (!*rows)
        *rows = malloc(row_bytes * ROWS); /* pictures of one video have one size */
    for (int i = 0; i < ROWS; i++)
        row[i] = *rows + (size_t)i * row_bytes;
    while (cinfo->output_scanline < cinfo->output_height)
        jpeg_read_scanlines(cinfo, row, ROWS);
    jpeg_finish_decompress(cinfo);
}

static void *decode_some(void *opaque) {
    struct bench *b = opaque;
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    unsigned char *rows = NULL;
    cinfo.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&cinfo);
    for (size_t i; (i = atomic_fetch_add(&b->next, 1)) < b->n_frames;)
        decode(&cinfo, &b->pictures[i % b->n_pictures], &rows);
    jpeg_destroy_decompress(&cinfo);
    free(rows);
    return NULL;
}

static void run_decode(struct bench *b) {
    pthread_t threads[EES_MAX_WORKERS];
    atomic_store(&b->next, 0);
    for (unsigned i = 0; i < b->n_cores; i++)
        if (pthread_create(&threads[i], NULL, decode_some, b) != 0)
            abort();
    for (unsigned i = 0; i < b->n_cores; i++)
        pthread_join(threads[i], NULL);
}

/* ---- Through the engine -------------------------------------------------------------------------------- */

static void pull_all(struct bench *b) {
    ees_error err = {0};
    for (size_t i = 0; i < b->n_frames; i++) {
        ees_result result;
        check(ees_engine_pull(b->engine, &result, -1, &err), &err);
        if (result.status != EES_STATUS_OK)
            exit(fprintf(stderr, "bench_front: frame %zu: %s\n", i, ees_status_name(result.status)));
        ees_engine_release(b->engine, &result);
    }
}

static void *push_tensors(void *opaque) {
    struct bench *b = opaque;
    ees_error err = {0};
    for (size_t i = 0; i < b->n_frames; i++)
        check(ees_engine_push(b->engine, &b->tensors[i % N_TENSORS], -1, &err), &err);
    return NULL;
}

/* The video, again and again. */
static void *push_video(void *opaque) {
    struct bench *b = opaque;
    ees_error err = {0};
    ees_source *source = NULL;
    for (size_t i = 0; i < b->n_frames;) {
        ees_frame frame;
        if (!source)
            check(ees_source_open(b->video, NULL, &source, &err), &err);
        int rc = ees_source_next(source, &frame, &err);
        if (rc == EES_EOF) {
            ees_source_close(source);
            source = NULL;
            continue;
        }
        check(rc, &err);
        check(ees_engine_push(b->engine, &frame, -1, &err), &err);
        i++;
    }
    ees_source_close(source);
    return NULL;
}

static struct figures run_way(struct bench *b, int way) {
    pthread_t pusher;
    const double start_s = seconds(CLOCK_MONOTONIC), cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (way == DECODE) {
        run_decode(b);
    } else {
        if (pthread_create(&pusher, NULL, way == STREAM ? push_video : push_tensors, b) != 0)
            abort();
        pull_all(b);
        pthread_join(pusher, NULL);
    }
    return (struct figures){(double)b->n_frames / (seconds(CLOCK_MONOTONIC) - start_s),
                            (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_s) * 1e3 / (double)b->n_frames};
}

/* ---- Making ready -------------------------------------------------------------------------------------- */

static void read_pictures(struct bench *b) {
    ees_error err = {0};
    ees_source *source;
    ees_frame frame;
    check(ees_source_open(b->video, NULL, &source, &err), &err);
    while (b->n_pictures < MAX_PICTURES && ees_source_next(source, &frame, &err) == 0) {
        if (frame.kind != EES_FRAME_JPEG)
            exit(fprintf(stderr, "bench_front: %s is no video of JPEGs\n", b->video));
        b->pictures[b->n_pictures++] = frame; /* ours until the end */
    }
    ees_source_close(source);
    if (b->n_pictures == 0)
        exit(fprintf(stderr, "bench_front: %s holds no frame\n", b->video));
}

static void make_tensors(struct bench *b) {
    const ees_model_info *info = ees_model_get_info(b->model);
    const size_t n = (size_t)3 * info->image_height_px * info->image_width_px;
    uint32_t seed = 1;
    for (int k = 0; k < N_TENSORS; k++) {
        float *x = malloc(n * sizeof *x);
        for (size_t i = 0; x && i < n; i++)
            x[i] = (float)(int32_t)(seed = seed * 1664525u + 1013904223u) / (float)(1u << 30);
        b->tensors[k] = (ees_frame){.kind = EES_FRAME_TENSOR,
                                    .width_px = info->image_width_px,
                                    .height_px = info->image_height_px,
                                    .data = {x},
                                    .release = keep};
    }
}

/* Exit by exit as each becomes due; a repetition is the whole sequence, so all see the same mix. */
static void spread_exits(const char *shares, unsigned n_exits, uint8_t *exits, size_t n) {
    double share[EES_MAX_EXITS + 1] = {0}, sum = 0, lag[EES_MAX_EXITS + 1] = {0};
    for (unsigned e = 0; e <= n_exits && *shares; e++, shares += *shares == ',')
        sum += share[e] = strtod(shares, (char **)&shares);
    for (size_t i = 0; i < n; i++) {
        unsigned due = n_exits;
        for (unsigned e = 0; e <= n_exits; e++)
            lag[e] += share[e] / sum;
        for (unsigned e = 0; e <= n_exits; e++)
            due = lag[e] > lag[due] ? e : due;
        lag[due] -= 1;
        exits[i] = (uint8_t)due;
    }
}

static void open_engine(struct bench *b, const char *shares) {
    ees_error err = {0};
    ees_engine_options o;
    uint8_t *exits = malloc(b->n_frames);
    if (!exits)
        abort();
    spread_exits(shares, ees_model_get_info(b->model)->n_exits, exits, b->n_frames);
    ees_engine_options_default(&o);
    o.n_workers = b->n_cores;
    o.plan = "replicas";
    o.policy.replay = exits;
    o.policy.n_replay = b->n_frames;
    check(ees_engine_open(b->model, &o, &b->engine, &err), &err);
    free(exits);
}

int main(int argc, char **argv) {
    static struct bench b;
    ees_error err = {0};
    ees_model_options options;
    ees_cores cores;
    if (argc != 7)
        return fprintf(stderr, "usage: bench_front ARCH PRECISION VIDEO FRAMES ROUNDS SHARE,SHARE,...\n"), 2;
    ees_model_options_default(&options);
    options.precision = argv[2];
    b.video = argv[3];
    b.n_frames = strtoul(argv[4], NULL, 10);
    check(ees_cores_detect(&cores, &err), &err);
    b.n_cores = cores.n_workers;
    check(ees_model_open_random(argv[1], 1, &options, &b.model, &err), &err);
    read_pictures(&b);
    make_tensors(&b);
    open_engine(&b, argv[6]);
    for (int way = 0; way < N_WAYS; way++)
        run_way(&b, way); /* warm */
    for (unsigned long round = 0; round < strtoul(argv[5], NULL, 10); round++) {
        struct figures figures[N_WAYS];
        for (unsigned i = 0; i < N_WAYS; i++)
            figures[(i + round) % N_WAYS] = run_way(&b, (int)((i + round) % N_WAYS));
        printf("{\"cores\":%u", b.n_cores);
        for (int way = 0; way < N_WAYS; way++)
            printf(",\"%s_fps\":%.3f,\"%s_cpu_ms\":%.4f", way_names[way], figures[way].fps, way_names[way],
                   figures[way].cpu_ms);
        printf("}\n");
        fflush(stdout);
    }
    ees_engine_close(b.engine);
    for (unsigned i = 0; i < b.n_pictures; i++)
        b.pictures[i].release(b.pictures[i].opaque);
    for (int i = 0; i < N_TENSORS; i++)
        free((void *)b.tensors[i].data[0]);
    ees_model_close(b.model);
    return 0;
}
