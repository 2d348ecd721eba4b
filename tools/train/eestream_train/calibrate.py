# SPDX-License-Identifier: MIT
"""Per-exit confidence thresholds that spend a given loss of accuracy on as few blocks as possible.

For a price lambda (accuracy points per block) the objective is  points - lambda * mean blocks.
Coordinate ascent over the exits, each threshold from a grid of the scores seen, finds thresholds
for one price; the price is then raised as long as the loss stays within the budget.
"""

from __future__ import annotations

import numpy as np

from . import policies

NEVER = 1.0  # a confidence never exceeds 1, so such an exit never fires
_GRID = 48
_PRICES = np.geomspace(0.02, 8, 36)


class _Problem:
    """Scores and hits of one calibration set, thresholds evaluated on them."""

    def __init__(self, logits: np.ndarray, labels: np.ndarray, exit_blocks, n_layers: int) -> None:
        self.score = policies.confidence(logits[:-1])
        self.hit = logits.argmax(axis=-1) == labels
        self.cost = np.array([*exit_blocks, n_layers], dtype=float)
        self.full = 100 * self.hit[-1].mean()

    def measure(self, thresholds: np.ndarray) -> tuple[float, float]:
        """Accuracy in points and mean blocks."""
        taken = policies.first_firing(self.score > thresholds.astype(np.float32)[:, None])
        hit = self.hit[taken, np.arange(len(taken))]
        return 100 * float(hit.mean()), float(self.cost[taken].mean())

    def grid(self, k: int) -> np.ndarray:
        """Candidate thresholds of exit k: quantiles of its scores, finer towards 1, on 3 digits."""
        quantiles = 1 - np.linspace(0, 1, _GRID) ** 1.5
        return np.unique(np.append(np.round(np.quantile(self.score[k], quantiles), 3), NEVER))

    def solve(self, price: float, start: np.ndarray) -> np.ndarray:
        thresholds = start.copy()
        for _ in range(4):
            before = thresholds.copy()
            for k in range(len(thresholds)):
                best = -np.inf
                for candidate in self.grid(k):
                    trial = thresholds.copy()
                    trial[k] = candidate
                    points, blocks = self.measure(trial)
                    if points - price * blocks > best:
                        best, choice = points - price * blocks, candidate
                thresholds[k] = choice
            if (thresholds == before).all():
                break
        return thresholds


def calibrate(logits: np.ndarray, labels: np.ndarray, exit_blocks, n_layers: int,
              max_loss: float) -> tuple[list[float], dict]:
    """Thresholds with the fewest mean blocks whose accuracy is at most `max_loss` points below
    full depth, and the figures they reach on this set."""
    problem = _Problem(logits, labels, exit_blocks, n_layers)
    start = np.full(len(exit_blocks), NEVER)
    best, best_blocks = start, float(n_layers)
    for price in _PRICES:
        start = problem.solve(price, start)
        points, blocks = problem.measure(start)
        if points >= problem.full - max_loss and blocks < best_blocks:
            best, best_blocks = start, blocks
    points, blocks = problem.measure(best)
    return [float(t) for t in best], {
        "frames": int(len(labels)), "accuracy_full_depth": problem.full,
        "accuracy": points, "mean_blocks": blocks, "max_loss_points": max_loss}
