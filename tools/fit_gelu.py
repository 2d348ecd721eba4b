#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fits the coefficients of stages/kernels/simd_math.h. Needs numpy and mpmath; prints C initialisers.

gelu: Phi(-t) = exp(-t^2/2) g(t) with g(t) = erfcx(t/sqrt(2))/2, smooth and positive on [0, 14]: g = P(t)/Q(t), all
      coefficients positive, so neither polynomial cancels. Fitted for relative error by linearised least squares with
      Lawson weights (weights grow where the error is largest, which drives the fit to the minimax one).
exp:  (exp(r) - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2] by a polynomial, the same way, weighted so that the error counts
      relative to exp(r).
"""
import mpmath as mp
import numpy as np

mp.mp.dps = 40

# P(0) = 0.75 and Q(0) = 1.5 stand in the middle of a binade; with 0.5 and 1 the first values above zero would carry the
# largest relative rounding errors there are.
Q_AT_0 = 1.5


def half_erfcx(t):
    t = mp.mpf(t)
    return mp.exp(t * t / 2) * mp.erfc(t / mp.sqrt(2)) / 2


def chebyshev_nodes(low, high, n):
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(n) + 0.5) / n)


def lawson(residual_rows, target, n_rounds):
    """Weighted least squares, reweighted by the size of the residual. Returns the best coefficients seen."""
    weight = np.ones(len(target))
    best, best_error = None, np.inf
    for _ in range(n_rounds):
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(residual_rows * root[:, None], target * root, rcond=None)[0]
        error = np.abs(residual_rows @ solution - target)
        if error.max() < best_error:
            best, best_error = solution, error.max()
        weight *= error / error.max() + 1e-3
        weight /= weight.sum()
    return best, best_error


def fit_ratio(low, high, n_top, n_bottom):
    """P/Q of the degrees given, relative error. Q(0) = Q_AT_0."""
    t = chebyshev_nodes(low, high, 2000)
    t = np.concatenate([t, np.linspace(low, 3, 1000)])
    g = np.array([float(half_erfcx(v)) for v in t])
    bottom = np.ones_like(t)
    for _ in range(12):
        scale = 1 / (g * bottom)
        rows = [t**i * scale for i in range(n_top + 1)] + [-(t**i) * g * scale for i in range(1, n_bottom + 1)]
        rows = np.stack(rows, 1)
        norms = np.linalg.norm(rows, axis=0)
        solution, _ = lawson(rows / norms, g * scale, 60)
        solution = solution / norms
        p, q = solution[: n_top + 1], np.concatenate([[1], solution[n_top + 1 :]])
        bottom = np.polyval(q[::-1], t)
    p, q = (p * Q_AT_0).astype(np.float32), (q * Q_AT_0).astype(np.float32)
    fitted = np.polyval(p[::-1].astype(float), t) / np.polyval(q[::-1].astype(float), t)
    return p, q, np.abs(fitted / g - 1).max()


def fit_exp(degree):
    limit = float(mp.log(2) / 2) * 1.0001
    r = chebyshev_nodes(-limit, limit, 2000)
    target = np.array([float((mp.exp(v) - 1 - v) / mp.mpf(v) ** 2) for v in r])
    weight = r * r / np.exp(r)
    rows = np.stack([r**i * weight for i in range(degree + 1)], 1)
    solution, _ = lawson(rows, target * weight, 200)
    solution = solution.astype(np.float32)
    fitted = np.polyval(solution[::-1].astype(float), r)
    return solution, np.abs((fitted - target) * weight).max()


def show(name, coefficients, error=None):
    note = "" if error is None else f"  /* largest relative error {error:.1e} */"
    print(f"{name}: " + ", ".join(f"{float(c).hex()}f" for c in coefficients) + note)


if __name__ == "__main__":
    p, q, error = fit_ratio(0.0, 14.0, 4, 5)
    show("gelu P", p, error)
    show("gelu Q", q)
    show("exp", *fit_exp(4))
