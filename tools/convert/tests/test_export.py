# SPDX-License-Identifier: MIT
"""Exported graphs answer as the model's own framework, in ONNX Runtime and in OpenVINO."""

import json

import numpy as np
import onnx
import pytest
import support
from safetensors.numpy import load_file

from eestream_convert import folder
from eestream_convert.errors import ConvertError
from eestream_convert.onnx_export import export_onnx

TOLERANCE = 1e-4  # of the reference numbers, absolute


def names_of(n_exits: int) -> list[str]:
    return [f"exit.{k}" for k in range(n_exits)] + ["logits"]


def expected_of(expected: dict, name: str) -> np.ndarray:
    return expected[name if name == "logits" else f"{name}.logits"]


def size_of(pixels: np.ndarray) -> str:
    return f"{pixels.shape[3]}x{pixels.shape[2]}"


def run_openvino(path, pixels: np.ndarray) -> dict[str, np.ndarray]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled({"image": pixels})
    return {name: result[port] for port in compiled.outputs for name in port.get_names()}


def test_all_exits_give_the_reference_logits(fixture, tmp_path):
    pixels, expected = load_file(fixture / "inputs.safetensors")["pixel_values"], load_file(fixture / "expected.safetensors")
    path = tmp_path / "all.onnx"
    info = export_onnx(fixture, path, "all-exits", batch=len(pixels), image_size=size_of(pixels))
    onnx.checker.check_model(str(path), full_check=True)
    names = names_of(len(info["exits"]))
    runtime = dict(zip(names, support.session(path).run(names, {"image": pixels})))
    openvino = run_openvino(path, pixels)
    for name in names:
        reference = expected_of(expected, name)
        assert np.abs(runtime[name] - reference).max() <= TOLERANCE, name
        assert np.abs(openvino[name] - reference).max() <= TOLERANCE, name


def cases(fixture) -> list[dict]:
    path = fixture / "policies.json"
    return json.loads(path.read_text())["cases"] if path.exists() else []


def test_nested_leaves_at_the_reference_exits(fixture, tmp_path):
    """Every recorded decision, by the policy it was made with; thresholds are the graph's input where it has one."""
    pixels = load_file(fixture / "inputs.safetensors")["pixel_values"]
    seen = 0
    for case in cases(fixture) or [None]:
        path, options = tmp_path / "nested.onnx", {"image_size": size_of(pixels)}
        if case:
            options |= {"policy": case["policy"], "patience": case.get("patience")}
            threshold = case.get("threshold")
            if case["policy"] != "patience":
                options["threshold"] = ",".join(map(str, threshold if isinstance(threshold, list) else [threshold]))
        info = export_onnx(fixture, path, "nested", **options)
        onnx.checker.check_model(str(path), full_check=True)
        logits, exits = support.run_images(path, pixels, ["logits", "exit"])
        if case:
            assert exits.tolist() == case["exit_index"], case["id"]
            assert logits.argmax(1).tolist() == case["prediction"], case["id"]
        seen += len(exits)
        assert len(info["exits"]) or set(exits) == {0}
    assert seen


def test_thresholds_are_an_input(world, tmp_path):
    path, pixels = tmp_path / "nested.onnx", random_pixels(world, 8)
    info = export_onnx(world, path, "nested")
    n = len(info["exits"])
    for threshold, exit_index in ((np.zeros(n), 0), (np.ones(n), n)):
        logits, exits = support.run_images(path, pixels, ["logits", "exit"], threshold=np.float32(threshold))
        assert set(exits) == {exit_index}
    one_by_one = [float("nan")] + [0.0] * (n - 1)
    assert set(support.run_images(path, pixels, ["exit"], threshold=np.float32(one_by_one))[0]) == {1}


def random_pixels(directory, n: int) -> np.ndarray:
    side = json.loads((directory / "config.json").read_text())["image_size"]
    return np.random.default_rng(5).normal(0, 1, (n, 3, side, side)).astype(np.float32)


def test_both_forms_and_the_engine_agree(world, tmp_path):
    """Default thresholds: what `all-exits` gives, walked by hand, is where `nested` leaves; the engine has those logits."""
    pixels = random_pixels(world, 6)
    info = export_onnx(world, tmp_path / "all.onnx", "all-exits")
    names = names_of(len(info["exits"]))
    answers = support.run_images(tmp_path / "all.onnx", pixels, names)
    support.verify(world, pixels, {name if name == "logits" else f"{name}.logits": array for name, array in
                                   zip(names, answers)}, tmp_path)
    export_onnx(world, tmp_path / "nested.onnx", "nested")
    logits, exits = support.run_images(tmp_path / "nested.onnx", pixels, ["logits", "exit"])
    for i, taken in enumerate(exits):
        probabilities = [softmax(answer[i]).max() for answer in answers[:-1]]
        sure = [p > t for p, t in zip(probabilities, np.resize(info["policy"]["thresholds"], len(probabilities)))]
        assert taken == (sure.index(True) if any(sure) else len(sure))
        assert np.abs(logits[i] - answers[taken][i]).max() < 1e-5


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def make_deep(directory, n_blocks: int, n_exits: int):
    """A ViT of random weights with an exit after each of the first blocks."""
    rng = np.random.default_rng(1)
    c, f, k, p, side = 16, 20, 3, 4, 8
    config = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": c, "intermediate_size": f,
              "num_hidden_layers": n_blocks, "num_attention_heads": 2, "image_size": side, "patch_size": p,
              "hidden_act": "gelu", "id2label": {str(i): str(i) for i in range(k)},
              "early_exits": {"exits": [{"after_block": i + 1, "head": "attention_r1"} for i in range(n_exits)],
                              "policy": {"name": "confidence", "thresholds": 0.5}}}
    shapes = {"vit.embeddings.cls_token": (1, 1, c), "vit.embeddings.position_embeddings": (1, (side // p) ** 2 + 1, c),
              "vit.embeddings.patch_embeddings.projection": (c, 3, p, p), "vit.layernorm": (c,), "classifier": (k, c)}
    for i in range(n_blocks):
        layer = f"vit.encoder.layer.{i}."
        shapes |= {layer + "layernorm_before": (c,), layer + "layernorm_after": (c,), layer + "intermediate.dense": (f, c),
                   layer + "output.dense": (c, f), layer + "attention.output.dense": (c, c)}
        shapes |= {layer + f"attention.attention.{name}": (c, c) for name in ("query", "key", "value")}
    for i in range(n_exits):
        shapes |= {f"exit.{i}.attn.qkv.weight": (3 * c, c), f"exit.{i}.attn.proj": (c, c), f"exit.{i}.head.cls": (k, c)}
    tensors = {}
    for name, shape in shapes.items():
        def draw(size):
            return rng.normal(0, 0.3, size).astype(np.float32)
        if name.endswith((".weight", "_token", "_embeddings")):
            tensors[name] = draw(shape)
        else:
            tensors |= {f"{name}.weight": draw(shape), f"{name}.bias": draw(shape[:1])}
    directory.mkdir()
    folder.write_json(directory / "config.json", config)
    folder.write_tensors(directory / "model.safetensors",
                         {name: folder.store_f32(x) for name, x in tensors.items()})
    return directory


def test_as_many_exits_as_the_runtime_loads(tmp_path):
    directory = make_deep(tmp_path / "deep", 32, 31)
    info = export_onnx(directory, tmp_path / "deep.onnx", "nested")
    pixels = random_pixels(directory, 3)
    n = len(info["exits"])
    assert n == 31
    never = np.ones(n, np.float32)
    for k in (0, 17, 30, 31):
        threshold = never.copy()
        threshold[k:] = 0
        assert set(support.run_images(tmp_path / "deep.onnx", pixels, ["exit"], threshold=threshold)[0]) == {k}


def test_more_exits_are_refused(tmp_path):
    directory = make_deep(tmp_path / "deeper", 33, 32)
    with pytest.raises(ConvertError, match="32 exits.*all-exits"):
        export_onnx(directory, tmp_path / "deeper.onnx", "nested")
    export_onnx(directory, tmp_path / "deeper.onnx", "all-exits")
    assert len(support.session(tmp_path / "deeper.onnx").get_outputs()) == 33


def test_a_batch_does_not_nest(world, tmp_path):
    with pytest.raises(ConvertError, match="--batch 2"):
        export_onnx(world, tmp_path / "x.onnx", "nested", batch=2)


def test_a_bad_folder_is_the_engines_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConvertError, match="model.safetensors"):
        export_onnx(tmp_path, tmp_path / "x.onnx", "nested")
