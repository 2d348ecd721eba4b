# SPDX-License-Identifier: MIT
"""Reading ONNX: round trips through our own exports, what is refused and how, memory."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import random_folders
import support
from onnx import helper
from safetensors.numpy import load_file

from eestream_convert import cli, onnx_import
from eestream_convert.errors import ConvertError, NodeError
from eestream_convert.onnx_export import export_onnx


def import_to(path, out, n_classes: int):
    model = onnx_import.import_onnx(path)
    onnx_import.write(model, out, [f"c{i}" for i in range(n_classes)], [0.5] * 3, [0.5] * 3)
    return model


@pytest.mark.parametrize("form", ["nested", "all-exits"])
def test_round_trip_keeps_every_exit(fixture, form, tmp_path):
    """Reference numbers again, after export and import."""
    pixels, expected = load_file(fixture / "inputs.safetensors")["pixel_values"], load_file(fixture / "expected.safetensors")
    path, out = tmp_path / "x.onnx", tmp_path / "folder"
    info = export_onnx(fixture, path, form, image_size=f"{pixels.shape[3]}x{pixels.shape[2]}")
    model = import_to(path, out, info["classes"])
    assert model.exits == [{"after_block": e["after_block"], "head": e["head"]} for e in info["exits"]]
    names = ["logits"] + [f"exit.{k}.logits" for k in range(len(info["exits"]))]
    support.verify(out, pixels, {name: expected[name] for name in names}, tmp_path)
    if form == "nested" and info["policy"]["name"] == "confidence":
        assert model.policy["thresholds"] == pytest.approx(np.resize(info["policy"]["thresholds"], len(info["exits"])))


HEADS = ["conv1_1", "conv2_1", "conv_normal", "attention_r1", "attention_r3", "self_attention", "linear", "vit"]
BRANCHES = ["dummy_mlp", "mlp", "mlp_ee", "vit_ee", "cnn_ignore_ee", "cnn_add_ee", "cnn_project_ee", "mixer_ee", "resmlp_ee"]


def write_model(kind: str, directory) -> tuple[int, int]:
    """@return (height, width) of its input"""
    if kind == "swin":
        random_folders.write_swin(directory, random_folders.HF_SWIN, HEADS + HEADS[::-1], [9, 8], (18, 14))
        return 18, 14
    random_folders.write_vit(directory, kind, HEADS + BRANCHES, len(HEADS + BRANCHES))
    return 20, 28


@pytest.mark.parametrize("form", ["nested", "all-exits"])
@pytest.mark.parametrize("kind", ["vit", "deit", "dinov2_with_registers", "swin"])
def test_round_trip_of_every_known_head(kind, form, tmp_path):
    size = write_model(kind, tmp_path / "model")
    info = export_onnx(tmp_path / "model", tmp_path / "all.onnx", "all-exits")
    export_onnx(tmp_path / "model", tmp_path / "x.onnx", form)
    model = import_to(tmp_path / "x.onnx", tmp_path / "folder", info["classes"])
    assert model.exits == info["exits"]
    pixels = np.random.default_rng(6).normal(0, 1, (2, 3, *size)).astype(np.float32)
    names = [f"exit.{k}" for k in range(len(model.exits))] + ["logits"]
    answers = support.run_images(tmp_path / "all.onnx", pixels, names)
    support.verify(tmp_path / "folder", pixels, {name if name == "logits" else f"{name}.logits": array
                                                 for name, array in zip(names, answers)}, tmp_path)


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_heads_that_are_not_known(kind, tmp_path):
    """One line that says so, not wrong numbers."""
    if kind == "vit":
        random_folders.write_vit(tmp_path / "model", kind, ["mixer_ee"], 2)
    else:
        random_folders.write_swin(tmp_path / "model", random_folders.HF_SWIN, ["vit"], [2], (12, 12))
    export_onnx(tmp_path / "model", tmp_path / "x.onnx", "all-exits")
    edit_eps(tmp_path / "x.onnx", *((1e-12, 1e-6) if kind == "swin" else (1e-6, 1e-3)))
    with pytest.raises(NodeError, match="exit"):
        onnx_import.import_onnx(tmp_path / "x.onnx")


def edit_eps(path, old: float, new: float) -> None:
    """Of LayerNorms."""
    model = onnx.load(path)
    found = [entry for node in model.graph.node for entry in node.attribute
             if entry.name == "epsilon" and entry.f == pytest.approx(old)]
    assert found
    for entry in found:
        entry.f = new
    onnx.save(model, path)


@pytest.fixture
def exported(world, tmp_path):
    path = tmp_path / "m.onnx"
    export_onnx(world, path, "all-exits")
    return path


def replace_node(path, which: int, op_type: str, **attrs) -> onnx.NodeProto:
    """The which-th Erf becomes another operator."""
    model = onnx.load(path)
    node = [node for node in model.graph.node if node.op_type == "Erf"][which]
    node.op_type = op_type
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attrs.items())
    onnx.save(model, path)
    return node


@pytest.mark.parametrize("op_type,why", [("Sin", "not known"), ("Relu", "activation"), ("RandomUniformLike", "random")])
def test_the_first_node_is_named(exported, op_type, why):
    """Two nodes are wrong; the one that comes first in the graph is told, with its output."""
    replace_node(exported, 5, op_type)
    node = replace_node(exported, 2, op_type)
    with pytest.raises(NodeError, match=why) as caught:
        onnx_import.import_onnx(exported)
    if op_type != "Relu":
        assert (caught.value.name, caught.value.op_type, caught.value.output) == (node.name, op_type, node.output[0])
    assert node.output[0] if op_type == "Relu" else node.name in str(caught.value)


def test_the_command_says_it_in_one_line(exported, tmp_path, capsys):
    replace_node(exported, 0, "Sin")
    assert cli.main(["import", str(exported), str(tmp_path / "out")]) == 4
    text = capsys.readouterr().err
    assert text.startswith("eestream-convert: node 'Erf/") and text.count("\n") == 1 and "(Sin," in text
    assert not (tmp_path / "out").exists()


def test_other_files_are_refused(tmp_path, capsys):
    for name, content in (("empty", b""), ("text", b"hello"), ("cut", b"\x08\x07\x12")):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        assert cli.main(["import", str(path), str(tmp_path / "out")]) == 4
        assert str(path) in capsys.readouterr().err
    assert cli.main(["import", str(tmp_path / "none.onnx"), str(tmp_path / "out")]) == 4


# ---- External data ----------------------------------------------------------------------------------------


@pytest.fixture
def external(exported, tmp_path):
    """A model whose weights lie in w.bin beside it."""
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(onnx.load(exported), folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder / "m.onnx"


def change_external(path, key: str, value: str):
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value
    path.write_bytes(model.SerializeToString())


def test_external_data_is_read(external, exported):
    ours, theirs = (onnx_import.import_onnx(path).tensors for path in (external, exported))
    assert ours.keys() == theirs.keys()
    np.testing.assert_array_equal(ours["blk.3.mlp.fc1.weight"], theirs["blk.3.mlp.fc1.weight"])


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "sub/../../w.bin", "..\\w.bin", "C:\\w.bin", "", "missing.bin"])
def test_external_data_outside_is_refused(external, location):
    (external.parent.parent / "w.bin").write_bytes((external.parent / "w.bin").read_bytes())
    change_external(external, "location", location)
    with pytest.raises(ConvertError, match="outside the model's folder|missing|no regular file"):
        onnx_import.import_onnx(external)


def test_external_data_through_a_link_is_refused(external):
    target = external.parent.parent / "w.bin"
    os.replace(external.parent / "w.bin", target)
    (external.parent / "w.bin").symlink_to(target)
    with pytest.raises(ConvertError, match="symbolic link"):
        onnx_import.import_onnx(external)


@pytest.mark.parametrize("key,value", [("offset", "-4"), ("offset", "99999999999"), ("length", "3"), ("offset", "x")])
def test_external_data_beyond_its_file_is_refused(external, key, value):
    change_external(external, key, value)
    with pytest.raises(ConvertError, match="external data of tensor"):
        onnx_import.import_onnx(external)


# ---- Memory -----------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from eestream_convert import cli
import eestream_convert.onnx_export
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert cli.main(sys.argv[1:]) == 0
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_memory_is_at_most_two_and_a_half_times_the_weights(tmp_path):
    """A ViT of 95 MB, through both directions."""
    from test_export import make_deep

    directory = make_deep(tmp_path / "wide", 8, 0, c=512, f=2048, heads=8)
    n_bytes = (directory / "model.safetensors").stat().st_size
    for args in (["export", directory, tmp_path / "m.onnx"], ["import", tmp_path / "m.onnx", tmp_path / "out"]):
        done = subprocess.run([sys.executable, "-c", MEASURE, *map(str, args)], capture_output=True, text=True,
                              cwd=support.ROOT / "tools/convert")
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) <= 2.5 * n_bytes, args[0]
    assert json.loads((tmp_path / "out/config.json").read_text())["hidden_size"] == 512
