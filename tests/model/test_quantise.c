/* SPDX-License-Identifier: MIT */
/* Description: precisions of a whole model: what int8 and bf16 change on the embedded model's clip, folders written and
 * read again, units kept wider, folders that are damaged. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "eestream/eestream.h"
#define MODEL EES_PROJECT_DIR "/tools/assets/world/model"
#define CLIP  EES_PROJECT_DIR "/tools/assets/world/clip.avi"

enum { N_FRAMES = 48 };

static ees_frame frames[N_FRAMES];
static char dir[] = "/tmp/ees-quantise-XXXXXX", narrow_dir[64], other_dir[64];
static ees_quantise_report whole; /* of narrow_dir */

static void read_clip(void) {
    ees_source *source;
    assert_int_equal(ees_source_open(CLIP, NULL, &source, NULL), 0);
    for (size_t i = 0; i < N_FRAMES; i++) {
        ees_frame frame;
        for (unsigned skip = 0; skip < 5; skip++) {
            if (skip)
                frame.release(frame.opaque);
            assert_int_equal(ees_source_next(source, &frame, NULL), 0);
        }
        unsigned char *copy = malloc(frame.bytes);
        assert_non_null(copy);
        assert_int_equal(frame.kind, EES_FRAME_JPEG);
        memcpy(copy, frame.data[0], frame.bytes);
        frame.release(frame.opaque);
        frames[i] = frame;
        frames[i].data[0] = copy;
    }
    ees_source_close(source);
}

static int quantise(const char *to, const char *precision, const char *wider, ees_quantise_report *report,
                    ees_error *err) {
    const ees_quantise_options options = {.precision = precision,
                                          .frames = frames,
                                          .n_frames = N_FRAMES,
                                          .choose_wider = !wider,
                                          .wider = &wider,
                                          .n_wider = wider != NULL};
    return ees_quantise(MODEL, to, &options, report, err);
}

static int set_up(void **state) {
    assert_non_null(mkdtemp(dir));
    snprintf(narrow_dir, sizeof narrow_dir, "%s/int8", dir);
    snprintf(other_dir, sizeof other_dir, "%s/other", dir);
    read_clip();
    return quantise(narrow_dir, NULL, NULL, &whole, NULL);
}

static void remove_folder(const char *folder) {
    static const char *const files[] = {"config.json", "preprocessor_config.json", "model.safetensors"};
    char path[128];
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
}

static int tear_down(void **state) {
    ees_quantise_report_fini(&whole);
    for (size_t i = 0; i < N_FRAMES; i++)
        free((void *)frames[i].data[0]);
    remove_folder(narrow_dir);
    remove_folder(other_dir);
    return rmdir(dir);
}

static void int8_keeps_the_answers(void **state) {
    print_message("%zu of %zu answers changed, %zu exits moved, logits differ by %.3g at most\n", whole.n_changed,
                  whole.n_frames, whole.n_moved, whole.largest_logit_difference);
    assert_int_equal(whole.n_frames, N_FRAMES);
    assert_true((double)whole.n_changed <= 0.01 * N_FRAMES);
    assert_true(whole.largest_logit_difference > 0 && whole.largest_logit_difference < 1);
    assert_true((double)whole.bytes_after < 0.4 * (double)whole.bytes_before);
}

struct walk {
    ees_policy_options policy;
    const ees_model_info *info;
    float logits[5 * 16];
};

static int keep_logits(void *opaque, const ees_tap *tap) {
    struct walk *w = opaque;
    if (tap->kind == EES_TAP_LOGITS)
        memcpy(w->logits + (size_t)tap->info->exit_idx * tap->cols, tap->data, tap->cols * sizeof(float));
    return 0;
}

static struct walk run(const char *folder, const char *precision, const char *kernels, size_t frame) {
    struct walk w = {0};
    ees_model *model;
    const ees_model_options options = {.precision = precision, .kernels = kernels};
    assert_int_equal(ees_model_open(folder, &options, &model, NULL), 0);
    w.info = ees_model_get_info(model);
    assert_true(sizeof w.logits == (w.info->n_exits + 1) * w.info->n_classes * sizeof(float));
    assert_int_equal(ees_model_trace(model, &frames[frame], keep_logits, &w, NULL), 0);
    ees_model_close(model);
    return w;
}

/* What was measured is what the folder does, and all of it goes through the units that are narrow. */
static void folders_say_what_they_are(void **state) {
    ees_model *model;
    assert_int_equal(ees_model_open(narrow_dir, NULL, &model, NULL), 0);
    assert_string_equal(ees_model_get_info(model)->precision, "int8");
    assert_string_equal(ees_model_get_unit(model, 2)->precision, "int8");
    assert_string_equal(ees_model_get_unit(model, 0)->precision, "fp32");
    size_t narrow_bytes = ees_model_get_info(model)->weights_bytes;
    ees_model_close(model);
    const ees_model_options wide = {.precision = "fp32"};
    assert_int_equal(ees_model_open(narrow_dir, &wide, &model, NULL), 0);
    assert_string_equal(ees_model_get_unit(model, 2)->precision, "fp32");
    assert_true(3 * narrow_bytes < ees_model_get_info(model)->weights_bytes);
    ees_model_close(model);
}

/* Levels sum int8 alike; what differs between them are the float32 operations in between, by rounding, which may carry
 * a value across a step of the next quantisation: 1/255 of a row's range. Where attention is in int8, too, the twin's
 * is not, and they differ by as much as either does from float32. */
static void levels_agree(void **state) {
    static const struct {
        const char *name;
        float tolerance;
    } levels[] = {{"avx512vnni", 0.5f}, {"avx512", 0.15f}, {"avx2", 0.15f}, {"dotprod", 0.15f}, {"neon", 0.15f}};
    struct walk twin = run(narrow_dir, NULL, "scalar", 0);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        ees_model *model;
        const ees_model_options options = {.kernels = levels[i].name};
        if (ees_model_open(narrow_dir, &options, &model, NULL) < 0)
            continue;
        ees_model_close(model);
        struct walk w = run(narrow_dir, NULL, levels[i].name, 0);
        for (size_t j = 0; j < sizeof w.logits / sizeof *w.logits; j++)
            if (!(fabsf(w.logits[j] - twin.logits[j]) < levels[i].tolerance))
                fail_msg("%s: logit %zu differs by %g", levels[i].name, j, (double)fabsf(w.logits[j] - twin.logits[j]));
    }
}

static void halves_are_closer(void **state) {
    static const char *const precisions[] = {"bf16", "fp16"};
    static const double largest[] = {0.3, 0.02};
    for (size_t i = 0; i < 2; i++) {
        ees_quantise_report report;
        assert_int_equal(quantise(other_dir, precisions[i], NULL, &report, NULL), 0);
        assert_true(report.largest_logit_difference < largest[i] && report.n_changed == 0);
        assert_true(report.bytes_after < report.bytes_before);
        ees_quantise_report_fini(&report);
        struct walk wide = run(MODEL, NULL, NULL, 3), half = run(other_dir, NULL, NULL, 3);
        for (size_t j = 0; j < sizeof wide.logits / sizeof *wide.logits; j++)
            assert_true(fabs((double)wide.logits[j] - half.logits[j]) < largest[i]);
    }
}

static void units_can_be_kept_wider(void **state) {
    ees_quantise_report report;
    ees_model *model;
    assert_int_equal(quantise(other_dir, "int8", "block1.attn", &report, NULL), 0);
    assert_int_equal(report.n_wider, 1);
    assert_string_equal(report.wider[0], "block1.attn");
    ees_quantise_report_fini(&report);
    assert_int_equal(ees_model_open(other_dir, NULL, &model, NULL), 0);
    assert_string_equal(ees_model_get_unit(model, 2)->precision, "fp32");
    assert_string_equal(ees_model_get_unit(model, 3)->precision, "int8");
    ees_model_close(model);
}

static void bad_requests_are_refused(void **state) {
    ees_quantise_report report;
    ees_error err = {0};
    assert_int_equal(quantise(other_dir, "int4", NULL, &report, &err), EES_EINVAL);
    err = (ees_error){0};
    assert_int_equal(quantise(other_dir, "int8", "block99.attn", &report, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "block99.attn"));
    err = (ees_error){0};
    assert_int_equal(quantise(MODEL, "int8", NULL, &report, &err), EES_EINVAL);
    const ees_quantise_options twice = {.frames = frames, .n_frames = 1};
    err = (ees_error){0};
    assert_int_equal(ees_quantise(narrow_dir, other_dir, &twice, &report, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "quantised already"));
    const ees_model_options options = {.precision = "int7"};
    ees_model *model;
    err = (ees_error){0};
    assert_int_equal(ees_model_open(MODEL, &options, &model, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "int7"));
}

/* ---- Damaged folders ------------------------------------------------------------------------------------ */

static const char *const files[] = {"config.json", "preprocessor_config.json"};

static void copy_file(const char *name) {
    char from[128], to[128], buffer[1 << 16];
    snprintf(from, sizeof from, "%s/%s", narrow_dir, name);
    snprintf(to, sizeof to, "%s/%s", other_dir, name);
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in && out);
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, in)) > 0;)
        assert_int_equal(fwrite(buffer, 1, n, out), n);
    fclose(in);
    fclose(out);
}

/* narrow_dir again with the scales of one matrix changed: their number, and the first of them. */
static void write_damaged(size_t n_more, float first, bool drop) {
    char path[128];
    ees_tensors *tensors;
    ees_tensor_writer *w;
    size_t bytes;
    (void)mkdir(other_dir, 0700);
    for (size_t i = 0; i < 2; i++)
        copy_file(files[i]);
    snprintf(path, sizeof path, "%s/model.safetensors", narrow_dir);
    assert_int_equal(ees_tensors_open(path, &tensors, NULL), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", other_dir);
    assert_int_equal(ees_tensor_writer_open(path, &w, NULL), 0);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < ees_tensors_count(tensors); i++) {
            ees_tensor_info info = *ees_tensors_at(tensors, i);
            bool damaged = strstr(info.name, "layer.3") && strstr(info.name, "output.dense.weight_scale") &&
                           !strstr(info.name, "attention");
            if (damaged && drop)
                continue;
            info.shape[0] += damaged ? n_more : 0;
            if (pass == 0) {
                assert_int_equal(ees_tensor_writer_add(w, &info, NULL), 0);
                continue;
            }
            size_t n = info.n_elements + (damaged ? n_more : 0);
            float *values = calloc(n + 1, sizeof *values);
            assert_non_null(values);
            assert_int_equal(ees_tensors_read_f32(tensors, ees_tensors_at(tensors, i), values, NULL), 0);
            if (damaged)
                values[0] = first;
            assert_int_equal(ees_tensor_writer_put(w, info.dtype, values, n, NULL), 0);
            free(values);
        }
    assert_int_equal(ees_tensor_writer_finish(w, &bytes, NULL), 0);
    ees_tensor_writer_close(w);
    ees_tensors_close(tensors);
}

static void expect_refused(const char *text) {
    ees_model *model;
    ees_error err = {0};
    assert_int_equal(ees_model_open(other_dir, NULL, &model, &err), EES_EMODEL);
    if (!strstr(err.message, text) || !strstr(err.message, "weight"))
        fail_msg("'%s' does not mention '%s'", err.message, text);
}

static void damaged_scales_are_refused(void **state) {
    static const float values[] = {NAN, 0.0f, -1.0f, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        write_damaged(0, values[i], false);
        expect_refused("expected scales above 0");
    }
    write_damaged(1, 1.0f, false);
    expect_refused("expected (");
    write_damaged(0, 1.0f, true);
    expect_refused("is missing");
}

static void set_quantisation(json_t *value) {
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", other_dir);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    json_object_set_new(root, "quantisation", value);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

static void bad_configs_are_refused(void **state) {
    static const char *const bad[] = {"7", "{\"precision\": \"int4\"}",
                                      "{\"precision\": \"int8\", \"wider\": [\"block99.mlp\"]}", "{\"wider\": 3}",
                                      "{\"wider\": [3]}"};
    static const char *const names[] = {"quantisation", "int4", "block99.mlp", "wider", "wider"};
    copy_file("model.safetensors");
    copy_file("config.json");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ees_model *model;
        ees_error err = {0};
        set_quantisation(json_loads(bad[i], JSON_DECODE_ANY, NULL));
        assert_int_equal(ees_model_open(other_dir, NULL, &model, &err), EES_EMODEL);
        if (!strstr(err.message, names[i]))
            fail_msg("'%s' does not mention '%s'", err.message, names[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_keeps_the_answers),
        cmocka_unit_test(folders_say_what_they_are),
        cmocka_unit_test(levels_agree),
        cmocka_unit_test(halves_are_closer),
        cmocka_unit_test(units_can_be_kept_wider),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(damaged_scales_are_refused),
        cmocka_unit_test(bad_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
