# SPDX-License-Identifier: MIT
"""`--model`, `inspect`, `verify`: good folders, bad folders, reference numbers."""
import json
import math
import re
import shutil

import pytest
from conftest import MODEL, WORLD, change_json, error_line, run, shared
from tensors import Tensors


def test_a_folder_answers_as_the_embedded_model(model, mjpeg):
    def answers(*args):
        return [(x["exit"], x["class"], x["confidence"]) for x in run("run", mjpeg, "-q", *args).lines]
    assert answers("--model", model) == answers()


def damage_config(edit):
    return lambda folder: change_json(folder / "config.json", edit)


def set_nan(folder):
    weights = Tensors(folder / "model.safetensors")
    name = next(name for name in weights.names if name.endswith("query.weight"))
    weights.put(name, (math.nan, *weights.values(name)[1:]))
    weights.write(folder / "model.safetensors")


BAD = {
    "no folder": shutil.rmtree,
    "no config": lambda f: (f / "config.json").unlink(),
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "empty config": lambda f: (f / "config.json").write_text(""),
    "config is no JSON": lambda f: (f / "config.json").write_text("{hidden_size: 3}"),
    "config is a list": lambda f: (f / "config.json").write_text("[]"),
    "wrong width": damage_config(lambda c: c.update(hidden_size=c["hidden_size"] * 2)),
    "unknown type": damage_config(lambda c: c.update(model_type="mamba")),
    "negative layers": damage_config(lambda c: c.update(num_hidden_layers=-1)),
    "empty weights": lambda f: (f / "model.safetensors").write_bytes(b""),
    "cut weights": lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
    "cut header": lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:100]),
    "huge header": lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}"),
    "NaN weight": set_nan,
}


@pytest.mark.parametrize("what", BAD)
def test_bad_model_is_one_line_and_exit_4(what, model, mjpeg):
    BAD[what](model)
    for args in (["run", mjpeg, "-q", "--model", model], ["inspect", model], ["plan", "--model", model],
                 ["bench", "--model", model], ["verify", model]):
        done = run(*args)
        assert done.code == 4, (args, done.err)
        error_line(done)
        assert not done.out


def test_nan_is_loaded_when_asked_and_its_frames_fail(model, mjpeg):
    set_nan(model)
    assert run("inspect", model, "--allow-nonfinite").code == 0
    args = ["run", mjpeg, "-q", "--model", model, "--allow-nonfinite"]
    done = run(*args)
    assert done.code == 0, done.err
    assert {(line["status"], line["class"]) for line in done.lines} == {("failed", None)}
    assert run(*args, "--strict").code == 6


def test_inspect_text_and_json_agree(model):
    text, data = run("inspect"), json.loads(run("inspect", model, "--format", "json").out)
    rows = re.findall(r"^ *\d+  (\S+) +(\d+) +(-|\d+) +([\d.]+) +([\d.]+)  (\w+)$", text.out, re.M)
    assert [(row[0], row[5]) for row in rows] == [(unit["name"], unit["precision"]) for unit in data["units"]]
    assert sum(unit["weights_bytes"] for unit in data["units"]) <= data["weights_bytes"] * 1.01
    assert len(data["exits"]) == 4 and data["blocks"] == 12
    assert data["policy"]["thresholds"] == pytest.approx(
        json.loads(run("inspect", model, "--format", "json").out)["policy"]["thresholds"])


def test_inspect_names_every_tensor_of_the_file(model):
    weights = Tensors(model / "model.safetensors")
    tensors = json.loads(run("inspect", model, "--tensors", "--format", "json").out)["tensors"]
    used = [part for tensor in tensors for part in tensor["parts"]]
    assert len(set(used)) == len(used) and len({tensor["name"] for tensor in tensors}) == len(tensors)
    assert all("num_batches_tracked" in name or "pooler" in name for name in set(weights.names) - {*used})
    for tensor in tensors:
        rows = sum(weights.header[part]["shape"][0] for part in tensor["parts"])
        assert tensor["shape"] == [rows, *weights.header[tensor["parts"][0]]["shape"][1:]]
    assert "blk.0.attn.qkv.weight " in run("inspect", model, "--tensors").out


GFLOP = {"vit-ti16": 2.5, "vit-s16-plain": 9.2, "swin-t": 9.0, "swin-t-plain": 9.0}


@pytest.mark.parametrize("arch,million", [("vit-ti16", 5.5), ("vit-s16-plain", 21.7), ("swin-t-plain", 27.6),
                                          ("swin-t", 33.0)])
def test_inspect_of_an_architecture(arch, million):
    data = json.loads(run("inspect", "--arch", arch, "--format", "json").out)
    assert len(data["exits"]) == (0 if arch.endswith("plain") else 8)
    assert data["parameters"] * 1e-6 == pytest.approx(million, rel=0.35)
    total = sum(unit["flops"] for unit in data["units"] if not unit["name"].startswith("exit"))
    assert total * 1e-9 == pytest.approx(GFLOP[arch], rel=0.1)


def test_inspect_shows_stages():
    data, text = (run("inspect", "--arch", "swin-t", "--format", name).out for name in ("json", "text"))
    data = json.loads(data)
    assert [stage["grid"] for stage in data["stages"]] == [[56, 56], [28, 28], [14, 14], [7, 7]]
    assert [stage["width"] for stage in data["stages"]] == [96, 192, 384, 768]
    names = [unit["name"] for unit in data["units"]]
    assert [name for name in names if name.startswith("merge")] == ["merge1", "merge2", "merge3"]
    assert [stage["shift"] for stage in data["stages"]] == [[3, 3]] * 3 + [[0, 0]]
    assert not any(stage["rolls_first"] for stage in data["stages"])
    assert len(re.findall(r"^stage \d +\d+ blocks, grid ", text, re.M)) == 4
    one = json.loads(run("inspect", "--arch", "vit-ti16", "--format", "json").out)
    assert [stage["window"] for stage in one["stages"]] == [[0, 0]]


def test_unknown_architecture_is_usage():
    done = run("inspect", "--arch", "vit-xxl")
    assert done.code == 2
    error_line(done)


def test_embedded_model_matches_its_reference():
    reference = WORLD / "reference"
    done = run("verify", MODEL, "--inputs", reference / "inputs.safetensors", "--expected",
               reference / "expected.safetensors")
    assert done.code == 0, done.out + done.err
    assert re.search(r"^verify: \d+ tensors, \d+ decisions, largest difference \S+: ok$", done.out, re.M)


@pytest.mark.parametrize("name,tensors,decisions", [
    ("hf_vit", 9, 0), ("timm_vit", 9, 0), ("torchvision_vit", 9, 0), ("hf_deit_distilled", 9, 0),
    ("timm_deit_distilled", 9, 0), ("hf_dinov2", 9, 0), ("lgvit_vit_8exits", 22, 60), ("lgvit_deit_8exits", 22, 60),
    ("eevit_8exits", 22, 24), ("hf_swin", 9, 0), ("timm_swin", 11, 0), ("torchvision_swin", 9, 0),
    ("lgvit_swin_8exits", 34, 52)])
@pytest.mark.parametrize("kernels", ["best", "scalar"])
def test_fixtures(name, tensors, decisions, kernels):
    folder = shared(f"fixtures/{name}")
    done = run("verify", folder, *([] if kernels == "best" else ["--kernels", kernels]))
    assert done.code == 0, done.out + done.err
    found = re.search(r"^verify: (\d+) tensors, (\d+) decisions, largest difference (\S+): ok$", done.out, re.M)
    assert int(found[1]) >= tensors and int(found[2]) >= decisions
    assert 0 < float(found[3]) < 1e-2


@pytest.mark.parametrize("name", ["logits", "exit.0.logits"])
def test_verify_sees_a_wrong_number(name, tmp_path):
    expected = tmp_path / "expected.safetensors"
    tensors = Tensors(WORLD / "reference/expected.safetensors")
    tensors.put(name, [1.001 * value for value in tensors.values(name)])
    tensors.write(expected)
    done = run("verify", MODEL, "--inputs", WORLD / "reference/inputs.safetensors", "--expected", expected)
    assert done.code == 1, done.out
    assert re.search(rf"^{re.escape(name)} .* OUT$", done.out, re.M)
    assert done.out.splitlines()[-1].endswith(": OUT")


def test_verify_sees_a_wrong_decision(tmp_path):
    cases = json.loads((WORLD / "reference/policies.json").read_text())
    cases["cases"][0]["exit_index"][0] += 1
    (tmp_path / "p.json").write_text(json.dumps(cases))
    done = run("verify", MODEL, "--inputs", WORLD / "reference/inputs.safetensors", "--expected",
               WORLD / "reference/expected.safetensors", "--policies", tmp_path / "p.json")
    assert done.code == 1
    assert re.search(rf"^policy {re.escape(cases['cases'][0]['id'])} .* OUT$", done.out, re.M)


def verify_jpegs(folder, jpegs, predictions):
    inputs, expected = Tensors(), Tensors()
    for i, jpeg in enumerate(jpegs):
        inputs.add(f"jpeg.{i}", "U8", [len(jpeg)], jpeg)
    expected.add("prediction", "I32", [len(predictions)], predictions)
    inputs.write(folder / "inputs.safetensors")
    expected.write(folder / "expected.safetensors")
    return run("verify", MODEL, "--inputs", folder / "inputs.safetensors", "--expected", folder / "expected.safetensors")


def test_verify_prepares_jpegs_itself(jpegs, tmp_path):
    frames = jpegs[::len(jpegs) // 8]
    (tmp_path / "clip.mjpeg").write_bytes(b"".join(frames))
    done = run("run", tmp_path / "clip.mjpeg", "-q", "--model", MODEL, "--policy", "none")
    classes = [line["class"] for line in done.lines]
    assert len(set(classes)) > 1, done.err
    good = verify_jpegs(tmp_path, frames, classes)
    assert good.code == 0 and "verify: 1 tensors" in good.out, good.out + good.err
    assert verify_jpegs(tmp_path, frames, classes[1:] + classes[:1]).code == 1
    bad = verify_jpegs(tmp_path, [frames[0], b"no JPEG"], classes[:2])
    assert bad.code != 0 and not bad.out.endswith("ok\n")
    error_line(bad)


def test_verify_wants_images(tmp_path):
    inputs = Tensors()
    inputs.add("jpeg.1", "U8", [2], b"ab")
    inputs.add("pixels", "F32", [1], [0.5])
    inputs.write(tmp_path / "inputs.safetensors")
    done = run("verify", MODEL, "--inputs", tmp_path / "inputs.safetensors")
    assert done.code == 2 and "pixel_values" in error_line(done) and "jpeg.0" in error_line(done)
