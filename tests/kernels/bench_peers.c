/* SPDX-License-Identifier: MIT */
#include "bench_peers.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static void (*sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);

bool open_openblas(void) {
    void *library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!library)
        return false;
    void (*set_threads)(int);
    *(void **)&sgemm = dlsym(library, "cblas_sgemm");
    *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
    if (sgemm && set_threads)
        set_threads(1);
    return sgemm && set_threads;
}

void run_openblas(const float *x, const float *w, size_t m, size_t n, size_t k, float *y) {
    enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
    sgemm(ROW_MAJOR, NO_TRANS, TRANS, (int)m, (int)n, (int)k, 1.0f, x, (int)k, w, (int)k, 0.0f, y, (int)n);
}

#ifdef EES_HAVE_DNNL
#include <dnnl.h>

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t matmul;
    dnnl_memory_t x, w, y;
};

static dnnl_memory_desc_t describe(size_t rows, size_t columns, dnnl_format_tag_t tag) {
    dnnl_memory_desc_t desc;
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    dnnl_memory_desc_init_by_tag(&desc, 2, dims, dnnl_f32, tag);
    return desc;
}

/* `from`, plain, into a new memory of the layout the matmul asked for. */
static bool reorder(struct onednn *o, const dnnl_memory_desc_t *plain, const float *from,
                    const dnnl_memory_desc_t *packed) {
    dnnl_memory_t source = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t primitive = NULL;
    bool ok = !dnnl_memory_create(&source, plain, o->engine, (void *)from) &&
              !dnnl_memory_create(&o->w, packed, o->engine, DNNL_MEMORY_ALLOCATE) &&
              !dnnl_reorder_primitive_desc_create(&desc, plain, o->engine, packed, o->engine, NULL) &&
              !dnnl_primitive_create(&primitive, desc);
    if (ok) {
        const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, o->w}};
        ok = !dnnl_primitive_execute(primitive, o->stream, 2, args) && !dnnl_stream_wait(o->stream);
    }
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(desc);
    dnnl_memory_destroy(source);
    return ok;
}

static bool prepare(struct onednn *o, const float *x, const float *w, size_t m, size_t n, size_t k, float *y) {
    dnnl_memory_desc_t mx = describe(m, k, dnnl_ab), my = describe(m, n, dnnl_ab);
    dnnl_memory_desc_t any = describe(k, n, dnnl_format_tag_any), plain = describe(k, n, dnnl_ba);
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t primitive = NULL;
    if (dnnl_engine_create(&o->engine, dnnl_cpu, 0) ||
        dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags) ||
        dnnl_matmul_desc_init(&desc, &mx, &any, NULL, &my) ||
        dnnl_primitive_desc_create(&primitive, &desc, NULL, o->engine, NULL))
        return false;
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(primitive, dnnl_query_weights_md, 0);
    bool ok = reorder(o, &plain, w, packed) && !dnnl_primitive_create(&o->matmul, primitive) &&
              !dnnl_memory_create(&o->x, &mx, o->engine, (void *)x) && !dnnl_memory_create(&o->y, &my, o->engine, y);
    dnnl_primitive_desc_destroy(primitive);
    return ok;
}

/* The library is an OpenMP build. */
static void limit_threads(void) {
    void (*set_threads)(int);
    *(void **)&set_threads = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (set_threads)
        set_threads(1);
}

struct onednn *open_onednn(const float *x, const float *w, size_t m, size_t n, size_t k, float *y) {
    limit_threads();
    struct onednn *o = calloc(1, sizeof *o);
    if (o && prepare(o, x, w, m, n, k, y))
        return o;
    close_onednn(o);
    return NULL;
}

void run_onednn(struct onednn *o) {
    const dnnl_exec_arg_t args[3] = {{DNNL_ARG_SRC, o->x}, {DNNL_ARG_WEIGHTS, o->w}, {DNNL_ARG_DST, o->y}};
    if (dnnl_primitive_execute(o->matmul, o->stream, 3, args) || dnnl_stream_wait(o->stream))
        abort();
}

void close_onednn(struct onednn *o) {
    if (!o)
        return;
    dnnl_primitive_destroy(o->matmul);
    dnnl_memory_destroy(o->x);
    dnnl_memory_destroy(o->w);
    dnnl_memory_destroy(o->y);
    dnnl_stream_destroy(o->stream);
    dnnl_engine_destroy(o->engine);
    free(o);
}

#else
struct onednn *open_onednn(const float *x, const float *w, size_t m, size_t n, size_t k, float *y) {
    return NULL;
}
void run_onednn(struct onednn *o) {}
void close_onednn(struct onednn *o) {}
#endif
