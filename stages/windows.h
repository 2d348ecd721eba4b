/* SPDX-License-Identifier: MIT */
/* Cutting a grid of tokens into attention windows (spec 1.4): which token stands where, which pairs a shift keeps
 * apart, and the relative positions a bias is looked up by. */
#ifndef EES_STAGES_WINDOWS_H
#define EES_STAGES_WINDOWS_H

#include <stdbool.h>
#include <stdint.h>

#include "stages/op.h"

#define EES__NO_TOKEN UINT32_MAX

/* The windows of one block: `rows` x `columns` of h x w tokens on a grid padded at the bottom and at the right. */
struct ees__windows {
    size_t rows, columns, h, w;
    size_t shift_h, shift_w;
    size_t grid_h, grid_w;
    bool rolls_first;
};

/* `shifted`: every second block of a stage is, where its grid allows it. */
struct ees__windows ees__windows_cut(const struct ees__dims *d, bool shifted);

/* Token `token` of window `window`, both row-major: its number on the grid, or EES__NO_TOKEN where padding is. */
uint32_t ees__windows_token(const struct ees__windows *w, size_t window, size_t token);

/* On the shifted grid: tokens of one window attend to each other only within a region. */
unsigned ees__windows_region(const struct ees__windows *w, size_t row, size_t column);

/* Windows with the same pairs of tokens kept apart are of one kind; of kind 0 none is. */
enum { EES__WINDOW_KINDS = 4 };
unsigned ees__windows_kind(const struct ees__windows *w, size_t window);

/* What is added to the score of tokens i and j of a window of that kind: 0 or -100. */
float ees__windows_mask(const struct ees__windows *w, unsigned kind, size_t i, size_t j);

/* Row of the table of (2h-1)(2w-1) relative positions for query i and key j. */
size_t ees__windows_relative(size_t h, size_t w, size_t i, size_t j);

#endif
