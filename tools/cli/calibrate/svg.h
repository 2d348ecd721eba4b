/* SPDX-License-Identifier: MIT */
/* Plots as SVG text: axes with round numbers, lines, dots, a legend. No script, no style sheet: what a browser,
 * rsvg-convert and Inkscape show is the same. */
#ifndef EES_CLI_SVG_H
#define EES_CLI_SVG_H

#include <stdio.h>

#include "eestream/error.h"

struct svg_axis {
    const char *label;
    double low, high; /* low < high */
};

struct svg {
    FILE *f;
    char *text;
    size_t n;
    struct svg_axis x, y;
    unsigned n_legend;
};

/* Begin a plot in memory. @return 0; EES_ENOMEM */
int svg_open(struct svg *s, const char *title, const struct svg_axis *x, const struct svg_axis *y, ees_error *err);

/* A colour for each series, as far apart as 12 can be; then they begin again, dashed. */
void svg_line(struct svg *s, unsigned series, const double *x, const double *y, unsigned n);
void svg_dots(struct svg *s, unsigned series, const double *x, const double *y, unsigned n);
void svg_legend(struct svg *s, unsigned series, const char *name);

/* A thin grey line between two points, and a text at one. */
void svg_guide(struct svg *s, double x1, double y1, double x2, double y2);
void svg_note(struct svg *s, double x, double y, const char *text);

/* A unit square around (x, y), white at shade 0, dark at 1, with a text in it. */
void svg_cell(struct svg *s, double x, double y, double shade, const char *text);

/* Write `dir`/`name` whole or not at all, and close. @return 0; EES_EOUTPUT; EES_ENOMEM */
int svg_close(struct svg *s, const char *dir, const char *name, ees_error *err);

#endif
