# SPDX-License-Identifier: MIT
"""Recipes as files, figures, and the command from a run to a checked folder."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra: torch)")

from eestream_train import cli, engine, recipe, report, study  # noqa: E402
from test_sets import atlases  # noqa: E402, F401

MODEL = """
[model]
family = "vit"
image_size = 16
patch_size = 4
hidden_size = 32
n_layers = 3
n_heads = 2
mlp_size = 64
exits = [[1, "conv1_1"], [2, "attention_r2"]]
"""
RECIPE = 'batch = 10\nbf16 = false\nstrategy = "joint"\n' + MODEL + "[budget]\nsteps = 6\n"


def test_recipe_survives_its_file():
    one = recipe.parse(RECIPE, 2)
    assert recipe.from_json(json.loads(json.dumps(recipe.as_json(one)))) == one
    assert one.phases[0].objective == "joint" and one.steps_of(100) == [6]


@pytest.mark.parametrize("text, message", (
    (RECIPE + "epocs = 3\n", "budget: unknown key 'epocs'"),
    (RECIPE.replace('"joint"', '"jiont"'), "strategy 'jiont'"),
    (RECIPE.replace('"conv1_1"', '"conv9"').replace("batch", "bach"), "unknown key 'bach'"),
    (RECIPE + "[[phase]]\n", "either"), (MODEL, "either"),
    (MODEL + '[[phase]]\nobjective = "all"\n', "phase 1: objective 'all'")))
def test_recipe_says_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        recipe.parse(text, 2)


def test_costs_count_heads_on_the_way():
    units = [dict(flops=10., exit=-1), dict(flops=20., exit=-1), dict(flops=5., exit=0),
             dict(flops=20., exit=-1), dict(flops=10., exit=1)]
    assert report.costs(units, 2) == pytest.approx(np.array([35, 65]) * 2 / 60)


def test_figures():
    sure, unsure = [4.0, 0.0], [0.1, 0.0]
    logits = np.array([[sure, unsure, sure, unsure], [[0., 1], [0., 1], [1., 0], [1., 0]]])
    labels = np.array([0, 1, 0, 1])
    found = report.figures(logits, labels, [0.9], np.array([1.5, 3.0]), 3)
    assert found.exits == [50.0] and found.full == 50.0
    assert found.answered == 75.0 and found.left == [50.0, 50.0]
    assert found.speedup == pytest.approx(3 / 2.25) and found.loss == -25.0


@pytest.fixture
def command():
    try:
        engine.command()
    except ValueError as error:
        pytest.skip(str(error))


def test_run_export_and_plot(tmp_path, atlases, command):  # noqa: F811
    path, run, folder = (tmp_path / name for name in ("recipe.toml", "run", "model"))
    path.write_text(RECIPE)
    common = ["--data", str(atlases), "--cache", str(tmp_path / "cache")]
    cli.main(["--threads", "1", "run", str(path), *common, "--out", str(run)])
    assert (run / "log.csv").read_text().startswith("seconds,step,epoch,phase,size,lr,loss,exit0")
    cli.main(["--threads", "1", "export", str(run), str(folder), *common])
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["step"] == 6 and len(figures["left"]) == 3
    assert len(json.loads((folder / "config.json").read_text())["early_exits"]["policy"][
        "thresholds"]) == 2
    pytest.importorskip("matplotlib", reason="needs matplotlib (extra: plots)")
    for source in (run, folder):
        cli.main(["plot", str(source), "--out", str(tmp_path / "plot.svg")])
        assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_start_from_a_folder(tmp_path, atlases, command):  # noqa: F811
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    common = ["--data", str(atlases), "--cache", str(tmp_path / "cache")]
    cli.main(["--threads", "1", "run", str(path), *common, "--out", str(tmp_path / "a")])
    cli.main(["--threads", "1", "export", str(tmp_path / "a"), str(tmp_path / "model"), *common])
    path.write_text(RECIPE.replace("bf16", "lr = 0.0\nhead_lr = 0.0\nbf16"))
    cli.main(["--threads", "1", "run", str(path), *common, "--out", str(tmp_path / "b"),
              "--init", str(tmp_path / "model")])
    first, second = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["average"]
                     for name in "ab")
    assert torch.allclose(first["blk.2.mlp.fc1.weight"], second["blk.2.mlp.fc1.weight"])


def test_study(tmp_path, atlases, command):  # noqa: F811
    path = tmp_path / "study.toml"
    path.write_text(RECIPE + """
[[row]]
name = "as it is"
[[row]]
name = "mlp"
head = "mlp_ee"
strategy = "two_stage"
[[row]]
name = "later"
blocks = [2]
heads = ["linear"]
""")
    table = study.study(path, atlases, tmp_path / "out", 1.0, cache=tmp_path / "cache")
    assert table.count("\n") == 5 and "| later | – |" in table
    assert (tmp_path / "out/mlp/model/model.safetensors").exists()
    with pytest.raises(ValueError, match="2 heads for 1 exits"):
        study.rows(RECIPE + '[[row]]\nname = "x"\nblocks = [1]\n', 2)
