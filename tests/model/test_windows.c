/* SPDX-License-Identifier: MIT */
/* Windows of a Swin's grid: shifts, masks and relative positions, with the known answers of spec 11. */
#include <string.h>

#include "stages/windows.h"
#include "support.h"

static struct ees__windows cut(size_t h, size_t w, size_t side, size_t shift, bool rolls_first) {
    const struct ees__dims dims = {
        .grid_h = h,
        .grid_w = w,
        .window = {.h = side, .w = side, .shift_h = shift, .shift_w = shift, .rolls_first = rolls_first}};
    return ees__windows_cut(&dims, shift > 0);
}

static void test_relative_positions(void **state) {
    static const size_t two[16] = {4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4};
    size_t sum = 0;
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(ees__windows_relative(2, 2, i / 4, i % 4), two[i]);
    assert_int_equal(ees__windows_relative(7, 7, 0, 0), 84);
    assert_int_equal(ees__windows_relative(7, 7, 0, 1), 83);
    assert_int_equal(ees__windows_relative(7, 7, 0, 7), 71);
    assert_int_equal(ees__windows_relative(7, 7, 0, 48), 0);
    assert_int_equal(ees__windows_relative(7, 7, 48, 0), 168);
    for (size_t i = 0; i < 49 * 49; i++)
        sum += ees__windows_relative(7, 7, i / 49, i % 49);
    assert_int_equal(sum, 201684);
}

static void test_regions(void **state) {
    static const unsigned known[4][4] = {{0, 0, 1, 2}, {0, 0, 1, 2}, {3, 3, 4, 5}, {6, 6, 7, 8}};
    const struct ees__windows windows = cut(4, 4, 2, 1, false);
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(ees__windows_region(&windows, i / 4, i % 4), known[i / 4][i % 4]);
}

static void test_masked_pairs(void **state) {
    static const size_t known[4] = {0, 1176, 1176, 1776};
    const struct ees__windows windows = cut(14, 14, 7, 3, false);
    assert_int_equal(windows.rows * windows.columns, 4);
    for (size_t window = 0; window < 4; window++) {
        unsigned kind = ees__windows_kind(&windows, window);
        size_t n = 0;
        for (size_t i = 0; i < 49 * 49; i++) {
            float mask = ees__windows_mask(&windows, kind, i / 49, i % 49);
            assert_true(mask == 0 || mask == -100);
            n += mask != 0;
        }
        assert_int_equal(n, known[window]);
    }
}

/* A window's mask is that of its kind, wherever it lies; each token stands in one window. */
static void test_kinds_and_tokens(void **state) {
    for (int rolls_first = 0; rolls_first < 2; rolls_first++) {
        const struct ees__windows w = cut(8, 10, 3, 1, rolls_first);
        unsigned seen[80] = {0}, n_padding = 0;
        for (size_t window = 0; window < w.rows * w.columns; window++)
            for (size_t i = 0; i < 9; i++) {
                size_t row = window / w.columns * 3 + i / 3, column = window % w.columns * 3 + i % 3;
                unsigned kind = ees__windows_kind(&w, window);
                uint32_t token = ees__windows_token(&w, window, i);
                bool same = ees__windows_region(&w, row, column) ==
                            ees__windows_region(&w, window / w.columns * 3, window % w.columns * 3);
                assert_true((ees__windows_mask(&w, kind, i, 0) == 0) == same);
                if (token == EES__NO_TOKEN)
                    n_padding++;
                else
                    seen[token]++;
            }
        assert_int_equal(n_padding, 9 * 12 - 80);
        for (size_t i = 0; i < 80; i++)
            assert_int_equal(seen[i], 1);
    }
}

/* Five tokens in windows of two, shifted by one: padded and then rolled, or the other way around. */
static void test_order_of_padding(void **state) {
    static const uint32_t padded_first[6] = {1, 2, 3, 4, EES__NO_TOKEN, 0},
                          rolled_first[6] = {1, 2, 3, 4, 0, EES__NO_TOKEN};
    const struct ees__window side = {.h = 1, .w = 2, .shift_w = 1};
    struct ees__dims dims = {.grid_h = 1, .grid_w = 5, .window = side};
    for (int rolls_first = 0; rolls_first < 2; rolls_first++) {
        dims.window.rolls_first = rolls_first;
        const struct ees__windows windows = ees__windows_cut(&dims, true);
        for (size_t i = 0; i < 6; i++)
            assert_int_equal(ees__windows_token(&windows, i / 2, i % 2),
                             rolls_first ? rolled_first[i] : padded_first[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relative_positions), cmocka_unit_test(test_regions),
        cmocka_unit_test(test_masked_pairs),       cmocka_unit_test(test_kinds_and_tokens),
        cmocka_unit_test(test_order_of_padding),
    };
    return cmocka_run_group_tests_name("windows", tests, NULL, NULL);
}
