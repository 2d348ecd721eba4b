/* SPDX-License-Identifier: MIT */
/* safetensors: what is refused, what is accepted, and the numbers that come out. The verdicts were checked against the
 * Python package safetensors 0.8.0; where ours is stricter on purpose the row says so. */
#define _GNU_SOURCE
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "eestream/tensors.h"

#define A(text)        "{\"a\":" text "}"
#define F32_2(offsets) "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" offsets "}"

struct header_case {
    const char *json;
    size_t data_bytes;
    const char *word; /* NULL: accepted; else part of the message */
};

static const struct header_case cases[] = {
    /* accepted */
    {A(F32_2("[0,8]")), 8, NULL},
    {" \n\t" A(F32_2("[0,8]")) "    ", 8, NULL},
    {"{}", 0, NULL},
    {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, NULL},
    {A("{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]}"), 8, NULL},
    {A("{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]}"), 0, NULL},
    {"{\"z\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[8,8]},\"a\":" F32_2("[0,8]") "}", 8, NULL},
    {"{\"b\":" F32_2("[8,16]") ",\"a\":" F32_2("[0,8]") "}", 16, NULL},
    {A("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"note\":[1,{\"x\":null}]}"), 8, NULL},
    {A("{\"dtype\":\"BOOL\",\"shape\":[1,1,1,1,1,1,1,3],\"data_offsets\":[0,3]}"), 3, NULL},
    {"{\"t\\u00e9\":" F32_2("[0,8]") "}", 8, NULL},
    /* refused: text */
    {"", 0, "not valid JSON"},
    {"{", 0, "not valid JSON"},
    {"[]", 0, "not a JSON object"},
    {"7", 0, "JSON"},
    {A(F32_2("[0,8]")) "x", 8, "not valid JSON"},
    {"{\"a\":" F32_2("[0,8]") ",}", 8, "not valid JSON"},
    {"{\"a\xff\":" F32_2("[0,8]") "}", 8, "not valid JSON"},
    {"{\"a\\u0000b\":" F32_2("[0,8]") "}", 8, "not valid JSON"},             /* stricter */
    {"{\"a\":" F32_2("[0,8]") ",\"a\":" F32_2("[0,8]") "}", 8, "duplicate"}, /* stricter */
    {A("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["), 8, "nests deeper"},
    /* refused: metadata */
    {"{\"__metadata__\":\"pt\"}", 0, "__metadata__"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__"},
    /* refused: fields */
    {A("1"), 8, "'a' is not described by an object"},
    {A("{\"shape\":[2],\"data_offsets\":[0,8]}"), 8, "'a' has no dtype"},
    {A("{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}"), 8, "'a' has no dtype"},
    {A("{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}"), 8, "dtype 'F33'"},
    {A("{\"dtype\":\"f32\",\"shape\":[2],\"data_offsets\":[0,8]}"), 8, "dtype 'f32'"},
    {A("{\"dtype\":\"U64\",\"shape\":[1],\"data_offsets\":[0,8]}"), 8, "dtype 'U64'"}, /* stricter */
    {A("{\"dtype\":\"F32\",\"data_offsets\":[0,8]}"), 8, "'a' has no shape"},
    {A("{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}"), 8, "'a' has no shape"},
    {A("{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}"), 8, "'a': dimension 0"},
    {A("{\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]}"), 8, "'a': dimension 0"},
    {A("{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}"), 8, "negative number"},
    {A("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-0,8]}"), 8, "negative number"},
    {A("{\"dtype\":\"I8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}"), 1, "9 dimensions"}, /* stricter */
    {A("{\"dtype\":\"F32\",\"shape\":[2]}"), 8, "data_offsets"},
    {A(F32_2("[0]")), 8, "data_offsets"},
    {A(F32_2("[0,8,8]")), 8, "data_offsets"},
    {A(F32_2("[0,8.0]")), 8, "data_offsets"},
    {A(F32_2("[0,\"8\"]")), 8, "data_offsets"},
    /* refused: arithmetic */
    {A("{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}"), 0, "overflows"},
    {A("{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}"), 0, "overflows"},
    {A("{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[0,0]}"), 0, "overflows"},
    {A("{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,0]}"), 0, "not valid JSON"},
    {A(F32_2("[8,0]")), 8, "before its begin"},
    {A(F32_2("[0,4]")), 4, "'a' needs 8 bytes"},
    {A(F32_2("[0,12]")), 12, "'a' needs 8 bytes"},
    /* refused: tiling */
    {A(F32_2("[0,8]")), 4, "'a' ends at data byte 8"},
    {A(F32_2("[0,8]")), 9, "1 bytes after the last tensor"},
    {A(F32_2("[4,12]")), 12, "'a' starts at data byte 4, after a hole"},
    {"{\"a\":" F32_2("[0,8]") ",\"b\":" F32_2("[4,12]") "}", 12, "'b' starts at data byte 4, inside"},
    {"{\"a\":" F32_2("[0,8]") ",\"b\":" F32_2("[0,8]") "}", 8, "inside"},
    {"{\"a\":" F32_2("[0,8]") ",\"b\":" F32_2("[12,20]") "}", 20, "'b' starts at data byte 12, after a hole"},
    {"{\"a\":" F32_2("[0,8]") ",\"z\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[4,4]}}", 8, "'z'"},
    {"{}", 8, "8 bytes after the last tensor"},
};

static void put_model(struct bytes *b, const char *json, size_t data_bytes) {
    put_u32(b, (uint32_t)strlen(json));
    put_u32(b, 0);
    put_text(b, json);
    put_zeros(b, data_bytes);
}

static int open_bytes(const struct bytes *b, ees_error *err) {
    ees_tensors *t;
    int rc = ees_tensors_open_memory(b->data, b->n, "model", &t, err);
    if (rc == 0)
        ees_tensors_close(t);
    return rc;
}

static void test_headers(void **state) {
    unsigned n_refused = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes b = {0};
        ees_error err = {0};
        put_model(&b, cases[i].json, cases[i].data_bytes);
        int rc = open_bytes(&b, &err);
        if (rc != (cases[i].word ? EES_EMODEL : 0) || (cases[i].word && !strstr(err.message, cases[i].word)))
            fail_msg("%s: %d %s", cases[i].json, rc, err.message);
        n_refused += cases[i].word != NULL;
        assert_int_equal(open_bytes(&b, NULL), rc); /* the report is optional */
        drop(&b);
    }
    assert_true(n_refused >= 26);
}

static void test_header_length(void **state) {
    static const struct {
        uint32_t low, high;
        size_t n_bytes;
        const char *word;
    } lengths[] = {
        {2, 0, 7, "too few"},          {3, 0, 10, "does not fit"},         {100000001, 0, 10, "above 100000000"},
        {2, 1, 10, "above 100000000"}, {100000000, 0, 10, "does not fit"}, {0xffffffff, 0xffffffff, 10, "above"},
    };
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct bytes b = {0};
        ees_error err = {0};
        put_u32(&b, lengths[i].low);
        put_u32(&b, lengths[i].high);
        put_text(&b, "{}");
        b.n = lengths[i].n_bytes;
        assert_int_equal(open_bytes(&b, &err), EES_EMODEL);
        assert_non_null(strstr(err.message, lengths[i].word));
        drop(&b);
    }
}

/* A name of 1024 bytes is read, one more is not; so for a header with too many values. */
static void test_limits(void **state) {
    char json[2048], name[1026];
    memset(name, 'n', sizeof name);
    for (int over = 0; over < 2; over++) {
        struct bytes b = {0};
        name[1024 + over] = '\0';
        snprintf(json, sizeof json, "{\"%s\":" F32_2("[0,8]") "}", name);
        name[1024 + over] = 'n';
        put_model(&b, json, 8);
        assert_int_equal(open_bytes(&b, NULL), over ? EES_EMODEL : 0);
        drop(&b);
    }
    struct bytes values = {0}, file = {0};
    ees_error err = {0};
    put_text(&values, "{\"a\":[0");
    for (int i = 0; i < 2000000; i++)
        put_text(&values, ",0");
    put_text(&values, "]}");
    put(&values, "", 1);
    put_model(&file, (char *)values.data, 0);
    assert_int_equal(open_bytes(&file, &err), EES_EMODEL);
    assert_non_null(strstr(err.message, "more than 2000000 values"));
    drop(&values);
    drop(&file);
}

/* Every single flipped bit of a small file: no crash, and what opens has sane tensors. */
static void test_bit_flips(void **state) {
    const char *json = "{\"__metadata__\":{\"k\":\"v\"},\"a\":" F32_2(
        "[0,8]") ",\"b\":{\"dtype\":\"F16\",\"shape\":[3,1],\"data_offsets\":[8,14]}}";
    struct bytes b = {0};
    unsigned n_opened = 0;
    put_model(&b, json, 14);
    size_t n_bits = (8 + strlen(json)) * 8;
    for (size_t bit = 0; bit < n_bits; bit++) {
        ees_tensors *t;
        b.data[bit / 8] ^= 1u << bit % 8;
        if (ees_tensors_open_memory(b.data, b.n, "flipped", &t, NULL) == 0) {
            size_t n = 0;
            for (size_t i = 0; i < ees_tensors_count(t); i++)
                n += ees_tensors_at(t, i)->n_bytes;
            assert_int_equal(n, 14);
            ees_tensors_close(t);
            n_opened++;
        }
        b.data[bit / 8] ^= 1u << bit % 8;
    }
    assert_true(n_opened > 0 && n_opened < n_bits / 8); /* names and metadata may change, little else */
    drop(&b);
}

static void check_read(const ees_tensors *t, const char *name, const float *expected, size_t n) {
    float got[8];
    const ees_tensor_info *info = ees_tensors_find(t, name);
    assert_non_null(info);
    assert_int_equal(info->n_elements, n);
    assert_int_equal(ees_tensors_read_f32(t, info, got, NULL), 0);
    assert_memory_equal(got, expected, n * sizeof *got);
}

static void put_values(struct bytes *b) {
    put(b, (float[]){1.5f, -0.0f}, 8);
    /* F16: 1, -2, largest, smallest subnormal, infinity */
    put(b, (uint16_t[]){0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00}, 10);
    put(b, (uint16_t[]){0x3f80, 0xc2f7}, 4); /* BF16: 1, -123.5 */
    put(b, (double[]){0.1}, 8);
    put(b, (int64_t[]){-3}, 8);
    put(b, (int32_t[]){1 << 20}, 4);
    put(b, (int16_t[]){-32768}, 2);
    put(b, (int8_t[]){-128}, 1);
    put(b, (uint8_t[]){255}, 1);
    put(b, (uint8_t[]){2, 0}, 2);
}

static const char values_json[] = "{\"bool\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[46,48]},"
                                  "\"u8\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[45,46]},"
                                  "\"i8\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[44,45]},"
                                  "\"i16\":{\"dtype\":\"I16\",\"shape\":[1],\"data_offsets\":[42,44]},"
                                  "\"i32\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[38,42]},"
                                  "\"i64\":{\"dtype\":\"I64\",\"shape\":[1,1],\"data_offsets\":[30,38]},"
                                  "\"f64\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[22,30]},"
                                  "\"bf16\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[18,22]},"
                                  "\"f16\":{\"dtype\":\"F16\",\"shape\":[5],\"data_offsets\":[8,18]},"
                                  "\"f32\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";

static void check_values(const ees_tensors *t) {
    assert_int_equal(ees_tensors_count(t), 10);
    assert_string_equal(ees_tensors_at(t, 0)->name, "f32"); /* in file order */
    assert_string_equal(ees_tensors_at(t, 9)->name, "bool");
    assert_null(ees_tensors_at(t, 10));
    assert_null(ees_tensors_find(t, "f31"));
    assert_null(ees_tensors_find(t, ""));
    check_read(t, "f32", (float[]){1.5f, -0.0f}, 2);
    check_read(t, "f16", (float[]){1, -2, 65504, 0x1p-24f, INFINITY}, 5);
    check_read(t, "bf16", (float[]){1, -123.5f}, 2);
    check_read(t, "f64", (float[]){0.1f}, 1);
    check_read(t, "i64", (float[]){-3}, 1);
    check_read(t, "i32", (float[]){1 << 20}, 1);
    check_read(t, "i16", (float[]){-32768}, 1);
    check_read(t, "i8", (float[]){-128}, 1);
    check_read(t, "u8", (float[]){255}, 1);
    check_read(t, "bool", (float[]){1, 0}, 2);
}

static void test_values(void **state) {
    struct bytes b = {0};
    ees_tensors *t;
    put_model(&b, values_json, 0);
    put_values(&b);
    assert_int_equal(ees_tensors_open_memory(b.data, b.n, "values", &t, NULL), 0);
    check_values(t);
    ees_tensors_close(t);
    assert_int_equal(ees_tensors_open(write_file("values.safetensors", b.data, b.n), &t, NULL), 0);
    check_values(t);
    ees_tensors_close(t);
    drop(&b);
}

/* A tensor longer than the conversion buffer. */
static void test_large_widened(void **state) {
    enum { N = 100001 };
    struct bytes b = {0};
    ees_tensors *t;
    char json[128];
    float *got = malloc(N * sizeof *got);
    snprintf(json, sizeof json, A("{\"dtype\":\"I16\",\"shape\":[%d],\"data_offsets\":[0,%d]}"), N, 2 * N);
    put_model(&b, json, 0);
    for (int i = 0; i < N; i++)
        put_u16(&b, (unsigned)i & 0x7fff);
    assert_int_equal(ees_tensors_open_memory(b.data, b.n, "large", &t, NULL), 0);
    assert_int_equal(ees_tensors_read_f32(t, ees_tensors_at(t, 0), got, NULL), 0);
    for (int i = 0; i < N; i++)
        assert_true(got[i] == (float)(i & 0x7fff));
    ees_tensors_close(t);
    free(got);
    drop(&b);
}

static void test_files(void **state) {
    ees_error err = {0};
    ees_tensors *t;
    assert_int_equal(ees_tensors_open(in_folder("none"), &t, &err), EES_EMODEL);
    assert_non_null(strstr(err.message, "No such file"));
    err = (ees_error){0};
    assert_int_equal(ees_tensors_open(in_folder("."), &t, &err), EES_EMODEL);
    assert_non_null(strstr(err.message, "not a regular file"));
    assert_int_equal(ees_tensors_open(write_file("empty", "", 0), &t, NULL), EES_EMODEL);
}

/* A file cut after it was opened is an error of the read, not a signal. */
static void test_cut_while_open(void **state) {
    struct bytes b = {0};
    ees_error err = {0};
    ees_tensors *t;
    float got[2];
    put_model(&b, A(F32_2("[0,8]")), 8);
    const char *path = write_file("cut.safetensors", b.data, b.n);
    assert_int_equal(ees_tensors_open(path, &t, NULL), 0);
    assert_int_equal(truncate(path, (off_t)b.n - 4), 0);
    assert_int_equal(ees_tensors_read_f32(t, ees_tensors_at(t, 0), got, &err), EES_EMODEL);
    assert_non_null(strstr(err.message, "became shorter"));
    ees_tensors_close(t);
    drop(&b);
}

/* The public collection of odd JSON, as headers: none is a model, none may crash. */
static void test_json_collection(void **state) {
    const char *archive = EES_SHARED_DATA "/bad/json_dev.tar.xz";
    char command[1024];
    if (access(archive, R_OK) != 0) {
        print_message("skipped: %s is not here\n", archive);
        skip();
    }
    make_subfolder("json");
    snprintf(command, sizeof command, "tar xf '%s' -C '%s'", archive, in_folder("json"));
    assert_int_equal(system(command), 0);
    DIR *dir = opendir(in_folder("json/json"));
    assert_non_null(dir);
    unsigned n = 0, n_opened = 0;
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        char path[512], text[1 << 18];
        snprintf(path, sizeof path, "%s/%s", in_folder("json/json"), d->d_name);
        FILE *f = d->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!f)
            continue;
        struct bytes b = {0};
        size_t n_text = fread(text, 1, sizeof text, f);
        put_u32(&b, (uint32_t)n_text);
        put_u32(&b, 0);
        put(&b, text, n_text);
        int rc = open_bytes(&b, NULL);
        if (rc == 0 && d->d_name[0] == 'n')
            fail_msg("%s was accepted", d->d_name);
        n_opened += rc == 0;
        n++;
        fclose(f);
        drop(&b);
    }
    closedir(dir);
    print_message("%u headers, %u opened\n", n, n_opened);
    assert_true(n > 100 && n_opened <= 2); /* {} is a model without tensors */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),   cmocka_unit_test(test_header_length),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_bit_flips), cmocka_unit_test(test_values),         cmocka_unit_test(test_large_widened),
        cmocka_unit_test(test_files),     cmocka_unit_test(test_cut_while_open), cmocka_unit_test(test_json_collection),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
