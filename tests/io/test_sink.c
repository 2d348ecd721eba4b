/* SPDX-License-Identifier: MIT */
/* Sinks: what a line says, that it can be read back to the last bit, and that outputs which break off (disk full,
 * closed pipe, file size limit) end with a whole line, an error that says why, and no signal. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/clock.h"
#include "eestream/sink.h"
#include "io/text.h"

static char folder[] = "/tmp/ees_sink_XXXXXX";
static char path[64];

static int make_folder(void **state) {
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/out", folder);
    return 0;
}

static int remove_folder(void **state) {
    remove(path);
    return remove(folder);
}

static const float logits[] = {1.5f, -0.1f, 3.1415927f};

static ees_result answered(uint64_t frame_idx) {
    return (ees_result){.frame_idx = frame_idx,
                        .pts_ns = 1234567890,
                        .source = "video.avi",
                        .status = EES_STATUS_OK,
                        .exit_idx = 2,
                        .block = 6,
                        .class_idx = 7,
                        .label = "cat",
                        .confidence = 0.9f,
                        .entropy = 0.25f,
                        .logits = logits,
                        .n_classes = 3,
                        .latency_ns = 12345678};
}

static const char *const unit_names[] = {"ingest", "block1", "fin\"al"};

static const ees_visit visits[] = {
    {.worker = 3, .first_unit = 0, .end_unit = 2, .n_batch = 1, .wait_ns = 1000, .run_ns = 2000000},
    {.group = 1, .first_unit = 2, .end_unit = 3, .n_batch = 4, .wait_ns = 1500000, .run_ns = 40000000},
};

static ees_result failed(const ees_error *error) {
    return (ees_result){.frame_idx = 3,
                        .pts_ns = -1,
                        .source = "s",
                        .status = EES_STATUS_FAILED,
                        .exit_idx = -1,
                        .class_idx = -1,
                        .confidence = NAN,
                        .entropy = NAN,
                        .error = error};
}

static ees_sink *open_sink(const char *to, ees_sink_options options) {
    ees_sink *sink = NULL;
    ees_error err = {0};
    if (ees_sink_open(to, &options, &sink, &err) < 0)
        fail_msg("%s", err.message);
    return sink;
}

/* Content of the output file, NUL-terminated. */
static char *read_output(size_t *n) {
    static char text[1 << 20];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    *n = fread(text, 1, sizeof text - 1, file);
    text[*n] = '\0';
    fclose(file);
    return text;
}

static char *write_one(const ees_result *result, ees_sink_options options) {
    ees_sink *sink = open_sink(path, options);
    assert_int_equal(ees_sink_write(sink, result, NULL), 0);
    assert_int_equal(ees_sink_close(sink, NULL), 0);
    size_t n;
    return read_output(&n);
}

/* ---- Text ------------------------------------------------------------------------------------------------ */

static void check_float(float x) {
    char got[2 * EES__TEXT_NUMBER_BYTES], expected[64];
    *ees__text_float(got, x) = '\0';
    snprintf(expected, sizeof expected, "%.9g", (double)x);
    if (strcmp(got, expected) != 0)
        fail_msg("%a: '%s', printf says '%s'", (double)x, got, expected);
    float back = strtof(got, NULL);
    assert_memory_equal(&back, &x, sizeof x);
    assert_true(strlen(got) <= EES__TEXT_NUMBER_BYTES);
}

static void test_floats_as_printf(void **state) {
    static const float special[] = {0.0f,
                                    -0.0f,
                                    1.0f,
                                    0.1f,
                                    9.99999905e-05f,
                                    1e-4f,
                                    0x1p-13f,
                                    999999999.0f,
                                    1e9f,
                                    1e8f,
                                    16777216.0f,
                                    123456.789f,
                                    99999.9922f,
                                    1e-45f,
                                    3.4028235e38f,
                                    1.17549435e-38f,
                                    0.000122070312f,
                                    0.5f,
                                    0.00048828125f,
                                    100.0f,
                                    120.0f,
                                    0.99999994f};
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
        check_float(special[i]);
        check_float(-special[i]);
        check_float(nextafterf(special[i], 0.1f));
        check_float(nextafterf(special[i], -0.1f));
    }
    uint32_t bits = 1;
    for (int i = 0; i < 300000; i++) {
        bits = bits * 1664525u + 1013904223u;
        float any, near_one;
        memcpy(&any, &bits, sizeof any);
        if (isfinite(any))
            check_float(any);
        uint32_t moderate = (bits & 0x807fffffu) | (112 + (bits >> 24) % 46) << 23; /* 3e-5 to 2e9 */
        memcpy(&near_one, &moderate, sizeof near_one);
        check_float(near_one);
    }
}

static void test_numbers(void **state) {
    char text[EES__TEXT_NUMBER_BYTES + 1];
    *ees__text_u64(text, UINT64_MAX) = '\0';
    assert_string_equal(text, "18446744073709551615");
    *ees__text_u64(text, 0) = '\0';
    assert_string_equal(text, "0");
    *ees__text_i64(text, INT64_MIN) = '\0';
    assert_string_equal(text, "-9223372036854775808");
    *ees__text_ns(text, 1999999500, 9, 6) = '\0';
    assert_string_equal(text, "2.000000");
    *ees__text_ns(text, 1999999499, 9, 6) = '\0';
    assert_string_equal(text, "1.999999");
    *ees__text_ns(text, 1500, 6, 3) = '\0';
    assert_string_equal(text, "0.002");
    *ees__text_ns(text, UINT64_MAX, 9, 6) = '\0';
    assert_string_equal(text, "18446744073.709552");
}

/* Every byte, and broken UTF-8 of each kind, through a JSON parser that checks it. */
static void test_json_strings(void **state) {
    static const struct {
        const char *bytes, *read_back;
    } cases[] = {
        {"", ""},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xb1", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xb1"},
        {"a\"b\\c/d", "a\"b\\c/d"},
        {"\x80", "\xef\xbf\xbd"},
        {"\xc3", "\xef\xbf\xbd"},
        {"\xc3(", "\xef\xbf\xbd("},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xe0\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* surrogate */
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x8f\xbf\xbf\xee\x80\x80", "\xf4\x8f\xbf\xbf\xee\x80\x80"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd"},
    };
    char text[2000] = "[";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        *ees__text_put(ees__text_json(text + 1, cases[i].bytes), "]") = '\0';
        json_t *list = json_loads(text, 0, NULL);
        if (!list)
            fail_msg("case %zu: %s is no JSON", i, text);
        assert_string_equal(json_string_value(json_array_get(list, 0)), cases[i].read_back);
        json_decref(list);
    }
    char all[128];
    for (int c = 1; c < 128; c++)
        all[c - 1] = (char)c;
    all[127] = '\0';
    char *end = ees__text_json(text + 1, all);
    assert_true(end - text <= 3 + 127 * EES__TEXT_ESCAPE_BYTES);
    *ees__text_put(end, "]") = '\0';
    json_t *list = json_loads(text, 0, NULL);
    assert_non_null(list);
    assert_string_equal(json_string_value(json_array_get(list, 0)), all);
    json_decref(list);
}

/* ---- Lines ----------------------------------------------------------------------------------------------- */

static void test_jsonl_lines(void **state) {
    ees_result r = answered(41);
    assert_string_equal(
        write_one(&r, (ees_sink_options){0}),
        "{\"v\":1,\"source\":\"video.avi\",\"frame\":41,\"pts_s\":1.234568,\"status\":\"ok\",\"exit\":2,"
        "\"block\":6,\"class\":7,\"label\":\"cat\",\"confidence\":0.899999976,\"entropy\":0.25,"
        "\"latency_ms\":12.346}\n");
    r.n_warnings = 3;
    r.truth = "d\"og";
    r.confidence = NAN;
    r.entropy = INFINITY;
    r.pts_ns = 0;
    assert_string_equal(
        write_one(&r, (ees_sink_options){.logits = true}),
        "{\"v\":1,\"source\":\"video.avi\",\"frame\":41,\"pts_s\":0.000000,\"status\":\"ok\",\"exit\":2,"
        "\"block\":6,\"class\":7,\"label\":\"cat\",\"confidence\":null,\"entropy\":null,"
        "\"latency_ms\":12.346,\"warnings\":3,\"truth\":\"d\\\"og\","
        "\"logits\":[1.5,-0.100000001,3.14159274]}\n");
    ees_error error = {.code = EES_EDAMAGED, .message = "JPEG: Not a JPEG file"};
    r = failed(&error);
    assert_string_equal(write_one(&r, (ees_sink_options){.logits = true}),
                        "{\"v\":1,\"source\":\"s\",\"frame\":3,\"pts_s\":null,\"status\":\"failed\",\"exit\":null,"
                        "\"block\":null,\"class\":null,\"label\":null,\"confidence\":null,\"entropy\":null,"
                        "\"latency_ms\":0.000,\"error\":\"JPEG: Not a JPEG file\",\"logits\":null}\n");
    r = (ees_result){.pts_ns = -1, .status = EES_STATUS_DROPPED, .exit_idx = -1};
    assert_non_null(strstr(write_one(&r, (ees_sink_options){0}), "{\"v\":1,\"source\":null,\"frame\":0,\"pts_s\":null,"
                                                                 "\"status\":\"dropped\","));
}

static void test_csv_lines(void **state) {
    static const char header[] = "source,frame,pts_s,status,exit,block,class,label,confidence,entropy,latency_ms,"
                                 "warnings,truth,error,early,nonfinite,wait_ms,run_ms,same_as,change\n";
    ees_result r = answered(41);
    r.source = "a,b.avi";
    r.label = "say \"cat\"";
    r.truth = "line\nbreak";
    char *text = write_one(&r, (ees_sink_options){.format = EES_SINK_CSV});
    assert_memory_equal(text, header, sizeof header - 1);
    assert_string_equal(text + sizeof header - 1,
                        "\"a,b.avi\",41,1.234568,ok,2,6,7,\"say \"\"cat\"\"\",0.899999976,0.25,"
                        "12.346,0,\"line\nbreak\",,,0,0.000,0.000,,\n");
    r.early = EES_EARLY_DEADLINE;
    r.n_nonfinite = 2;
    r.visits = visits;
    r.n_visits = 2;
    text = write_one(&r, (ees_sink_options){.format = EES_SINK_CSV});
    assert_non_null(strstr(text, "break\",,deadline,2,1.501,42.000,,\n"));
    ees_error error = {.code = EES_EDAMAGED, .message = "bad, \xff very"};
    r = failed(&error);
    text = write_one(&r, (ees_sink_options){.format = EES_SINK_CSV});
    assert_string_equal(text + sizeof header - 1,
                        "s,3,,failed,,,,,,,0.000,0,,\"bad, \xef\xbf\xbd very\",,0,0.000,0.000,,\n");
}

/* Fields that are there only when they say something. */
static void test_early_answers(void **state) {
    ees_result r = answered(41);
    r.early = EES_EARLY_DEGRADED;
    assert_non_null(strstr(write_one(&r, (ees_sink_options){0}), ",\"latency_ms\":12.346,\"early\":\"degraded\"}\n"));
    r.early = EES_EARLY_DEADLINE;
    r.n_nonfinite = 1;
    r.n_warnings = 1;
    assert_non_null(strstr(write_one(&r, (ees_sink_options){0}),
                           ",\"latency_ms\":12.346,\"early\":\"deadline\",\"nonfinite\":1,\"warnings\":1}\n"));
}

/* A skipped frame names the frame it repeats; computed frames of the same run say how much they changed. */
static void test_skipped_answers(void **state) {
    ees_result r = answered(41);
    r.change = 2.5f;
    assert_non_null(strstr(write_one(&r, (ees_sink_options){0}), ",\"latency_ms\":12.346,\"change\":2.5}\n"));
    r.change = INFINITY; /* the first of its stream */
    assert_non_null(strstr(write_one(&r, (ees_sink_options){0}), ",\"latency_ms\":12.346}\n"));
    r.status = EES_STATUS_SKIPPED;
    r.same_as = 39;
    r.change = 0;
    assert_non_null(strstr(write_one(&r, (ees_sink_options){0}), "\"status\":\"skipped\",\"exit\":2,"));
    assert_non_null(
        strstr(write_one(&r, (ees_sink_options){0}), ",\"latency_ms\":12.346,\"same_as\":39,\"change\":0}\n"));
    assert_non_null(strstr(write_one(&r, (ees_sink_options){.format = EES_SINK_CSV}), ",0.000,0.000,39,0\n"));
}

static void test_visits(void **state) {
    ees_sink_options timing = {.unit_names = unit_names, .n_units = 3};
    ees_result r = answered(41);
    r.visits = visits;
    r.n_visits = 2;
    assert_non_null(strstr(write_one(&r, (ees_sink_options){0}), ",\"latency_ms\":12.346}\n"));
    assert_non_null(strstr(
        write_one(&r, timing),
        ",\"latency_ms\":12.346,\"visits\":["
        "{\"worker\":3,\"group\":0,\"units\":\"ingest-block1\",\"batch\":1,\"wait_ms\":0.001,\"run_ms\":2.000},"
        "{\"worker\":0,\"group\":1,\"units\":\"fin\\\"al\",\"batch\":4,\"wait_ms\":1.500,\"run_ms\":40.000}]}\n"));
    static const ees_visit not_run = {.first_unit = 1, .end_unit = 1, .n_batch = 1}, beyond = {.end_unit = 4};
    r.visits = &not_run;
    r.n_visits = 1;
    assert_non_null(strstr(write_one(&r, timing), "\"units\":\"\",\"batch\":1"));
    r.visits = &beyond;
    assert_non_null(strstr(write_one(&r, timing), "\"units\":\"\""));
    r.n_visits = 0;
    assert_non_null(strstr(write_one(&r, timing), ",\"visits\":[]}\n"));
}

/* The longest line there can be, many times over: numbers at their limits, every place used. */
static void test_longest_visits(void **state) {
    enum { N_LINES = 300 };
    char name[300];
    memset(name, 2, sizeof name - 1); /* the longest escape */
    name[sizeof name - 1] = '\0';
    const char *names[] = {name, name};
    ees_visit longest[EES_MAX_VISITS];
    for (int i = 0; i < EES_MAX_VISITS; i++)
        longest[i] = (ees_visit){UINT16_MAX, UINT16_MAX, 0, 2, UINT16_MAX, UINT64_MAX, UINT64_MAX};
    ees_sink *sink = open_sink(path, (ees_sink_options){.unit_names = names, .n_units = 2});
    for (uint64_t i = 0; i < N_LINES; i++) {
        ees_result r = answered(i);
        r.visits = longest;
        r.n_visits = EES_MAX_VISITS;
        assert_int_equal(ees_sink_write(sink, &r, NULL), 0);
    }
    assert_int_equal(ees_sink_close(sink, NULL), 0);
    FILE *file = fopen(path, "rb");
    for (int i = 0; i < N_LINES; i++) {
        json_t *object = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, NULL);
        assert_int_equal(json_integer_value(json_object_get(object, "frame")), i);
        assert_int_equal(json_array_size(json_object_get(object, "visits")), EES_MAX_VISITS);
        json_decref(object);
    }
    fclose(file);
}

/* Many lines, strings longer than the buffer, every float: all read back through jansson, in order. */
static void test_jsonl_round_trip(void **state) {
    enum { N = 300, LONG_BYTES = 100000 };
    char *long_name = malloc(LONG_BYTES + 1);
    memset(long_name, 1, LONG_BYTES); /* the longest escape */
    long_name[LONG_BYTES] = '\0';
    float values[3];
    ees_sink *sink = open_sink(path, (ees_sink_options){.logits = true});
    uint32_t bits = 5;
    for (int i = 0; i < N; i++) {
        ees_result r = answered((uint64_t)i);
        for (int j = 0; j < 3; j++) {
            bits = bits * 1664525u + 1013904223u;
            memcpy(&values[j], &bits, sizeof bits);
        }
        r.logits = values;
        if (i == 150)
            r.source = long_name;
        assert_int_equal(ees_sink_write(sink, &r, NULL), 0);
    }
    assert_int_equal(ees_sink_close(sink, NULL), 0);
    FILE *file = fopen(path, "rb");
    bits = 5;
    for (int i = 0; i < N; i++) {
        json_t *object = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(object);
        assert_int_equal(json_integer_value(json_object_get(object, "frame")), i);
        assert_string_equal(json_string_value(json_object_get(object, "source")), i == 150 ? long_name : "video.avi");
        for (size_t j = 0; j < 3; j++) {
            bits = bits * 1664525u + 1013904223u;
            float written;
            memcpy(&written, &bits, sizeof bits);
            json_t *value = json_array_get(json_object_get(object, "logits"), j);
            if (!isfinite(written)) {
                assert_true(json_is_null(value));
                continue;
            }
            float read_back = (float)json_number_value(value);
            assert_true(read_back == written);
        }
        json_decref(object);
    }
    fclose(file);
    free(long_name);
}

static void test_decimal_comma(void **state) {
    static const char *const locales[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "pt_BR.UTF-8"};
    const char *set = NULL;
    for (size_t i = 0; !set && i < sizeof locales / sizeof locales[0]; i++)
        set = setlocale(LC_NUMERIC, locales[i]);
    if (!set) {
        print_message("skipped: no locale with a decimal comma installed\n");
        skip();
    }
    char text[64];
    *ees__text_float(text, 1.25e-9f) = '\0';
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(text, "1.24999999e-09");
}

/* ---- Outputs that break off ------------------------------------------------------------------------------- */

/* Write until it fails; the failure stays, and says what and why. */
static void write_until_failure(ees_sink *sink, int os_errno, const char *name) {
    ees_error first = {0}, later = {0};
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < 100000; i++) {
        ees_result r = answered(i);
        rc = ees_sink_write(sink, &r, &first);
    }
    assert_int_equal(rc, EES_EOUTPUT);
    assert_int_equal(first.code, EES_EOUTPUT);
    assert_int_equal(first.os_errno, os_errno);
    assert_non_null(strstr(first.message, name));
    assert_non_null(strstr(first.message, strerror(os_errno)));
    assert_true(first.hint[0] != '\0');
    ees_result r = answered(0);
    assert_int_equal(ees_sink_write(sink, &r, &later), EES_EOUTPUT);
    assert_string_equal(first.message, later.message);
    assert_int_equal(ees_sink_flush(sink, NULL), EES_EOUTPUT);
    assert_int_equal(ees_sink_close(sink, NULL), EES_EOUTPUT);
}

static void test_device_full(void **state) {
    write_until_failure(open_sink("/dev/full", (ees_sink_options){0}), ENOSPC, "/dev/full");
    write_until_failure(open_sink("/dev/full", (ees_sink_options){.flush = true}), ENOSPC, "/dev/full");
    ees_sink *sink = open_sink("/dev/full", (ees_sink_options){0}); /* noticed at the very end */
    ees_result r = answered(1);
    ees_error err = {0};
    assert_int_equal(ees_sink_write(sink, &r, &err), 0);
    assert_int_equal(ees_sink_close(sink, &err), EES_EOUTPUT);
    assert_int_equal(err.os_errno, ENOSPC);
}

static void check_signals_untouched(void) {
    sigset_t set;
    struct sigaction action;
    sigpending(&set);
    assert_int_equal(sigismember(&set, SIGPIPE) + sigismember(&set, SIGXFSZ), 0);
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    assert_int_equal(sigismember(&set, SIGPIPE) + sigismember(&set, SIGXFSZ), 0);
    sigaction(SIGPIPE, NULL, &action);
    assert_true(action.sa_handler == SIG_DFL);
}

/* SIGPIPE has its default action here: if it came, the test would die of it. */
static void test_closed_pipe(void **state) {
    int ends[2], saved = dup(STDOUT_FILENO);
    signal(SIGPIPE, SIG_DFL);
    fflush(stdout);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    ees_sink *sink = open_sink("-", (ees_sink_options){0});
    ees_error err = {0};
    ees_result r = answered(1);
    int rc = ees_sink_write(sink, &r, &err);
    if (rc == 0)
        rc = ees_sink_flush(sink, &err);
    int rc_close = ees_sink_close(sink, NULL);
    bool still_open = fcntl(STDOUT_FILENO, F_GETFD) >= 0;
    dup2(saved, STDOUT_FILENO);
    close(saved);
    assert_int_equal(rc, EES_EOUTPUT);
    assert_int_equal(rc_close, EES_EOUTPUT);
    assert_int_equal(err.os_errno, EPIPE);
    assert_non_null(strstr(err.message, "stdout"));
    assert_true(still_open);
    check_signals_untouched();
}

/* At every limit the file holds a prefix of whole lines. SIGXFSZ would kill as well. */
static void test_file_size_limit(void **state) {
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    ees_result r = answered(0);
    size_t line_bytes = strlen(write_one(&r, (ees_sink_options){0}));
    for (size_t bytes = 0; bytes < 4 * line_bytes; bytes += 37)
        for (int flush = 0; flush < 2; flush++) {
            ees_sink *sink = open_sink(path, (ees_sink_options){.flush = flush});
            limit = before;
            limit.rlim_cur = bytes;
            setrlimit(RLIMIT_FSIZE, &limit);
            int rc = 0;
            for (int i = 0; i < 8 && rc == 0; i++)
                rc = ees_sink_write(sink, &r, NULL);
            ees_error err = {0};
            int rc_close = ees_sink_close(sink, &err);
            setrlimit(RLIMIT_FSIZE, &before);
            assert_int_equal(rc_close, EES_EOUTPUT);
            assert_int_equal(err.os_errno, EFBIG);
            size_t n;
            const char *text = read_output(&n);
            assert_int_equal(n, bytes / line_bytes * line_bytes);
            assert_true(n == 0 || text[n - 1] == '\n');
        }
    check_signals_untouched();
}

/* A waiting SIGPIPE of the program's own is neither delivered nor taken away. */
static void test_foreign_signal_stays(void **state) {
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    raise(SIGPIPE);
    ees_result r = answered(1);
    write_one(&r, (ees_sink_options){.flush = true});
    sigpending(&pending);
    assert_int_equal(sigismember(&pending, SIGPIPE), 1);
    int signal_number;
    sigwait(&set, &signal_number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void test_open_fails(void **state) {
    ees_sink *sink = NULL;
    ees_error err = {0};
    assert_int_equal(ees_sink_open("/nonexistent/folder/out.jsonl", NULL, &sink, &err), EES_EOUTPUT);
    assert_null(sink);
    assert_non_null(strstr(err.message, "/nonexistent/folder/out.jsonl"));
    assert_int_equal(err.os_errno, ENOENT);
    err = (ees_error){0};
    assert_int_equal(ees_sink_open(folder, NULL, &sink, &err), EES_EOUTPUT);
    assert_int_equal(err.os_errno, EISDIR);
    assert_int_equal(ees_sink_close(NULL, NULL), 0);
}

/* "-" continues where the redirected file is, and appends to what is there. */
static void test_stdout_to_file(void **state) {
    int saved = dup(STDOUT_FILENO);
    fflush(stdout);
    FILE *file = fopen(path, "w");
    fputs("before\n", file);
    fclose(file);
    int fd = open(path, O_WRONLY | O_APPEND);
    dup2(fd, STDOUT_FILENO);
    close(fd);
    ees_sink *sink = open_sink("-", (ees_sink_options){.format = EES_SINK_CSV});
    int rc = ees_sink_close(sink, NULL);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    assert_int_equal(rc, 0);
    size_t n;
    assert_memory_equal(read_output(&n), "before\nsource,frame", 19);
}

static void test_null_sink(void **state) {
    ees_sink *sink = open_sink(NULL, (ees_sink_options){.format = EES_SINK_NULL});
    ees_result r = answered(1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ees_sink_write(sink, &r, NULL), 0);
    assert_int_equal(ees_sink_flush(sink, NULL), 0);
    assert_int_equal(ees_sink_close(sink, NULL), 0);
}

enum { N_LINES = 1000, N_BATCHES = 200 };

static double sink_line_us(void) {
    ees_sink *sink = open_sink("/dev/null", (ees_sink_options){0});
    uint64_t start = ees__now_ns();
    for (uint64_t i = 0; i < N_LINES; i++) {
        ees_result r = answered(i);
        r.confidence = 1.0f / (float)(i + 2);
        ees_sink_write(sink, &r, NULL);
    }
    double us = (double)(ees__now_ns() - start) / 1e3 / N_LINES;
    ees_sink_close(sink, NULL);
    return us;
}

/* Such a line by the C library. */
static double printf_line_us(void) {
    char text[512];
    uint64_t start = ees__now_ns(), n_bytes = 0;
    for (uint64_t i = 0; i < N_LINES; i++)
        n_bytes += (uint64_t)snprintf(text, sizeof text,
                                      "{\"v\":1,\"source\":\"%s\",\"frame\":%llu,\"pts_s\":%.6f,\"status\":\"ok\","
                                      "\"exit\":%d,\"block\":%d,\"class\":%d,\"label\":\"%s\",\"confidence\":%.9g,"
                                      "\"entropy\":%.9g,\"latency_ms\":%.3f}\n",
                                      "video.avi", (unsigned long long)i, 1.23456789, 2, 6, 7, "cat",
                                      1.0 / (double)(i + 2), 0.25, 12.345678);
    assert_true(n_bytes > N_LINES);
    return (double)(ees__now_ns() - start) / 1e3 / N_LINES;
}

/* A line costs at most 2 us, or on a slow machine less than printf's: the best of many short batches, for the machine
 * may be busy. */
static void test_cost(void **state) {
    double ours_us = 1e9, printf_us = 1e9;
    for (int b = 0; b < N_BATCHES; b++) {
        ours_us = fmin(ours_us, sink_line_us());
        printf_us = fmin(printf_us, printf_line_us());
    }
    print_message("%.3f us a line, printf %.3f us\n", ours_us, printf_us);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(EES_EMULATED)
    assert_true(ours_us <= fmax(2.0, printf_us));
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floats_as_printf),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_jsonl_lines),
        cmocka_unit_test(test_csv_lines),
        cmocka_unit_test(test_early_answers),
        cmocka_unit_test(test_skipped_answers),
        cmocka_unit_test(test_visits),
        cmocka_unit_test(test_longest_visits),
        cmocka_unit_test(test_jsonl_round_trip),
        cmocka_unit_test(test_decimal_comma),
        cmocka_unit_test(test_device_full),
        cmocka_unit_test(test_closed_pipe),
        cmocka_unit_test(test_file_size_limit),
        cmocka_unit_test(test_foreign_signal_stays),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_stdout_to_file),
        cmocka_unit_test(test_null_sink),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
