# SPDX-License-Identifier: MIT
"""LGViT's four exit policies on stored logits: which exit each frame takes.

`logits` is [E + 1, B, K], exits in order of depth and the final classifier last. All comparisons
are strict and in fp32, per frame. The result is the exit index [B], counted from 0; E means that no
exit fired and the final classifier answers.
"""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in the dtype of the input."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def confidence(logits: np.ndarray) -> np.ndarray:
    """max p."""
    return softmax(logits).max(axis=-1)


def entropy(logits: np.ndarray) -> np.ndarray:
    """-sum p ln p, as ln(sum e^(z-m)) - sum p (z-m): finite also where a probability underflows."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return (np.log(np.exp(shifted).sum(axis=-1))
            - (softmax(logits) * shifted).sum(axis=-1)).astype(logits.dtype)


def first_firing(fires: np.ndarray) -> np.ndarray:
    """Index of the first exit that fires, or E. fires is bool [E, B]."""
    return np.where(fires.any(axis=0), fires.argmax(axis=0), len(fires))


def _thresholds(threshold, n_exits: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(threshold, dtype=np.float32), (n_exits,))[:, None]


def _run_lengths(continues: np.ndarray, starts_at: np.ndarray) -> np.ndarray:
    """Length of the current run at each exit: grows by 1 where `continues`, else restarts."""
    lengths = np.empty(continues.shape, dtype=int)
    previous = np.zeros(continues.shape[1], dtype=int)
    for k in range(len(continues)):
        previous = lengths[k] = np.where(continues[k], previous + 1, starts_at[k])
    return lengths


def by_confidence(logits: np.ndarray, threshold) -> np.ndarray:
    """Leave if max p > threshold (one number, or one per exit)."""
    exits = logits[:-1]
    return first_firing(confidence(exits) > _thresholds(threshold, len(exits)))


def by_entropy(logits: np.ndarray, threshold) -> np.ndarray:
    """Leave if the entropy (natural logarithm) < threshold."""
    exits = logits[:-1]
    return first_firing(entropy(exits) < _thresholds(threshold, len(exits)))


def by_patience(logits: np.ndarray, patience: int) -> np.ndarray:
    """Leave when `patience` exits in a row gave the same class, the first one counting 1."""
    classes = logits[:-1].argmax(axis=-1)
    same = np.vstack([np.zeros((1, classes.shape[1]), bool), classes[1:] == classes[:-1]])
    return first_firing(_run_lengths(same, np.ones_like(classes)) >= patience)


def by_patience_and_entropy(logits: np.ndarray, threshold, patience: int) -> np.ndarray:
    """Leave when `patience` exits in a row had entropy < threshold; their classes may differ."""
    exits = logits[:-1]
    sure = entropy(exits) < _thresholds(threshold, len(exits))
    return first_firing(_run_lengths(sure, np.zeros(sure.shape, dtype=int)) >= patience)


def decide(policy: str, logits: np.ndarray, threshold=None, patience: int | None = None):
    """Exit index by LGViT's policy name."""
    if policy == "confidence":
        return by_confidence(logits, threshold)
    if policy == "entropy":
        return by_entropy(logits, threshold)
    if policy == "patience":
        return by_patience(logits, patience)
    if policy == "patient_and_confident":
        return by_patience_and_entropy(logits, threshold, patience)
    raise ValueError(f"unknown policy {policy}")


def margins(policy: str, logits: np.ndarray, threshold=None) -> np.ndarray:
    """[B]: least distance, over the exits, of a frame's score to its threshold; for patience the
    least gap between the two highest logits. A decision with a small margin may differ between two
    correct programs."""
    exits = logits[:-1]
    if policy == "patience":
        top = np.sort(exits, axis=-1)
        return (top[..., -1] - top[..., -2]).min(axis=0)
    score = confidence(exits) if policy == "confidence" else entropy(exits)
    return np.abs(score - _thresholds(threshold, len(exits))).min(axis=0)


def answers(logits: np.ndarray, exit_index: np.ndarray) -> np.ndarray:
    """The answering logits, [B, K]."""
    return logits[exit_index, np.arange(logits.shape[1])]


def blocks_run(exit_index: np.ndarray, exit_blocks: tuple[int, ...], n_layers: int) -> np.ndarray:
    """Blocks computed per frame: the exit's 1-based block, or all."""
    return np.array([*exit_blocks, n_layers])[exit_index]
