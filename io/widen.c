/* SPDX-License-Identifier: MIT */
/* Element types of tensor files and their conversion to float32, in portable bit arithmetic: it runs once a model is
 * opened, so the compiler's vectoriser is enough. */
#include "io/widen.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor files are little-endian and are not swapped");

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [EES_DTYPE_F32] = {"F32", 4},   [EES_DTYPE_F16] = {"F16", 2}, [EES_DTYPE_BF16] = {"BF16", 2},
    [EES_DTYPE_F64] = {"F64", 8},   [EES_DTYPE_I64] = {"I64", 8}, [EES_DTYPE_I32] = {"I32", 4},
    [EES_DTYPE_I16] = {"I16", 2},   [EES_DTYPE_I8] = {"I8", 1},   [EES_DTYPE_U8] = {"U8", 1},
    [EES_DTYPE_BOOL] = {"BOOL", 1},
};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

size_t ees__dtype_bytes(enum ees_dtype dtype) { return dtypes[dtype].bytes; }

const char *ees__dtype_name(enum ees_dtype dtype) { return (unsigned)dtype < N_DTYPES ? dtypes[dtype].name : NULL; }

int ees__dtype_from_name(const char *name, enum ees_dtype *out) {
    for (int i = 0; i < N_DTYPES; i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            *out = (enum ees_dtype)i;
            return 0;
        }
    return -1;
}

static float float_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. A subnormal is fraction * 2^-24, which float32
 * holds as a normal number. */
static float float_from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    if (exponent == 31)
        return float_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0)
        return float_from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

static float float_from_bfloat(uint16_t half) { return float_from_bits((uint32_t)half << 16); }
static float float_from_bool(uint8_t byte) { return byte ? 1.0f : 0.0f; }

/* One loop a type; memcpy because a tensor may start at an odd address. */
#define WIDEN(type, convert)                                                                                           \
    for (size_t i = 0; i < n; i++) {                                                                                   \
        type value;                                                                                                    \
        memcpy(&value, in + i * sizeof value, sizeof value);                                                           \
        dst[i] = convert(value);                                                                                       \
    }                                                                                                                  \
    break

void ees__widen_f32(enum ees_dtype dtype, const void *src, size_t n, float *dst) {
    const unsigned char *in = src;
    switch (dtype) {
    case EES_DTYPE_F32:
        WIDEN(float, );
    case EES_DTYPE_F16:
        WIDEN(uint16_t, float_from_half);
    case EES_DTYPE_BF16:
        WIDEN(uint16_t, float_from_bfloat);
    case EES_DTYPE_F64:
        WIDEN(double, (float));
    case EES_DTYPE_I64:
        WIDEN(int64_t, (float));
    case EES_DTYPE_I32:
        WIDEN(int32_t, (float));
    case EES_DTYPE_I16:
        WIDEN(int16_t, (float));
    case EES_DTYPE_I8:
        WIDEN(int8_t, (float));
    case EES_DTYPE_U8:
        WIDEN(uint8_t, (float));
    case EES_DTYPE_BOOL:
        WIDEN(uint8_t, float_from_bool);
    }
}
