# SPDX-License-Identifier: MIT
"""`eestream-convert checkpoint`: what people call checkpoints, good and bad."""

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from eestream_convert import cli  # noqa: E402
from live import shared, verify  # noqa: E402

CONFIG = {"model_type": "vit"}


@pytest.fixture
def weights():
    draw = torch.Generator().manual_seed(1)
    return {"vit.embeddings.cls_token": torch.randn(1, 1, 8, generator=draw),
            "classifier.weight": torch.randn(3, 8, generator=draw), "classifier.bias": torch.randn(3, generator=draw)}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def convert(*args) -> int:
    return cli.main(["checkpoint", *map(str, args)])


def fail(capsys, *args) -> str:
    """The one line of a conversion that is refused."""
    assert convert(*args) == cli.EXIT_MODEL
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("eestream-convert: "), lines
    return lines[0]


def assert_same(folder, weights):
    found = load_file(folder / "model.safetensors")
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


# ---- What training wraps around a state dict --------------------------------------------------------------

def prefixed(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


WRAPPED = {
    "plain": dict,
    "state_dict": lambda w: {"state_dict": w, "epoch": 3, "best_acc1": torch.tensor(76.1)},
    "model": lambda w: {"model": w, "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}},
    "teacher": lambda w: {"teacher": w},
    "two deep": lambda w: {"checkpoint": {"state_dict": w}},
    "DistributedDataParallel": lambda w: {"state_dict": prefixed("module.", w)},
    "compiled": lambda w: prefixed("_orig_mod.", w),
    "compiled and parallel": lambda w: prefixed("module._orig_mod.", w),
    "lightning": lambda w: {"state_dict": prefixed("model.", w), "pytorch-lightning_version": "2.0"},
    "options": lambda w: {"model": w, "args": argparse.Namespace(lr=0.1, output_dir="out")},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped(how, weights, source, tmp_path):
    torch.save(WRAPPED[how](weights), source / "a.pth")
    assert convert(source / "a.pth", tmp_path / "out") == 0
    assert_same(tmp_path / "out", weights)
    assert json.loads((tmp_path / "out/config.json").read_text()) == CONFIG


def test_file_from_before_zip(weights, source, tmp_path):
    torch.save(weights, source / "a.pth", _use_new_zipfile_serialization=False)
    assert convert(source / "a.pth", tmp_path / "out") == 0
    assert_same(tmp_path / "out", weights)


def test_one_of_several(weights, source, tmp_path, capsys):
    ema = {name: value + 1 for name, value in weights.items()}
    torch.save({"state_dict": weights, "state_dict_ema": ema}, source / "a.pth")
    message = fail(capsys, source / "a.pth", tmp_path / "out")
    assert "'state_dict', 'state_dict_ema'" in message and "--key" in message
    assert not (tmp_path / "out").exists()
    assert convert(source / "a.pth", tmp_path / "out", "--key", "state_dict_ema") == 0
    assert_same(tmp_path / "out", ema)
    assert "'emma'" in fail(capsys, source / "a.pth", tmp_path / "out", "--key", "emma")


def test_elements_are_written_in_order(source, tmp_path):
    """Shared storage, views, transposes, every type, no elements, no axes."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    weights = {"a": base, "tied": base, "view": base[1:3], "turned": base.t(), "strided": base[:, ::2],
               "half": base.half(), "brain": base.bfloat16(), "double": base.double(), "none": base[:0],
               "count": torch.tensor(7), "flags": base > 3, "bytes": base.to(torch.uint8)}
    torch.save(weights, source / "a.pth")
    assert convert(source / "a.pth", tmp_path / "out") == 0
    assert_same(tmp_path / "out", weights)
    assert (tmp_path / "out/model.safetensors").stat().st_size < 4000


def test_preprocessor_goes_along(weights, source, tmp_path):
    (source / "preprocessor_config.json").write_text('{"size": 32}')
    torch.save(weights, source / "pytorch_model.bin")
    assert convert(source, tmp_path / "out") == 0
    assert (tmp_path / "out/preprocessor_config.json").read_text() == '{"size": 32}'
    assert convert(source, source) == 0
    assert_same(source, weights)


# ---- Shards -----------------------------------------------------------------------------------------------

def write_shards(folder, weights, files=None):
    names = list(weights)
    torch.save({names[0]: weights[names[0]]}, folder / "pytorch_model-1.bin")
    torch.save({name: weights[name] for name in names[1:]}, folder / "pytorch_model-2.bin")
    files = files or {name: f"pytorch_model-{1 if name == names[0] else 2}.bin" for name in names}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))


def test_shards(weights, source, tmp_path):
    write_shards(source, weights)
    assert convert(source, tmp_path / "out") == 0
    assert_same(tmp_path / "out", weights)


def test_bad_shards(weights, source, tmp_path, capsys):
    write_shards(source, weights, {"x": "pytorch_model-1.bin"})
    assert "'x' is missing" in fail(capsys, source, tmp_path / "out")
    write_shards(source, weights, {"x": "../pytorch_model-1.bin"})
    assert "'../pytorch_model-1.bin'" in fail(capsys, source, tmp_path / "out")
    write_shards(source, weights, {"x": "none.bin"})
    assert "none.bin: no such file" in fail(capsys, source, tmp_path / "out")
    for text in ("{}", "[]", "", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'):
        (source / "pytorch_model.bin.index.json").write_text(text)
        assert "weight_map" in fail(capsys, source, tmp_path / "out")


# ---- What is refused --------------------------------------------------------------------------------------

class Runs:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(zipped, weights, source, tmp_path, capsys):
    marker = tmp_path / "ran"
    torch.save(weights | {"x": Runs(f"touch {marker}")}, source / "a.pth", _use_new_zipfile_serialization=zipped)
    assert "system" in fail(capsys, source / "a.pth", tmp_path / "out")
    with open(source / "b.pth", "wb") as out:
        pickle.dump(Runs(f"touch {marker}"), out, protocol=2)
    assert "system" in fail(capsys, source / "b.pth", tmp_path / "out")
    assert not marker.exists() and not (tmp_path / "out").exists()


def test_whole_model_is_refused_by_its_class(source, tmp_path, capsys):
    torch.save(torch.nn.Linear(2, 2), source / "a.pth")
    message = fail(capsys, source / "a.pth", tmp_path / "out")
    assert "torch.nn.modules.linear.Linear" in message and "state_dict()" in message


BAD = {
    "a number": (lambda w: 3, "holds no state dict, but int"),
    "a list": (lambda w: [w], "holds no state dict, but list"),
    "no tensors": (lambda w: {"epoch": 1, "arch": "vit"}, "'epoch', 'arch'"),
    "no tensor among tensors": (lambda w: w | {"step": 3}, "'step' is int, expected a tensor"),
    "sparse": (lambda w: w | {"s": torch.eye(3).to_sparse()}, "'s' is torch.float32, torch.sparse_coo"),
    "complex": (lambda w: w | {"c": torch.zeros(2, dtype=torch.complex64)}, "'c' is torch.complex64"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_contents(what, weights, source, tmp_path, capsys):
    make, message = BAD[what]
    torch.save(make(weights), source / "a.pth")
    assert message in fail(capsys, source / "a.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_files(weights, source, tmp_path, capsys):
    assert "no such file" in fail(capsys, source / "a.pth", tmp_path / "out")
    torch.save(weights, source / "a.pth")
    data = (source / "a.pth").read_bytes()
    for cut in (0, 1, 100, len(data) // 2, len(data) - 1):
        (source / "a.pth").write_bytes(data[:cut])
        assert "a.pth: " in fail(capsys, source / "a.pth", tmp_path / "out")
    (source / "a.pth").write_bytes(b"\x89PNG" * 100)
    assert "not a checkpoint" in fail(capsys, source / "a.pth", tmp_path / "out")


def test_bad_configs(weights, source, tmp_path, capsys):
    torch.save(weights, source / "a.pth")
    for text, message in (("{", "cannot be parsed"), ("[]", "not list")):
        (source / "config.json").write_text(text)
        assert message in fail(capsys, source / "a.pth", tmp_path / "out")
    (source / "bad.yaml").write_text("a: [")
    assert "bad.yaml: cannot be parsed" in fail(capsys, source / "a.pth", tmp_path / "out", "--config", source / "bad.yaml")
    (source / "config.json").unlink()
    message = fail(capsys, source / "a.pth", tmp_path / "out")
    assert "--config" in message and "'classifier.bias'" in message


# ---- Real layouts -----------------------------------------------------------------------------------------

def fixture_as_pth(name, source):
    folder = shared(f"fixtures/{name}")
    torch.save(load_file(folder / "model.safetensors"), source / "pytorch_model.bin")
    shutil.copy(folder / "config.json", source / "config.json")
    return folder


@pytest.mark.parametrize("name", ["lgvit_vit_8exits", "lgvit_deit_8exits", "lgvit_swin_8exits", "hf_deit_distilled"])
def test_fixture_from_bin(name, source, tmp_path):
    folder = fixture_as_pth(name, source)
    assert convert(source, tmp_path / "out") == 0
    for file in ("inputs.safetensors", "expected.safetensors"):
        shutil.copy(folder / file, tmp_path / "out" / file)
    verify(tmp_path / "out")


def test_eevit_with_its_yaml(source, tmp_path):
    import yaml
    folder = fixture_as_pth("eevit_8exits", source)
    config = source / "config.yaml"
    config.write_text(yaml.safe_dump(json.loads((folder / "config.json").read_text())))
    assert convert(source / "pytorch_model.bin", tmp_path / "out", "--config", config) == 0
    for file in ("inputs.safetensors", "expected.safetensors"):
        shutil.copy(folder / file, tmp_path / "out" / file)
    verify(tmp_path / "out")


def test_dinov2_as_published(tmp_path):
    """Backbone with a mask token, classifier in a file of its own; and both in one, as torch.hub has them."""
    timm = pytest.importorskip("timm")
    from live import blocks_of, check, random_pixels, randomize
    model = randomize(timm.create_model("vit_small_patch14_dinov2", img_size=28, patch_size=7, embed_dim=64, num_heads=1,
                                        depth=2, num_classes=3), 8)
    backbone = {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}
    backbone["mask_token"] = torch.zeros(1, 64)
    head = {name: model.state_dict()[f"head.{name}"] for name in ("weight", "bias")}
    torch.save(backbone, tmp_path / "backbone.pth")
    torch.save(head, tmp_path / "head.pth")
    torch.save(prefixed("backbone.", backbone) | prefixed("linear_head.", head), tmp_path / "both.pth")
    assert convert(tmp_path / "backbone.pth", tmp_path / "a", "--head", tmp_path / "head.pth") == 0
    assert convert(tmp_path / "both.pth", tmp_path / "b") == 0
    pixels = random_pixels(2, 28, 28)
    for folder in (tmp_path / "a", tmp_path / "b"):
        check(folder, model, blocks_of(model, "Block"), pixels, lambda: model(pixels))


# ---- Memory -----------------------------------------------------------------------------------------------

def test_peak_memory(source, tmp_path):
    """The whole process, PyTorch with it, at most 2.5 times the weights of a ViT-B."""
    n_bytes = 86_600_000 * 4
    torch.save({f"w{i}": torch.full((n_bytes // 40,), float(i)) for i in range(10)}, source / "a.pth")
    script = ("import sys; from eestream_convert import cli; code = cli.main(sys.argv[1:]); "
              "print(open('/proc/self/status').read()); sys.exit(code)")
    done = subprocess.run([sys.executable, "-c", script, "checkpoint", source / "a.pth", tmp_path / "out"],
                          capture_output=True, text=True, check=True, cwd=Path(cli.__file__).parents[1])
    peak = 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", done.stdout)[1])
    assert peak <= 2.5 * n_bytes, f"{peak / n_bytes:.2f} times the weights"
    print(f"{peak / n_bytes:.2f} times the weights")
