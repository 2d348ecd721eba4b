# SPDX-License-Identifier: MIT
"""Policies against the known answers of the model specification, and the calibration."""

import numpy as np
import pytest

from eestream_train import calibrate, policies

ROW = np.array([2, 1, 0.5, -1], dtype=np.float32)


def logits_of(classes: list[int], n_classes: int = 8, height: float = 3.0) -> np.ndarray:
    """[E + 1, 1, K] with the given argmax at each exit; the final classifier says 0."""
    return np.stack([np.eye(n_classes, dtype=np.float32)[[c]] * height for c in [*classes, 0]])


def test_softmax_and_entropy_known_answers():
    np.testing.assert_allclose(
        policies.softmax(ROW), [0.609460038, 0.224207818, 0.135988916, 0.030343229], rtol=1e-6)
    assert policies.entropy(ROW) == pytest.approx(1.01440278, rel=1e-6)


def test_entropy_is_finite_where_a_probability_underflows():
    assert policies.entropy(np.array([0, 2000, 0], dtype=np.float32)) == 0


@pytest.mark.parametrize("patience, taken", ((1, 0), (2, 1), (3, 4)))
def test_patience_counts_the_first_exit(patience, taken):
    assert policies.by_patience(logits_of([5, 5, 7, 7]), patience) == [taken]


def test_confidence_is_strict_and_single_precision():
    logits = logits_of([0, 1, 2, 3])
    logits[1, 0] = np.log(np.array([0.8, *[0.2 / 7] * 7], dtype=np.float32))
    score = policies.confidence(logits[1, 0])
    assert policies.by_confidence(logits, [1, score, 1, 1]) == [4]
    assert policies.by_confidence(logits, [1, np.nextafter(score, np.float32(0)), 1, 1]) == [1]


def test_confidence_of_one_never_fires():
    assert policies.by_confidence(logits_of([1, 1, 1, 1], height=500.0), 1.0) == [4]


def test_patient_and_confident_ignores_the_classes():
    logits = logits_of([1, 2, 3, 4], height=9.0)
    assert policies.by_patience_and_entropy(logits, 0.5, 2) == [1]
    logits[1] = 0
    assert policies.by_patience_and_entropy(logits, 0.5, 2) == [3]


def test_blocks_run():
    taken = np.array([0, 3, 4])
    assert policies.blocks_run(taken, (3, 5, 7, 9), 12).tolist() == [3, 9, 12]


def test_lowest_index_wins_ties():
    assert policies.answers(np.zeros((2, 1, 4)), np.array([0])).argmax(axis=-1) == [0]


def synthetic(n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Frames of mixed difficulty whose logits sharpen with depth: confident means right."""
    rng = np.random.default_rng(0)
    labels = rng.integers(8, size=n)
    noise = rng.uniform(0.2, 3, n)[None, :, None] * rng.standard_normal((5, n, 8))
    strength = np.array([2.0, 3, 4, 5, 8])[:, None, None]
    return (strength * np.eye(8)[labels] + noise).astype(np.float32), labels


def test_calibration_saves_blocks_within_its_budget():
    logits, labels = synthetic()
    threshold, fitted = calibrate.calibrate(logits, labels, (3, 5, 7, 9), 12, max_loss=1.0)
    taken = policies.by_confidence(logits, threshold)
    right = (policies.answers(logits, taken).argmax(axis=-1) == labels).mean() * 100
    assert right == pytest.approx(fitted["accuracy"])
    assert right >= fitted["accuracy_full_depth"] - 1.0
    assert policies.blocks_run(taken, (3, 5, 7, 9), 12).mean() == fitted["mean_blocks"] < 10


def test_calibration_without_budget_keeps_accuracy():
    logits, labels = synthetic(1000)
    _, fitted = calibrate.calibrate(logits, labels, (3, 5, 7, 9), 12, max_loss=0.0)
    assert fitted["accuracy"] >= fitted["accuracy_full_depth"]
