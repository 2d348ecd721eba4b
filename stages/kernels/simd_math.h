/* SPDX-License-Identifier: MIT */
/* exp, the activations and softmax on vectors. Coefficients: tools/fit_gelu.py; errors: tests/kernels/check_gelu.c,
 * check_attention.c. */
#ifndef EES_STAGES_KERNELS_SIMD_MATH_H
#define EES_STAGES_KERNELS_SIMD_MATH_H

/* exp(hi + lo) = scale (1 + rest), for hi + lo <= 0 and lo small; scale, a power of two, is 0 below 2^-126.5. A NaN is
 * in `rest`, whatever scale is. Left apart because a product with 1 + rest is one fused operation. */
struct exp_parts {
    vf scale, rest;
};

INLINE struct exp_parts exp_split(vf hi, vf lo) {
    /* ln 2 in two parts; the first has 12 bits, so that n * LN2_HI is exact. */
    const float LOG2_E = 0x1.715476p+0f, LN2_HI = 0x1.62ep-1f, LN2_LO = 0x1.0bfbe8p-15f;
    const float ROUNDER = 0x1.8p+23f; /* adding it leaves the nearest integer in the low bits */
    vf shifted = vector_max(splat(-127.0f), (hi + lo) * LOG2_E) + ROUNDER;
    vf n = shifted - ROUNDER;
    vf r = (hi - n * LN2_HI) + (lo - n * LN2_LO);
    vf p = splat(0x1.6a2434p-10f);
    p = p * r + 0x1.1239e2p-7f;
    p = p * r + 0x1.5558f2p-5f;
    p = p * r + 0x1.555492p-3f;
    p = p * r + 0x1.fffffcp-2f;
    return (struct exp_parts){.scale = (vf)(((vu)shifted + 127u) << 23), .rest = p * (r * r) + r};
}

/* exp(x) for x <= 0, within 2 ulp down to 2^-126, 0 below; exp(-inf) = 0, NaN stays NaN. */
INLINE vf exp_nonpositive(vf x) {
    struct exp_parts e = exp_split(vector_max(splat(-89.0f), x), (vf){0});
    return e.scale * e.rest + e.scale;
}

/* gelu(x) = x Phi(x) = max(x, 0) - |x| Phi(-|x|), within 5 ulp (4.4 measured), but 0 in the
 * lower tail once |gelu(x)| is below 2^-127.
 *
 * Phi(-t) = exp(-t^2/2) g(t) with g = P/Q. t^2 is taken in two parts, hi * hi (exact, 12 bits each) and the rest,
 * because half an ulp of t^2 = 100 would be 30 ulp of the result. Beyond t = 13.3 the product is 0, so that
 * gelu(-inf) is 0 and not inf * 0. */
INLINE vf gelu(vf x) {
    vf t = vector_min(splat(14.0f), (vf)((vu)x & 0x7fffffffu));
    vf hi = (vf)((vu)t & 0xfffff000u);
    struct exp_parts power = exp_split(hi * hi * -0.5f, (t - hi) * (t + hi) * -0.5f);
    /* Even and odd powers apart: half the depth of Horner's form. */
    vf u = t * t;
    vf p_even = (u * 0x1.90d7f6p-8f + 0x1.1842c6p-2f) * u + 0x1.8p-1f;
    vf p_odd = u * 0x1.f018b4p-5f + 0x1.4fcefp-1f;
    vf q_even = (u * 0x1.36e73ep-3f + 0x1.cc86fp+0f) * u + 0x1.8p+0f;
    vf q_odd = (u * 0x1.f6606ap-7f + 0x1.66fc1ep-1f) * u + 0x1.41191cp+1f;
    vf g = (p_odd * t + p_even) / (q_odd * t + q_even);
    return vector_max((vf){0}, x) - (t * (g * power.rest + g)) * power.scale;
}

/* The same for products of narrow elements, within 2^-12.7 of it for x < 4 and 2^-16 x above: x Phi(x) with Phi - 1/2
 * an odd polynomial, constant beyond 3.9. A step of a row of such values, quantised, is 2^-10.5 or more. */
INLINE vf gelu_rough(vf x) {
    vf low = vector_max(splat(-3.9f), x), z = vector_min(splat(3.9f), low), u = z * z;
    vf p = splat(0x1.c3571ep-26f);
    p = p * u - 0x1.db436cp-20f;
    p = p * u + 0x1.adcf26p-15f;
    p = p * u - 0x1.bac470p-11f;
    p = p * u + 0x1.241640p-7f;
    p = p * u - 0x1.09b492p-4f;
    p = p * u + 0x1.97a3c0p-2f;
    return low * (z * p + 0.5f);
}

INLINE vf absolute(vf x) { return (vf)((vu)x & 0x7fffffffu); }

/* x / (1 + exp(-z)), z of the sign of x, given t = |x| and |z|. With e = exp(-|z|), which is never above 1:
 * x / (1 + e) for x >= 0, x e / (1 + e) below. t may be cut off where e is 0, so that -inf gives 0 and not inf * 0. */
INLINE vf gate(vf x, vf t, vf abs_z) {
    vf e = exp_nonpositive(-abs_z), quotient = 1.0f / (1.0f + e);
    return vector_max((vf){0}, x) * quotient - (vf)((vu)(t * (e * quotient)) & (vu)(x < (vf){0}));
}

/* silu(x) = x / (1 + exp(-x)), within 4 ulp, but 0 in the lower tail once e is below 2^-126. */
INLINE vf silu(vf x) {
    vf t = vector_min(splat(89.0f), absolute(x));
    return gate(x, t, t);
}

/* x / 2 (1 + tanh u) = x / (1 + exp(-z)), z = 2 u = sqrt(8 / pi) (x + 0.044715 x^3). Within 5 ulp for x >= 0; below, an
 * error of z is one of the exponent: within 5 + 2 |z| ulp, and 0 once exp(z) is below 2^-126. */
INLINE vf gelu_tanh(vf x) {
    vf t = vector_min(splat(14.0f), absolute(x));
    return gate(x, t, t * (t * t * 0x1.2444f2p-4f + 0x1.988454p+0f));
}

INLINE vf relu(vf x) { return vector_max((vf){0}, x); }

/* row[0 .. padded) += addend, padded whole vectors of n elements. */
INLINE void add_row(float *row, size_t padded, const float *addend) {
    for (size_t i = 0; i < padded; i += VL)
        store(row + i, load(row + i) + load(addend + i));
}

/* row[0 .. n) = exp(row + bias + mask - max), returns the sum; NULL adds nothing. The row has room for whole vectors. A
 * NaN anywhere makes the sum NaN: the maximum may pass over it, the exponential does not. */
INLINE float exponentiate_row(float *row, size_t n, const float *bias, const float *mask) {
    size_t padded = ees__round_up(n, VL);
    for (size_t i = n; i < padded; i++)
        row[i] = -__builtin_inff();
    if (bias)
        add_row(row, padded, bias);
    if (mask)
        add_row(row, padded, mask);
    vf max = load(row);
    for (size_t i = VL; i < padded; i += VL)
        max = vector_max(load(row + i), max);
    vf shift = splat(lanes_max(max)), sum = {0};
    for (size_t i = 0; i < padded; i += VL) {
        vf e = exp_nonpositive(load(row + i) - shift);
        store(row + i, e);
        sum += e;
    }
    return lanes_sum(sum);
}

#endif
