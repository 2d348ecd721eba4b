/* SPDX-License-Identifier: MIT */
/* ees_roofline_measure() on the embedded model: what it leaves behind, and what it refuses. The figures themselves are
 * checked by tests/cli/test_roofline.py. */
#define _GNU_SOURCE
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "eestream/eestream.h"

static ees_model *model;
static ees_roofline r;

static int open_model(void **state) { return ees_model_open(NULL, NULL, &model, NULL); }

static int close_model(void **state) {
    ees_model_close(model);
    return 0;
}

static void every_unit_is_measured_and_the_thread_is_free_again(void **state) {
    cpu_set_t before, after;
    ees_error err = {0};
    sched_getaffinity(0, sizeof before, &before);
    assert_int_equal(ees_roofline_measure(model, NULL, NULL, 0, 1, &r, &err), 0);
    sched_getaffinity(0, sizeof after, &after);
    assert_true(CPU_EQUAL(&before, &after));
    assert_int_equal(r.n_units, ees_model_get_info(model)->n_units);
    double ns = 0;
    for (unsigned u = 0; u < r.n_units; u++) {
        assert_true(r.units[u].ns > 0);
        assert_true(r.units[u].memory_ns > 0);
        assert_true(r.units[u].limit_ns ==
                    (r.units[u].flops > 0 ? fmax(r.units[u].compute_ns, r.units[u].memory_ns) : 0));
        ns += r.units[u].ns;
    }
    assert_true(fabs(ns - r.ns) <= 1e-6 * ns);
    assert_string_equal(r.peaks[0].precision, "fp32");
    assert_int_equal(r.no_counters.code != 0, r.no_counters.hint[0] != '\0');
}

static void bytes_follow_the_state(void **state) {
    assert_int_equal(ees_roofline_measure(model, NULL, NULL, 0, 1, &r, NULL), 0);
    for (unsigned u = 1; u < r.n_units; u++) {
        const ees_unit_info *unit = ees_model_get_unit(model, u), *from = ees_model_get_unit(model, u - 1);
        for (unsigned k = u - 1; from->exit_idx >= 0; k--) /* heads leave the tokens alone */
            from = ees_model_get_unit(model, k - 1);
        assert_int_equal(r.units[u].weights_bytes, unit->weights_bytes);
        assert_int_equal(r.units[u].state_bytes, from->output_bytes + unit->output_bytes);
    }
}

static void wrong_cores_are_refused(void **state) {
    ees_cores cores;
    ees_error err = {0};
    assert_int_equal(ees_cores_parse("8", &cores, NULL), 0);
    assert_int_equal(ees_roofline_measure(model, NULL, &cores, 0, 1, &r, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "not of this machine"));
    err = (ees_error){0};
    assert_int_equal(ees_roofline_measure(model, NULL, NULL, EES_MAX_CORE_TYPES, 1, &r, &err), EES_EINVAL);
    assert_non_null(strstr(err.message, "type 4"));
}

static void a_damaged_frame_is_told(void **state) {
    const ees_frame frame = {.kind = EES_FRAME_JPEG, .data = {"no JPEG"}, .bytes = 7};
    ees_error err = {0};
    assert_int_equal(ees_roofline_measure(model, &frame, NULL, 0, 1, &r, &err), EES_EDAMAGED);
    assert_int_equal(err.code, EES_EDAMAGED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unit_is_measured_and_the_thread_is_free_again),
        cmocka_unit_test(bytes_follow_the_state),
        cmocka_unit_test(wrong_cores_are_refused),
        cmocka_unit_test(a_damaged_frame_is_told),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
