/* SPDX-License-Identifier: MIT */
/* Every exit head against its plain double-precision form: odd sizes, non-square grids, special tokens of every
 * family, widths only tensors tell, every kernel level; frames of a batch get the bits of a frame alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plain_heads.h"
#include "stages/loader.h"
#include "stages/stage_list.h"
#include "support.h"

/* ---- weights: seeded, of widths a test chooses ------------------------------------------------------------ */

struct kept {
    char name[64];
    float *data;
    size_t n;
};

static struct kept kept[48]; /* what the head at hand has read */
static size_t n_kept;
static const struct plain_widths *widths;
static const struct ees__dims *dims;
static const char *head_at_hand;

static int read_seeded(struct ees__weights *weights, const char *name, const struct ees__tensor_shape *shape,
                       struct ees__buffer *buffer, ees_error *err) {
    struct ees__weights *random;
    size_t n = ees__tensor_elements(shape);
    assert_int_equal(ees__weights_open_random(23, &random, NULL), 0);
    assert_int_equal(random->read(random, name, shape, buffer, err), 0);
    random->close(random);
    assert_true(n_kept < sizeof kept / sizeof *kept && strncmp(name, "exit.0.", 7) == 0);
    struct kept *k = &kept[n_kept++];
    snprintf(k->name, sizeof k->name, "%s", name + 7);
    k->data = malloc(n * sizeof *k->data);
    assert_non_null(k->data);
    memcpy(k->data, buffer->data, n * sizeof *k->data);
    k->n = n;
    return 0;
}

/* Shapes as a file would have them, of the tensors that tell widths. */
static bool find_seeded(struct ees__weights *weights, const char *name, struct ees__tensor_shape *shape) {
    size_t t = dims->n_tokens, c = dims->n_channels, k, n_end = 0;
    size_t n_in = strncmp(head_at_hand, "cnn", 3) ? c : widths->filters * (dims->grid_h / 2) * (dims->grid_w / 2);
    name += strlen("exit.0.");
    if (sscanf(name, "mlp.%zu.weight%zn", &k, &n_end) == 1 && name[n_end] == '\0') {
        if (k >= widths->n_mlp)
            return false;
        *shape = (struct ees__tensor_shape){
            2, {k == widths->n_mlp - 1 ? dims->n_classes : widths->mlp[k], k == 0 ? n_in : widths->mlp[k - 1]}};
        return true;
    }
    const struct {
        const char *name;
        struct ees__tensor_shape shape;
    } known[] = {
        {"conv.weight", {4, {widths->filters, strcmp(head_at_hand, "cnn_project_ee") ? c : widths->readout, 3, 3}}},
        {"readout.weight", {2, {widths->readout, 2 * c}}},
        {"token.fc1.weight", {2, {widths->token_hidden, t}}},
        {"token.weight", {2, {t, t}}},
        {"channel.fc1.weight", {2, {widths->channel_hidden, c}}},
        {"fc1.weight", {2, {widths->dummy_hidden, c}}},
        {"blk.mlp.fc1.weight", {2, {widths->block_mlp, c}}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            *shape = known[i].shape;
            return true;
        }
    fail_msg("%s asked for the shape of '%s'", head_at_hand, name);
    return false;
}

static struct ees__weights weights = {.read = read_seeded, .find = find_seeded};

static const float *find_kept(const char *leaf, size_t n) {
    for (size_t i = 0; i < n_kept; i++)
        if (strcmp(kept[i].name, leaf) == 0) {
            assert_int_equal(kept[i].n, n);
            return kept[i].data;
        }
    fail_msg("%s never read '%s'", head_at_hand, leaf);
    return NULL;
}

static void forget_kept(void) {
    while (n_kept > 0)
        free(kept[--n_kept].data);
}

/* ---- cases --------------------------------------------------------------------------------------------- */

struct sizes {
    size_t grid_h, grid_w, n_special, n_channels, n_heads, n_classes;
    bool has_dist, distilled, qkv_bias;
    enum ees__post_op activation;
    struct plain_widths widths;
    bool bare;
};

static const struct sizes sizes[] = {
    /* ViT */
    {3, 3, 1, 24, 3, 5, false, false, true, EES__POST_GELU, {5, 24, 7, 31, 10, 49, 1, {0}}, false},
    {5, 4, 1, 40, 5, 3, false, false, false, EES__POST_GELU_TANH, {16, 11, 20, 160, 6, 33, 2, {13}}, false},
    /* distilled DeiT; DeiT whose second token is not classified */
    {2, 7, 2, 8, 1, 11, true, true, true, EES__POST_GELU, {1, 3, 4, 9, 1, 7, 3, {32, 8}}, false},
    {4, 6, 2, 56, 7, 4, true, false, true, EES__POST_RELU, {3, 70, 29, 17, 12, 224, 4, {9, 2, 65}}, false},
    /* DINOv2 with registers */
    {6, 3, 5, 16, 2, 100, false, false, true, EES__POST_GELU, {7, 33, 1, 64, 10, 64, 3, {64, 16}}, false},
    /* a real grid, narrow */
    {14, 14, 1, 48, 3, 10, false, false, true, EES__POST_SILU, {16, 48, 24, 192, 10, 192, 3, {384, 48}}, false},
    /* stages of a Swin: no special token */
    {3, 5, 0, 32, 4, 6, false, false, true, EES__POST_GELU, {.block_mlp = 40}, true},
    {7, 4, 0, 56, 2, 11, false, false, false, EES__POST_RELU, {.block_mlp = 61}, true},
    /* a ViT with registers and no class token */
    {4, 5, 2, 24, 3, 7, false, false, false, EES__POST_RELU, {.block_mlp = 50}, true},
};

static struct ees__dims make_dims(const struct sizes *s) {
    size_t n = s->grid_h * s->grid_w;
    enum ees__pool pool = s->bare ? EES__POOL_NORM_MEAN : EES__POOL_CLASS;
    size_t window = s->n_special == 0 ? 2 : 0;
    return (struct ees__dims){
        .grid_h = s->grid_h,
        .grid_w = s->grid_w,
        .bare = s->bare,
        .has_dist = s->has_dist,
        .n_special = s->n_special,
        .n_patches = n,
        .n_tokens = s->n_special + n,
        .n_channels = s->n_channels,
        .n_heads = s->n_heads,
        .mlp_width = 4 * s->n_channels,
        .n_blocks = 1,
        .n_classes = s->n_classes,
        .window = {.h = window, .w = window},
        .qkv_bias = s->qkv_bias,
        .activation = s->activation,
        .norm_eps = 1e-6,
        .pool = s->distilled ? EES__POOL_CLASS_DIST : pool,
        .layer_scale = s->n_special == 5, /* of the backbone: no head has it */
    };
}

/* Can the head read what stands in front of it? */
static bool suits(const struct ees__op *head, const struct sizes *s) {
    return head->tokens != (s->bare ? EES__HEAD_CLASS : EES__HEAD_BARE_GRID);
}

enum { N_FRAMES = 3, MAX_CLASSES = 100 };

static float *states[N_FRAMES];
static float logits[N_FRAMES][MAX_CLASSES];

static void fill_states(size_t n) {
    for (size_t f = 0; f < N_FRAMES; f++) {
        states[f] = malloc(n * sizeof(float));
        assert_non_null(states[f]);
        for (size_t i = 0; i < n; i++)
            states[f][i] = 2 * sinf((float)(i * (f + 3)) * .37f) + cosf((float)i * .011f);
    }
}

static void free_states(void) {
    for (size_t f = 0; f < N_FRAMES; f++)
        free(states[f]);
}

/* Frames first .. first + n - 1 to logits. */
static void run(const struct ees__op *op, const void *self, const struct ees__op_cost *cost,
                const struct ees__kernels *kernels, size_t first, size_t n) {
    size_t n_floats = cost->scratch_floats + (n - 1) * cost->item_floats;
    struct ees__lane lane = {.scratch = ees__calloc_aligned(n_floats, sizeof(float)), .max_batch = (unsigned)n};
    float *to[N_FRAMES];
    assert_non_null(lane.scratch);
    for (size_t i = 0; i < n_floats; i++)
        lane.scratch[i] = NAN; /* no head may read what it did not write */
    for (size_t i = 0; i < n; i++)
        to[i] = logits[first + i];
    const struct ees__run together = {
        .kernels = kernels, .dims = dims, .n = n, .states = states + first, .logits = to, .lane = &lane};
    op->run(self, &together);
    ees__free(lane.scratch);
}

/* fp32 against double, at the sizes of logits here. */
static void compare(const struct plain_model *plain, const char *level, double *worst) {
    for (size_t f = 0; f < N_FRAMES; f++) {
        double expected[MAX_CLASSES];
        plain_head(plain, head_at_hand, states[f], expected);
        for (size_t k = 0; k < dims->n_classes; k++) {
            double error = fabs((double)logits[f][k] - expected[k]) / fmax(1, fabs(expected[k]));
            *worst = fmax(*worst, error);
            if (!(error <= 1e-5))
                fail_msg("%s, %s, grid %zu x %zu: logit %zu is %.7f, plainly %.7f", head_at_hand, level, dims->grid_h,
                         dims->grid_w, k, (double)logits[f][k], expected[k]);
        }
    }
}

static void check_head(const struct ees__op *op, const struct ees__kernels *kernels, double *worst) {
    struct ees__loader loader = {.weights = &weights, .kernels = kernels, .dims = dims};
    const struct plain_model plain = {.dims = dims, .widths = widths, .tensor = find_kept};
    struct ees__op_cost cost = {0};
    ees_error err = {0};
    void *self = NULL;
    char before[N_FRAMES][64];
    if (op->open(&loader, "exit.0", op->numbered ? 2 : 0, &self, &cost, &err) != 0)
        fail_msg("%s: %s", head_at_hand, err.message);
    assert_true(cost.flops > 0 && loader.n_packed_bytes > 0);
    for (size_t f = 0; f < N_FRAMES; f++) {
        memcpy(before[f], states[f], sizeof before[f]);
        run(op, self, &cost, kernels, f, 1);
        assert_memory_equal(before[f], states[f], sizeof before[f]); /* later blocks read the same tokens */
    }
    compare(&plain, kernels->name, worst);
    float alone[N_FRAMES][MAX_CLASSES];
    memcpy(alone, logits, sizeof alone);
    run(op, self, &cost, kernels, 0, N_FRAMES);
    if (strcmp(kernels->name, "blas") == 0) /* its rows depend on how many there are */
        compare(&plain, "blas, a batch", worst);
    else
        assert_memory_equal(alone, logits, sizeof alone);
    op->close(self);
    ees__loader_fini(&loader);
    forget_kept();
}

static void test_against_plain_forwards(void **state) {
    size_t n_levels;
    const struct ees__kernels *const *levels = ees__kernels_list(&n_levels);
    for (size_t i = 0; ees__heads[i]; i++) {
        char name[24];
        double worst = 0;
        snprintf(name, sizeof name, "%s%s", ees__heads[i]->name, ees__heads[i]->numbered ? "2" : "");
        head_at_hand = name;
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            if (!suits(ees__heads[i], &sizes[s]))
                continue;
            const struct ees__dims of_sizes = make_dims(&sizes[s]);
            dims = &of_sizes;
            widths = &sizes[s].widths;
            /* filters of conv_normal are the channels */
            struct plain_widths square = *widths;
            square.filters = strcmp(name, "conv_normal") ? widths->filters : dims->n_channels;
            widths = &square;
            fill_states(dims->n_tokens * dims->n_channels);
            for (size_t l = 0; l < n_levels; l++)
                check_head(ees__heads[i], levels[l], &worst);
            free_states();
        }
        print_message("  %-15s within %.1e\n", name, worst);
    }
}

/* Millions of multiply-accumulates, the tables of docs/heads.md and docs/swin.md. Default widths: no tensor tells them.
 */
struct price {
    const char *head;
    double mega_macs;
};

static void check_costs(const struct sizes *backbone, const struct price *prices, size_t n_prices) {
    const struct ees__dims of_backbone = make_dims(backbone);
    size_t n_seen = 0;
    for (size_t i = 0; ees__heads[i]; i++) {
        if (!suits(ees__heads[i], backbone))
            continue;
        struct ees__loader loader = {.kernels = ees__kernels_get(NULL, NULL), .dims = &of_backbone};
        struct ees__op_cost cost = {0};
        void *self;
        size_t row = 0;
        while (strcmp(prices[row].head, ees__heads[i]->name))
            assert_true(++row < n_prices);
        assert_int_equal(ees__weights_open_random(1, &loader.weights, NULL), 0);
        assert_int_equal(ees__heads[i]->open(&loader, "exit.0", 2, &self, &cost, NULL), 0);
        print_message("  %-15s %.2f\n", prices[row].head, cost.flops / 2e6);
        assert_true(fabs(cost.flops / 2e6 - prices[row].mega_macs) <= .01 * prices[row].mega_macs);
        ees__heads[i]->close(self);
        loader.weights->close(loader.weights);
        ees__loader_fini(&loader);
        n_seen++;
    }
    assert_int_equal(n_seen, n_prices);
}

static void test_costs(void **state) {
    static const struct sizes vit_b = {14, 14, 1, 768, 12, 100, false, false, true, EES__POST_GELU, {0}, false};
    static const struct price on_vit_b[] = {
        {"conv1_1", 117.6},
        {"conv2_1", 116.2},
        {"conv_normal", 1110},
        {"attention_r", 91.1},
        {"self_attention", 406.9},
        {"dummy_mlp", 1.6},
        {"linear", .67},
        {"vit", 11.4},
        {"mlp", 4.8},
        {"mlp_ee", 4.8},
        {"vit_ee", 15.5},
        {"cnn_ignore_ee", 28.1},
        {"cnn_add_ee", 28.1},
        {"cnn_project_ee", 144.3},
        {"mixer_ee", 588},
        {"resmlp_ee", 502},
    };
    /* Stage 3 of Swin-B, where most of LGViT's exits are. */
    static const struct sizes swin_b = {14, 14, 0, 512, 16, 100, false, false, true, EES__POST_GELU, {0}, true};
    static const struct price on_swin_b[] = {{"conv1_1", 103.7},       {"conv2_1", 102.8}, {"conv_normal", 493.1},
                                             {"attention_r", 53.9},    {"linear", .0512},  {"vit", 861.5},
                                             {"self_attention", 244.9}};
    check_costs(&vit_b, on_vit_b, sizeof on_vit_b / sizeof *on_vit_b);
    check_costs(&swin_b, on_swin_b, sizeof on_swin_b / sizeof *on_swin_b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_plain_forwards),
        cmocka_unit_test(test_costs),
    };
    return cmocka_run_group_tests_name("exit heads", tests, NULL, NULL);
}
