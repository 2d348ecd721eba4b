/* SPDX-License-Identifier: MIT */
/* What a model tells about itself, random models, labels, defaults of config files, preprocessing choices. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stages/model.h"
#include "support.h"

static ees_model *open_random(const char *arch, uint64_t seed) {
    ees_model *model = NULL;
    ees_error err = {0};
    if (ees_model_open_random(arch, seed, NULL, &model, &err) != 0)
        fail_msg("%s", err.message);
    return model;
}

static ees_model *open_tiny(const char *dir, const struct tiny *tiny) {
    ees_model *model = NULL;
    ees_error err = {0};
    tiny_write(tiny, dir);
    if (ees_model_open(dir, NULL, &model, &err) != 0)
        fail_msg("%s", err.message);
    return model;
}

static void find_unit(const ees_model *model, const char *name, ees_unit_info *out) {
    const ees_unit_info *unit;
    for (unsigned i = 0; (unit = ees_model_get_unit(model, i)); i++)
        if (strcmp(unit->name, name) == 0) {
            *out = *unit;
            return;
        }
    fail_msg("no unit '%s'", name);
}

/* Spec 5.5 counts ViT-B/16 with 100 classes and eight LGViT exits as 100 686 468 parameters; 1.1 and 5.5 give
 * multiply-accumulates: block 1.454 G, embedding .116 G, heads with the mean shortcut. */
static void test_vit_b16_numbers(void **state) {
    static const struct {
        const char *unit;
        double mega_macs;
    } costs[] = {{"embed", 115.6},
                 {"exit0.conv1_1", 117.6},
                 {"exit2.conv2_1", 116.2},
                 {"exit4.attention_r2", 91.1},
                 {"exit7.attention_r3", 45.8},
                 {"final", .0768}};
    ees_model *model = open_random("vit-b16", 3);
    const ees_model_info *info = ees_model_get_info(model);
    ees_unit_info attention = {0}, mlp = {0}, unit = {0};
    assert_int_equal(info->n_params, 100686468);
    assert_int_equal(info->n_exits, 8);
    assert_int_equal(info->n_units, 2 + 24 + 8 + 1);
    assert_int_equal(info->n_tokens, 197);
    assert_string_equal(info->family, "lgvit-vit");
    assert_int_equal(info->state_bytes, 197 * 768 * 4);
    find_unit(model, "block5.attn", &attention);
    find_unit(model, "block5.mlp", &mlp);
    assert_true(fabs((attention.flops + mlp.flops) / 2e6 - 1454) < 1);
    for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
        find_unit(model, costs[i].unit, &unit);
        if (!(fabs(unit.flops / 2e6 - costs[i].mega_macs) < .006 * costs[i].mega_macs))
            fail_msg("%s: %.3f M multiply-accumulates", unit.name, unit.flops / 2e6);
    }
    print_message("  weights packed %.1f MB of %.1f MB, scratch %.1f MB\n", (double)info->weights_bytes / 1e6,
                  (double)info->n_params * 4e-6, (double)info->scratch_bytes / 1e6);
    assert_true((double)info->weights_bytes <= 1.2 * 4.0 * (double)info->n_params);
    ees_model_close(model);
}

static void test_chain(void **state) {
    ees_model *model = open_random("vit-ti16", 3);
    const ees_model_info *info = ees_model_get_info(model);
    size_t bytes = 0;
    unsigned block = 0;
    int next_exit = 0;
    for (unsigned i = 0; i < info->n_units; i++) {
        const ees_unit_info *unit = ees_model_get_unit(model, i);
        bytes += unit->weights_bytes;
        assert_true(unit->block >= block);
        block = unit->block;
        if (unit->exit_idx < 0)
            continue;
        assert_int_equal(unit->exit_idx, next_exit++);
        if (unit->exit_idx < (int)info->n_exits)
            assert_int_equal(unit->block, info->exits[unit->exit_idx].after_block);
    }
    assert_int_equal(bytes, info->weights_bytes);
    assert_int_equal(next_exit, info->n_exits + 1);
    assert_int_equal(block, 12);
    assert_string_equal(ees_model_get_unit(model, 0)->name, "ingest");
    assert_string_equal(ees_model_get_unit(model, 1)->name, "embed");
    assert_string_equal(ees_model_get_unit(model, info->n_units - 1)->name, "final");
    assert_null(ees_model_get_unit(model, info->n_units));
    ees_model_close(model);
}

static int keep_logits(void *opaque, const ees_tap *tap) {
    if (tap->kind == EES_TAP_LOGITS)
        memcpy(opaque, tap->data, tap->cols * sizeof(float));
    for (size_t i = 0; i < tap->rows * tap->cols; i++)
        assert_true(isfinite(tap->data[i]) && fabsf(tap->data[i]) < 1e3f);
    return 0;
}

static void final_logits(const ees_model *model, float *logits) {
    const ees_model_info *info = ees_model_get_info(model);
    size_t n = 3 * (size_t)info->image_height_px * info->image_width_px;
    float *pixels = malloc(n * sizeof *pixels);
    assert_non_null(pixels);
    for (size_t i = 0; i < n; i++)
        pixels[i] = sinf((float)i * .37f);
    ees_frame frame = tensor_frame(model, pixels);
    assert_int_equal(ees_model_trace(model, &frame, keep_logits, logits, NULL), 0);
    free(pixels);
}

static void test_random_is_reproducible(void **state) {
    float a[100], b[100], c[100];
    ees_model *one = open_random("vit-ti16-plain", 1), *same = open_random("vit-ti16-plain", 1);
    ees_model *other = open_random("vit-ti16-plain", 2);
    assert_int_equal(ees_model_get_info(one)->n_exits, 0);
    assert_string_equal(ees_model_get_info(one)->name, "vit-ti16-plain");
    final_logits(one, a);
    final_logits(same, b);
    final_logits(other, c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    ees_model_close(one);
    ees_model_close(same);
    ees_model_close(other);
}

static void test_unknown_arch(void **state) {
    static const char *const names[] = {"vit-h14", "vit-b16-", "vit-b16-plainer", ""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ees_model *model = NULL;
        ees_error err = {0};
        assert_int_equal(ees_model_open_random(names[i], 0, NULL, &model, &err), EES_EINVAL);
        assert_non_null(strstr(err.message, "vit-ti16"));
    }
}

static void test_bad_options(void **state) {
    ees_model *model = NULL;
    ees_model_options options;
    ees_error err = {0};
    ees_model_options_default(&options);
    options.kernels = "sse9";
    assert_int_equal(ees_model_open_random("vit-ti16", 0, &options, &model, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "sse9"));
    assert_int_equal(ees_model_open_random("vit-ti16", 0, &options, &model, NULL), EES_EINVAL);
    assert_int_equal(ees_model_open("", NULL, &model, NULL), EES_EINVAL);
    assert_null(model);
}

static void test_labels(void **state) {
    char dir[64], slashed[70];
    struct tiny tiny;
    ees_model *model;
    make_folder(dir);
    tiny_init(&tiny, "lgvit-vit");
    model = open_tiny(dir, &tiny);
    assert_string_equal(ees_model_get_label(model, 0), "ant");
    assert_string_equal(ees_model_get_label(model, 2), "cat");
    assert_null(ees_model_get_label(model, 3));
    assert_int_equal(ees_model_find_label(model, "bee"), 1);
    assert_int_equal(ees_model_find_label(model, "gnu"), -1);
    ees_model_close(model);

    json_object_del(tiny.config, "id2label");
    json_object_set_new(tiny.config, "num_labels", json_integer(3));
    tiny_write(&tiny, dir);
    snprintf(slashed, sizeof slashed, "%s//", dir);
    assert_int_equal(ees_model_open(slashed, NULL, &model, NULL), 0);
    assert_string_equal(ees_model_get_label(model, 1), "class_1");
    assert_string_equal(ees_model_get_info(model)->name, strrchr(dir, '/') + 1);
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
}

/* The same weights under LGViT's names and under canonical names beside a Hugging Face ViT: the same bits. */
static void test_families_agree(void **state) {
    static const char *const families[] = {"lgvit-vit", "hf-vit"};
    float logits[2][3];
    for (size_t i = 0; i < 2; i++) {
        char dir[64];
        struct tiny tiny;
        make_folder(dir);
        tiny_init(&tiny, families[i]);
        ees_model *model = open_tiny(dir, &tiny);
        const ees_model_info *info = ees_model_get_info(model);
        assert_string_equal(info->family, families[i]);
        assert_int_equal(info->n_exits, 2);
        assert_string_equal(info->exits[1].head, "attention_r2");
        final_logits(model, logits[i]);
        ees_model_close(model);
        tiny_fini(&tiny);
        remove_folder(dir);
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
}

static ees_policy_options resolved_with(const char *strategy, const char *threshold) {
    char dir[64];
    struct tiny tiny;
    ees_policy_options out;
    make_folder(dir);
    tiny_init(&tiny, "lgvit-vit");
    json_object_set_new(tiny.config, "exit_strategy", json_loads(strategy, JSON_DECODE_ANY, NULL));
    json_object_set_new(tiny.config, "threshold", json_loads(threshold, JSON_DECODE_ANY, NULL));
    ees_model *model = open_tiny(dir, &tiny);
    assert_int_equal(ees_policy_resolve(model, NULL, &out, NULL), 0);
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
    return out;
}

/* Spec 4.1: null takes the class defaults, a number fills all, a list is taken as it is. */
static void test_config_policies(void **state) {
    ees_policy_options p = resolved_with("\"confidence\"", "null");
    assert_true(p.n_thresholds == 2 && p.thresholds[1] == .865f);
    p = resolved_with("null", "null");
    assert_string_equal(p.name, "entropy");
    assert_true(p.thresholds[0] == .6f);
    p = resolved_with("\"confidence\"", "[0.25, 0.5]");
    assert_true(p.thresholds[0] == .25f && p.thresholds[1] == .5f);
    p = resolved_with("\"patience\"", "null");
    assert_int_equal(p.patience, 7);
    p = resolved_with("\"patience\"", "[2]");
    assert_int_equal(p.patience, 2);
    p = resolved_with("\"patience\"", "3");
    assert_int_equal(p.patience, 3);
    p = resolved_with("\"patient_and_confident\"", "[0.25, 0.5, 3]");
    assert_true(p.patience == 3 && p.thresholds[1] == .5f);
    p = resolved_with("\"patient_and_confident\"", "0.25");
    assert_true(p.patience == 2 && p.thresholds[1] == .25f);
}

static struct ees__preproc preproc_with(const char *family, const char *text) {
    char dir[64];
    struct tiny tiny;
    make_folder(dir);
    tiny_init(&tiny, family);
    if (text)
        write_file(dir, "preprocessor_config.json", text, strlen(text));
    ees_model *model = open_tiny(dir, &tiny);
    struct ees__preproc out = model->preproc;
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
    return out;
}

static void test_preprocessing(void **state) {
    struct ees__preproc p = preproc_with("hf-vit", NULL);
    assert_true(p.resize_h == 8 && p.resize_w == 12 && !p.crop && p.filter == EES__FILTER_BILINEAR);
    assert_true(p.mean[0] == .5 && p.std[2] == .5 && p.rescale == 1.0 / 255.0);
    p = preproc_with("hf-vit", "{\"size\":{\"shortest_edge\":14},\"resample\":3,\"do_center_crop\":true,\"crop_size\":"
                               "{\"height\":8,\"width\":12},\"image_mean\":[0.1,0.2,0.3],\"do_rescale\":false}");
    assert_true(p.resize_h == 14 && p.resize_w == 0 && p.crop && !p.crop_round_half_even);
    assert_true(p.filter == EES__FILTER_BICUBIC && p.mean[1] == .2 && p.std[0] == .5 && p.rescale == 1.0);
    p = preproc_with("hf-vit", "{\"size\":{\"height\":8,\"width\":12},\"do_normalize\":false}");
    assert_true(p.mean[0] == 0.0 && p.std[0] == 1.0);

    p = preproc_with("lgvit-vit", NULL);
    assert_true(p.resize_h == 12 && p.resize_w == 0 && p.crop && p.crop_round_half_even);
    assert_true(p.mean[0] == .485 && p.std[2] == .225);
    /* A processor of the backbone's, left beside the checkpoint: LGViT's own preprocessing stands. */
    p = preproc_with("lgvit-vit", "{\"size\":{\"height\":224,\"width\":224},\"image_mean\":[0.5,0.5,0.5]}");
    assert_true(p.resize_h == 12 && p.mean[0] == .485);
    p = preproc_with("lgvit-vit", "{\"size\":{\"shortest_edge\":16},\"do_center_crop\":true,\"crop_size\":"
                                  "{\"height\":8,\"width\":12},\"image_mean\":[0.5,0.5,0.5]}");
    assert_true(p.resize_h == 16 && p.mean[0] == .5 && p.crop_round_half_even);
}

/* Under "none" the heads are passed over: item->logits stays untouched until the final classifier. */
static void test_none_skips_heads(void **state) {
    ees_model *model = open_random("vit-ti16", 5);
    const ees_model_info *info = ees_model_get_info(model);
    struct ees__policy_setup setup;
    ees_policy_options none = {.name = "none"};
    float logits[100];
    struct ees__item item = {.logits = logits};
    logits[0] = 42.0f;
    assert_int_equal(ees__policy_setup(model, &none, &setup, NULL), 0);
    for (unsigned i = 0; i < info->n_units; i++)
        if (ees_model_get_unit(model, i)->exit_idx >= 0 && i + 1 < info->n_units) {
            int rc = EES__UNIT_DONE;
            assert_int_equal(ees__unit_run(model, &setup, i, &(struct ees__item *){&item}, 1, &rc, NULL, NULL), 1);
            assert_int_equal(rc, EES__UNIT_NEXT);
        }
    assert_true(logits[0] == 42.0f);
    ees_model_close(model);
}

static int stop_at_embed(void *opaque, const ees_tap *tap) {
    (*(int *)opaque)++;
    return tap->unit == 1 ? 77 : 0;
}

static void test_trace_stops_and_reports(void **state) {
    ees_model *model = open_random("vit-ti16-plain", 5);
    float pixel = 0;
    ees_frame frame = tensor_frame(model, NULL);
    ees_error err = {0};
    int calls = 0;
    frame.data[0] = &pixel;
    frame.width_px = 1; /* not the model's */
    assert_int_equal(ees_model_trace(model, &frame, stop_at_embed, &calls, &err), EES_EINVAL);
    assert_int_equal(err.code, EES_EINVAL);
    assert_int_equal(calls, 0);
    float *pixels = calloc(3 * 224 * 224, sizeof *pixels);
    assert_non_null(pixels);
    frame = tensor_frame(model, pixels);
    assert_int_equal(ees_model_trace(model, &frame, stop_at_embed, &calls, &err), 77);
    assert_int_equal(calls, 2);
    free(pixels);
    ees_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vit_b16_numbers),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_random_is_reproducible),
        cmocka_unit_test(test_unknown_arch),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_families_agree),
        cmocka_unit_test(test_config_policies),
        cmocka_unit_test(test_preprocessing),
        cmocka_unit_test(test_none_skips_heads),
        cmocka_unit_test(test_trace_stops_and_reports),
    };
    return cmocka_run_group_tests_name("models", tests, NULL, NULL);
}
