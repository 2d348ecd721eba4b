/* SPDX-License-Identifier: MIT */
/* Swin: every naming against a plain double-precision forward, on grids that need padding; heads and buffers; what is
 * refused. Windows by themselves: test_windows.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/model.h"
#include "stages/windows.h"
#include "support.h"

enum { K = 3 };

/* ---- a plain forward ------------------------------------------------------------------------------------ */

enum { MAX_TOKENS = 80, MAX_C = 16, M = 3 };

/* How a framework lays windows on a grid (spec 1.4); weights are read by Hugging Face's names. */
struct plain {
    struct tiny *weights;
    size_t h, w, c; /* of the stage */
    bool rolls_first, by_side;
    double x[MAX_TOKENS * MAX_C];
};

static const float *weight(struct plain *p, const char *format, unsigned a, unsigned b) {
    char name[160];
    snprintf(name, sizeof name, format, a, b);
    return tiny_find(p->weights, name)->data;
}

static void norm_row(const double *x, size_t c, const float *gamma, const float *beta, double *y) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < c; i++)
        mean += x[i] / (double)c;
    for (size_t i = 0; i < c; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (double)c;
    for (size_t i = 0; i < c; i++)
        y[i] = (x[i] - mean) / sqrt(variance + 1e-5) * (double)gamma[i] + (double)beta[i];
}

/* y (n) = W x (k) + b */
static void apply(const float *w, const float *b, const double *x, size_t n, size_t k, double *y) {
    for (size_t i = 0; i < n; i++) {
        y[i] = b ? (double)b[i] : 0.0;
        for (size_t j = 0; j < k; j++)
            y[i] += (double)w[i * k + j] * x[j];
    }
}

#define BLOCK "swin.encoder.layers.%u.blocks.%u."

/* One query against the keys of its window. All arrays are of the padded and shifted grid, `ph` x `pw`. */
static void attend_one(const struct plain *p, size_t heads, const float *table, double *const qkv[3], size_t ph,
                       size_t pw, size_t sh, size_t sw, size_t query, double *out) {
    size_t c = p->c, d = c / heads, qr = query / pw, qc = query % pw;
    for (size_t head = 0; head < heads; head++) {
        double weights[M * M], sum = 0;
        for (size_t j = 0; j < M * M; j++) {
            size_t kr = qr / M * M + j / M, kc = qc / M * M + j % M;
            double score = 0;
            for (size_t i = head * d; i < (head + 1) * d; i++)
                score += qkv[0][query * c + i] * qkv[1][(kr * pw + kc) * c + i] / sqrt((double)d);
            size_t index = (qr % M + M - 1 - kr % M) * (2 * M - 1) + qc % M + M - 1 - kc % M;
            score += (double)table[index * heads + head];
            /* Tokens that the shift brought together from both ends of the grid. */
            bool apart = (sh && (qr >= ph - sh) != (kr >= ph - sh)) || (sw && (qc >= pw - sw) != (kc >= pw - sw));
            sum += weights[j] = exp(score - (apart ? 100.0 : 0.0));
        }
        for (size_t i = head * d; i < (head + 1) * d; i++) {
            out[i] = 0;
            for (size_t j = 0; j < M * M; j++)
                out[i] += weights[j] / sum * qkv[2][((qr / M * M + j / M) * pw + qc / M * M + j % M) * c + i];
        }
    }
}

/* Where the token at (r, c) of the padded and shifted grid comes from; -1: padding. */
static int find_source(const struct plain *p, size_t r, size_t c, size_t ph, size_t pw, size_t sh, size_t sw) {
    if (p->rolls_first && (r >= p->h || c >= p->w))
        return -1;
    r = (r + sh) % (p->rolls_first ? p->h : ph);
    c = (c + sw) % (p->rolls_first ? p->w : pw);
    return r < p->h && c < p->w ? (int)(r * p->w + c) : -1;
}

static void run_attention(struct plain *p, unsigned stage, unsigned block, size_t heads) {
    static const char *const parts[] = {"query", "key", "value"};
    static double rows[4][2 * MAX_TOKENS * MAX_C];
    double *const qkv[3] = {rows[0], rows[1], rows[2]};
    size_t c = p->c, ph = (p->h + M - 1) / M * M, pw = (p->w + M - 1) / M * M;
    bool none = !p->by_side && (p->h <= M || p->w <= M);
    size_t sh = block % 2 && !none && p->h > M ? M / 2 : 0, sw = block % 2 && !none && p->w > M ? M / 2 : 0;
    for (size_t i = 0; i < ph * pw; i++) {
        double normed[MAX_C] = {0};
        int source = find_source(p, i / pw, i % pw, ph, pw, sh, sw);
        if (source >= 0)
            norm_row(p->x + (size_t)source * c, c, weight(p, BLOCK "layernorm_before.weight", stage, block),
                     weight(p, BLOCK "layernorm_before.bias", stage, block), normed);
        for (size_t part = 0; part < 3; part++) {
            char w[128], b[128];
            snprintf(w, sizeof w, BLOCK "attention.self.%s.weight", stage, block, parts[part]);
            snprintf(b, sizeof b, BLOCK "attention.self.%s.bias", stage, block, parts[part]);
            apply(tiny_find(p->weights, w)->data, tiny_find(p->weights, b)->data, normed, c, c, qkv[part] + i * c);
        }
    }
    const float *table = weight(p, BLOCK "attention.self.relative_position_bias_table", stage, block);
    for (size_t i = 0; i < ph * pw; i++) {
        double attended[MAX_C], y[MAX_C];
        int source = find_source(p, i / pw, i % pw, ph, pw, sh, sw);
        attend_one(p, heads, table, qkv, ph, pw, sh, sw, i, attended);
        apply(weight(p, BLOCK "attention.output.dense.weight", stage, block),
              weight(p, BLOCK "attention.output.dense.bias", stage, block), attended, c, c, y);
        for (size_t j = 0; j < c && source >= 0; j++)
            p->x[(size_t)source * c + j] += y[j];
    }
}

static void run_mlp(struct plain *p, unsigned stage, unsigned block) {
    for (size_t i = 0; i < p->h * p->w; i++) {
        double normed[MAX_C], hidden[2 * MAX_C], y[MAX_C], *x = p->x + i * p->c;
        norm_row(x, p->c, weight(p, BLOCK "layernorm_after.weight", stage, block),
                 weight(p, BLOCK "layernorm_after.bias", stage, block), normed);
        apply(weight(p, BLOCK "intermediate.dense.weight", stage, block),
              weight(p, BLOCK "intermediate.dense.bias", stage, block), normed, 2 * p->c, p->c, hidden);
        for (size_t j = 0; j < 2 * p->c; j++)
            hidden[j] *= (1 + erf(hidden[j] / sqrt(2))) / 2;
        apply(weight(p, BLOCK "output.dense.weight", stage, block), weight(p, BLOCK "output.dense.bias", stage, block),
              hidden, p->c, 2 * p->c, y);
        for (size_t j = 0; j < p->c; j++)
            x[j] += y[j];
    }
}

static void merge(struct plain *p) {
    double merged[MAX_TOKENS * MAX_C];
    size_t c = p->c, h = (p->h + 1) / 2, w = (p->w + 1) / 2;
    for (size_t i = 0; i < h * w; i++) {
        static const size_t down[4] = {0, 1, 0, 1}, right[4] = {0, 0, 1, 1};
        double row[2 * MAX_C] = {0}, normed[2 * MAX_C];
        for (size_t part = 0; part < 4; part++) {
            size_t r = i / w * 2 + down[part], s = i % w * 2 + right[part];
            if (r < p->h && s < p->w)
                memcpy(row + part * c, p->x + (r * p->w + s) * c, c * sizeof *row);
        }
        norm_row(row, 4 * c, weight(p, "swin.encoder.layers.0.downsample.norm.weight", 0, 0),
                 weight(p, "swin.encoder.layers.0.downsample.norm.bias", 0, 0), normed);
        apply(weight(p, "swin.encoder.layers.0.downsample.reduction.weight", 0, 0), NULL, normed, 2 * c, 4 * c,
              merged + i * 2 * c);
    }
    memcpy(p->x, merged, sizeof merged);
    p->h = h;
    p->w = w;
    p->c = 2 * c;
}

/* Patches of 2 x 2 pixels. */
static void embed(struct plain *p, const float *pixels) {
    size_t image_w = 2 * p->w;
    for (size_t i = 0; i < p->h * p->w; i++) {
        double patch[12], y[8];
        for (size_t j = 0; j < 12; j++)
            patch[j] = (double)pixels[(j / 4 * 2 * p->h + i / p->w * 2 + j / 2 % 2) * image_w + i % p->w * 2 + j % 2];
        apply(weight(p, "swin.embeddings.patch_embeddings.projection.weight", 0, 0),
              weight(p, "swin.embeddings.patch_embeddings.projection.bias", 0, 0), patch, 8, 12, y);
        norm_row(y, 8, weight(p, "swin.embeddings.norm.weight", 0, 0), weight(p, "swin.embeddings.norm.bias", 0, 0),
                 p->x + i * 8);
    }
}

static void run_plain(struct plain *p, const float *pixels, double logits[K]) {
    double normed[MAX_C], mean[MAX_C] = {0};
    embed(p, pixels);
    for (unsigned block = 0; block < 2; block++) {
        run_attention(p, 0, block, 2);
        run_mlp(p, 0, block);
    }
    merge(p);
    run_attention(p, 1, 0, 4);
    run_mlp(p, 1, 0);
    for (size_t i = 0; i < p->h * p->w; i++) {
        norm_row(p->x + i * p->c, p->c, weight(p, "swin.layernorm.weight", 0, 0),
                 weight(p, "swin.layernorm.bias", 0, 0), normed);
        for (size_t j = 0; j < p->c; j++)
            mean[j] += normed[j] / (double)(p->h * p->w);
    }
    apply(weight(p, "classifier.weight", 0, 0), weight(p, "classifier.bias", 0, 0), mean, K, p->c, logits);
}

/* ---- namings -------------------------------------------------------------------------------------------- */

#define SIZES                                                                                                          \
    "\"embed_dim\":8,\"depths\":[2,1],\"num_heads\":[2,4],\"window_size\":3,\"mlp_ratio\":2.0,\"patch_size\":2"
#define HF "{\"model_type\":\"swin\"," SIZES ",\"num_labels\":3,\"image_size\":[12,18]"
#define LGVIT                                                                                                          \
    "{\"architectures\":[\"SwinHighwayForImageClassification\"],\"highway_type\":\"linear\",\"exit_strategy\":"        \
    "\"confidence\",\"num_early_exits\":\"[0,1]\",\"position_exits\":\"[[],[1]]\","                                    \
    "\"model_type\":\"swin\"," SIZES ",\"num_labels\":3,\"image_size\":[12,18]}"

struct naming {
    const char *family, *config;
    bool rolls_first, by_side;
};

static const struct naming namings[] = {
    {"hf-swin", HF "}", false, false},
    {"timm-swin", "{\"architecture\":\"swin_x\",\"model_args\":{\"img_size\":[12,18]," SIZES "}}", true, true},
    {"timm-swin", "{\"pretrained_cfg\":{\"input_size\":[3,12,18]}}", true, true}, /* the tensors tell the rest */
    {"timm-swin-old", "{\"pretrained_cfg\":{\"input_size\":[3,12,18]}}", true, false},
    {"torchvision-swin", "{\"args\":{\"image_size\":[12,18],\"patch_size\":[2,2],\"window_size\":[3,3]}}", false, true},
    {"torchvision-swin", "{\"args\":{\"image_size\":[12,18]}}", false, true},
    {"lgvit-swin", LGVIT, false, false},
};
enum { N_NAMINGS = sizeof namings / sizeof *namings };

static ees_model *open_tiny(struct tiny *tiny, size_t h, size_t w, ees_error *err) {
    char dir[64];
    ees_model *model = NULL;
    ees_model_options options;
    ees_model_options_default(&options);
    options.image_height_px = (unsigned)h;
    options.image_width_px = (unsigned)w;
    make_folder(dir);
    tiny_write(tiny, dir);
    ees_model_open(dir, &options, &model, err);
    remove_folder(dir);
    return model;
}

static float *make_pixels(size_t h, size_t w) {
    float *pixels = malloc(3 * h * w * sizeof *pixels);
    assert_non_null(pixels);
    for (size_t i = 0; i < 3 * h * w; i++)
        pixels[i] = sinf((float)i * .37f);
    return pixels;
}

static void answer_to(const struct naming *naming, size_t h, size_t w, const float *pixels, float logits[K]) {
    struct tiny tiny;
    ees_error err = {0};
    tiny_init_swin(&tiny, naming->family, naming->config);
    ees_model *model = open_tiny(&tiny, h, w, &err);
    if (!model)
        fail_msg("%s: %s", naming->family, err.message);
    assert_string_equal(ees_model_get_info(model)->family, naming->family);
    trace_logits(model, pixels, logits);
    ees_model_close(model);
    tiny_fini(&tiny);
}

/* h x w: 0 for the config's, 12 x 18. */
static void answer(const struct naming *naming, size_t h, size_t w, float logits[K]) {
    float *pixels = make_pixels(h ? h : 12, w ? w : 18);
    answer_to(naming, h, w, pixels, logits);
    free(pixels);
}

/* (3, h, w) as the corner of (3, to_h, to_w), which is cut or filled up with zeros. */
static float *copy_corner(const float *pixels, size_t h, size_t w, size_t to_h, size_t to_w) {
    float *corner = calloc(3 * to_h * to_w, sizeof *corner);
    assert_non_null(corner);
    for (size_t i = 0; i < 3; i++)
        for (size_t y = 0; y < to_h && y < h; y++)
            for (size_t x = 0; x < to_w && x < w; x++)
                corner[(i * to_h + y) * to_w + x] = pixels[(i * h + y) * w + x];
    return corner;
}

/* Of 13 x 19 pixels and patches of 2: Hugging Face fills the last ones up, torchvision leaves them out. */
static void test_rims(void **state) {
    static const struct {
        unsigned naming;
        size_t h, w;
    } cases[] = {{0, 14, 20}, {5, 12, 18}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct naming *naming = &namings[cases[i].naming];
        float expected[K], logits[K], *pixels = make_pixels(13, 19);
        float *corner = copy_corner(pixels, 13, 19, cases[i].h, cases[i].w);
        answer_to(naming, cases[i].h, cases[i].w, corner, expected);
        answer_to(naming, 13, 19, pixels, logits);
        assert_memory_equal(logits, expected, sizeof logits);
        free(corner);
        free(pixels);
    }
}

/* A grid of 6 x 9 needs no padding until 3 x 5, where nothing is shifted: there all frameworks agree. */
static void test_namings_agree(void **state) {
    float expected[K], logits[K];
    answer(&namings[0], 0, 0, expected);
    for (size_t i = 1; i < N_NAMINGS; i++) {
        answer(&namings[i], 0, 0, logits);
        assert_memory_equal(logits, expected, sizeof logits);
    }
}

/* Grids in patches: padded on one side, on both, odd ones in front of the merge, one that shifts along one side only.
 */
static void test_against_a_plain_forward(void **state) {
    static const size_t grids[][2] = {{6, 6}, {7, 5}, {8, 9}, {5, 6}};
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++)
        for (size_t i = 0; i < N_NAMINGS; i++) {
            size_t h = grids[g][0], w = grids[g][1];
            struct tiny tiny;
            struct plain plain = {.weights = &tiny, .h = h, .w = w, .c = 8};
            double expected[K];
            float logits[K], *pixels = make_pixels(2 * h, 2 * w);
            plain.rolls_first = namings[i].rolls_first;
            plain.by_side = namings[i].by_side;
            tiny_init_swin(&tiny, "hf-swin", namings[0].config);
            run_plain(&plain, pixels, expected);
            answer(&namings[i], 2 * h, 2 * w, logits);
            for (size_t k = 0; k < K; k++)
                if (!(fabs((double)logits[k] - expected[k]) < 5e-6))
                    fail_msg("%s, grid %zu x %zu: logit %zu is %.7f, plain %.7f", namings[i].family, h, w, k,
                             (double)logits[k], expected[k]);
            tiny_fini(&tiny);
            free(pixels);
        }
}

/* A grid of 3 x 6 is as high as a window: timm and torchvision still shift along its rows. */
static void test_one_side_shifts(void **state) {
    const struct naming *hf = &namings[0], *timm = &namings[1], *torchvision = &namings[5];
    float expected[K], one[K], other[K];
    struct tiny tiny;
    struct plain plain = {.weights = &tiny, .h = 3, .w = 10, .c = 8, .by_side = true};
    double known[K];
    float *pixels = make_pixels(6, 20);
    tiny_init_swin(&tiny, "hf-swin", hf->config);
    ees_error err = {0};
    assert_null(open_tiny(&tiny, 6, 20, &err)); /* its second stage has 2 rows */
    run_plain(&plain, pixels, known);
    answer(torchvision, 6, 20, one);
    for (size_t k = 0; k < K; k++)
        assert_true(fabs((double)one[k] - known[k]) < 5e-6);
    answer(torchvision, 12, 20, expected);
    answer(hf, 12, 20, other);
    for (size_t k = 0; k < K; k++)
        assert_true(fabsf(expected[k] - other[k]) < 5e-6f); /* 6 x 10: both sides shift everywhere */
    tiny_fini(&tiny);
    /* timm's windows shrink with the grid, and this file's table does not. */
    tiny_init_swin(&tiny, timm->family, timm->config);
    memset(&err, 0, sizeof err);
    assert_null(open_tiny(&tiny, 6, 20, &err));
    assert_non_null(strstr(err.message, "is (25,4), expected (15,4)"));
    tiny_fini(&tiny);
    free(pixels);
}

/* ---- heads ---------------------------------------------------------------------------------------------- */

static int keep_exit(void *opaque, const ees_tap *tap) {
    float(*logits)[K] = opaque;
    if (tap->kind == EES_TAP_LOGITS)
        memcpy(logits[tap->info->exit_idx], tap->data, sizeof logits[0]);
    return 0;
}

/* The linear head behind the last block, with the final norm and classifier, says what the final classifier says. */
static void check_linear(struct tiny *tiny, const char *family) {
    float logits[2][K] = {{0}}, *pixels = make_pixels(12, 18);
    ees_error err = {0};
    ees_model *model = open_tiny(tiny, 0, 0, &err);
    if (!model)
        fail_msg("%s: %s", family, err.message);
    const ees_model_info *info = ees_model_get_info(model);
    assert_int_equal(info->n_exits, 1);
    assert_string_equal(info->exits[0].head, "linear");
    assert_int_equal(info->exits[0].after_block, 3);
    ees_frame frame = tensor_frame(model, pixels);
    assert_int_equal(ees_model_trace(model, &frame, keep_exit, logits, NULL), 0);
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    assert_true(fabsf(logits[0][0]) > 0);
    ees_model_close(model);
    tiny_fini(tiny);
    free(pixels);
}

static void test_linear_heads(void **state) {
    struct tiny tiny;
    tiny_init_swin(&tiny, "hf-swin",
                   HF ",\"early_exits\":{\"exits\":[{\"after_block\":3,\"head\":\"linear\"}],"
                      "\"policy\":{\"name\":\"entropy\",\"thresholds\":0.5}}}");
    check_linear(&tiny, "hf-swin");
    tiny_init_swin(&tiny, "lgvit-swin", LGVIT);
    check_linear(&tiny, "lgvit-swin");
    tiny_init_swin(&tiny, "lgvit-swin", LGVIT); /* as LGViT spells this kind of head */
    tiny_rename(&tiny, "swin.encoder.layers.1.highway.0.classifier.layernorm",
                "swin.encoder.layers.1.highway.0.layernorm");
    tiny_rename(&tiny, "swin.encoder.layers.1.highway.0.classifier.classifier",
                "swin.encoder.layers.1.highway.0.classifier");
    check_linear(&tiny, "lgvit-swin");
}

/* "threshold" null means the class's default (spec 6). */
static void test_lgvit_defaults(void **state) {
    static const struct {
        const char *strategy;
        float threshold;
        unsigned n_thresholds, patience;
    } cases[] = {{"confidence", .75f, 1, 0},
                 {"entropy", .65f, 1, 0},
                 {"patience", 0, 0, 3},
                 {"patient_and_confident", .8f, 1, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny tiny;
        ees_policy_options policy;
        ees_error err = {0};
        tiny_init_swin(&tiny, "lgvit-swin", LGVIT);
        json_object_set_new(tiny.config, "exit_strategy", json_string(cases[i].strategy));
        ees_model *model = open_tiny(&tiny, 0, 0, &err);
        if (!model)
            fail_msg("%s", err.message);
        assert_int_equal(ees_policy_resolve(model, NULL, &policy, NULL), 0);
        assert_string_equal(policy.name, cases[i].strategy);
        assert_int_equal(policy.n_thresholds, cases[i].n_thresholds);
        assert_true(policy.n_thresholds == 0 || policy.thresholds[0] == cases[i].threshold);
        assert_int_equal(policy.patience, cases[i].patience);
        ees_model_close(model);
        tiny_fini(&tiny);
    }
}

/* ---- what files hold beside that ------------------------------------------------------------------------ */

/* `rank` 1 is torchvision's flat buffer. */
static struct tensor *add_index(struct tiny *tiny, const char *name, unsigned rank) {
    struct tensor *t = tiny_add(tiny, name, rank, rank == 1 ? 81 : 9, 9, 0);
    t->data = malloc(81 * sizeof(float));
    assert_non_null(t->data);
    for (size_t i = 0; i < 81; i++)
        t->data[i] = (float)ees__windows_relative(3, 3, i / 9, i % 9);
    return t;
}

#define INDEX "features.1.1.attn.relative_position_index"

static void test_buffers(void **state) {
    struct tiny tiny;
    ees_error err = {0};
    tiny_init_swin(&tiny, "torchvision-swin", namings[5].config);
    struct tensor *index = add_index(&tiny, INDEX, 1);
    ees_model *model = open_tiny(&tiny, 0, 0, &err);
    assert_non_null(model);
    ees_model_close(model);
    index->data[7] += 1;
    assert_null(open_tiny(&tiny, 0, 0, &err));
    assert_non_null(strstr(err.message, "'" INDEX "' has the value 2 at index 7, expected 1"));
    index->shape[0] = 80;
    memset(&err, 0, sizeof err);
    assert_null(open_tiny(&tiny, 0, 0, &err));
    assert_non_null(strstr(err.message, "'" INDEX "' has 80 elements, expected 81"));
    tiny_fini(&tiny);
    /* Old timm keeps index and mask, LGViT a norm nobody reads. */
    memset(&err, 0, sizeof err);
    tiny_init_swin(&tiny, "timm-swin-old", namings[3].config);
    add_index(&tiny, "layers.0.blocks.1.attn.relative_position_index", 2);
    tiny_add(&tiny, "layers.0.blocks.1.attn_mask", 3, 6, 9, 9);
    model = open_tiny(&tiny, 0, 0, &err);
    if (!model)
        fail_msg("%s", err.message);
    ees_model_close(model);
    tiny_fini(&tiny);
    tiny_init_swin(&tiny, "lgvit-swin", LGVIT);
    tiny_add(&tiny, "layernorm.weight", 1, 16, 0, 0);
    model = open_tiny(&tiny, 0, 0, &err);
    if (!model)
        fail_msg("%s", err.message);
    ees_model_close(model);
    tiny_fini(&tiny);
}

/* ---- what is refused ------------------------------------------------------------------------------------ */

struct refusal {
    size_t naming;
    const char *key, *value;     /* of config.json, NULL: unchanged */
    const char *removed, *added; /* tensors */
    const char *needles[3];
};

static const struct refusal refusals[] = {
    {0, "depths", "[2,2]", NULL, NULL, {"'swin.encoder.layers.1.blocks.1.layernorm_before.weight'", "missing"}},
    {0, "depths", "[2]", NULL, NULL, {"'num_heads'", "[2,4]", "1 numbers"}},
    {0, "depths", "[2,0]", NULL, NULL, {"'depths'", "[2,0]", "from 1"}},
    {0, "depths", "[]", NULL, NULL, {"'depths'", "[]", "a stage"}},
    {0, "depths", "[96,1]", NULL, NULL, {"'depths'", "96 blocks", "97"}},
    {0, "num_heads", "[2,3]", NULL, NULL, {"'num_heads'", "16 in stage 1"}},
    {0, "num_heads", "[4,4]", NULL, NULL, {"relative_position_bias_table' is (25,2), expected (25,4)"}},
    {0, "embed_dim", "16", NULL, NULL, {"is (8,3,2,2), expected (16,3,2,2)"}},
    {0, "embed_dim", "16384", NULL, NULL, {"'embed_dim'", "16384", "32768"}},
    {0, "window_size", "4", NULL, NULL, {"'window_size'", "4", "3 x 5"}},
    {0, "window_size", "2", NULL, NULL, {"is (25,2), expected (9,2)"}},
    {0, "window_size", "[3]", NULL, NULL, {"'window_size'", "[3]"}},
    {0, "mlp_ratio", "4.0", NULL, NULL, {"is (16,8), expected (32,8)"}},
    {0, "patch_size", "[2,3]", NULL, NULL, {"'patch_size'", "[2,3]", "square"}},
    {0, "hidden_act", "\"luck\"", NULL, NULL, {"'hidden_act'", "luck", "silu"}},
    {0, "qkv_bias", "false", NULL, NULL, {"query.bias'", "not part of"}},
    {0, "use_absolute_embeddings", "true", NULL, NULL, {"'swin.embeddings.position_embeddings'", "missing"}},
    {0, "architectures", "[\"Swinv2ForImageClassification\"]", NULL, NULL, {"'architectures'", "Swinv2"}},
    {0, "early_exits", "{\"exits\":[{\"after_block\":4,\"head\":\"linear\"}]}", NULL, NULL, {"after_block", "1 to 3"}},
    {0, "early_exits", "{\"exits\":[{\"after_block\":1,\"head\":\"luck\"}]}", NULL, NULL, {"luck", "linear"}},
    {0,
     NULL,
     NULL,
     "swin.encoder.layers.0.downsample.reduction.weight",
     NULL,
     {"downsample.reduction.weight'", "missing"}},
    {0, NULL, NULL, "swin.embeddings.norm.bias", NULL, {"'swin.embeddings.norm.bias'", "missing"}},
    {0,
     NULL,
     NULL,
     NULL,
     "swin.encoder.layers.2.blocks.0.layernorm_before.weight",
     {"layers.2.blocks.0", "not part of"}},
    {1, "model_args", "{\"always_partition\":true}", NULL, NULL, {"'model_args.always_partition'", "true"}},
    {1, "model_args", "{\"head_dim\":8}", NULL, NULL, {"'model_args.head_dim'", "8"}},
    {1, "model_args", "{\"window_size\":[[3,3],[3,3]]}", NULL, NULL, {"'model_args.window_size'", "[[3,3],[3,3]]"}},
    {1, "global_pool", "\"max\"", NULL, NULL, {"'global_pool'", "max", "\"avg\""}},
    {1, NULL, NULL, "layers.1.downsample.norm.bias", NULL, {"'layers.1.downsample.norm.bias'", "missing"}},
    {3, NULL, NULL, "layers.0.downsample.norm.bias", NULL, {"'layers.0.downsample.norm.bias'", "missing"}},
    {4, NULL, NULL, "features.1.0.attn.qkv.weight", NULL, {"'features.1.0.attn.qkv.weight'", "missing"}},
    {4, NULL, NULL, "features.2.norm.bias", NULL, {"'features.2.norm.bias'", "missing"}},
    {4, NULL, NULL, NULL, "features.9.weight", {"'features.9.weight'", "not part of"}},
    {6, "num_early_exits", "\"[1]\"", NULL, NULL, {"'num_early_exits'", "[1]", "2 counts"}},
    {6, "num_early_exits", "\"[0,2]\"", NULL, NULL, {"'position_exits'", "as many as"}},
    {6, "num_early_exits", "1", NULL, NULL, {"'num_early_exits'", "2 counts"}},
    {6, "num_early_exits", NULL, NULL, NULL, {"'num_early_exits'", "missing", "[0,1,6,1]"}},
    {6, "position_exits", "\"[[],[2]]\"", NULL, NULL, {"'position_exits'", "[[],[2]]", "1 to 1"}},
    {6, "position_exits", "\"[1]\"", NULL, NULL, {"'position_exits'", "[1]"}},
    {6, "position_exits", NULL, NULL, NULL, {"'position_exits'", "missing"}},
    {6, "highway_type", "\"LGViT\"", NULL, NULL, {"'num_early_exits'", "[0,1,6,1]"}},
    {6, "highway_type", "\"luck\"", NULL, NULL, {"'highway_type'", "luck", "conv1_1"}},
    {6,
     NULL,
     NULL,
     "swin.encoder.layers.1.highway.0.classifier.classifier.bias",
     NULL,
     {"highway.0.classifier.classifier.bias'", "missing"}},
};

static void test_refusals(void **state) {
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *one = &refusals[i];
        struct tiny tiny;
        ees_error err = {0};
        tiny_init_swin(&tiny, namings[one->naming].family, namings[one->naming].config);
        if (one->key && one->value)
            json_object_set_new(tiny.config, one->key, json_loads(one->value, JSON_DECODE_ANY, NULL));
        else if (one->key)
            json_object_del(tiny.config, one->key);
        if (one->removed)
            tiny_remove(&tiny, one->removed);
        if (one->added)
            tiny_add(&tiny, one->added, 1, 3, 0, 0);
        if (open_tiny(&tiny, 0, 0, &err))
            fail_msg("case %zu is not refused", i);
        assert_int_equal(err.code, EES_EMODEL);
        for (size_t n = 0; n < 3 && one->needles[n]; n++)
            if (!strstr(err.message, one->needles[n]))
                fail_msg("case %zu: '%s' does not name '%s'", i, err.message, one->needles[n]);
        tiny_fini(&tiny);
    }
}

static void test_inputs_asked_for(void **state) {
    struct tiny tiny;
    ees_error err = {0};
    tiny_init_swin(&tiny, "hf-swin", namings[0].config);
    assert_null(open_tiny(&tiny, 8, 18, &err)); /* 4 x 9, then 2 x 5 */
    assert_int_equal(err.code, EES_EINVAL);
    assert_non_null(strstr(err.message, "2 x 5 tokens in stage 1, expected at least the window, 3"));
    tiny_fini(&tiny);
}

/* ---- what a model tells --------------------------------------------------------------------------------- */

static void test_stages(void **state) {
    static const char *const units[] = {"ingest",      "embed",        "block1.attn", "block1.mlp",
                                        "block2.attn", "block2.mlp",   "merge1",      "block3.attn",
                                        "block3.mlp",  "exit0.linear", "final"};
    static const unsigned blocks[] = {0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3};
    struct tiny tiny;
    ees_error err = {0};
    tiny_init_swin(&tiny, "lgvit-swin", LGVIT);
    ees_model *model = open_tiny(&tiny, 0, 0, &err);
    assert_non_null(model);
    const ees_model_info *info = ees_model_get_info(model);
    assert_int_equal(info->n_stages, 2);
    assert_int_equal(info->n_blocks, 3);
    assert_int_equal(info->stages[0].n_tokens, 54);
    assert_int_equal(info->stages[1].n_tokens, 15);
    assert_int_equal(info->stages[1].n_channels, 16);
    assert_int_equal(info->stages[1].n_heads, 4);
    assert_int_equal(info->stages[1].mlp_width, 32);
    assert_int_equal(info->stages[1].window_height, 3);
    assert_int_equal(info->stages[0].shift_height, 1); /* half of 3 */
    assert_int_equal(info->stages[0].shift_width, 1);
    assert_int_equal(info->stages[1].shift_height, 0); /* 3 rows are one window */
    assert_int_equal(info->stages[1].shift_width, 0);
    assert_false(info->stages[0].rolls_first);
    assert_int_equal(info->state_bytes, 54 * 12 * sizeof(float)); /* patches are the largest */
    assert_int_equal(info->n_units, sizeof units / sizeof *units);
    for (unsigned i = 0; i < info->n_units; i++) {
        const ees_unit_info *unit = ees_model_get_unit(model, i);
        assert_string_equal(unit->name, units[i]);
        assert_int_equal(unit->block, blocks[i]);
        assert_true(i == 0 || (unit->flops > 0 && unit->weights_bytes > 0));
    }
    ees_model_close(model);
    tiny_fini(&tiny);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_namings_agree),
        cmocka_unit_test(test_against_a_plain_forward),
        cmocka_unit_test(test_one_side_shifts),
        cmocka_unit_test(test_linear_heads),
        cmocka_unit_test(test_lgvit_defaults),
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_inputs_asked_for),
        cmocka_unit_test(test_rims),
        cmocka_unit_test(test_stages),
    };
    return cmocka_run_group_tests_name("swin", tests, NULL, NULL);
}
