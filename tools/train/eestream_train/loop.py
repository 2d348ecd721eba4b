# SPDX-License-Identifier: MIT
"""Walks a run through its phases: checkpoints, evaluation, pauses, the end on a signal."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np

from . import schedule, views
from .fit import Run, predict, set_trainable
from .sets import Pictures

CHECKPOINT_SECONDS = 300.0
LOG_STEPS = 50


class _Signals:
    """SIGTERM and SIGINT end the run after the step at hand."""

    def __enter__(self):
        self.asked = False
        self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _ask(self, *_) -> None:
        self.asked = True

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


class Loop:
    """Walks a run through its phases."""

    def __init__(self, run: Run, training: Pictures, dev: Pictures,
                 pause_file: Path | None = None) -> None:
        self.run, self.training, self.dev, self.pause_file = run, training, dev, pause_file
        self.saved_at = time.monotonic()
        self.losses: list[float] = []

    def go(self, stop_after: int | None = None) -> bool:
        """To the end of the recipe (true), or to a signal or step `stop_after` (false)."""
        first = 0
        with _Signals() as signals:
            for index, count in enumerate(self.run.recipe.steps_of(len(self.training))):
                set_trainable(self.run.network, self.run.recipe.phases[index])
                while self.run.step < first + count:
                    self._wait_while_paused(signals)
                    if signals.asked or self.run.step == stop_after:
                        self.run.save()
                        return False
                    self._step(index, self.run.step - first, count)
                first += count
        return True

    def _step(self, index: int, step: int, count: int) -> None:
        run, recipe = self.run, self.run.recipe
        phase = recipe.phases[index]
        started = time.monotonic()
        size = phase.size or recipe.shape.image_size
        chosen = views.draw(len(self.training), recipe.batch, recipe.seed, run.step)
        pixels, target = views.augmented(
            self.training.images[chosen], self.training.labels[chosen], size,
            recipe.shape.n_classes, phase.augment, recipe.seed, run.step)
        lr = schedule.factor(step / count, *phase.lr) * min(1.0, (step + 1) / max(1, phase.warmup))
        self.losses.append(run.train_step(phase, pixels, target, lr, step))
        run.seconds += time.monotonic() - started
        ends = step + 1 == count
        evaluates = ends or run.step % recipe.eval_every == 0
        if evaluates or run.step % LOG_STEPS == 0:
            self._report(index, size, lr, self._evaluate(size, ends) if evaluates else {})
        if ends or time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
            run.save()
            self.saved_at = time.monotonic()

    def _report(self, index: int, size: int, lr: float, evaluated: dict) -> None:
        run = self.run
        run.log(phase=index, size=size, lr=round(lr, 4),
                epoch=round(run.step * run.recipe.batch / len(self.training), 3),
                loss=round(float(np.mean(self.losses)), 4), **evaluated)
        self.losses = []

    def _evaluate(self, size: int, whole: bool) -> dict:
        """Accuracy of the averaged weights by exit, the final classifier's last."""
        dev = self.dev if whole else self.dev.take(self.run.recipe.eval_count)
        with self.run.autocast():
            logits = predict(self.run.averaged(), dev, size)
        hits = (logits.argmax(axis=2) == dev.labels).mean(axis=1)
        return {"pictures": len(dev), "accuracy": [round(float(a), 4) for a in hits]}

    def _wait_while_paused(self, signals: _Signals) -> None:
        if self.pause_file is None or not self.pause_file.exists():
            return
        self.run.save()
        self.run.log(event="paused")
        while self.pause_file.exists() and not signals.asked:
            time.sleep(2)
        self.run.log(event="goes on")
