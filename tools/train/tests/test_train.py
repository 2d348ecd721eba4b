# SPDX-License-Identifier: MIT
"""Losses against known answers; steps that learn; runs that resume exactly."""

import csv
import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training tests need torch (extra: torch)")
import torch.nn.functional as F  # noqa: E402

from eestream_train import augment, losses, train  # noqa: E402
from eestream_train.model import Config, EarlyExitViT  # noqa: E402

CONFIG = Config(4, image_size=32, hidden_size=32, n_heads=1, intermediate_size=64, n_layers=5,
                exit_blocks=(1, 2, 3, 4))
torch.set_num_threads(1)  # exact repeats, and no waiting for a busy second core
OPTIONS = train.Options(stage=1, steps=12, batch=8, lr=2e-3, warmup=2, weight_decay=0.05, clip=1.0,
                        ema=0.9, strategy="alternating_weighted", alpha=0.3, eta=0.01, omega=0.01,
                        seed=3, bf16=False, eval_every=4)


def t(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def test_distillation_known_answer():
    value = losses.distillation(t([1, 2, 3], [0, 0, 1]), t([3, 2, 1], [1, 0, 0]))
    assert float(value) == pytest.approx(0.272702545, rel=1e-6)


def test_heterogeneous_known_answer():
    student = t([[1, 0], [0, 1]], [[1, 2], [3, 4]])
    teacher = t([[0, 1], [1, 0]], [[2, 1], [4, 3]])
    assert float(losses.heterogeneous(student, teacher)) == pytest.approx(0.924234390, rel=1e-6)
    assert float(F.mse_loss(student, teacher)) == 1.0
    assert float(losses.gram_mse(student, teacher)) == 25.0


@pytest.fixture(scope="module")
def toy():
    """Four classes told apart by the bright quadrant: learnable in a few steps."""
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=64)
    images = rng.integers(0, 60, (64, 32, 32, 3), dtype=np.uint8)
    for image, label in zip(images, labels):
        y, x = 16 * (label // 2), 16 * (label % 2)
        image[y:y + 16, x:x + 16] += 150
    return images, labels, rng.random(64).astype(np.float32)


def forward(toy):
    torch.manual_seed(0)
    model = EarlyExitViT(CONFIG).eval()
    with torch.no_grad():
        out = model(torch.from_numpy(train.data.normalise(toy[0][:8])))
    labels = torch.from_numpy(toy[1][:8])
    return out, labels, [float(F.cross_entropy(z, labels)) for z in (*out.exit_logits, out.logits)]


@pytest.mark.parametrize("strategy, step, weights", (
    ("normal", 0, (1, 1, 1, 1, 1)), ("weighted", 0, (1, 2, 3, 4, 5)),
    ("alternating", 0, (0, 0, 0, 0, 1)), ("alternating", 1, (1, 1, 1, 1, 1)),
    ("alternating_weighted", 2, (0, 0, 0, 0, 1)), ("alternating_weighted", 3, (1, 2, 3, 4, 5))))
def test_stage1_formula(toy, strategy, step, weights):
    out, labels, terms = forward(toy)
    expected = np.dot(weights, terms) / sum(weights)
    assert float(losses.stage1(out, labels, strategy, step, CONFIG)) == pytest.approx(expected)


def test_stage2_formula(toy):
    out, labels, terms = forward(toy)
    base = float(losses.stage2(out, labels, CONFIG, alpha=0.0, eta=0.0, omega=0.0))
    assert base == pytest.approx(sum(terms[:-1]))
    taught = sum(float(losses.distillation(z, out.logits)) for z in out.exit_logits)
    assert float(losses.stage2(out, labels, CONFIG, 1.0, 0.0, 0.0)) == pytest.approx(taught)
    f, x = out.exit_features, out.hidden[-1][:, 1:].unflatten(1, (4, 4))
    pairs = ((f[0], x), (f[1], x), (f[2], x[:, ::2, ::2]), (f[3], x[:, ::3, ::3]))
    hete = sum(float(losses.heterogeneous(a, b.flatten(1, 2))) for a, b in pairs)
    homo = float(F.mse_loss(f[0], f[1]) + losses.gram_mse(f[2] / 2, f[3] / 2))
    whole = float(losses.stage2(out, labels, CONFIG, 0.0, 0.5, 0.25))
    assert whole == pytest.approx(base + 0.5 * hete + 0.25 * homo, rel=1e-5)


def test_batches_depend_on_seed_and_step_only(toy):
    order = np.argsort(toy[2])
    a, b, other = (augment.batch(toy[0], toy[1], order, 8, 1, step, 100) for step in (5, 5, 6))
    assert (a[0] == b[0]).all() and (a[1] == b[1]).all()
    assert (a[0] != other[0]).any()


def test_curriculum_starts_easy(toy):
    assert augment.easiest_share(0, 100) == augment.CURRICULUM_START
    assert augment.easiest_share(30, 100) == augment.easiest_share(5, 0) == 1.0


def test_steps_reduce_the_loss(tmp_path, toy):
    run = train.Run(dataclasses.replace(OPTIONS, strategy="weighted", steps=40), CONFIG, tmp_path)
    values = [run.train_step(toy[0][:32], toy[1][:32]) for _ in range(30)]
    assert values[-1] < 0.5 * values[0]


def weights(run: train.Run) -> dict:
    return {**run.model.state_dict(), **{f"average.{k}": v for k, v in run.average.state.items()}}


def test_resumed_run_equals_an_uninterrupted_one(tmp_path, toy):
    validation = toy[0][:16], toy[1][:16]
    logs = {}
    for name, stops in (("whole", (None,)), ("parts", (5, 9, None))):
        directory = tmp_path / name
        directory.mkdir()
        for stop in stops:
            run = train.Run(OPTIONS, CONFIG, directory)
            train.train(run, toy, validation, stop_after=stop)
        stage2 = train.Run(dataclasses.replace(OPTIONS, stage=2), CONFIG, directory)
        train.train(stage2, toy, validation)
        logs[name] = weights(run), weights(stage2), directory / "stage1.csv"
    for whole, parts in zip(logs["whole"][:2], logs["parts"][:2]):
        assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    steps = [int(r["step"]) for r in csv.DictReader(open(logs["parts"][2], newline=""))]
    assert steps == sorted(set(steps)) and steps[-1] == OPTIONS.steps


def test_stage2_leaves_the_backbone_alone(tmp_path, toy):
    train.Run(OPTIONS, CONFIG, tmp_path).save()
    run = train.Run(dataclasses.replace(OPTIONS, stage=2), CONFIG, tmp_path)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.train_step(toy[0][:8], toy[1][:8])
    moved = {k for k, v in run.model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and all(name.startswith("deit.encoder.highway.") for name in moved)


def test_learning_rate_schedule():
    rates = [train.learning_rate(step, OPTIONS) for step in range(OPTIONS.steps + 1)]
    assert rates[:2] == [OPTIONS.lr / 2, OPTIONS.lr]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0.01 * OPTIONS.lr)
