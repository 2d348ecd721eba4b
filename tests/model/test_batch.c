/* SPDX-License-Identifier: MIT */
/* Frames in batches and in teams: the bits of a frame alone, whatever runs beside it and whoever helps. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "stages/kernels/kernels.h"
#include "stages/family.h"
#include "stages/model.h"
#include "stages/weights.h"
#include "support.h"

enum { MAX_FRAMES = 8 };

/* ---- models -------------------------------------------------------------------------------------------- */

/* LGViT's eight heads of all kinds. */
#define LGVIT_EXITS                                                                                                    \
    "\"highway_type\":\"LGViT\",\"num_early_exits\":8,\"position_exits\":\"[1,2,3,4,5,6,7,8]\","                       \
    "\"exit_strategy\":\"confidence\",\"threshold\":0.5,"
/* The same behind a gated DINOv2 with registers. */
static const char gated_keys[] =
    "\"use_swiglu_ffn\":true,\"num_register_tokens\":3,\"early_exits\":{\"policy\":{\"thresholds\":0.5},\"exits\":["
    "{\"after_block\":1,\"head\":\"conv1_1\"},{\"after_block\":2,\"head\":\"conv1_1\"},"
    "{\"after_block\":3,\"head\":\"conv2_1\"},{\"after_block\":4,\"head\":\"conv2_1\"},"
    "{\"after_block\":5,\"head\":\"attention_r2\"},{\"after_block\":6,\"head\":\"attention_r2\"},"
    "{\"after_block\":7,\"head\":\"attention_r3\"},{\"after_block\":8,\"head\":\"attention_r3\"}]},";

/* Eight exits of the other kinds. */
#define EXIT(block, head) "{\"after_block\":" #block ",\"head\":\"" head "\"}"
#define EXITS(a, b, c, d, e, f, g, h)                                                                                  \
    "\"early_exits\":{\"policy\":{\"thresholds\":0.5},\"exits\":[" EXIT(1, a) "," EXIT(2, b) "," EXIT(3, c) "," EXIT(  \
        4, d) "," EXIT(5, e) "," EXIT(6, f) "," EXIT(7, g) "," EXIT(8, h) "]},"
#define SOME_EXITS EXITS("linear", "vit", "self_attention", "conv_normal", "dummy_mlp", "mlp", "mlp_ee", "vit_ee")
#define MORE_EXITS                                                                                                     \
    EXITS("cnn_ignore_ee", "cnn_add_ee", "cnn_project_ee", "mixer_ee", "resmlp_ee", "vit", "conv_normal", "linear")
/* Shifted windows, padding, an odd grid in front of each merge, and each kind of head. */
#define SWIN "\"embed_dim\":16,\"depths\":[2,3,3],\"num_heads\":[2,4,4],\"window_size\":2,\"mlp_ratio\":2.5,"
#define SWIN_EXITS                                                                                                     \
    EXITS("conv1_1", "conv2_1", "conv1_1", "linear", "attention_r1", "attention_r2", "linear", "attention_r3")
#define MORE_SWIN_EXITS                                                                                                \
    EXITS("conv_normal", "self_attention", "vit", "conv_normal", "self_attention", "linear", "vit", "conv_normal")

struct shape {
    const char *image_size;
    unsigned n_channels, n_heads, mlp_width;
    const char *family, *keys;
    unsigned input; /* side, when not the config's */
};

static const struct shape shapes[] = {
    {"[24,40]", 24, 3, 53, "lgvit-vit", LGVIT_EXITS, 0},   /* 16 tokens: a head's rows are joined */
    {"[72,104]", 40, 5, 101, "lgvit-vit", LGVIT_EXITS, 0}, /* 118 tokens */
    {"[40,24]", 21, 7, 33, "hf-vit", "", 0},
    {"[24,40]", 72, 3, 53, "hf-vit", "", 0},     /* queries that fill a panel and more */
    {"8", 8, 1, 5, "lgvit-vit", LGVIT_EXITS, 0}, /* one patch */
    {"[24,40]", 24, 3, 53, "lgvit-deit", "\"backbone\":\"DeiT\"," LGVIT_EXITS, 0},
    {"[24,40]", 21, 7, 33, "hf-deit-distilled", "", 0},
    {"40", 24, 3, 0, "hf-dinov2-with-registers", gated_keys, 56},
    {"[40,56]", 40, 5, 101, "hf-vit", SOME_EXITS "\"hidden_act\":\"gelu_new\",", 0},
    {"[40,56]", 40, 5, 101, "hf-vit", MORE_EXITS, 0},
    {"[24,40]", 21, 7, 33, "hf-deit-distilled", SOME_EXITS, 0},
    {"[24,40]", 21, 7, 33, "hf-deit-distilled", MORE_EXITS "\"hidden_act\":\"relu\",", 0},
    {"40", 24, 3, 0, "hf-dinov2-with-registers", "\"use_swiglu_ffn\":true,\"num_register_tokens\":3," SOME_EXITS, 56},
    {"40", 24, 3, 0, "hf-dinov2-with-registers", MORE_EXITS, 0},
    {"[40,56]", 1, 1, 0, "hf-swin", SWIN SWIN_EXITS, 0}, /* sizes are in the keys */
    {"[40,56]", 1, 1, 0, "hf-swin", SWIN MORE_SWIN_EXITS, 0},
};

static ees_model *open_shape(const struct shape *s, const char *kernels, const char *precision) {
    char text[2048];
    struct ees__json config = {0};
    struct ees__source source = {.family = ees__family_by_name(s->family), .json = &config};
    struct ees__weights *weights;
    ees_model *model = NULL;
    ees_model_options options;
    ees_error err = {0};
    int n = snprintf(text, sizeof text,
                     "{%s\"image_size\":%s,\"patch_size\":8,\"hidden_size\":%u,\"num_attention_heads\":%u,"
                     "\"num_hidden_layers\":8,\"intermediate_size\":%u,\"num_labels\":7}",
                     s->keys, s->image_size, s->n_channels, s->n_heads, s->mlp_width ? s->mlp_width : 1);
    ees_model_options_default(&options);
    options.kernels = kernels;
    options.precision = precision;
    options.image_height_px = options.image_width_px = s->input;
    assert_int_equal(ees__json_parse(text, (size_t)n, "test", &config, &err), 0);
    assert_int_equal(ees__weights_open_random(11, &weights, NULL), 0);
    if (ees__model_build("test", &source, NULL, weights, &options, &model, &err) != 0)
        fail_msg("%s", err.message);
    weights->close(weights);
    ees__json_close(&config);
    return model;
}

/* ---- frames -------------------------------------------------------------------------------------------- */

struct frames {
    const ees_model *model;
    float *pixels[MAX_FRAMES];
    ees_frame frame[MAX_FRAMES];
    struct ees__item item[MAX_FRAMES];
};

static void frames_init(struct frames *f, const ees_model *model) {
    const ees_model_info *info = ees_model_get_info(model);
    size_t n = 3 * (size_t)info->image_height_px * info->image_width_px;
    f->model = model;
    for (size_t i = 0; i < MAX_FRAMES; i++) {
        f->pixels[i] = malloc(n * sizeof(float));
        assert_non_null(f->pixels[i]);
        for (size_t p = 0; p < n; p++)
            f->pixels[i][p] = sinf((float)p * (.11f + .07f * (float)i));
        f->frame[i] = tensor_frame(model, f->pixels[i]);
        f->item[i] = (struct ees__item){
            .frame = &f->frame[i],
            .seq = i,
            .exit_idx = -1,
            .state = ees__calloc_aligned(info->state_bytes, 1),
            .logits = ees__calloc_aligned(info->n_classes, sizeof(float)),
        };
        assert_true(f->item[i].state && f->item[i].logits);
    }
}

static void frames_fini(struct frames *f) {
    for (size_t i = 0; i < MAX_FRAMES; i++) {
        free(f->pixels[i]);
        ees__free(f->item[i].state);
        ees__free(f->item[i].logits);
    }
}

/* Frames first .. first + n - 1 from ingest to their exits, those that are left moving together. */
static void walk_batch(struct frames *f, const struct ees__policy_setup *setup, unsigned first, unsigned n,
                       struct ees__team *team) {
    struct ees__lane *lane = ees__lane_open(f->model, n);
    struct ees__item *items[MAX_FRAMES];
    int rc[MAX_FRAMES];
    assert_non_null(lane);
    for (unsigned i = 0; i < n; i++)
        items[i] = &f->item[first + i];
    for (unsigned unit = 0; n > 0; unit++) {
        int n_next = ees__unit_run(f->model, setup, unit, items, n, rc, lane, team);
        unsigned n_left = 0;
        for (unsigned i = 0; i < n; i++) {
            assert_true(rc[i] == EES__UNIT_NEXT || rc[i] == EES__UNIT_DONE);
            if (rc[i] == EES__UNIT_NEXT)
                items[n_left++] = items[i];
        }
        assert_int_equal(n_left, n_next);
        n = n_left;
    }
    ees__lane_close(lane);
}

static void compare(const struct frames *got, const struct frames *alone, const char *what) {
    const ees_model_info *info = ees_model_get_info(alone->model);
    for (size_t i = 0; i < MAX_FRAMES; i++) {
        const struct ees__item *g = &got->item[i], *a = &alone->item[i];
        if (g->exit_idx != a->exit_idx || g->class_idx != a->class_idx || g->confidence != a->confidence ||
            memcmp(g->logits, a->logits, info->n_classes * sizeof(float)) ||
            memcmp(g->state, a->state, info->state_bytes))
            fail_msg("%s, frame %zu: exit %d (alone %d), confidence %.9g (alone %.9g)", what, i, g->exit_idx,
                     a->exit_idx, (double)g->confidence, (double)a->confidence);
    }
}

/* Every frame leaves somewhere else; the first two stay to the end. */
static const uint8_t mixed_exits[MAX_FRAMES] = {8, 8, 0, 3, 5, 2, 7, 3};

static struct ees__policy_setup set_up(const ees_model *model) {
    struct ees__policy_setup setup;
    ees_policy_options resolved;
    assert_int_equal(ees_policy_resolve(model, NULL, &resolved, NULL), 0);
    if (ees_model_get_info(model)->n_exits > 0) {
        resolved.replay = mixed_exits;
        resolved.n_replay = MAX_FRAMES;
    }
    assert_int_equal(ees__policy_setup(model, &resolved, &setup, NULL), 0);
    return setup;
}

static void for_each_model(void (*check)(const ees_model *model, const struct ees__policy_setup *setup,
                                         const struct frames *alone)) {
    size_t n_levels;
    const struct ees__kernels *const *levels = ees__kernels_list(&n_levels);
    for (size_t i = 0; i < n_levels * EES__N_PRECISIONS; i++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            size_t l = i / EES__N_PRECISIONS, p = i % EES__N_PRECISIONS;
            if (strcmp(levels[l]->name, "blas") == 0) /* its rows depend on how many there are */
                continue;
            if (levels[l]->products[p] == (l > 0 ? levels[l - 1]->products[p] : NULL)) /* shared, or not there */
                continue;
            ees_model *model = open_shape(&shapes[s], levels[l]->name, ees__precision_name((enum ees__precision)p));
            struct ees__policy_setup setup = set_up(model);
            struct frames alone;
            frames_init(&alone, model);
            for (unsigned f = 0; f < MAX_FRAMES; f++)
                walk_batch(&alone, &setup, f, 1, NULL);
            if (setup.replay)
                for (unsigned f = 0; f < MAX_FRAMES; f++)
                    assert_int_equal(alone.item[f].exit_idx, mixed_exits[f]);
            check(model, &setup, &alone);
            frames_fini(&alone);
            ees_model_close(model);
        }
}

static void check_batches(const ees_model *model, const struct ees__policy_setup *setup, const struct frames *alone) {
    static const unsigned sizes[] = {2, 3, 5, 8};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct frames together;
        char what[96];
        frames_init(&together, model);
        for (unsigned i = 0; i < MAX_FRAMES; i += sizes[s])
            walk_batch(&together, setup, i, i + sizes[s] <= MAX_FRAMES ? sizes[s] : MAX_FRAMES - i, NULL);
        snprintf(what, sizeof what, "%s, %u tokens, %u at once", model->kernels->name, model->info.n_tokens, sizes[s]);
        compare(&together, alone, what);
        frames_fini(&together);
    }
}

static void test_batch_is_alone(void **state) { for_each_model(check_batches); }

/* ---- rows nobody reads --------------------------------------------------------------------------------- */

static int keep_last(void *opaque, const ees_tap *tap) {
    if (tap->kind == EES_TAP_LOGITS)
        memcpy(opaque, tap->data, tap->cols * sizeof(float));
    for (size_t i = 0; i < tap->rows * tap->cols; i++)
        assert_true(isfinite(tap->data[i]));
    return 0;
}

/* A trace computes every row of the last block, a frame those the classifier reads. */
static void check_trace(const ees_model *model, const struct ees__policy_setup *setup, const struct frames *alone) {
    const ees_model_info *info = ees_model_get_info(model);
    for (size_t i = 0; i < 2; i++) { /* they stay to the end */
        float logits[16];
        assert_int_equal(ees_model_trace(model, &alone->frame[i], keep_last, logits, NULL), 0);
        assert_memory_equal(logits, alone->item[i].logits, info->n_classes * sizeof(float));
    }
}

static void test_unread_rows_change_nothing(void **state) { for_each_model(check_trace); }

/* The last block of a model that reads its class token costs one row, and that of keys and values. */
static void test_unread_rows_cost_nothing(void **state) {
    ees_model *model = open_shape(&shapes[2], NULL, NULL), *with_exits = open_shape(&shapes[0], NULL, NULL);
    const struct ees__unit *last = &model->units[model->info.n_units - 2], *before = last - 2;
    assert_string_equal(last->name, "block8.mlp");
    assert_true(last->info.flops * model->info.n_tokens == before->info.flops);
    assert_true(last[-1].info.flops < .6 * before[-1].info.flops);
    last = &with_exits->units[with_exits->info.n_units - 3]; /* in front of an exit that reads every token */
    assert_string_equal(last->name, "block8.mlp");
    assert_int_equal(last->n_rows, with_exits->info.n_tokens);
    ees_model_close(model);
    ees_model_close(with_exits);
}

/* ---- teams --------------------------------------------------------------------------------------------- */

enum { N_HELPERS = 2, MAX_PIECES = 4096 };

/* Pieces of random size in random order, claimed by the caller and by threads made for the call. */
struct test_team {
    struct ees__team team; /* first: share() is handed its address */
    struct ees__lane *lanes[N_HELPERS];
    uint32_t random;
    unsigned n_shares;
    /* of the call at hand */
    ees__part_fn *part;
    void *ctx;
    size_t n_pieces, bounds[MAX_PIECES + 1], order[MAX_PIECES];
    _Atomic size_t next;
};

struct helper {
    struct test_team *team;
    struct ees__lane *lane;
};

static uint32_t draw(struct test_team *t, uint32_t below) {
    t->random = t->random * 1664525u + 1013904223u;
    return (t->random >> 8) % below;
}

static void *work(void *opaque) {
    struct helper *h = opaque;
    struct test_team *t = h->team;
    size_t i;
    /* relaxed: only the claim counts; thread creation and join order everything else. */
    while ((i = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed)) < t->n_pieces)
        t->part(t->ctx, t->bounds[t->order[i]], t->bounds[t->order[i] + 1], h->lane);
    return NULL;
}

static void cut(struct test_team *t, size_t n) {
    t->n_pieces = 0;
    for (size_t at = 0; at < n; t->n_pieces++) {
        size_t size = 1 + draw(t, n > 64 ? 61 : 7);
        at = at + size < n ? at + size : n;
        t->bounds[t->n_pieces + 1] = at;
        t->order[t->n_pieces] = t->n_pieces;
    }
    for (size_t i = t->n_pieces - 1; i > 0; i--) {
        size_t j = draw(t, (uint32_t)i + 1), other = t->order[j];
        t->order[j] = t->order[i];
        t->order[i] = other;
    }
}

static void share(struct ees__team *team, ees__part_fn *part, void *ctx, size_t n, size_t grain,
                  struct ees__lane *own) {
    struct test_team *t = (struct test_team *)team;
    pthread_t threads[N_HELPERS];
    struct helper helpers[N_HELPERS], caller = {t, own};
    assert_true(n >= 1 && n <= MAX_PIECES && grain >= 1 && grain <= n);
    t->part = part;
    t->ctx = ctx;
    t->n_shares++;
    cut(t, n);
    atomic_store_explicit(&t->next, 0, memory_order_relaxed); /* relaxed: no helper runs yet */
    for (size_t i = 0; i < N_HELPERS; i++) {
        helpers[i] = (struct helper){t, t->lanes[i]};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &helpers[i]), 0);
    }
    work(&caller);
    for (size_t i = 0; i < N_HELPERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void check_team(const ees_model *model, const struct ees__policy_setup *setup, const struct frames *alone) {
    struct test_team team = {.team = {.share = share, .n_members = 2}, .random = 5};
    struct frames helped;
    char what[96];
    for (size_t i = 0; i < N_HELPERS; i++)
        assert_non_null(team.lanes[i] = ees__lane_open(model, 1));
    frames_init(&helped, model);
    for (unsigned i = 0; i < MAX_FRAMES - 2; i++)
        walk_batch(&helped, setup, i, 1, &team.team);
    walk_batch(&helped, setup, MAX_FRAMES - 2, 2, &team.team);
    snprintf(what, sizeof what, "%s, %u tokens, a team", model->kernels->name, model->info.n_tokens);
    compare(&helped, alone, what);
    assert_true(team.n_shares >= MAX_FRAMES * (2 + 3)); /* at least embed and a block were shared */
    frames_fini(&helped);
    for (size_t i = 0; i < N_HELPERS; i++)
        ees__lane_close(team.lanes[i]);
}

static void test_team_is_alone(void **state) { for_each_model(check_team); }

/* ---- lanes, answers, NaN ------------------------------------------------------------------------------- */

static void test_lane_sizes(void **state) {
    ees_model *model = open_shape(&shapes[0], NULL, NULL);
    struct ees__lane *lane = ees__lane_open(model, 255);
    assert_non_null(lane);
    ees__lane_close(lane);
    size_t item_bytes = model->batch_item_bytes;
    model->batch_item_bytes = SIZE_MAX / 2; /* as of a model too large to batch */
    assert_null(ees__lane_open(model, 4));
    model->batch_item_bytes = item_bytes;
    ees_model_close(model);
}

/* A frame that no head lets go carries the latest head's answer. */
static void test_best_answer_so_far(void **state) {
    ees_model *model = open_shape(&shapes[0], NULL, NULL);
    struct ees__policy_setup setup = set_up(model);
    struct ees__lane *lane = ees__lane_open(model, 1);
    struct frames f;
    int rc = EES__UNIT_NEXT;
    frames_init(&f, model);
    struct ees__item *item = &f.item[0];
    for (unsigned unit = 0; rc == EES__UNIT_NEXT; unit++) {
        const ees_unit_info *info = ees_model_get_unit(model, unit);
        int before = item->exit_idx;
        ees__unit_run(model, &setup, unit, &item, 1, &rc, lane, NULL);
        assert_int_equal(item->exit_idx, info->exit_idx >= 0 ? info->exit_idx : before);
        if (info->exit_idx < 0)
            continue;
        assert_int_equal(item->block, info->block);
        assert_true(item->confidence >= 1.0f / 7 && item->logits[item->class_idx] >= item->logits[0]);
    }
    assert_int_equal(rc, EES__UNIT_DONE);
    assert_int_equal(item->exit_idx, 8);
    frames_fini(&f);
    ees__lane_close(lane);
    ees_model_close(model);
}

/* Weights with a NaN in one head: its logits are never an exit, its neighbours' answers stand. */
static void test_nonfinite_logits_go_on(void **state) {
    char dir[64];
    struct tiny tiny;
    ees_model *model = NULL;
    ees_model_options options;
    ees_policy_options resolved;
    struct ees__policy_setup setup;
    struct walked walked;
    static const uint8_t first = 0;
    static float pixels[3 * 8 * 12];
    make_folder(dir);
    tiny_init(&tiny, "hf-vit");
    tiny_find(&tiny, "exit.0.head.cls.bias")->data[1] = NAN;
    tiny_write(&tiny, dir);
    ees_model_options_default(&options);
    options.allow_nonfinite = true;
    assert_int_equal(ees_model_open(dir, &options, &model, NULL), 0);
    assert_int_equal(ees_policy_resolve(model, NULL, &resolved, NULL), 0);
    for (int forced = 0; forced < 2; forced++) { /* by the policy, and where a replay wants the frame to leave there */
        resolved.replay = forced ? &first : NULL;
        resolved.n_replay = 1;
        resolved.thresholds[0] = 0.0f;
        resolved.thresholds[1] = forced ? 1.0f : 0.0f;
        assert_int_equal(ees__policy_setup(model, &resolved, &setup, NULL), 0);
        ees_frame frame = tensor_frame(model, pixels);
        walk_units(model, &setup, &frame, 0, &walked);
        assert_int_equal(walked.rc, EES__UNIT_DONE);
        assert_int_equal(walked.item.n_nonfinite, 1);
        assert_int_equal(walked.item.exit_idx, forced ? 2 : 1);
        assert_true(isfinite(walked.item.confidence));
        walked_fini(&walked);
    }
    /* Right behind that head there is no answer. */
    struct ees__item item = {.exit_idx = 0};
    item.state = ees__calloc_aligned(model->info.state_bytes, 1);
    item.logits = ees__calloc_aligned(model->info.n_classes, sizeof(float));
    struct ees__lane *lane = ees__lane_open(model, 1);
    assert_true(item.state && item.logits && lane);
    for (unsigned u = 0; u < model->info.n_units; u++)
        if (ees_model_get_unit(model, u)->exit_idx == 0) {
            int rc = EES__UNIT_DONE;
            assert_int_equal(ees__unit_run(model, &setup, u, &(struct ees__item *){&item}, 1, &rc, lane, NULL), 1);
            assert_int_equal(item.exit_idx, -1);
        }
    ees__free(item.state);
    ees__free(item.logits);
    ees__lane_close(lane);
    ees_model_close(model);
    tiny_fini(&tiny);
    remove_folder(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_is_alone),
        cmocka_unit_test(test_team_is_alone),
        cmocka_unit_test(test_unread_rows_change_nothing),
        cmocka_unit_test(test_unread_rows_cost_nothing),
        cmocka_unit_test(test_lane_sizes),
        cmocka_unit_test(test_best_answer_so_far),
        cmocka_unit_test(test_nonfinite_logits_go_on),
    };
    return cmocka_run_group_tests_name("batches and teams", tests, NULL, NULL);
}
