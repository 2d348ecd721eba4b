/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tools/cli/calibrate/svg.h"

#include <math.h>
#include <stdlib.h>

#include "tools/cli/fail.h"
#include "tools/cli/file.h"

/* Pixels: the area inside the axes, and room for the legend on its right. */
enum { LEFT = 70, TOP = 40, WIDTH = 480, HEIGHT = 340, LEGEND = 230, BOTTOM = 55, N_COLOURS = 12 };

static const char *const colours[N_COLOURS] = {"#1f6fb4", "#d1495b", "#2e8b57", "#e08e0b", "#7b4fa6", "#17a2a8",
                                               "#8c564b", "#c2459b", "#6b7a00", "#444e5c", "#5b8def", "#b0721e"};

static double px(const struct svg *s, double x) { return LEFT + WIDTH * (x - s->x.low) / (s->x.high - s->x.low); }

static double py(const struct svg *s, double y) {
    return TOP + HEIGHT - HEIGHT * (y - s->y.low) / (s->y.high - s->y.low);
}

static void put_text(FILE *f, const char *text) {
    for (; *text; text++)
        if (*text == '<' || *text == '>' || *text == '&')
            fprintf(f, "&#%d;", *text);
        else
            fputc(*text, f);
}

static void text_at(struct svg *s, double x, double y, const char *attributes, const char *text) {
    fprintf(s->f, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
    put_text(s->f, text);
    fputs("</text>\n", s->f);
}

/* ---- Axes ---------------------------------------------------------------------------------------------- */

/* 1, 2 or 5 times a power of ten, so that some five steps fill the axis. */
static double round_step(const struct svg_axis *axis) {
    double rough = (axis->high - axis->low) / 5, power = pow(10, floor(log10(rough))), x = rough / power;
    return power * (x < 1.5 ? 1 : x < 3.5 ? 2 : x < 7.5 ? 5 : 10);
}

static void draw_ticks(struct svg *s, const struct svg_axis *axis, bool vertical) {
    double step = round_step(axis);
    for (double at = ceil(axis->low / step - 1e-9) * step; at <= axis->high + 1e-9 * step; at += step) {
        char number[32];
        snprintf(number, sizeof number, "%g", fabs(at) < 1e-9 * step ? 0 : at);
        if (vertical) {
            fprintf(s->f, "<path d=\"M%d %.1fh%d\" stroke=\"#e4e7ea\"/>\n", LEFT, py(s, at), WIDTH);
            text_at(s, LEFT - 8, py(s, at) + 4, "text-anchor=\"end\"", number);
        } else {
            fprintf(s->f, "<path d=\"M%.1f %dv%d\" stroke=\"#e4e7ea\"/>\n", px(s, at), TOP, HEIGHT);
            text_at(s, px(s, at), TOP + HEIGHT + 18, "text-anchor=\"middle\"", number);
        }
    }
}

int svg_open(struct svg *s, const char *title, const struct svg_axis *x, const struct svg_axis *y, ees_error *err) {
    *s = (struct svg){.x = *x, .y = *y};
    s->f = open_memstream(&s->text, &s->n);
    if (!s->f)
        return CLI_FAIL(err, EES_ENOMEM, "out of memory for a plot");
    int width = LEFT + WIDTH + LEGEND, height = TOP + HEIGHT + BOTTOM;
    fprintf(s->f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
            "font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n<rect width=\"100%%\" height=\"100%%\" "
            "fill=\"#fff\"/>\n",
            width, height, width, height);
    text_at(s, LEFT, TOP - 16, "font-size=\"15\"", title);
    draw_ticks(s, x, false);
    draw_ticks(s, y, true);
    fprintf(s->f, "<path d=\"M%d %dv%dh%d\" fill=\"none\" stroke=\"#555\"/>\n", LEFT, TOP, HEIGHT, WIDTH);
    text_at(s, LEFT + WIDTH / 2.0, TOP + HEIGHT + 42, "text-anchor=\"middle\"", x->label);
    fprintf(s->f, "<g transform=\"translate(18 %.1f) rotate(-90)\">", TOP + HEIGHT / 2.0);
    text_at(s, 0, 0, "text-anchor=\"middle\"", y->label);
    fputs("</g>\n", s->f);
    return 0;
}

/* ---- Marks --------------------------------------------------------------------------------------------- */

static void stroke(struct svg *s, unsigned series) {
    fprintf(s->f, " fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\"%s/>\n", colours[series % N_COLOURS],
            series < N_COLOURS ? "" : " stroke-dasharray=\"5 3\"");
}

void svg_line(struct svg *s, unsigned series, const double *x, const double *y, unsigned n) {
    fputs("<polyline points=\"", s->f);
    for (unsigned i = 0; i < n; i++)
        fprintf(s->f, "%s%.1f,%.1f", i ? " " : "", px(s, x[i]), py(s, y[i]));
    fputc('"', s->f);
    stroke(s, series);
}

void svg_dots(struct svg *s, unsigned series, const double *x, const double *y, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        fprintf(s->f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", px(s, x[i]), py(s, y[i]),
                colours[series % N_COLOURS]);
}

void svg_legend(struct svg *s, unsigned series, const char *name) {
    double x = LEFT + WIDTH + 16, y = TOP + 8 + 18.0 * s->n_legend++;
    fprintf(s->f, "<path d=\"M%.1f %.1fh22\"", x, y);
    stroke(s, series);
    text_at(s, x + 28, y + 4, "", name);
}

void svg_guide(struct svg *s, double x1, double y1, double x2, double y2) {
    fprintf(s->f, "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>\n", px(s, x1), py(s, y1),
            px(s, x2), py(s, y2));
}

void svg_note(struct svg *s, double x, double y, const char *text) {
    bool right = px(s, x) > LEFT + 0.7 * WIDTH; /* stays inside */
    text_at(s, px(s, x) + (right ? -7 : 7), py(s, y) + (py(s, y) < TOP + 14 ? 15 : -6),
            right ? "text-anchor=\"end\" fill=\"#444\"" : "fill=\"#444\"", text);
}

void svg_cell(struct svg *s, double x, double y, double shade, const char *text) {
    double w = WIDTH / (s->x.high - s->x.low), h = HEIGHT / (s->y.high - s->y.low);
    int red = (int)(255 - 224 * shade), green = (int)(255 - 144 * shade), blue = (int)(255 - 75 * shade);
    fprintf(s->f,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#%02x%02x%02x\" stroke=\"#fff\"/>\n",
            px(s, x) - w / 2, py(s, y) - h / 2, w, h, (unsigned)red, (unsigned)green, (unsigned)blue);
    char attributes[64];
    double size = fmin(12, fmin(w / 3.2, h / 1.6));
    snprintf(attributes, sizeof attributes, "text-anchor=\"middle\" font-size=\"%.1f\" fill=\"%s\"", size,
             shade > 0.55 ? "#fff" : "#222");
    text_at(s, px(s, x), py(s, y) + size / 3, attributes, text);
}

int svg_close(struct svg *s, const char *dir, const char *name, ees_error *err) {
    char path[4096];
    fputs("</svg>\n", s->f);
    int rc = fclose(s->f) == 0 ? 0 : CLI_FAIL(err, EES_ENOMEM, "out of memory for a plot");
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (rc == 0)
        rc = file_replace(path, s->text, s->n, err);
    free(s->text);
    return rc;
}
