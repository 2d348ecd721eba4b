/* SPDX-License-Identifier: MIT */
/* Position tables of another grid: the known answers of spec 11, and what the rules have in common. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stages/resample_table.h"
#include "support.h"

enum { MAX_CELLS = 4096 };

static void resample(enum ees__table_filter filter, const float *in, size_t h, size_t w, size_t c, float *out,
                     size_t new_h, size_t new_w) {
    ees_error err = {0};
    if (ees__resample_table(filter, in, h, w, c, out, new_h, new_w, &err) != 0)
        fail_msg("%s", err.message);
}

/* First rows, computed in fp32; the scale 4.1 / 3 is what the rule "scaled" makes of 3 -> 4. */
static const struct {
    enum ees__table_filter filter;
    size_t old, new;
    double row[4];
} known[] = {
    {EES__TABLE_CUBIC, 3, 4, {-.281957, .276427, 1.149355, 1.707739}},
    {EES__TABLE_CUBIC_ANTIALIAS, 3, 4, {-.206226, .370803, 1.211287, 1.788316}},
    {EES__TABLE_CUBIC_CORNERS, 3, 4, {0, .574074, 1.425925, 2}},
    {EES__TABLE_CUBIC_SCALED, 3, 4, {-.296021, .237404, 1.08801, 1.660144}},
    {EES__TABLE_CUBIC, 4, 3, {.554283, 2.133029, 2.694378}},
    {EES__TABLE_CUBIC_ANTIALIAS, 4, 3, {.912441, 2.318337, 2.567522}},
};

static void test_known_answers(void **state) {
    static const float three[] = {0, 1, 2, 3, 5, 7, 4, 8, 16},
                       four[] = {0, 1, 2, 3, 3, 5, 7, 1, 4, 8, 16, 2, 1, 1, 5, 0};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        float out[16];
        resample(known[i].filter, known[i].old == 3 ? three : four, known[i].old, known[i].old, 1, out, known[i].new,
                 known[i].new);
        for (size_t j = 0; j < known[i].new; j++) {
            print_message("  rule %d, %zu -> %zu: %.6f, known %.6f\n", (int)known[i].filter, known[i].old, known[i].new,
                          (double)out[j], known[i].row[j]);
            assert_true(fabs((double)out[j] - known[i].row[j]) < 4e-6);
        }
    }
}

/* Channels stay apart, rows are rows and columns are columns, and a constant stays what it is. */
static void test_channels_and_axes(void **state) {
    static const struct {
        size_t h, w, new_h, new_w;
    } grids[] = {{7, 7, 10, 8}, {7, 7, 3, 12}, {5, 9, 9, 5}, {1, 4, 3, 1}, {16, 16, 1, 1}, {6, 6, 6, 13}};
    static float in[MAX_CELLS], out[MAX_CELLS];
    for (int filter = EES__TABLE_CUBIC; filter <= EES__TABLE_CUBIC_CORNERS; filter++)
        for (size_t g = 0; g < sizeof grids / sizeof *grids; g++) {
            size_t h = grids[g].h, w = grids[g].w, new_h = grids[g].new_h, new_w = grids[g].new_w;
            for (size_t i = 0; i < h * w; i++) {
                in[3 * i] = 2.5f;
                in[3 * i + 1] = (float)(i / w); /* the row */
                in[3 * i + 2] = (float)(i % w);
            }
            resample((enum ees__table_filter)filter, in, h, w, 3, out, new_h, new_w);
            for (size_t i = 0; i < new_h * new_w; i++) {
                assert_true(fabsf(out[3 * i] - 2.5f) < 1e-6f);
                assert_true(fabsf(out[3 * i + 1] - out[3 * (i / new_w * new_w) + 1]) < 1e-5f);
                assert_true(fabsf(out[3 * i + 2] - out[3 * (i % new_w) + 2]) < 1e-5f);
            }
        }
}

static void test_same_grid_is_a_copy(void **state) {
    float in[24], out[24];
    for (size_t i = 0; i < 24; i++)
        in[i] = sinf((float)i);
    for (int filter = EES__TABLE_CUBIC; filter <= EES__TABLE_CUBIC_CORNERS; filter++) {
        memset(out, 0, sizeof out);
        resample((enum ees__table_filter)filter, in, 3, 4, 2, out, 3, 4);
        assert_memory_equal(in, out, sizeof in);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_channels_and_axes),
        cmocka_unit_test(test_same_grid_is_a_copy),
    };
    return cmocka_run_group_tests_name("position tables", tests, NULL, NULL);
}
