# SPDX-License-Identifier: MIT
"""What a trained network is worth: accuracy by exit, and how much work exits save at a given loss.

Work is counted in blocks' worth of the engine's own multiply-adds, embedding and exit heads
included: the full pass without exits is the number of blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import calibrate, policies


def costs(units: list[dict], n_layers: int) -> np.ndarray:
    """[E + 1]: work up to every exit's answer and to the end; `units` as `eestream inspect` tells
    them. A full pass without exits counts n_layers."""
    total, plain, found = 0.0, 0.0, {}
    n_exits = 1 + max(u["exit"] for u in units)
    for unit in units:
        total += unit["flops"]
        is_final = unit["exit"] == n_exits - 1
        if unit["exit"] < 0 or is_final:
            plain += unit["flops"]
        if unit["exit"] >= 0:
            found[unit["exit"]] = total
    return np.array([found[k] for k in range(n_exits)]) * n_layers / plain


@dataclass(frozen=True)
class Figures:
    """Of one set of pictures; accuracies in per cent."""

    exits: list[float]  # every picture answered by that exit
    full: float  # by the final classifier
    answered: float  # by the exit that the thresholds choose
    left: list[float]  # share of the pictures that leave there, the end last, in per cent
    speedup: float  # work of a full pass without exits over the mean work done

    @property
    def loss(self) -> float:
        return self.full - self.answered


def figures(logits: np.ndarray, labels: np.ndarray, thresholds, cost: np.ndarray,
            n_layers: int) -> Figures:
    hit = logits.argmax(axis=-1) == labels
    taken = policies.by_confidence(logits, thresholds)
    share = np.bincount(taken, minlength=len(logits)) / len(labels)
    return Figures(
        exits=[100 * float(h.mean()) for h in hit[:-1]], full=100 * float(hit[-1].mean()),
        answered=100 * float(hit[taken, np.arange(len(labels))].mean()),
        left=[100 * float(s) for s in share], speedup=n_layers / float(cost[taken].mean()))


def thresholds(logits: np.ndarray, labels: np.ndarray, cost: np.ndarray,
               max_loss: float) -> list[float]:
    """Confidence thresholds for the least work at `max_loss` points lost on these pictures."""
    return calibrate.calibrate(logits, labels, cost[:-1], float(cost[-1]), max_loss)[0]


def table(rows: dict[str, Figures], blocks: dict[str, tuple[int, ...]]) -> str:
    """Markdown, one model a line; `blocks`: after which blocks its exits are."""
    columns = sorted({b for places in blocks.values() for b in places})
    lines = ["| | " + " | ".join(f"after {b}" for b in columns)
             + " | full depth | with exits | points lost | less work |",
             "|---|" + "---|" * (len(columns) + 4)]
    for name, f in rows.items():
        by_block = dict(zip(blocks[name], f.exits))
        cells = [f"{by_block[b]:.1f}" if b in by_block else "–" for b in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {f.full:.1f} | {f.answered:.1f} | "
                     f"{f.loss:.2f} | {f.speedup:.2f}x |")
    return "\n".join(lines) + "\n"
