/* SPDX-License-Identifier: MIT */
/* preprocessor_config.json of Hugging Face (spec 2.1): how a picture becomes the model's input. What the file says and
 * this engine does not do is refused: a wrong resize costs accuracy silently. */
#include <string.h>

#include "stages/config.h"

enum { MAX_SIDE = 1 << 14, PIL_BILINEAR = 2, PIL_BICUBIC = 3 };

const double ees__imagenet_mean[3] = {0.485, 0.456, 0.406}, ees__imagenet_std[3] = {0.229, 0.224, 0.225};

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

static int read_rgb(const struct ees__json *json, const char *key, double low, double fallback, double out[3],
                    ees_error *err) {
    const json_t *list = ees__json_get(json, key);
    for (size_t c = 0; c < 3; c++) {
        const json_t *x = json_array_get(list, c);
        out[c] = list ? json_number_value(x) : fallback;
        if (list && (json_array_size(list) != 3 || !json_is_number(x) || !(out[c] >= low && out[c] <= 1e6)))
            return EES_JSON_REFUSE(json, key, list, err, "three numbers from %g to 1e6", low);
    }
    return 0;
}

static int read_values(const struct ees__json *json, struct ees__preproc *out, ees_error *err) {
    bool rescale, normalize;
    EES_TRY(ees__json_bool(json, "do_rescale", true, &rescale, err));
    EES_TRY(ees__json_real(json, "rescale_factor", 1e-9, 1e6, 1.0 / 255.0, &out->rescale, err));
    if (!rescale)
        out->rescale = 1.0;
    EES_TRY(ees__json_bool(json, "do_normalize", true, &normalize, err));
    EES_TRY(read_rgb(json, "image_mean", -1e6, 0.5, out->mean, err));
    EES_TRY(read_rgb(json, "image_std", 1e-6, 0.5, out->std, err));
    for (size_t c = 0; c < 3 && !normalize; c++) {
        out->mean[c] = 0.0;
        out->std[c] = 1.0;
    }
    return 0;
}

/* Whatever the frame's size, the result must be the model's input. */
static int read_geometry(const struct ees__json *json, const struct ees__dims *dims, struct ees__preproc *out,
                         ees_error *err) {
    bool resize;
    unsigned h, w;
    EES_TRY(ees__json_bool(json, "do_resize", true, &resize, err));
    if (!resize)
        return EES_JSON_REFUSE(json, "do_resize", ees__json_get(json, "do_resize"), err, "true");
    EES_TRY(read_extent(json, "size", &out->resize_h, &out->resize_w, err));
    EES_TRY(ees__json_bool(json, "do_center_crop", false, &out->crop, err));
    if (out->crop) {
        EES_TRY(read_extent(json, "crop_size", &h, &w, err));
        if (h != dims->image_h || w != dims->image_w)
            return EES_JSON_REFUSE(json, "crop_size", ees__json_get(json, "crop_size"), err,
                                   "the model's input, %zu x %zu", dims->image_h, dims->image_w);
    }
    unsigned least_w = out->resize_w ? out->resize_w : out->resize_h;
    bool fits = out->crop ? out->resize_h >= dims->image_h && least_w >= dims->image_w
                          : out->resize_h == dims->image_h && out->resize_w == dims->image_w;
    if (!fits)
        return EES_JSON_REFUSE(json, "size", ees__json_get(json, "size"), err,
                               out->crop ? "at least the crop, %zu x %zu" : "the model's input, %zu x %zu",
                               dims->image_h, dims->image_w);
    return 0;
}

int ees__preproc_read(const struct ees__json *json, const struct ees__dims *dims, bool half_even,
                      struct ees__preproc *out, ees_error *err) {
    memset(out, 0, sizeof *out);
    EES_TRY(read_geometry(json, dims, out, err));
    EES_TRY(read_filter(json, &out->filter, err));
    out->crop_round_half_even = half_even;
    return read_values(json, out, err);
}
