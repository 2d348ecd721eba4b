/* SPDX-License-Identifier: MIT */
/* One model under every naming gives one answer; DINOv2's parts against a plain double-precision forward; half
 * precision; how each family prepares pictures. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/model.h"
#include "support.h"

#define FIXTURES EES_SHARED_DATA "/fixtures"

enum { C = 16, H = 2, F = 24, K = 3, N_PIXELS = 3 * 8 * 12 };

#define HF_SIZES                                                                                                       \
    "\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,\"num_attention_heads\":2,\"intermediate_size\":24,"    \
    "\"num_hidden_layers\":2,\"num_labels\":3,\"layer_norm_eps\":1e-6"
#define TIMM_SIZES "\"model_args\":{\"img_size\":[8,12],\"num_heads\":2}"

static void fill_pixels(float *pixels, size_t n) {
    for (size_t i = 0; i < n; i++)
        pixels[i] = sinf((float)i * .37f);
}

/* Write and open. */
static ees_model *open_written(const struct tiny *tiny, const ees_model_options *options) {
    char dir[64];
    ees_model *model = NULL;
    ees_error err = {0};
    make_folder(dir);
    tiny_write(tiny, dir);
    if (ees_model_open(dir, options, &model, &err) != 0)
        fail_msg("%s", err.message);
    remove_folder(dir);
    return model;
}

static void answer(struct tiny *tiny, const char *family, float logits[K]) {
    float pixels[N_PIXELS];
    ees_model *model = open_written(tiny, NULL);
    assert_string_equal(ees_model_get_info(model)->family, family);
    fill_pixels(pixels, N_PIXELS);
    trace_logits(model, pixels, logits);
    ees_model_close(model);
    tiny_fini(tiny);
}

static void answer_form(const struct form *form, float logits[K]) {
    struct tiny tiny;
    tiny_init_form(&tiny, form);
    answer(&tiny, form->family, logits);
}

/* ---- names --------------------------------------------------------------------------------------------- */

static const struct form plain_forms[] = {
    {.family = "hf-vit", .config = "{\"model_type\":\"vit\"," HF_SIZES "}"},
    {.family = "timm-vit", .config = "{\"architecture\":\"vit_tiny_patch16_224\"," TIMM_SIZES "}"},
    {.family = "timm-vit", .config = "{" TIMM_SIZES ",\"num_classes\":3}"},
    {.family = "torchvision-vit", .config = "{\"args\":{\"image_size\":[8,12],\"num_heads\":2,\"mlp_dim\":24}}"},
    {.family = "eevit",
     .config = "{\"layer_norm_eps\":1e-6,\"model\":{\"image_size\":[8,12],\"num_attn_heads\":2,\"dim_head\":8,"
               "\"early_exit_config\":{\"enabled\":false}}}"},
};

static void test_vit_namings_agree(void **state) {
    float expected[K], logits[K];
    answer_form(&plain_forms[0], expected);
    for (size_t i = 1; i < sizeof plain_forms / sizeof *plain_forms; i++) {
        answer_form(&plain_forms[i], logits);
        assert_memory_equal(logits, expected, sizeof logits);
    }
}

/* torchvision once called the MLP's layers linear_1 and linear_2. */
static void test_old_torchvision(void **state) {
    float expected[K], logits[K];
    struct tiny tiny;
    answer_form(&plain_forms[3], expected);
    tiny_init_form(&tiny, &plain_forms[3]);
    for (unsigned block = 0; block < 2; block++) {
        char from[64], to[64];
        snprintf(from, sizeof from, "encoder.layers.encoder_layer_%u.mlp.0", block);
        snprintf(to, sizeof to, "encoder.layers.encoder_layer_%u.mlp.linear_1", block);
        tiny_rename(&tiny, from, to);
        snprintf(from, sizeof from, "encoder.layers.encoder_layer_%u.mlp.3", block);
        snprintf(to, sizeof to, "encoder.layers.encoder_layer_%u.mlp.linear_2", block);
        tiny_rename(&tiny, from, to);
    }
    answer(&tiny, "torchvision-vit", logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

/* With the class head alone, a distilled DeiT's file is a plain one's whose second token is not classified. */
static void test_deit_namings_agree(void **state) {
    static const struct form hf = {.family = "hf-deit-distilled",
                                   .config = "{\"model_type\":\"deit\"," HF_SIZES "}",
                                   .flags = FORM_DIST},
                             timm = {.family = "timm-vit", .config = "{" TIMM_SIZES "}", .flags = FORM_DIST},
                             plain = {.family = "hf-deit",
                                      .config = "{\"model_type\":\"deit\",\"architectures\":["
                                                "\"DeiTForImageClassification\"]," HF_SIZES "}",
                                      .flags = FORM_DIST};
    float expected[K], logits[K], cls[K];
    struct tiny tiny;
    answer_form(&hf, expected);
    answer_form(&timm, logits);
    assert_memory_equal(logits, expected, sizeof logits);

    tiny_init_form(&tiny, &plain);
    tiny_remove(&tiny, "distillation_classifier.weight");
    tiny_remove(&tiny, "distillation_classifier.bias");
    answer(&tiny, "hf-deit", cls);
    /* A distillation classifier of zeros leaves half of the class's. */
    tiny_init_form(&tiny, &hf);
    memset(tiny_find(&tiny, "distillation_classifier.weight")->data, 0, K * C * sizeof(float));
    memset(tiny_find(&tiny, "distillation_classifier.bias")->data, 0, K * sizeof(float));
    answer(&tiny, "hf-deit-distilled", logits);
    for (size_t k = 0; k < K; k++)
        assert_true(fabsf(2 * logits[k] - cls[k]) < 1e-6f);
}

#define DINOV2_SIZES                                                                                                   \
    "\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,\"num_attention_heads\":2,\"num_hidden_layers\":2,"     \
    "\"num_labels\":3,\"num_register_tokens\":2"

#define REGISTERS_CONFIG "{\"model_type\":\"dinov2_with_registers\",\"mlp_ratio\":1.5," DINOV2_SIZES "}"

static const struct form dinov2_forms[] = {
    {.family = "hf-dinov2-with-registers",
     .config = REGISTERS_CONFIG,
     .flags = FORM_REGISTERS | FORM_SCALE | FORM_WIDE_HEAD},
    /* int(16 * 2.25) = 36, of which two thirds are 24 */
    {.family = "hf-dinov2-with-registers",
     .config = "{\"model_type\":\"dinov2_with_registers\",\"mlp_ratio\":2.25,\"use_swiglu_ffn\":true," DINOV2_SIZES "}",
     .flags = FORM_REGISTERS | FORM_SCALE | FORM_WIDE_HEAD | FORM_GATED},
};

/* facebookresearch/dinov2: its own name of registers, a mask token, blocks in chunks. */
static void init_published(struct tiny *tiny, unsigned flags, bool chunked) {
    const struct form form = {.family = "dinov2", .config = "{" TIMM_SIZES "}", .flags = flags};
    tiny_init_form(tiny, &form);
    tiny_rename(tiny, "reg_token", "register_tokens");
    tiny_add(tiny, "mask_token", 2, 1, C, 0);
    if (!chunked)
        return;
    tiny_rename(tiny, "blocks.0.", "blocks.0.0.");
    tiny_rename(tiny, "blocks.1.", "blocks.1.1.");
}

static void test_dinov2_namings_agree(void **state) {
    for (size_t i = 0; i < sizeof dinov2_forms / sizeof *dinov2_forms; i++) {
        float expected[K], logits[K];
        answer_form(&dinov2_forms[i], expected);
        for (int chunked = 0; chunked < 2; chunked++) {
            struct tiny tiny;
            init_published(&tiny, dinov2_forms[i].flags, chunked);
            answer(&tiny, "dinov2", logits);
            assert_memory_equal(logits, expected, sizeof logits);
        }
    }
}

/* timm adds the class token's row of the position table to the token, and calls the gated layers fc1 and fc2. */
static void test_timm_dinov2(void **state) {
    const unsigned flags = FORM_REGISTERS | FORM_SCALE | FORM_GATED;
    const struct form form = {.family = "timm-vit", .config = "{" TIMM_SIZES "}", .flags = flags};
    float expected[K], logits[K];
    struct tiny tiny;
    init_published(&tiny, flags, false);
    answer(&tiny, "dinov2", expected);
    tiny_init_form(&tiny, &form);
    tiny_rename(&tiny, "blocks.0.mlp.w12", "blocks.0.mlp.fc1");
    tiny_rename(&tiny, "blocks.0.mlp.w3", "blocks.0.mlp.fc2");
    tiny_rename(&tiny, "blocks.1.mlp.w12", "blocks.1.mlp.fc1");
    tiny_rename(&tiny, "blocks.1.mlp.w3", "blocks.1.mlp.fc2");
    struct tensor *cls = tiny_find(&tiny, "cls_token"), *pos = tiny_find(&tiny, "pos_embed");
    for (size_t i = 0; i < C; i++)
        cls->data[i] += pos->data[i];
    pos->shape[1]--;
    memmove(pos->data, pos->data + C, pos->shape[1] * C * sizeof(float));
    answer(&tiny, "timm-vit", logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

/* ---- tables and rims ----------------------------------------------------------------------------------- */

/* timm's table has rows for registers unless it has none for special tokens at all. */
static void test_timm_table_with_registers(void **state) {
    const struct form form = {.family = "timm-vit", .config = "{" TIMM_SIZES "}", .flags = FORM_REGISTERS};
    float expected[K], logits[K];
    struct tiny tiny;
    answer_form(&form, expected);
    tiny_init_form(&tiny, &form);
    struct tensor *pos = tiny_find(&tiny, "pos_embed");
    size_t n = pos->shape[1] * C;
    float *rows = calloc(n + 2 * C, sizeof *rows);
    assert_non_null(rows);
    memcpy(rows, pos->data, C * sizeof *rows);
    memcpy(rows + 3 * C, pos->data + C, (n - C) * sizeof *rows);
    free(pos->data);
    pos->data = rows;
    pos->shape[1] += 2;
    answer(&tiny, "timm-vit", logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

static void answer_pixels(struct tiny *tiny, const float *pixels, float logits[K]) {
    ees_model *model = open_written(tiny, NULL);
    trace_logits(model, pixels, logits);
    ees_model_close(model);
    tiny_fini(tiny);
}

/* Ten rows are a grid of 2 x 5 and not a class token's row before a square of 9. */
static void test_timm_table_like_a_square_and_one(void **state) {
    const struct form form = {.family = "timm-vit",
                              .config = "{\"model_args\":{\"img_size\":[8,20],\"num_heads\":2}}",
                              .image_h = 8,
                              .image_w = 20,
                              .patch = 4};
    float pixels[3 * 8 * 20], expected[K], logits[K];
    struct tiny tiny;
    fill_pixels(pixels, sizeof pixels / sizeof *pixels);
    tiny_init_form(&tiny, &form);
    answer_pixels(&tiny, pixels, expected);
    tiny_init_form(&tiny, &form);
    struct tensor *cls = tiny_find(&tiny, "cls_token"), *pos = tiny_find(&tiny, "pos_embed");
    for (size_t i = 0; i < C; i++)
        cls->data[i] += pos->data[i];
    pos->shape[1]--;
    memmove(pos->data, pos->data + C, pos->shape[1] * C * sizeof(float));
    answer_pixels(&tiny, pixels, logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

/* Pixels at the right and the bottom that fill no patch are not looked at. */
static void test_rim(void **state) {
    const struct form form = {.family = "hf-vit",
                              .config = "{\"model_type\":\"vit\",\"image_size\":[11,15],\"patch_size\":[4,4],"
                                        "\"hidden_size\":16,\"num_attention_heads\":2,\"intermediate_size\":24,"
                                        "\"num_hidden_layers\":2,\"num_labels\":3,\"layer_norm_eps\":1e-6}"};
    float inner[N_PIXELS], pixels[3 * 11 * 15], expected[K], logits[K];
    struct tiny tiny;
    answer_form(&plain_forms[0], expected);
    fill_pixels(inner, N_PIXELS);
    for (size_t i = 0; i < sizeof pixels / sizeof *pixels; i++) {
        size_t row = i / 15 % 11, column = i % 15;
        pixels[i] = row < 8 && column < 12 ? inner[(i / (11 * 15) * 8 + row) * 12 + column] : 100.0f;
    }
    tiny_init_form(&tiny, &form);
    answer_pixels(&tiny, pixels, logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

/* transformers writes the tensor of no registers. */
static void test_no_registers(void **state) {
    const struct form with = {.family = "hf-dinov2-with-registers",
                              .config = "{\"model_type\":\"dinov2_with_registers\",\"mlp_ratio\":1.5,"
                                        "\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,"
                                        "\"num_attention_heads\":2,\"num_hidden_layers\":2,\"num_labels\":3,"
                                        "\"num_register_tokens\":0}",
                              .flags = FORM_SCALE | FORM_WIDE_HEAD};
    float expected[K], logits[K];
    struct tiny tiny;
    tiny_init_form(&tiny, &with);
    answer(&tiny, with.family, expected);
    tiny_init_form(&tiny, &with);
    tiny_add(&tiny, "dinov2_with_registers.embeddings.register_tokens", 3, 1, 0, C);
    answer(&tiny, with.family, logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

/* ---- a plain forward ----------------------------------------------------------------------------------- */

enum { T = 1 + 2 + 6, FIRST_PATCH = 3 };

static const float *weight(struct tiny *tiny, const char *format, unsigned block) {
    char name[128];
    snprintf(name, sizeof name, format, block);
    return tiny_find(tiny, name)->data;
}

static void norm_rows(double *x, double *y, const float *gamma, const float *beta) {
    for (size_t t = 0; t < T; t++, x += C, y += C) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < C; i++)
            mean += x[i] / C;
        for (size_t i = 0; i < C; i++)
            variance += (x[i] - mean) * (x[i] - mean) / C;
        for (size_t i = 0; i < C; i++)
            y[i] = (x[i] - mean) / sqrt(variance + 1e-6) * (double)gamma[i] + (double)beta[i];
    }
}

/* y (T, n) = x (T, k) W^T + b */
static void multiply(const double *x, size_t k, const float *w, const float *b, size_t n, double *y, size_t ldy) {
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < n; i++) {
            double sum = (double)b[i];
            for (size_t j = 0; j < k; j++)
                sum += x[t * k + j] * (double)w[i * k + j];
            y[t * ldy + i] = sum;
        }
}

static void add_scaled(double *x, const double *y, const float *scale) {
    for (size_t i = 0; i < T * C; i++)
        x[i] += y[i] * (double)scale[i % C];
}

static void attend(const double *q, const double *k, const double *v, double *out) {
    const size_t d = C / H;
    for (size_t head = 0; head < H; head++)
        for (size_t i = 0; i < T; i++) {
            double weights[T], sum = 0;
            for (size_t j = 0; j < T; j++) {
                double score = 0;
                for (size_t p = head * d; p < (head + 1) * d; p++)
                    score += q[i * C + p] * k[j * C + p];
                sum += weights[j] = exp(score / sqrt((double)d));
            }
            for (size_t p = head * d; p < (head + 1) * d; p++) {
                out[i * C + p] = 0;
                for (size_t j = 0; j < T; j++)
                    out[i * C + p] += weights[j] / sum * v[j * C + p];
            }
        }
}

#define LAYER "dinov2_with_registers.encoder.layer.%u."

static void run_attention(struct tiny *tiny, unsigned block, double *x) {
    static const char *const parts[] = {"query", "key", "value"};
    double normed[T * C], qkv[3][T * C], attended[T * C], out[T * C];
    norm_rows(x, normed, weight(tiny, LAYER "norm1.weight", block), weight(tiny, LAYER "norm1.bias", block));
    for (size_t i = 0; i < 3; i++) {
        char w[128], b[128];
        snprintf(w, sizeof w, LAYER "attention.attention.%s.weight", block, parts[i]);
        snprintf(b, sizeof b, LAYER "attention.attention.%s.bias", block, parts[i]);
        multiply(normed, C, tiny_find(tiny, w)->data, tiny_find(tiny, b)->data, C, qkv[i], C);
    }
    attend(qkv[0], qkv[1], qkv[2], attended);
    multiply(attended, C, weight(tiny, LAYER "attention.output.dense.weight", block),
             weight(tiny, LAYER "attention.output.dense.bias", block), C, out, C);
    add_scaled(x, out, weight(tiny, LAYER "layer_scale1.lambda1", block));
}

static void run_gated_mlp(struct tiny *tiny, unsigned block, double *x) {
    double normed[T * C], both[T * 2 * F], gated[T * F], out[T * C];
    norm_rows(x, normed, weight(tiny, LAYER "norm2.weight", block), weight(tiny, LAYER "norm2.bias", block));
    multiply(normed, C, weight(tiny, LAYER "mlp.weights_in.weight", block),
             weight(tiny, LAYER "mlp.weights_in.bias", block), 2 * F, both, 2 * F);
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < F; i++) {
            double a = both[t * 2 * F + i];
            gated[t * F + i] = a / (1 + exp(-a)) * both[t * 2 * F + F + i];
        }
    multiply(gated, F, weight(tiny, LAYER "mlp.weights_out.weight", block),
             weight(tiny, LAYER "mlp.weights_out.bias", block), C, out, C);
    add_scaled(x, out, weight(tiny, LAYER "layer_scale2.lambda1", block));
}

#define EMBEDDINGS "dinov2_with_registers.embeddings."

/* Class token with its position, registers without, patches with theirs. */
static void embed(struct tiny *tiny, const float *pixels, double *x) {
    const float *pos = weight(tiny, EMBEDDINGS "position_embeddings", 0);
    const float *cls = weight(tiny, EMBEDDINGS "cls_token", 0), *reg = weight(tiny, EMBEDDINGS "register_tokens", 0);
    const float *w = weight(tiny, EMBEDDINGS "patch_embeddings.projection.weight", 0);
    const float *b = weight(tiny, EMBEDDINGS "patch_embeddings.projection.bias", 0);
    for (size_t i = 0; i < C; i++) {
        x[i] = (double)cls[i] + (double)pos[i];
        x[C + i] = (double)reg[i];
        x[2 * C + i] = (double)reg[C + i];
        for (size_t n = 0; n < 6; n++) {
            double sum = (double)b[i] + (double)pos[(1 + n) * C + i];
            for (size_t k = 0; k < 48; k++) {
                size_t row = n / 3 * 4 + k / 4 % 4, column = n % 3 * 4 + k % 4;
                sum += (double)w[i * 48 + k] * (double)pixels[(k / 16 * 8 + row) * 12 + column];
            }
            x[(FIRST_PATCH + n) * C + i] = sum;
        }
    }
}

static void classify(struct tiny *tiny, double *x, double logits[K]) {
    const float *w = tiny_find(tiny, "classifier.weight")->data, *b = tiny_find(tiny, "classifier.bias")->data;
    double normed[T * C], row[2 * C] = {0};
    norm_rows(x, normed, weight(tiny, "dinov2_with_registers.layernorm.weight", 0),
              weight(tiny, "dinov2_with_registers.layernorm.bias", 0));
    for (size_t i = 0; i < C; i++) {
        row[i] = normed[i];
        for (size_t t = FIRST_PATCH; t < T; t++)
            row[C + i] += normed[t * C + i] / (T - FIRST_PATCH);
    }
    for (size_t k = 0; k < K; k++) {
        logits[k] = (double)b[k];
        for (size_t i = 0; i < 2 * C; i++)
            logits[k] += row[i] * (double)w[k * 2 * C + i];
    }
}

static void test_dinov2_against_a_plain_forward(void **state) {
    float pixels[N_PIXELS], logits[K];
    double x[T * C], expected[K];
    struct tiny tiny;
    fill_pixels(pixels, N_PIXELS);
    tiny_init_form(&tiny, &dinov2_forms[1]);
    embed(&tiny, pixels, x);
    for (unsigned block = 0; block < 2; block++) {
        run_attention(&tiny, block, x);
        run_gated_mlp(&tiny, block, x);
    }
    classify(&tiny, x, expected);
    answer(&tiny, "hf-dinov2-with-registers", logits);
    for (size_t k = 0; k < K; k++) {
        print_message("  logit %zu: %.7f, plain %.7f\n", k, (double)logits[k], expected[k]);
        assert_true(fabs((double)logits[k] - expected[k]) < 1e-5);
    }
}

/* ---- half precision ------------------------------------------------------------------------------------ */

/* The fixture's tensors as `dtype`, or as F32 of the same values. */
static void copy_fixture(const ees_tensors *from, const char *dtype, bool widened, struct tiny *out) {
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < ees_tensors_count(from); i++) {
        const ees_tensor_info *info = ees_tensors_at(from, i);
        struct tensor *t = tiny_add(out, info->name, info->rank, 0, 0, 0);
        for (unsigned a = 0; a < info->rank; a++)
            t->shape[a] = info->shape[a];
        t->data = read_tensor(from, info->name, &info);
        t->dtype = widened ? "F32" : dtype;
        for (size_t j = 0; j < info->n_elements && widened; j++)
            t->data[j] = cut_to_half(dtype, t->data[j], NULL);
    }
}

/* Half weights are widened and nothing else: the bits of a file that holds the same values as F32. */
static void check_half(const char *dtype, const char *fixture, float allowed) {
    char dir[300];
    float logits[3][64];
    snprintf(dir, sizeof dir, "%s/%s", FIXTURES, fixture);
    ees_tensors *weights = open_tensors_or_skip(dir, "model.safetensors");
    ees_tensors *inputs = open_tensors_or_skip(dir, "inputs.safetensors");
    const ees_tensor_info *shape;
    float *pixels = read_tensor(inputs, "pixel_values", &shape);
    ees_model_options options;
    ees_model_options_default(&options);
    options.image_height_px = (unsigned)shape->shape[2];
    options.image_width_px = (unsigned)shape->shape[3];
    for (int i = 0; i < 2; i++) {
        struct tiny tiny;
        copy_fixture(weights, dtype, i == 1, &tiny);
        tiny.config = load_json(dir, "config.json");
        ees_model *model = open_written(&tiny, &options);
        trace_logits(model, pixels, logits[i]);
        ees_model_close(model);
        tiny_fini(&tiny);
    }
    ees_model *model;
    assert_int_equal(ees_model_open(dir, &options, &model, NULL), 0);
    trace_logits(model, pixels, logits[2]);
    float worst = 0;
    for (unsigned k = 0; k < ees_model_get_info(model)->n_classes; k++) {
        assert_true(logits[0][k] == logits[1][k]);
        worst = fmaxf(worst, fabsf(logits[0][k] - logits[2][k]));
    }
    print_message("  %s as %s: logits move by %.2e\n", fixture, dtype, (double)worst);
    assert_true(worst > 0 && worst < allowed);
    ees_model_close(model);
    free(pixels);
    ees_tensors_close(weights);
    ees_tensors_close(inputs);
}

static void test_half_precision(void **state) {
    check_half("BF16", "hf_vit", 1.0F);
    check_half("F16", "hf_vit", 0.1F);
    check_half("F16", "hf_dinov2", 0.1F);
    check_half("BF16", "timm_deit_distilled", 1.0F);
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

static const double imagenet = 0.485, half = 0.5;

/* Spec 2.1, for an input of 224 (timm: also what pretrained_cfg says). */
static const struct {
    struct form form;
    unsigned resize_h, resize_w;
    enum ees__filter filter;
    bool crop, half_even;
    const double *mean;
} pictures[] = {
    {{"hf-vit",
      "{\"model_type\":\"vit\",\"hidden_size\":16,\"intermediate_size\":24,\"num_hidden_layers\":2,"
      "\"num_attention_heads\":2,\"num_labels\":3}",
      0, 224, 224, 16},
     224,
     224,
     EES__FILTER_BILINEAR,
     false,
     false,
     &half},
    {{"hf-deit-distilled",
      "{\"model_type\":\"deit\",\"hidden_size\":16,\"intermediate_size\":24,"
      "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_labels\":3}",
      FORM_DIST, 224, 224, 16},
     256,
     256,
     EES__FILTER_BICUBIC,
     true,
     false,
     &imagenet},
    {{"hf-dinov2",
      "{\"model_type\":\"dinov2\",\"hidden_size\":16,\"mlp_ratio\":1.5,\"num_hidden_layers\":2,"
      "\"num_attention_heads\":2,\"num_labels\":3}",
      FORM_SCALE | FORM_WIDE_HEAD, 518, 518, 14},
     256,
     0,
     EES__FILTER_BICUBIC,
     true,
     false,
     &imagenet},
    {{"timm-vit", "{\"model_args\":{\"num_heads\":2}}", 0, 224, 224, 16},
     248,
     0,
     EES__FILTER_BICUBIC,
     true,
     true,
     &half},
    {{"timm-vit",
      "{\"model_args\":{\"num_heads\":2},\"pretrained_cfg\":{\"crop_pct\":1.0,\"interpolation\":\"bilinear\","
      "\"mean\":[0.485,0.456,0.406],\"std\":[0.229,0.224,0.225],\"input_size\":[3,224,224]}}",
      FORM_DIST, 224, 224, 16},
     224,
     0,
     EES__FILTER_BILINEAR,
     true,
     true,
     &imagenet},
    {{"torchvision-vit", "{\"args\":{\"num_heads\":2}}", 0, 224, 224, 16},
     256,
     0,
     EES__FILTER_BILINEAR,
     true,
     true,
     &imagenet},
    {{"eevit", "{\"model\":{\"num_attn_heads\":2,\"early_exit_config\":{\"enabled\":false}}}", 0, 224, 224, 16},
     224,
     0,
     EES__FILTER_BILINEAR,
     true,
     true,
     &imagenet},
};

static void test_pictures_of_each_family(void **state) {
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++) {
        struct tiny tiny;
        tiny_init_form(&tiny, &pictures[i].form);
        ees_model *model = open_written(&tiny, NULL);
        const struct ees__preproc *p = &model->preproc;
        assert_string_equal(model->info.family, pictures[i].form.family);
        assert_int_equal(model->info.image_height_px, 224);
        assert_int_equal(model->info.image_width_px, 224);
        assert_int_equal(p->resize_h, pictures[i].resize_h);
        assert_int_equal(p->resize_w, pictures[i].resize_w);
        assert_int_equal(p->filter, pictures[i].filter);
        assert_int_equal(p->crop, pictures[i].crop);
        if (p->crop)
            assert_int_equal(p->crop_round_half_even, pictures[i].half_even);
        assert_true(p->mean[0] == *pictures[i].mean);
        ees_model_close(model);
        tiny_fini(&tiny);
    }
}

/* A processor's file decides; for DINOv2 also on the input, unless the caller does. */
static void test_processor_of_dinov2(void **state) {
    static const char text[] = "{\"size\":{\"shortest_edge\":40},\"do_center_crop\":true,\"crop_size\":{\"height\":32,"
                               "\"width\":32},\"resample\":3,\"image_mean\":[0.1,0.2,0.3],\"image_std\":[1,1,1]}";
    static const struct form form = {
        .family = "hf-dinov2",
        .config = "{\"model_type\":\"dinov2\",\"patch_size\":4,\"hidden_size\":16,\"mlp_ratio\":1.5,"
                  "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_labels\":3}",
        .flags = FORM_SCALE | FORM_WIDE_HEAD,
        .image_h = 16,
        .image_w = 16,
        .patch = 4,
    };
    char dir[64];
    struct tiny tiny;
    ees_model *model;
    ees_model_options options;
    make_folder(dir);
    tiny_init_form(&tiny, &form);
    tiny_write(&tiny, dir);
    write_file(dir, "preprocessor_config.json", text, sizeof text - 1);
    ees_model_options_default(&options);
    assert_int_equal(ees_model_open(dir, &options, &model, NULL), 0);
    assert_int_equal(model->info.image_height_px, 32);
    assert_int_equal(model->info.n_tokens, 1 + 64);
    assert_int_equal(model->preproc.resize_h, 40);
    assert_true(model->preproc.mean[2] == 0.3);
    ees_model_close(model);
    options.image_height_px = 48;
    options.image_width_px = 64;
    assert_int_equal(ees_model_open(dir, &options, &model, NULL), 0);
    assert_int_equal(model->info.n_tokens, 1 + 12 * 16);
    assert_int_equal(model->preproc.resize_h, 80);
    assert_true(model->preproc.crop && model->preproc.resize_w == 0);
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
}

/* ---- position tables ----------------------------------------------------------------------------------- */

/* Spec 1.5. The rules themselves: test_resample.c. */
static void test_table_rule_of_each_family(void **state) {
#define VERSIONED(version) "{\"model_type\":\"vit\"," HF_SIZES ",\"transformers_version\":\"" version "\"}"
    static const struct {
        struct form form;
        enum ees__table_filter filter;
    } cases[] = {
        {{.family = "hf-vit", .config = "{\"model_type\":\"vit\"," HF_SIZES "}"}, EES__TABLE_CUBIC},
        {{.family = "hf-vit", .config = VERSIONED("4.26.0")}, EES__TABLE_CUBIC_SCALED},
        {{.family = "hf-vit", .config = VERSIONED("4.44.2")}, EES__TABLE_CUBIC_SCALED},
        {{.family = "hf-vit", .config = VERSIONED("4.45.0.dev0")}, EES__TABLE_CUBIC},
        {{.family = "hf-vit", .config = VERSIONED("5.23.0")}, EES__TABLE_CUBIC},
        {{.family = "hf-dinov2-with-registers",
          .config = REGISTERS_CONFIG,
          .flags = FORM_REGISTERS | FORM_SCALE | FORM_WIDE_HEAD},
         EES__TABLE_CUBIC_ANTIALIAS},
        {{.family = "timm-vit", .config = "{" TIMM_SIZES "}"}, EES__TABLE_CUBIC_ANTIALIAS},
        {{.family = "torchvision-vit", .config = "{\"args\":{\"image_size\":[8,12],\"num_heads\":2}}"},
         EES__TABLE_CUBIC_CORNERS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny tiny;
        tiny_init_form(&tiny, &cases[i].form);
        ees_model *model = open_written(&tiny, NULL);
        assert_int_equal(model->dims.table_filter, cases[i].filter);
        ees_model_close(model);
        tiny_fini(&tiny);
    }
    for (unsigned flags = 0; flags <= FORM_REGISTERS; flags += FORM_REGISTERS) {
        const struct form form = {.family = "dinov2", .config = "{" TIMM_SIZES "}", .flags = flags};
        struct tiny tiny;
        tiny_init_form(&tiny, &form);
        tiny_add(&tiny, "mask_token", 2, 1, C, 0);
        ees_model *model = open_written(&tiny, NULL);
        assert_int_equal(model->dims.table_filter, flags ? EES__TABLE_CUBIC_ANTIALIAS : EES__TABLE_CUBIC_SCALED);
        ees_model_close(model);
        tiny_fini(&tiny);
    }
}

/* ---- activations --------------------------------------------------------------------------------------- */

/* The arithmetic: tests/kernels/check_gelu.c; a block with each of them: test_exit_heads.c. */
static void test_activations(void **state) {
#define ACTING(name)                                                                                                   \
    { .family = "hf-vit", .config = "{\"model_type\":\"vit\"," HF_SIZES ",\"hidden_act\":\"" name "\"}" }
    static const struct {
        struct form form;
        enum ees__post_op activation;
    } cases[] = {
        {ACTING("gelu"), EES__POST_GELU},
        {ACTING("gelu_new"), EES__POST_GELU_TANH},
        {ACTING("gelu_pytorch_tanh"), EES__POST_GELU_TANH},
        {ACTING("gelu_fast"), EES__POST_GELU_TANH},
        {ACTING("relu"), EES__POST_RELU},
        {ACTING("silu"), EES__POST_SILU},
        {{.family = "timm-vit",
          .config = "{\"model_args\":{\"img_size\":[8,12],\"num_heads\":2,\"act_layer\":\"gelu_tanh\"}}"},
         EES__POST_GELU_TANH},
        {{.family = "torchvision-vit", .config = "{\"args\":{\"image_size\":[8,12],\"num_heads\":2}}"}, EES__POST_GELU},
    };
    float logits[sizeof cases / sizeof *cases][K], pixels[N_PIXELS];
    fill_pixels(pixels, N_PIXELS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny tiny;
        tiny_init_form(&tiny, &cases[i].form);
        ees_model *model = open_written(&tiny, NULL);
        assert_int_equal(model->dims.activation, cases[i].activation);
        trace_logits(model, pixels, logits[i]);
        ees_model_close(model);
        tiny_fini(&tiny);
    }
    float moved = fabsf(logits[0][0] - logits[1][0]); /* tanh instead of erf, in two small blocks */
    assert_true(moved > 0 && moved < 1e-2f);
    assert_memory_equal(logits[1], logits[2], sizeof logits[1]);
    assert_memory_not_equal(logits[0], logits[4], sizeof logits[0]);
}

/* ---- what timm's models vary ---------------------------------------------------------------------------- */

/* Opening it is refused in these words. */
static void expect_refused(struct tiny *tiny, const char *words, const char *more) {
    char dir[64];
    ees_model *model = NULL;
    ees_error err = {0};
    make_folder(dir);
    tiny_write(tiny, dir);
    assert_int_equal(ees_model_open(dir, NULL, &model, &err), EES_EMODEL);
    if (!strstr(err.message, words) || !strstr(err.message, more))
        fail_msg("%s", err.message);
    tiny_fini(tiny);
    remove_folder(dir);
}

static void init_timm(struct tiny *tiny, const char *config) {
    const struct form form = {.family = "timm-vit", .config = config};
    tiny_init_form(tiny, &form);
}

/* Of the class token the final norm may be called fc_norm. */
static void test_timm_norm_behind_the_pool(void **state) {
    float expected[K], logits[K];
    struct tiny tiny;
    answer_form(&plain_forms[1], expected);
    tiny_init_form(&tiny, &plain_forms[1]);
    tiny_rename(&tiny, "norm.", "fc_norm.");
    answer(&tiny, "timm-vit", logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

/* Queries and keys that a norm of zeros makes zero, as weights of zeros do, attend to all tokens alike. */
static void test_timm_norm_of_queries(void **state) {
    static const char *const leaves[] = {"q_norm.weight", "q_norm.bias", "k_norm.weight", "k_norm.bias"};
    float expected[K], logits[K];
    struct tiny zeroed, normed;
    tiny_init_form(&zeroed, &plain_forms[1]);
    tiny_init_form(&normed, &plain_forms[1]);
    for (unsigned i = 0; i < 2; i++) {
        char name[48];
        snprintf(name, sizeof name, "blocks.%u.attn.qkv.weight", i);
        memset(tiny_find(&zeroed, name)->data, 0, (size_t)C * C * sizeof(float));
        snprintf(name, sizeof name, "blocks.%u.attn.qkv.bias", i);
        memset(tiny_find(&zeroed, name)->data, 0, C * sizeof(float));
        for (size_t j = 0; j < sizeof leaves / sizeof *leaves; j++) {
            snprintf(name, sizeof name, "blocks.%u.attn.%s", i, leaves[j]);
            tiny_add(&normed, name, 1, C / 2, 0, 0);
        }
    }
    answer(&zeroed, "timm-vit", expected);
    answer(&normed, "timm-vit", logits);
    assert_memory_equal(logits, expected, sizeof logits);
}

static void test_timm_parts_that_miss_others(void **state) {
    struct tiny tiny;
    init_timm(&tiny, "{" TIMM_SIZES "}");
    tiny_remove(&tiny, "cls_token");
    expect_refused(&tiny, "'cls_token'", "is missing");
    init_timm(&tiny, "{" TIMM_SIZES "}");
    tiny_remove(&tiny, "patch_embed.proj.bias");
    expect_refused(&tiny, "'patch_embed.proj.bias'", "is missing");
    init_timm(&tiny, "{" TIMM_SIZES "}");
    tiny_add(&tiny, "norm_pre.weight", 1, C, 0, 0);
    expect_refused(&tiny, "'norm_pre.bias'", "is missing");
    init_timm(&tiny, "{" TIMM_SIZES "}");
    tiny_add(&tiny, "blocks.0.attn.q_norm.weight", 1, C / 2, 0, 0);
    tiny_add(&tiny, "blocks.0.attn.q_norm.bias", 1, C / 2, 0, 0);
    expect_refused(&tiny, "'blocks.0.attn.k_norm.weight'", "is missing");
    init_timm(&tiny, "{" TIMM_SIZES "}");
    tiny_add(&tiny, "blocks.1.attn.q_norm.weight", 1, C / 2, 0, 0);
    expect_refused(&tiny, "'blocks.1.attn.q_norm.weight'", "is not part of");
}

/* A mean with the special tokens, and heads of a class token where there is none. */
static void test_timm_means_that_are_not_run(void **state) {
    struct tiny tiny;
    init_timm(&tiny, "{\"global_pool\":\"avg\",\"model_args\":{\"img_size\":[8,12],\"num_heads\":2,"
                     "\"pool_include_prefix\":true}}");
    expect_refused(&tiny, "'model_args.pool_include_prefix'", "false");
    init_timm(&tiny, "{\"global_pool\":\"max\"," TIMM_SIZES "}");
    expect_refused(&tiny, "'global_pool'", "avg");
    init_timm(
        &tiny,
        "{\"global_pool\":\"avg\",\"early_exits\":{\"exits\":[{\"after_block\":1,\"head\":\"mlp_ee\"}]}," TIMM_SIZES
        "}");
    tiny_remove(&tiny, "cls_token");
    expect_refused(&tiny, "mlp_ee", "heads among conv1_1, conv2_1");
}

/* The official head of 4 layers reads five vectors. */
static void test_dinov2_head_of_four_layers(void **state) {
    struct tiny tiny;
    init_published(&tiny, FORM_REGISTERS | FORM_SCALE, false);
    tiny_remove(&tiny, "head.weight");
    tiny_add(&tiny, "head.weight", 2, K, 5 * C, 0);
    expect_refused(&tiny, "'head.weight' is (3,80)", "4 layers");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vit_namings_agree),
        cmocka_unit_test(test_old_torchvision),
        cmocka_unit_test(test_deit_namings_agree),
        cmocka_unit_test(test_dinov2_namings_agree),
        cmocka_unit_test(test_timm_dinov2),
        cmocka_unit_test(test_timm_norm_behind_the_pool),
        cmocka_unit_test(test_timm_norm_of_queries),
        cmocka_unit_test(test_timm_parts_that_miss_others),
        cmocka_unit_test(test_timm_means_that_are_not_run),
        cmocka_unit_test(test_timm_table_with_registers),
        cmocka_unit_test(test_timm_table_like_a_square_and_one),
        cmocka_unit_test(test_rim),
        cmocka_unit_test(test_no_registers),
        cmocka_unit_test(test_dinov2_against_a_plain_forward),
        cmocka_unit_test(test_half_precision),
        cmocka_unit_test(test_pictures_of_each_family),
        cmocka_unit_test(test_processor_of_dinov2),
        cmocka_unit_test(test_table_rule_of_each_family),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_dinov2_head_of_four_layers),
    };
    return cmocka_run_group_tests_name("families", tests, NULL, NULL);
}
