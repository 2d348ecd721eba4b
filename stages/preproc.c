/* SPDX-License-Identifier: MIT */
/* How a picture becomes the model's input (spec 2.1): by preprocessor_config.json, or by the family's rule. What the
 * file says and this engine does not do is refused: a wrong resize costs accuracy silently. */
#include <string.h>

#include "stages/config.h"

enum { MAX_SIDE = 1 << 14, PIL_BILINEAR = 2, PIL_BICUBIC = 3 };

/* {"height", "width"}, {"shortest_edge"} (w = 0) or a bare number. */
static int read_extent(const struct ees__json *json, const char *key, unsigned *h, unsigned *w, ees_error *err) {
    json_t *value = ees__json_get(json, key);
    size_t height = 0, width = 0;
    if (json_is_object(value)) {
        struct ees__json child = ees__json_child(json, key, value);
        EES_TRY(ees__json_size(&child, "shortest_edge", 1, MAX_SIDE, 0, &height, err));
        if (height == 0) {
            EES_TRY(ees__json_size(&child, "height", 1, MAX_SIDE, 0, &height, err));
            EES_TRY(ees__json_size(&child, "width", 1, MAX_SIDE, 0, &width, err));
            height = width ? height : 0;
        }
    } else {
        EES_TRY(ees__json_size(json, key, 1, MAX_SIDE, 0, &height, err));
        width = height;
    }
    if (height == 0)
        return EES_JSON_REFUSE(json, key, value, err,
                               "{\"height\", \"width\"}, {\"shortest_edge\"} or a number, sides from 1 to %d",
                               MAX_SIDE);
    *h = (unsigned)height;
    *w = (unsigned)width;
    return 0;
}

static int read_filter(const struct ees__json *json, enum ees__filter *out, ees_error *err) {
    size_t resample;
    EES_TRY(ees__json_size(json, "resample", 0, 5, PIL_BILINEAR, &resample, err));
    if (resample != PIL_BILINEAR && resample != PIL_BICUBIC)
        return EES_JSON_REFUSE(json, "resample", ees__json_get(json, "resample"), err, "2 (bilinear) or 3 (bicubic)");
    *out = resample == PIL_BICUBIC ? EES__FILTER_BICUBIC : EES__FILTER_BILINEAR;
    return 0;
}

static int read_values(const struct ees__json *json, struct ees__preproc *out, ees_error *err) {
    bool rescale, normalize;
    EES_TRY(ees__json_bool(json, "do_rescale", true, &rescale, err));
    EES_TRY(ees__json_real(json, "rescale_factor", 1e-9, 1e6, 1.0 / 255.0, &out->rescale, err));
    if (!rescale)
        out->rescale = 1.0;
    EES_TRY(ees__json_bool(json, "do_normalize", true, &normalize, err));
    for (size_t c = 0; c < 3; c++)
        out->mean[c] = out->std[c] = 0.5;
    EES_TRY(ees__json_rgb(json, "image_mean", -1e6, out->mean, err));
    EES_TRY(ees__json_rgb(json, "image_std", 1e-6, out->std, err));
    for (size_t c = 0; c < 3 && !normalize; c++) {
        out->mean[c] = 0.0;
        out->std[c] = 1.0;
    }
    return 0;
}

static int read_geometry(const struct ees__json *json, struct ees__processor *out, ees_error *err) {
    struct ees__preproc *p = &out->preproc;
    bool resize;
    EES_TRY(ees__json_bool(json, "do_resize", true, &resize, err));
    if (!resize)
        return EES_JSON_REFUSE(json, "do_resize", ees__json_get(json, "do_resize"), err, "true");
    EES_TRY(read_extent(json, "size", &p->resize_h, &p->resize_w, err));
    EES_TRY(ees__json_bool(json, "do_center_crop", false, &p->crop, err));
    if (!p->crop)
        return 0;
    EES_TRY(read_extent(json, "crop_size", &out->crop_h, &out->crop_w, err));
    out->crop_w = out->crop_w ? out->crop_w : out->crop_h;
    return 0;
}

/* LGViT's scripts take a processor of another model and override its size by shortest_edge, so a file that does not
 * say shortest_edge is not what the checkpoint was trained with. */
static bool counts(const struct ees__json *json, const struct ees__preproc_rule *rule) {
    return json && (!rule->ignores_squash || json_object_get(ees__json_get(json, "size"), "shortest_edge"));
}

int ees__processor_read(const struct ees__json *json, const struct ees__preproc_rule *rule, struct ees__processor *out,
                        ees_error *err) {
    memset(out, 0, sizeof *out);
    if (!counts(json, rule))
        return 0;
    EES_TRY(read_geometry(json, out, err));
    EES_TRY(read_filter(json, &out->preproc.filter, err));
    out->preproc.crop_round_half_even = rule->half_even;
    return read_values(json, &out->preproc, err);
}

bool ees__processor_input(const struct ees__processor *processor, size_t *h, size_t *w) {
    *h = processor->crop_h ? processor->crop_h : processor->preproc.resize_h;
    *w = processor->crop_w ? processor->crop_w : processor->preproc.resize_w;
    return *h && *w;
}

static unsigned scale(unsigned size, size_t to, size_t from) { return (unsigned)((uint64_t)size * to / from); }

/* The processor's sizes for an input of another size than it makes. */
static void rescale_processor(struct ees__processor *processor, const struct ees__dims *dims) {
    struct ees__preproc *p = &processor->preproc;
    size_t h, w;
    if (!ees__processor_input(processor, &h, &w))
        return;
    if (p->resize_w) {
        p->resize_h = scale(p->resize_h, dims->image_h, h);
        p->resize_w = scale(p->resize_w, dims->image_w, w);
    } else {
        p->resize_h = scale(p->resize_h, ees__max_size(dims->image_h, dims->image_w), ees__max_size(h, w));
    }
    processor->crop_h = processor->crop_h ? (unsigned)dims->image_h : 0;
    processor->crop_w = processor->crop_w ? (unsigned)dims->image_w : 0;
}

/* Whatever the frame's size, the result must be the model's input. */
static int check_processor(const struct ees__json *json, const struct ees__processor *processor,
                           const struct ees__dims *dims, ees_error *err) {
    const struct ees__preproc *p = &processor->preproc;
    if (p->crop && (processor->crop_h != dims->image_h || processor->crop_w != dims->image_w))
        return EES_JSON_REFUSE(json, "crop_size", ees__json_get(json, "crop_size"), err, "the model's input, %zu x %zu",
                               dims->image_h, dims->image_w);
    unsigned least_w = p->resize_w ? p->resize_w : p->resize_h;
    bool fits = p->crop ? p->resize_h >= dims->image_h && least_w >= dims->image_w
                        : p->resize_h == dims->image_h && p->resize_w == dims->image_w;
    if (!fits)
        return EES_JSON_REFUSE(json, "size", ees__json_get(json, "size"), err,
                               p->crop ? "at least the crop, %zu x %zu" : "the model's input, %zu x %zu", dims->image_h,
                               dims->image_w);
    return 0;
}

/* A share of 0.875 is 224 of 256; timm rounds down, as its 0.9 is 224 of 248. */
static unsigned enlarge(size_t side, double crop_share) { return (unsigned)((double)side / crop_share + 1e-9); }

static void fill_by_rule(const struct ees__preproc_rule *rule, const struct ees__dims *dims, struct ees__preproc *out) {
    *out = (struct ees__preproc){
        .filter = rule->filter,
        .crop = rule->keep_aspect || rule->crop_share < 1.0,
        .crop_round_half_even = rule->half_even,
        .rescale = 1.0 / 255.0,
    };
    memcpy(out->mean, rule->mean, sizeof out->mean);
    memcpy(out->std, rule->std, sizeof out->std);
    if (rule->keep_aspect) {
        out->resize_h = enlarge(ees__max_size(dims->image_h, dims->image_w), rule->crop_share);
        return;
    }
    out->resize_h = enlarge(dims->image_h, rule->crop_share);
    out->resize_w = enlarge(dims->image_w, rule->crop_share);
}

int ees__preproc_fill(const struct ees__json *json, struct ees__processor *processor, bool scaled,
                      struct ees__config *config, ees_error *err) {
    if (processor->preproc.resize_h == 0) {
        fill_by_rule(&config->preproc_rule, &config->dims, &config->preproc);
        return 0;
    }
    if (scaled)
        rescale_processor(processor, &config->dims);
    EES_TRY(check_processor(json, processor, &config->dims, err));
    config->preproc = processor->preproc;
    return 0;
}
