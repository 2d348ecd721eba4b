/* SPDX-License-Identifier: MIT */
/* Opening a model and tracing a frame while memory runs out: each allocation fails once, then from there on for ever.
 * Nothing may crash or (under AddressSanitizer) leak; a refusal is EES_ENOMEM. */
#include <stdbool.h>
#include <stdlib.h>

#include "exit_tensors.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t n);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
char *__wrap_strdup(const char *text);

static struct {
    bool armed, for_ever;
    long countdown; /* allocations until the first failure */
    bool failed;
    bool in_json; /* the first failure was jansson's, which may take it for a mistake in the text */
} fault;

static bool fails(void) {
    if (!fault.armed || fault.countdown-- > 0)
        return false;
    bool now = fault.for_ever || !fault.failed;
    fault.failed = true;
    return now;
}

void *__wrap_malloc(size_t n) { return fails() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__wrap_aligned_alloc(size_t alignment, size_t n) { return fails() ? NULL : __real_aligned_alloc(alignment, n); }
char *__wrap_strdup(const char *text) { return fails() ? NULL : __real_strdup(text); }

static void *malloc_for_json(size_t n) {
    bool first = !fault.failed;
    void *p = __wrap_malloc(n);
    fault.in_json |= first && !p;
    return p;
}

static int pass(void *opaque, const ees_tap *tap) { return 0; }

static int open_and_trace(const char *dir, ees_error *err) {
    static const float pixels[3 * 12 * 12];
    ees_model *model;
    int rc = ees_model_open(dir, NULL, &model, err);
    if (rc < 0)
        return rc;
    ees_frame frame = tensor_frame(model, pixels);
    rc = ees_model_trace(model, &frame, pass, NULL, err);
    ees_model_close(model);
    return rc;
}

/* @return number of allocations of a run that had all it wanted */
static long fail_each(const char *dir, bool for_ever) {
    for (long n = 0;; n++) {
        ees_error err = {0};
        fault.for_ever = for_ever;
        fault.countdown = n;
        fault.failed = fault.in_json = false;
        fault.armed = true;
        int rc = open_and_trace(dir, &err);
        fault.armed = false;
        if (!fault.failed) {
            assert_int_equal(rc, 0);
            return n;
        }
        if (rc != 0 && rc != EES_ENOMEM && !(rc == EES_EMODEL && fault.in_json))
            fail_msg("allocation %ld: %d %s (%s)", n, rc, err.message, err.where);
        assert_int_equal(err.code, rc);
    }
}

static void check_folder(struct tiny *tiny) {
    char dir[64];
    make_folder(dir);
    tiny_write(tiny, dir);
    tiny_fini(tiny);
    json_set_alloc_funcs(malloc_for_json, free);
    long once = fail_each(dir, false), ever = fail_each(dir, true);
    json_set_alloc_funcs(malloc, free);
    print_message("  %ld allocations failed once, %ld for ever\n", once, ever);
    assert_true(once > 100);
    remove_folder(dir);
}

static void test_exits(void **state) {
    struct tiny tiny;
    tiny_init(&tiny, "lgvit-vit");
    check_folder(&tiny);
}

/* Two classifiers in one; a resampled table, registers, layer scale. */
static void test_backbones(void **state) {
    static const struct form forms[] = {
        {.family = "hf-deit-distilled",
         .config = "{\"model_type\":\"deit\",\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,"
                   "\"num_attention_heads\":2,\"intermediate_size\":24,\"num_hidden_layers\":2,\"num_labels\":3}",
         .flags = FORM_DIST},
        {.family = "hf-dinov2-with-registers",
         .config = "{\"model_type\":\"dinov2_with_registers\",\"image_size\":12,\"patch_size\":4,\"hidden_size\":16,"
                   "\"num_attention_heads\":2,\"mlp_ratio\":1.5,\"num_hidden_layers\":2,\"num_labels\":3,"
                   "\"num_register_tokens\":2}",
         .flags = FORM_REGISTERS | FORM_SCALE | FORM_WIDE_HEAD,
         .image_h = 8,
         .image_w = 8,
         .patch = 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tiny tiny;
        tiny_init_form(&tiny, &forms[i]);
        check_folder(&tiny);
    }
}

/* The heads with most to allocate. */
static void test_heads(void **state) {
    static const struct form form = {
        .family = "hf-vit",
        .config = "{\"model_type\":\"vit\",\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,"
                  "\"num_attention_heads\":2,\"intermediate_size\":24,\"num_hidden_layers\":2,\"num_labels\":3}"};
    static const char *const heads[] = {"vit_ee", "linear", "conv_normal", "cnn_project_ee", "mixer_ee", "resmlp_ee"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct tiny tiny;
        tiny_init_form(&tiny, &form);
        exits_set(tiny.config, heads[i]);
        exits_add(&tiny, "hf-vit", heads[i], false);
        check_folder(&tiny);
    }
}

/* Window tables, a merge, a head with a block. */
static void test_swin(void **state) {
    struct tiny tiny;
    tiny_init_swin(&tiny, "hf-swin",
                   "{\"model_type\":\"swin\",\"embed_dim\":8,\"depths\":[2,1],\"num_heads\":[2,4],\"window_size\":3,"
                   "\"mlp_ratio\":2.0,\"patch_size\":2,\"num_labels\":3,\"image_size\":12,\"early_exits\":{"
                   "\"exits\":[{\"after_block\":3,\"head\":\"vit\"}]}}");
    exits_add_module(&tiny, "hf-swin", "vit");
    check_folder(&tiny);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exits),
        cmocka_unit_test(test_backbones),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_swin),
    };
    return cmocka_run_group_tests_name("models without memory", tests, NULL, NULL);
}
