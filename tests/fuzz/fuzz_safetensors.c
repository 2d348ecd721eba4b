/* SPDX-License-Identifier: MIT */
/* Fuzz target: safetensors. The header length is set from the input so that mutations reach the JSON: the first two
 * bytes say how many of the rest belong to it. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "eestream/tensors.h"

static void check_tensor(const ees_tensors *t, const ees_tensor_info *info) {
    size_t n = 1;
    FUZZ_CHECK(info->rank <= EES_TENSOR_MAX_RANK);
    for (unsigned i = 0; i < info->rank; i++)
        n *= info->shape[i];
    FUZZ_CHECK(n == info->n_elements);
    FUZZ_CHECK(ees_tensors_find(t, info->name) == info);
    float *values = malloc(n * sizeof *values + 1);
    FUZZ_CHECK(values);
    FUZZ_CHECK(ees_tensors_read_f32(t, info, values, NULL) == 0);
    free(values);
}

static void check_file(const uint8_t *data, size_t n) {
    ees_tensors *t;
    ees_error err = {0};
    int rc = ees_tensors_open_memory(data, n, "fuzz", &t, &err);
    if (rc < 0) {
        FUZZ_CHECK(rc == EES_EMODEL && err.code == rc && err.message[0]);
        return;
    }
    size_t n_bytes = 0;
    for (size_t i = 0; i < ees_tensors_count(t); i++) {
        check_tensor(t, ees_tensors_at(t, i));
        n_bytes += ees_tensors_at(t, i)->n_bytes;
    }
    FUZZ_CHECK(n_bytes < n);
    ees_tensors_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    check_file(data, n);
    if (n < 2)
        return 0;
    size_t n_rest = n - 2, n_header = (size_t)(data[0] << 8 | data[1]);
    if (n_header > n_rest)
        n_header = n_rest;
    uint8_t *file = calloc(1, n_rest + 8);
    FUZZ_CHECK(file);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)(n_header >> 8 * i);
    memcpy(file + 8, data + 2, n_rest);
    check_file(file, n_rest + 8);
    free(file);
    return 0;
}
