/* SPDX-License-Identifier: MIT */
/* Helpers of the model tests. */
#define _GNU_SOURCE
#include "support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "stages/family.h"
#include "stages/weights.h"

void make_folder(char path[64]) {
    const char *base = getenv("TMPDIR");
    assert_in_range(snprintf(path, 64, "%s/ees-model-XXXXXX", base && strlen(base) < 40 ? base : "/tmp"), 1, 63);
    assert_non_null(mkdtemp(path));
}

void remove_folder(const char *path) {
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char file[400];
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(file);
    }
    closedir(dir);
    assert_int_equal(rmdir(path), 0);
}

void write_file(const char *dir, const char *name, const void *data, size_t n_bytes) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
}

ees_tensors *open_tensors_or_skip(const char *dir, const char *file) {
    char path[400];
    ees_tensors *tensors = NULL;
    ees_error err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if (access(path, R_OK) != 0) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    if (ees_tensors_open(path, &tensors, &err) != 0)
        fail_msg("%s", err.message);
    return tensors;
}

json_t *load_json(const char *dir, const char *file) {
    char path[400];
    json_error_t problem;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    json_t *root = json_load_file(path, 0, &problem);
    if (!root)
        fail_msg("%s: %s", path, problem.text);
    return root;
}

float *read_tensor(const ees_tensors *tensors, const char *name, const ees_tensor_info **info) {
    *info = ees_tensors_find(tensors, name);
    if (!*info)
        fail_msg("the reference has no tensor '%s'", name);
    float *values = malloc((*info)->n_elements * sizeof *values);
    assert_non_null(values);
    assert_int_equal(ees_tensors_read_f32(tensors, *info, values, NULL), 0);
    return values;
}

ees_frame tensor_frame(const ees_model *model, const float *pixels) {
    const ees_model_info *info = ees_model_get_info(model);
    return (ees_frame){
        .kind = EES_FRAME_TENSOR,
        .width_px = info->image_width_px,
        .height_px = info->image_height_px,
        .data = {pixels},
        .stride = {info->image_width_px * sizeof(float)},
    };
}

void walk_units(const ees_model *model, const struct ees__policy_setup *setup, const ees_frame *frame, uint64_t seq,
                struct walked *out) {
    const ees_model_info *info = ees_model_get_info(model);
    struct ees__lane *lane = ees__lane_open(model, 1);
    *out = (struct walked){.item = {.frame = frame, .seq = seq, .exit_idx = -1}};
    out->item.state = ees__calloc_aligned(info->state_bytes, 1);
    out->item.logits = out->logits = ees__calloc_aligned(info->n_classes, sizeof(float));
    out->item.policy_memory = ees__calloc_aligned(setup->memory_floats + 1, sizeof(float));
    assert_true(lane && out->item.state && out->logits && out->item.policy_memory);
    for (unsigned i = 0; i < info->n_units && out->rc == EES__UNIT_NEXT; i++, out->n_units_run++)
        ees__unit_run(model, setup, i, &(struct ees__item *){&out->item}, 1, &out->rc, lane, NULL);
    ees__lane_close(lane);
}

void walked_fini(struct walked *walked) {
    ees__free(walked->item.state);
    ees__free(walked->item.policy_memory);
    ees__free(walked->logits);
}

/* ---- a tiny model --------------------------------------------------------------------------------------- */

void tiny_add_canonical(struct tiny *tiny, const char *family_name, unsigned alternative, const char *canonical,
                        unsigned rank, const size_t dims[4]) {
    const struct ees__family *family = ees__family_by_name(family_name);
    const struct ees__tensor_shape shape = {rank, {dims[0], dims[1], dims[2], dims[3]}};
    struct ees__weights *random;
    struct ees__buffer values = {0};
    char parts[EES__MAX_PARTS][EES__MAX_TENSOR_NAME];
    const struct ees__names names = ees__family_names(family, tiny->layout);
    assert_int_equal(ees__weights_open_random(7, &random, NULL), 0);
    assert_int_equal(random->read(random, canonical, &shape, &values, NULL), 0);
    random->close(random);
    unsigned n_parts = ees__names_expand(&names, canonical, alternative, parts);
    assert_true(n_parts > 0 && tiny->n_tensors + n_parts <= sizeof tiny->tensors / sizeof *tiny->tensors);
    size_t n_part = ees__tensor_elements(&shape) / n_parts;
    for (unsigned i = 0; i < n_parts; i++) {
        struct tensor *t = &tiny->tensors[tiny->n_tensors++];
        *t = (struct tensor){
            .dtype = "F32", .rank = shape.rank, .shape = {dims[0] / n_parts, dims[1], dims[2], dims[3]}};
        snprintf(t->name, sizeof t->name, "%.127s", parts[i]);
        t->data = malloc(n_part * sizeof(float));
        assert_non_null(t->data);
        memcpy(t->data, values.data + i * n_part, n_part * sizeof(float));
    }
    ees__free(values.data);
}

/* The same in the first spelling. */
static void add(struct tiny *tiny, const struct ees__family *family, const char *canonical, size_t rank, size_t d0,
                size_t d1, size_t d2, size_t d3) {
    tiny_add_canonical(tiny, family->name, 0, canonical, (unsigned)rank, (const size_t[]){d0, d1, d2, d3});
}

static void add_pair(struct tiny *tiny, const struct ees__family *family, const char *base, size_t rank, size_t d0,
                     size_t d1, size_t d2, size_t d3) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", base);
    add(tiny, family, name, rank, d0, d1, d2, d3);
    snprintf(name, sizeof name, "%s.bias", base);
    add(tiny, family, name, 1, d0, 0, 0, 0);
}

static void add_batch_norm(struct tiny *tiny, const struct ees__family *family, const char *base, size_t c) {
    char name[64];
    add_pair(tiny, family, base, 1, c, 0, 0, 0);
    snprintf(name, sizeof name, "%s.running_mean", base);
    add(tiny, family, name, 1, c, 0, 0, 0);
    snprintf(name, sizeof name, "%s.running_var", base);
    add(tiny, family, name, 1, c, 0, 0, 0);
}

enum { C = 16, F = 24, K = 3, P = 4, T = 7, N_BLOCKS = 2 };

static void add_block(struct tiny *tiny, const struct ees__family *family, unsigned block) {
    static const struct {
        const char *leaf;
        unsigned rank, n, k;
    } pairs[] = {{"norm1", 1, C, 0}, {"attn.qkv", 2, 3 * C, C}, {"attn.proj", 2, C, C},
                 {"norm2", 1, C, 0}, {"mlp.fc1", 2, F, C},      {"mlp.fc2", 2, C, F}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char base[48];
        snprintf(base, sizeof base, "blk.%u.%s", block, pairs[i].leaf);
        add_pair(tiny, family, base, pairs[i].rank, pairs[i].n, pairs[i].k, 0, 0);
    }
}

static const char lgvit_config[] =
    "{\"architectures\":[\"DeiTHighwayForImageClassification\"],\"model_type\":\"deit\",\"backbone\":\"ViT\","
    "\"highway_type\":\"LGViT\",\"num_early_exits\":2,\"position_exits\":\"[1,2]\",\"exit_strategy\":\"confidence\","
    "\"threshold\":0.8,";
static const char hf_config[] =
    "{\"architectures\":[\"ViTForImageClassification\"],\"model_type\":\"vit\",\"early_exits\":{\"exits\":["
    "{\"after_block\":1,\"head\":\"conv1_1\"},{\"after_block\":2,\"head\":\"attention_r2\"}],"
    "\"policy\":{\"name\":\"confidence\",\"thresholds\":0.8}},";
static const char common_config[] =
    "\"image_size\":[8,12],\"patch_size\":4,\"hidden_size\":16,\"num_attention_heads\":2,\"intermediate_size\":24,"
    "\"num_hidden_layers\":2,\"id2label\":{\"0\":\"ant\",\"2\":\"cat\",\"1\":\"bee\"}}";

void tiny_init(struct tiny *tiny, const char *family_name) {
    const struct ees__family *family = ees__family_by_name(family_name);
    bool lgvit = strcmp(family_name, "lgvit-vit") == 0;
    char text[1024];
    memset(tiny, 0, sizeof *tiny);
    snprintf(text, sizeof text, "%s%s", lgvit ? lgvit_config : hf_config, common_config);
    tiny->config = json_loads(text, 0, NULL);
    assert_non_null(tiny->config);
    add(tiny, family, "embed.cls", 3, 1, 1, C, 0);
    add(tiny, family, "embed.pos", 3, 1, T, C, 0);
    add_pair(tiny, family, "embed.patch", 4, C, 3, P, P);
    for (unsigned i = 0; i < N_BLOCKS; i++)
        add_block(tiny, family, i);
    add_pair(tiny, family, "norm", 1, C, 0, 0, 0);
    add_pair(tiny, family, "head.cls", 2, K, C, 0, 0);
    add_pair(tiny, family, "exit.0.conv1", 4, C, C, 1, 1);
    add_batch_norm(tiny, family, "exit.0.bn1", C);
    add_pair(tiny, family, "exit.0.dw", 4, C, 1, 3, 3);
    add_batch_norm(tiny, family, "exit.0.bn2", C);
    add_pair(tiny, family, "exit.0.conv2", 4, C, C, 1, 1);
    add_batch_norm(tiny, family, "exit.0.bn3", C);
    add_pair(tiny, family, "exit.0.head.cls", 2, K, C, 0, 0);
    add(tiny, family, "exit.1.attn.qkv.weight", 2, 3 * C, C, 0, 0);
    add_pair(tiny, family, "exit.1.attn.proj", 2, C, C, 0, 0);
    add_pair(tiny, family, "exit.1.head.cls", 2, K, C, 0, 0);
}

void tiny_fini(struct tiny *tiny) {
    json_decref(tiny->config);
    for (size_t i = 0; i < tiny->n_tensors; i++)
        free(tiny->tensors[i].data);
}

struct tensor *tiny_find(struct tiny *tiny, const char *name) {
    for (size_t i = 0; i < tiny->n_tensors; i++)
        if (strcmp(tiny->tensors[i].name, name) == 0)
            return &tiny->tensors[i];
    fail_msg("the tiny model has no tensor '%s'", name);
    return NULL;
}

void tiny_remove(struct tiny *tiny, const char *name) {
    struct tensor *t = tiny_find(tiny, name);
    free(t->data);
    *t = tiny->tensors[--tiny->n_tensors];
}

/* ---- backbones of every family -------------------------------------------------------------------------- */

static void add_form_block(struct tiny *tiny, const struct ees__family *family, unsigned block, unsigned flags) {
    static const struct {
        const char *leaf;
        unsigned rank, n, k, only, never; /* flags */
    } pairs[] = {{"norm1", 1, C, 0, 0, 0},
                 {"attn.qkv", 2, 3 * C, C, 0, 0},
                 {"attn.proj", 2, C, C, 0, 0},
                 {"norm2", 1, C, 0, 0, 0},
                 {"mlp.fc1", 2, F, C, 0, FORM_GATED},
                 {"mlp.fc2", 2, C, F, 0, FORM_GATED},
                 {"mlp.w12", 2, 2 * F, C, FORM_GATED, 0},
                 {"mlp.w3", 2, C, F, FORM_GATED, 0}};
    char name[48];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        snprintf(name, sizeof name, "blk.%u.%s", block, pairs[i].leaf);
        if ((flags & pairs[i].only) == pairs[i].only && !(flags & pairs[i].never))
            add_pair(tiny, family, name, pairs[i].rank, pairs[i].n, pairs[i].k, 0, 0);
    }
    for (unsigned i = 1; i <= 2 && (flags & FORM_SCALE); i++) {
        snprintf(name, sizeof name, "blk.%u.ls%u", block, i);
        add(tiny, family, name, 1, C, 0, 0, 0);
    }
}

void tiny_init_form(struct tiny *tiny, const struct form *form) {
    const struct ees__family *family = ees__family_by_name(form->family);
    size_t h = form->image_h ? form->image_h : 8, w = form->image_w ? form->image_w : 12;
    size_t patch = form->patch ? form->patch : P, n_special = form->flags & FORM_DIST ? 2 : 1;
    assert_non_null(family);
    memset(tiny, 0, sizeof *tiny);
    tiny->config = json_loads(form->config, 0, NULL);
    assert_non_null(tiny->config);
    add(tiny, family, "embed.cls", 3, 1, 1, C, 0);
    if (form->flags & FORM_DIST)
        add(tiny, family, "embed.dist", 3, 1, 1, C, 0);
    if (form->flags & FORM_REGISTERS)
        add(tiny, family, "embed.reg", 3, 1, 2, C, 0);
    add(tiny, family, "embed.pos", 3, 1, n_special + h / patch * (w / patch), C, 0);
    add_pair(tiny, family, "embed.patch", 4, C, 3, patch, patch);
    for (unsigned i = 0; i < N_BLOCKS; i++)
        add_form_block(tiny, family, i, form->flags);
    add_pair(tiny, family, "norm", 1, C, 0, 0, 0);
    add_pair(tiny, family, "head.cls", 2, K, form->flags & FORM_WIDE_HEAD ? 2 * C : C, 0, 0);
    if (form->flags & FORM_DIST)
        add_pair(tiny, family, "head.dist", 2, K, C, 0, 0);
}

/* ---- Swin ----------------------------------------------------------------------------------------------- */

static const struct ees__stage swin_stages[] = {{.n_blocks = 2, .n_heads = 2}, {.n_blocks = 1, .n_heads = 4}};
static const struct ees__exit swin_exits[] = {{.after_block = 3}};
static const struct ees__layout swin_layout = {.n_stages = 2, .stages = swin_stages, .n_exits = 1, .exits = swin_exits};

static void add_swin_block(struct tiny *tiny, const struct ees__family *family, unsigned block, size_t c, size_t h) {
    const struct {
        const char *leaf;
        size_t rank, n, k;
    } pairs[] = {{"norm1", 1, c, 0}, {"attn.qkv", 2, 3 * c, c}, {"attn.proj", 2, c, c},
                 {"norm2", 1, c, 0}, {"mlp.fc1", 2, 2 * c, c},  {"mlp.fc2", 2, c, 2 * c}};
    char name[48];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        snprintf(name, sizeof name, "blk.%u.%s", block, pairs[i].leaf);
        add_pair(tiny, family, name, pairs[i].rank, pairs[i].n, pairs[i].k, 0, 0);
    }
    snprintf(name, sizeof name, "blk.%u.attn.rel_bias", block);
    add(tiny, family, name, 2, 25, h, 0, 0);
}

/* The exit's copies of what the final classifier has. */
static void copy_final(struct tiny *tiny, const struct ees__family *family) {
    static const char *const pairs[][2] = {{"norm.weight", "exit.0.norm.weight"},
                                           {"norm.bias", "exit.0.norm.bias"},
                                           {"head.cls.weight", "exit.0.head.cls.weight"},
                                           {"head.cls.bias", "exit.0.head.cls.bias"}};
    const struct ees__names names = ees__family_names(family, tiny->layout);
    char from[EES__MAX_PARTS][EES__MAX_TENSOR_NAME], to[EES__MAX_PARTS][EES__MAX_TENSOR_NAME];
    add_pair(tiny, family, "exit.0.norm", 1, 16, 0, 0, 0);
    add_pair(tiny, family, "exit.0.head.cls", 2, K, 16, 0, 0);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        ees__names_expand(&names, pairs[i][0], 0, from);
        ees__names_expand(&names, pairs[i][1], 0, to);
        const struct tensor *source = tiny_find(tiny, from[0]);
        memcpy(tiny_find(tiny, to[0])->data, source->data,
               source->shape[0] * (source->rank > 1 ? source->shape[1] : 1) * sizeof(float));
    }
}

void tiny_init_swin(struct tiny *tiny, const char *family_name, const char *config) {
    const struct ees__family *family = ees__family_by_name(family_name);
    assert_non_null(family);
    memset(tiny, 0, sizeof *tiny);
    tiny->layout = &swin_layout;
    tiny->config = json_loads(config, 0, NULL);
    assert_non_null(tiny->config);
    add_pair(tiny, family, "embed.patch", 4, 8, 3, 2, 2);
    add_pair(tiny, family, "embed.norm", 1, 8, 0, 0, 0);
    for (unsigned block = 0; block < 3; block++)
        add_swin_block(tiny, family, block, block < 2 ? 8 : 16, block < 2 ? 2 : 4);
    add_pair(tiny, family, "merge.0.norm", 1, 32, 0, 0, 0);
    add(tiny, family, "merge.0.reduce.weight", 2, 16, 32, 0, 0);
    add_pair(tiny, family, "norm", 1, 16, 0, 0, 0);
    add_pair(tiny, family, "head.cls", 2, K, 16, 0, 0);
    if (json_object_get(tiny->config, "early_exits") || strcmp(family_name, "lgvit-swin") == 0)
        copy_final(tiny, family);
}

void tiny_rename(struct tiny *tiny, const char *from, const char *to) {
    size_t n_renamed = 0, n_from = strlen(from);
    for (size_t i = 0; i < tiny->n_tensors; i++) {
        struct tensor *t = &tiny->tensors[i];
        char name[2 * sizeof t->name];
        if (strncmp(t->name, from, n_from) != 0)
            continue;
        assert_in_range(snprintf(name, sizeof name, "%s%s", to, t->name + n_from), 1, sizeof t->name - 1);
        memcpy(t->name, name, sizeof t->name);
        n_renamed++;
    }
    assert_true(n_renamed > 0);
}

struct tensor *tiny_add(struct tiny *tiny, const char *name, unsigned rank, size_t d0, size_t d1, size_t d2) {
    struct tensor *t = &tiny->tensors[tiny->n_tensors++];
    *t = (struct tensor){.dtype = "F32", .rank = rank, .shape = {d0, d1, d2}};
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

/* ---- running ------------------------------------------------------------------------------------------- */

static int keep_final(void *opaque, const ees_tap *tap) {
    if (tap->kind == EES_TAP_LOGITS)
        memcpy(opaque, tap->data, tap->cols * sizeof(float));
    return 0;
}

void trace_logits(const ees_model *model, const float *pixels, float *logits) {
    ees_frame frame = tensor_frame(model, pixels);
    assert_int_equal(ees_model_trace(model, &frame, keep_final, logits, NULL), 0);
}

/* ---- files --------------------------------------------------------------------------------------------- */

float cut_to_half(const char *dtype, float x, uint16_t *bits) {
    uint32_t word;
    memcpy(&word, &x, sizeof word);
    uint32_t sign = word >> 31 << 15, exponent = word >> 23 & 0xff, kept = 0;
    if (strcmp(dtype, "BF16") == 0) {
        kept = word >> 16;
        word &= 0xffff0000u;
    } else { /* 5 bits of exponent, of which 15 is 1.0, and 10 of fraction */
        bool small = exponent < 113;
        assert_true(exponent < 143);
        kept = small ? sign : sign | (exponent - 112) << 10 | (word >> 13 & 0x3ff);
        word = small ? word & 0x80000000u : word & 0xffffe000u;
    }
    if (bits)
        *bits = (uint16_t)kept;
    memcpy(&x, &word, sizeof x);
    return x;
}

static size_t element_bytes(const struct tensor *t) {
    return strcmp(t->dtype, "I64") == 0 ? 8 : strstr(t->dtype, "16") ? 2 : 4;
}

static size_t tensor_bytes(const struct tensor *t) {
    size_t n = element_bytes(t);
    for (unsigned i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

/* 8 bytes of length, the header, the values. */
static void write_tensors(const struct tiny *tiny, FILE *file) {
    json_t *header = json_object();
    size_t offset = 0;
    for (size_t i = 0; i < tiny->n_tensors; i++) {
        const struct tensor *t = &tiny->tensors[i];
        json_t *shape = json_array();
        for (unsigned j = 0; j < t->rank; j++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[j]));
        size_t end = offset + tensor_bytes(t);
        json_object_set_new(header, t->name,
                            json_pack("{s:s,s:o,s:[I,I]}", "dtype", t->dtype, "shape", shape, "data_offsets",
                                      (json_int_t)offset, (json_int_t)end));
        offset = end;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t n_header = strlen(text);
    assert_int_equal(fwrite(&n_header, sizeof n_header, 1, file), 1);
    assert_int_equal(fwrite(text, 1, n_header, file), n_header);
    for (size_t i = 0; i < tiny->n_tensors; i++) {
        const struct tensor *t = &tiny->tensors[i];
        char *bytes = calloc(1, tensor_bytes(t));
        assert_non_null(bytes);
        if (t->data && element_bytes(t) == 4)
            memcpy(bytes, t->data, tensor_bytes(t));
        for (size_t j = 0; t->data && element_bytes(t) == 2 && j < tensor_bytes(t) / 2; j++) {
            uint16_t bits;
            cut_to_half(t->dtype, t->data[j], &bits);
            memcpy(bytes + 2 * j, &bits, sizeof bits);
        }
        assert_int_equal(fwrite(bytes, 1, tensor_bytes(t), file), tensor_bytes(t));
        free(bytes);
    }
    free(text);
    json_decref(header);
}

void tiny_write(const struct tiny *tiny, const char *dir) {
    char path[128];
    char *config = json_dumps(tiny->config, JSON_INDENT(2));
    write_file(dir, "config.json", config, strlen(config));
    free(config);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    write_tensors(tiny, file);
    assert_int_equal(fclose(file), 0);
}
