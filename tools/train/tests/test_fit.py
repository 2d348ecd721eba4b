# SPDX-License-Identifier: MIT
"""Every strategy and every head learns on a toy; runs resume exactly, pause and stop."""

import dataclasses
import json
import os
import signal
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra: torch)")

from eestream_train import fit, heads, loop, recipe, strategies  # noqa: E402
from eestream_train.backbones import build  # noqa: E402
from eestream_train.network import Network, Shape  # noqa: E402
from eestream_train.phase import Phase  # noqa: E402
from eestream_train.sets import Pictures  # noqa: E402
from eestream_train.views import Augmentation  # noqa: E402

torch.set_num_threads(1)  # exact repeats, and no waiting for a busy second core
SHAPE = Shape(4, "vit", image_size=16, patch_size=4, hidden_size=32, n_layers=3, n_heads=2,
              mlp_size=64, exits=((1, "conv1_1"), (2, "attention_r2")))
MILD = Augmentation(crop=0.9, flip=False)


@pytest.fixture(scope="module")
def toy() -> Pictures:
    """Four classes told apart by the bright quadrant and its colour."""
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=96)
    images = rng.integers(0, 60, (96, 16, 16, 3), dtype=np.uint8)
    for image, label in zip(images, labels):
        y, x = 8 * (label // 2), 8 * (label % 2)
        image[y:y + 8, x:x + 8, label % 3:] += 150
    return Pictures(images, labels, ("a", "b", "c", "d"))


def make(phases, shape=SHAPE, **values) -> recipe.Recipe:
    return recipe.Recipe(shape, tuple(phases), **{
        "batch": 16, "lr": 2e-3, "head_lr": 2e-3, "ema": 0.9, "bf16": False, "eval_every": 1000,
        "eval_count": 96, **values})


def exit_losses(network: Network, pictures: Pictures) -> np.ndarray:
    """Mean cross-entropy by exit, the final classifier last."""
    logits = torch.from_numpy(fit.predict(network, pictures, network.shape.image_size))
    labels = torch.from_numpy(pictures.labels)
    return np.array([float(torch.nn.functional.cross_entropy(z, labels)) for z in logits])


def fresh_losses(shape: Shape, pictures: Pictures) -> np.ndarray:
    torch.manual_seed(777)
    return exit_losses(build(shape), pictures)


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_strategy_learns(tmp_path, toy, name):
    budget = Phase(steps=120, warmup=5, augment=MILD, lr=(1.0, 0.1))
    run = fit.Run(make(strategies.phases(name, budget, SHAPE)), tmp_path)
    assert loop.Loop(run, toy, toy).go()
    before, after = fresh_losses(SHAPE, toy), exit_losses(run.averaged(), toy)
    # Layer-wise training with all blocks spoils the exits before the last: that is the strategy.
    judged = slice(-1, None) if name == "layer_wise" else slice(None)
    assert (after[judged] < 0.8 * before[judged]).all(), (before, after)


@pytest.mark.parametrize("head", [n for n in heads.NAMES if n[-1] not in "3456789"])
def test_head_learns(tmp_path, toy, head):
    """On a frozen random backbone, so that only the head can."""
    shape = dataclasses.replace(SHAPE, exits=((1, head),))
    phase = Phase(objective="joint", train="heads", steps=80, lr=(1.0, 0.2), augment=MILD)
    run = fit.Run(make([phase], shape, head_lr=3e-3), tmp_path)
    start = {k: v.clone() for k, v in run.network.state_dict().items()}
    loop.Loop(run, toy, toy).go()
    assert exit_losses(run.averaged(), toy)[0] < 0.9 * fresh_losses(shape, toy)[0]
    moved = {k for k, v in run.network.state_dict().items() if not torch.equal(v, start[k])}
    assert moved and all(name.startswith("exit.0.") for name in moved)


@pytest.mark.parametrize("name", ("joint", "branch_wise"))
def test_swin_learns(tmp_path, toy, name):
    shape = Shape(4, "swin", image_size=16, patch_size=2, hidden_size=16, n_layers=4, n_heads=2,
                  mlp_size=32, norm_eps=1e-5, depths=(2, 2), window=4,
                  exits=((2, "conv1_1"), (3, "linear")))
    budget = Phase(steps=80, warmup=5, augment=MILD, lr=(1.0, 0.1))
    run = fit.Run(make(strategies.phases(name, budget, shape), shape), tmp_path)
    loop.Loop(run, toy, toy).go()
    assert (exit_losses(run.averaged(), toy) < 0.8 * fresh_losses(shape, toy)).all()
    assert all(p.requires_grad for p in run.network.norm.parameters())


def test_larger_network_is_thinned():
    """Half as wide and a block less deep: every other channel, and whole heads."""
    wide = dataclasses.replace(SHAPE, family="dinov2", hidden_size=64, n_heads=4, mlp_size=128,
                               n_layers=4, exits=())
    slim = dataclasses.replace(wide, hidden_size=32, n_heads=2, mlp_size=64, n_layers=3)
    large, small = build(wide), build(slim)
    with torch.no_grad():
        for parameter in large.parameters():  # all different, so that each is known again
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter))
    fit.load_matching(small, large.state_dict())
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        large_part, small_part = (n.get_submodule(f"blk.1.{name}") for n in (large, small))
        kept = torch.isin(large_part.weight, small_part.weight)
        rows, columns = kept.any(1).nonzero().flatten(), kept.any(0).nonzero().flatten()
        assert torch.equal(large_part.weight[rows][:, columns], small_part.weight)
        assert torch.equal(large_part.bias[rows], small_part.bias)
        by_head = torch.cat([torch.arange(16) + start for start in range(0, 192, 32)])
        assert rows.tolist() == (by_head.tolist() if name == "attn.qkv" else
                                 list(range(0, len(large_part.bias), 2)))
        assert columns.tolist() == (by_head[:32].tolist() if name == "attn.proj" else
                                    list(range(0, large_part.in_features, 2)))
    assert torch.equal(small.head.cls.weight, large.head.cls.weight[:, ::2])
    assert torch.equal(small.embed.pos, large.embed.pos[..., ::2])


def test_teacher_teaches(tmp_path, toy):
    """A student that sees no labels follows its teacher's classes, permuted ones here."""
    trained = fit.Run(make([Phase(steps=100, augment=MILD)]), tmp_path / "teacher")
    loop.Loop(trained, toy, toy).go()
    teacher = trained.averaged()
    with torch.no_grad():
        teacher.head.cls.weight.copy_(teacher.head.cls.weight.roll(1, 0))
        teacher.head.cls.bias.copy_(teacher.head.cls.bias.roll(1, 0))
    phase = Phase(objective="final", steps=100, teach=1.0, augment=MILD)
    run = fit.Run(make([phase]), tmp_path / "student", teacher=teacher)
    loop.Loop(run, toy, toy).go()
    found = fit.predict(run.averaged(), toy, 16)[-1].argmax(axis=1)
    assert (found == (toy.labels + 1) % 4).mean() > 0.8


def test_resumed_run_equals_an_uninterrupted_one(tmp_path, toy):
    phases = strategies.phases("two_stage", Phase(steps=14, augment=Augmentation(cutmix=0.5)),
                               SHAPE)
    ends = {}
    for name, stops in (("whole", (None,)), ("parts", (3, 11, None))):
        for stop in stops:
            run = fit.Run(make(phases, eval_every=4), tmp_path / name)
            assert loop.Loop(run, toy, toy).go(stop_after=stop) == (stop is None)
            run.lock.close()
        ends[name] = {**run.network.state_dict(),
                      **{f"average.{k}": v for k, v in run.average.state.items()}}
    assert all(torch.equal(v, ends["parts"][k]) for k, v in ends["whole"].items())
    steps = [[(line["step"], line.get("accuracy")) for line in map(json.loads, open(
        tmp_path / name / "log.jsonl"))] for name in ends]
    assert steps[0] == steps[1] and steps[0][-1][0] == 14


def test_log_forgets_what_the_checkpoint_does_not_hold(tmp_path, toy):
    run = fit.Run(make([Phase(steps=9)], eval_every=2), tmp_path)
    loop.Loop(run, toy, toy).go(stop_after=4)
    run.step = 7
    run.log(event="after the checkpoint")
    run.lock.close()
    assert fit.Run(make([Phase(steps=9)]), tmp_path).step == 4
    assert "after" not in (tmp_path / "log.jsonl").read_text()


def test_two_processes_do_not_share_a_run(tmp_path):
    first = fit.Run(make([Phase(steps=1)]), tmp_path)
    with pytest.raises(ValueError, match="another process"):
        fit.Run(make([Phase(steps=1)]), tmp_path)
    first.lock.close()


def test_pause_file_holds_the_run(tmp_path, toy):
    pause = tmp_path / "pause"
    pause.touch()
    run = fit.Run(make([Phase(steps=3)]), tmp_path / "run")
    seen = []
    threading.Timer(0.5, lambda: (seen.append(run.step), pause.unlink())).start()
    assert loop.Loop(run, toy, toy, pause).go()
    assert seen == [0] and run.step == 3
    assert '"paused"' in run.log_path.read_text()


def test_signal_ends_the_run_with_a_checkpoint(tmp_path, toy):
    before = signal.getsignal(signal.SIGTERM)
    run = fit.Run(make([Phase(steps=100000)]), tmp_path)
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    assert not loop.Loop(run, toy, toy).go()
    assert signal.getsignal(signal.SIGTERM) == before
    run.lock.close()
    assert fit.Run(make([Phase(steps=100000)]), tmp_path).step == run.step > 0


def test_start_weights_fit_another_size_and_other_classes(toy):
    torch.manual_seed(1)
    old = build(dataclasses.replace(SHAPE, image_size=24, n_classes=7, exits=()))
    network = build(SHAPE)
    fit.load_matching(network, old.state_dict())
    assert torch.equal(network.blk[2].mlp.fc1.weight, old.blk[2].mlp.fc1.weight)
    assert network.embed.pos.shape == (1, 17, 32) and network.head.cls.weight.shape == (4, 32)
    wrong = {k: v for k, v in old.state_dict().items() if not k.startswith("blk.1.")}
    with pytest.raises(ValueError, match="lack blk.1.norm1.weight"):
        fit.load_matching(network, wrong)
