# SPDX-License-Identifier: MIT
"""The torch model against LGViT's own numbers and against the known answers for single heads."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="model tests need torch (extra: torch)")
from safetensors.numpy import load_file  # noqa: E402

from eestream_train import data, folder, model, policies  # noqa: E402

CLASSIFIER = ([[1, -1], [0.5, 2], [0, 1]], [0, 0.1, -0.1])


def fill(target, *values) -> None:
    with torch.no_grad():
        for parameter, value in zip(target, values, strict=True):
            parameter.copy_(torch.tensor(value, dtype=torch.float32).reshape(parameter.shape))


def norm(layer, gamma, beta, mean, var) -> None:
    fill((layer.weight, layer.bias, layer.running_mean, layer.running_var), gamma, beta, mean, var)


def tokens() -> torch.Tensor:
    t = torch.arange(9.0)
    patches = torch.stack([0.1 * (t + 1), -0.1 * (t + 1) + 0.05 * t], dim=1)
    return torch.cat([torch.tensor([[0.2, -0.3]]), patches])[None]


def head(kind: str) -> model.ExitHead:
    config = model.Config(3, image_size=24, patch_size=8, hidden_size=2, n_heads=1,
                          intermediate_size=2)
    made = model.ExitHead(kind, config).eval()
    fill((made.classifier.weight, made.classifier.bias), *CLASSIFIER)
    return made


def convolution_head(kind: str) -> model.ExitHead:
    made = head(kind)
    m = made.mlp
    fill((m.conv1[0].weight, m.conv1[0].bias), [[1, 0.5], [-0.5, 1]], [0.1, -0.1])
    norm(m.conv1[2], [1, 2], [0.5, -0.5], [0.1, 0.2], [0.25, 4])
    if kind == "conv1_1":
        fill((m.proj.weight, m.proj.bias), [[[0, 1, 0], [1, 2, 1], [0, 1, 0]],
                                            [[1, 0, -1], [2, 0, -2], [1, 0, -1]]], [0, 0.1])
        norm(m.proj_bn, [1.5, 0.5], [0, 0.25], [1, -1], [1, 2])
    fill((m.conv2[0].weight, m.conv2[0].bias), [[1, 0], [0.5, -1]], [0, 0.2])
    norm(m.conv2[1], [1, 1], [0.1, 0], [0.5, 0.5], [1, 0.5])
    return made


@pytest.mark.parametrize("kind, expected", (
    ("conv1_1", [4.1424369, 5.0529334, 1.052686]),
    ("conv2_1", [0.3936412, 2.3886594, 0.7367355])))
def test_local_perception_known_answers(kind, expected):
    with torch.no_grad():
        _, logits = convolution_head(kind)(tokens())
    np.testing.assert_allclose(logits[0], expected, atol=2e-6)


def test_global_aggregation_known_answers(monkeypatch):
    monkeypatch.setattr(model, "GAH_HEADS", 2)
    made = head("attention_r2")
    fill((made.mlp.qkv.weight, made.mlp.proj.weight, made.mlp.proj.bias),
         [[1, 0], [0, 1], [0.5, 0.5], [1, -1], [2, 0], [0, 3]], [[1, 1], [0, 1]], [0.1, -0.1])
    with torch.no_grad():
        features, logits = made(tokens())
    np.testing.assert_allclose(features[0], [
        (0.2274861, -0.9775138), (0.2598873, -0.9551103),
        (0.3240963, -0.9108744), (0.3557421, -0.8891957)], atol=2e-6)
    np.testing.assert_allclose(logits[0], [1.7249765, -2.1204457, -1.3331736], atol=2e-6)


def test_names_equal_the_official_checkpoint(lgvit_fixture):
    config = json.loads((lgvit_fixture / "config.json").read_text())
    official = load_file(lgvit_fixture / "model.safetensors")
    ours = model.EarlyExitViT(model.Config.from_lgvit(config)).state_dict()
    assert {n: (tuple(t.shape), t.numpy().dtype) for n, t in ours.items()} == {
        n: (t.shape, t.dtype) for n, t in official.items()}


def test_config_keys_equal_the_official_ones(lgvit_fixture):
    official = json.loads((lgvit_fixture / "config.json").read_text())
    names = tuple(official["id2label"][str(i)] for i in range(10))
    ours = folder.lgvit_config(model.Config.from_lgvit(official), names, None)
    ours["encoder_stride"] = official["encoder_stride"]
    assert ours == official


def compare(directory, reference, atol: float) -> None:
    loaded, _ = folder.read(directory)
    expected = load_file(reference / "expected.safetensors")
    pixels = load_file(reference / "inputs.safetensors")["pixel_values"]
    with torch.no_grad():
        out = loaded(torch.from_numpy(pixels))
    ours = {"logits": out.logits, "embeddings": out.embeddings}
    ours |= {f"hidden.{i}": h for i, h in enumerate(out.hidden)}
    ours |= {f"exit.{e}.logits": z for e, z in enumerate(out.exit_logits)}
    ours |= {f"exit.{e}.head_out": f for e, f in enumerate(out.exit_features)}
    for name, value in ours.items():
        want = expected[name]
        scale = 1.0 if "logits" in name else np.abs(want).max()
        np.testing.assert_allclose(value.numpy()[:len(want)], want, rtol=0, atol=atol * scale,
                                   err_msg=name)
    logits = torch.stack([*out.exit_logits, out.logits]).numpy()
    for case in json.loads((reference / "policies.json").read_text())["cases"]:
        taken = policies.decide(case["policy"], logits, case.get("threshold"), case.get("patience"))
        answer = policies.answers(logits, taken).argmax(axis=-1)
        blocks = policies.blocks_run(taken, loaded.config.exit_blocks, loaded.config.n_layers)
        assert [taken.tolist(), answer.tolist(), blocks.tolist()] == [
            case["exit_index"], case["prediction"], case["blocks_run"]], case["id"]


def test_official_weights_give_the_official_numbers(lgvit_fixture):
    compare(lgvit_fixture, lgvit_fixture, atol=1e-4)


def test_committed_model_gives_its_reference_numbers(assets):
    if not (assets / "model" / "model.safetensors").exists():
        pytest.skip("no model in the assets")
    compare(assets / "model", assets / "reference", atol=1e-4)
    processor = json.loads((assets / "model" / "preprocessor_config.json").read_text())
    assert processor == data.preprocessor_config()


def test_folder_round_trip(tmp_path):
    config = model.Config(5, hidden_size=32, n_heads=1, intermediate_size=32, n_layers=4,
                          exit_blocks=(1, 3))
    made = model.EarlyExitViT(config)
    folder.write(tmp_path, made, folder.lgvit_config(config, tuple("abcde"), [0.5, 0.75]))
    again, written = folder.read(tmp_path)
    assert again.config == config
    assert (written["position_exits"], written["threshold"]) == ("[1,3]", [0.5, 0.75])
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in made.state_dict().items())
