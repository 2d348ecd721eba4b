/* SPDX-License-Identifier: MIT */
/* Streams a video through the embedded model and prints one line a frame.
 *
 *      cc embed.c $(pkg-config --cflags --libs eestream) -pthread -o embed && ./embed video.avi
 *  With CMake: find_package(eestream), target_link_libraries(embed eestream::eestream). */
#include <eestream/eestream.h>
#include <pthread.h>
#include <stdio.h>

struct feed {
    ees_source *source;
    ees_engine *engine;
    ees_error err;
};

/* The reader: frames from the source into the engine, which takes them over. */
static void *feed_engine(void *opaque) {
    struct feed *f = opaque;
    ees_frame frame;
    while (ees_source_next(f->source, &frame, &f->err) == 0)
        if (ees_engine_push(f->engine, &frame, -1, &f->err) != 0) {
            frame.release(frame.opaque); /* not taken over */
            break;
        }
    ees_engine_finish(f->engine);
    return NULL;
}

static void print_answers(ees_engine *engine, ees_error *err) {
    ees_result r;
    while (ees_engine_pull(engine, &r, -1, err) == 0) {
        if (r.status == EES_STATUS_OK)
            printf("%llu\t%s\t%.3f\tblock %u\n", (unsigned long long)r.frame_idx, r.label, (double)r.confidence,
                   r.block);
        else
            printf("%llu\t%s\t%s\n", (unsigned long long)r.frame_idx, ees_status_name(r.status),
                   r.error ? r.error->message : "");
        ees_engine_release(engine, &r);
    }
}

int main(int argc, char **argv) {
    ees_model *model = NULL;
    pthread_t reader;
    struct feed f = {0};
    ees_error err = {0};
    if (argc == 2 && ees_model_open(NULL, NULL, &model, &f.err) == 0 &&
        ees_engine_open(model, NULL, &f.engine, &f.err) == 0 &&
        ees_source_open(argv[1], NULL, &f.source, &f.err) == 0 && pthread_create(&reader, NULL, feed_engine, &f) == 0) {
        print_answers(f.engine, &err);
        pthread_join(reader, NULL);
    }
    if (argc != 2 || f.err.code)
        fprintf(stderr, "embed: %s\n", argc != 2 ? "usage: embed VIDEO" : f.err.message);
    ees_source_close(f.source);
    ees_engine_close(f.engine);
    ees_model_close(model);
    return argc != 2 || f.err.code || err.code;
}
