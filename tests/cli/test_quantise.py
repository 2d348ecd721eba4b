# SPDX-License-Identifier: MIT
"""`eestream quantise`: a folder is written, runs, verifies, and keeps its answers; refusals."""
import json
import re

import pytest
from conftest import MODEL, WORLD, error_line, run

REFERENCE = WORLD / "reference"


@pytest.fixture(scope="module")
def quantised(tmp_path_factory, mjpeg):
    folder = tmp_path_factory.mktemp("quantised") / "int8"
    done = run("quantise", MODEL, folder, "--inputs", mjpeg)
    assert done.code == 0, done.err
    return folder, done.out


def test_report(quantised):
    _, out = quantised
    changed, n = (int(re.search(p, out, re.M)[1]) for p in (r"^answers +(\d+) changed", r"^frames +(\d+) of"))
    assert n == 60 and changed <= 0.01 * n
    before, after = (float(x) for x in re.search(r"^size +([\d.]+) MiB before, ([\d.]+) MiB after$", out, re.M).groups())
    assert after < 0.4 * before


def test_config_says_so(quantised):
    config = json.loads((quantised[0] / "config.json").read_text())
    original = json.loads((MODEL / "config.json").read_text())
    assert config.pop("quantisation") == {"precision": "int8", "wider": []}
    assert config == original
    assert json.loads(run("inspect", quantised[0], "--format", "json").out)["precision"] == "int8"


def test_certificates_stay_behind(quantised, model, tmp_path, mjpeg):
    """The certificate is of the original's weights: neither copied nor used."""
    out = tmp_path / "int8"
    (model / "certificate.json").write_text("{}")
    done = run("quantise", model, out, "--inputs", mjpeg, "--frames", 4)
    assert done.code == 0, done.err
    assert re.search(r"^certificate not copied.*calibrate", done.out, re.M)
    assert "certificate" not in quantised[1]
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_accuracy_on_the_clip(quantised, clip, truth):
    def right(*args):
        lines = run("run", clip, "-q", *args).lines
        rows = [row.split(",") for row in truth.read_text().splitlines()]
        column = rows[0].index("label")
        return [line["label"] == row[column] for line, row in zip(lines, rows[1:], strict=True)]
    wide, narrow = right(), right("--model", quantised[0])
    assert abs(sum(wide) - sum(narrow)) <= 0.003 * len(wide)


def test_accuracy_of_class_folders(jpegs, labels, tmp_path):
    for i in range(0, 60, 5):
        folder = tmp_path / "frames" / labels[i]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:05d}.jpg").write_bytes(jpegs[i])
    done = run("quantise", MODEL, tmp_path / "int8", "--inputs", tmp_path / "frames")
    assert done.code == 0, done.err
    assert re.search(r"^accuracy +100.00 % before, [\d.]+ % after, of 12 labelled frames$", done.out, re.M), done.out


def test_verify_states_the_tolerance(quantised):
    done = run("verify", quantised[0], "--inputs", REFERENCE / "inputs.safetensors", "--expected",
               REFERENCE / "expected.safetensors")
    assert done.code == 0, done.out + done.err
    assert "allowed   in int8" in done.out
    strict = run("verify", quantised[0], "--precision", "fp32", "--inputs", REFERENCE / "inputs.safetensors", "--expected",
                 REFERENCE / "expected.safetensors")
    assert strict.code != 0  # the weights are rounded, and fp32 is held to fp32's tolerance


@pytest.mark.parametrize("args,text", [
    (["IN"], "model folder and the one to write"),
    (["IN", "OUT"], "--inputs"),
    (["IN", "OUT", "--inputs", "CLIP", "--precision", "int4"], "int4"),
    (["IN", "OUT", "--inputs", "CLIP", "--keep-wider", "block77.mlp"], "block77.mlp"),
    (["IN", "IN", "--inputs", "CLIP"], "another output folder"),
])
def test_usage(tmp_path, mjpeg, args, text):
    names = {"IN": MODEL, "OUT": tmp_path / "out", "CLIP": mjpeg}
    done = run("quantise", *[names.get(a, a) for a in args])
    assert done.code == 2
    assert text in error_line(done)


def test_unwritable_output(mjpeg):
    done = run("quantise", MODEL, "/proc/none", "--inputs", mjpeg)
    assert done.code == 5
    assert "/proc/none" in error_line(done)


def test_precision_of_any_model():
    units = json.loads(run("inspect", "--arch", "vit-ti16", "--precision", "int8", "--format", "json").out)["units"]
    assert {u["precision"] for u in units if u["name"].endswith(".mlp")} == {"int8"}
    done = run("inspect", "--precision", "int5")
    assert done.code == 2 and "int8" in error_line(done)
