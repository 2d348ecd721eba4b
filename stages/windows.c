/* SPDX-License-Identifier: MIT */
#include "stages/windows.h"

struct ees__windows ees__windows_cut(const struct ees__dims *d, bool shifted) {
    const struct ees__window *window = &d->window;
    return (struct ees__windows){
        .rows = (d->grid_h + window->h - 1) / window->h,
        .columns = (d->grid_w + window->w - 1) / window->w,
        .h = window->h,
        .w = window->w,
        .shift_h = shifted ? window->shift_h : 0,
        .shift_w = shifted ? window->shift_w : 0,
        .grid_h = d->grid_h,
        .grid_w = d->grid_w,
        .rolls_first = window->rolls_first,
    };
}

/* Place `i` along a side of the padded and shifted grid: what stands there, `side` or more for padding. */
static size_t find_place(size_t i, size_t side, size_t padded, size_t shift, bool rolls_first) {
    if (!rolls_first)
        return (i + shift) % padded;
    return i < side ? (i + shift) % side : side;
}

uint32_t ees__windows_token(const struct ees__windows *w, size_t window, size_t token) {
    size_t row = window / w->columns * w->h + token / w->w, column = window % w->columns * w->w + token % w->w;
    row = find_place(row, w->grid_h, w->rows * w->h, w->shift_h, w->rolls_first);
    column = find_place(column, w->grid_w, w->columns * w->w, w->shift_w, w->rolls_first);
    return row < w->grid_h && column < w->grid_w ? (uint32_t)(row * w->grid_w + column) : EES__NO_TOKEN;
}

/* 0 before the last window, then 1, and 2 for what was shifted in from the other end. */
static unsigned find_band(size_t i, size_t padded, size_t window, size_t shift) {
    return i < padded - window ? 0 : i < padded - shift ? 1 : 2;
}

unsigned ees__windows_region(const struct ees__windows *w, size_t row, size_t column) {
    return 3 * find_band(row, w->rows * w->h, w->h, w->shift_h) +
           find_band(column, w->columns * w->w, w->w, w->shift_w);
}

/* The last windows of a shifted side: bit 1 of its rows, bit 0 of its columns. */
unsigned ees__windows_kind(const struct ees__windows *w, size_t window) {
    bool last_row = window / w->columns == w->rows - 1, last_column = window % w->columns == w->columns - 1;
    return (w->shift_h && last_row ? 2u : 0u) + (w->shift_w && last_column ? 1u : 0u);
}

float ees__windows_mask(const struct ees__windows *w, unsigned kind, size_t i, size_t j) {
    size_t row = kind & 2 ? (w->rows - 1) * w->h : 0, column = kind & 1 ? (w->columns - 1) * w->w : 0;
    bool same = ees__windows_region(w, row + i / w->w, column + i % w->w) ==
                ees__windows_region(w, row + j / w->w, column + j % w->w);
    return same ? 0.0f : -100.0f;
}

size_t ees__windows_relative(size_t h, size_t w, size_t i, size_t j) {
    size_t down = i / w + h - 1 - j / w, right = i % w + w - 1 - j % w;
    return down * (2 * w - 1) + right;
}
