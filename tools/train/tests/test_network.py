# SPDX-License-Identifier: MIT
"""The network against the frameworks' own numbers, and every head through the engine."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra: torch)")
from safetensors.torch import load_file  # noqa: E402

from conftest import FIXTURES  # noqa: E402
from eestream_train import engine, heads, model_folder  # noqa: E402
from eestream_train.backbones import build  # noqa: E402
from eestream_train.network import Network, Shape  # noqa: E402
from eestream_train.vit import resample_positions  # noqa: E402
from eestream_train.sets import Pictures  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def command():
    try:
        engine.command()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ("hf_vit", "hf_deit_distilled", "hf_dinov2", "timm_vit",
                                  "timm_deit_distilled", "torchvision_vit", "lgvit_vit_8exits",
                                  "lgvit_deit_8exits", "lgvit_swin_8exits", "timm_swin"))
def test_fixture(name):
    folder = FIXTURES / name
    if not folder.exists():
        pytest.skip(f"no numeric fixture in {folder}; set EESTREAM_FIXTURES")
    try:
        network = model_folder.read(folder)
    except ValueError as error:
        assert "only square ones" in str(error)
        return
    expected = load_file(folder / "expected.safetensors")
    pixels = load_file(folder / "inputs.safetensors")["pixel_values"]
    with torch.no_grad():
        out = network(pixels)
    assert torch.allclose(out.logits, expected["logits"], atol=1e-4)
    for k, logits in enumerate(out.exit_logits):
        assert torch.allclose(logits, expected[f"exit.{k}.logits"], atol=1e-4), k


def _pictures(side: int) -> Pictures:
    rng = np.random.default_rng(1)
    return Pictures(rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8),
                    np.arange(4), ("a", "b", "c", "d"))


def _randomise(network: Network) -> None:
    """Nothing at its start: norms, running statistics, layer scale."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.ndim == 1 and value.is_floating_point():
                value.uniform_(0.5, 1.5) if "var" in name else value.add_(
                    0.2 * torch.randn_like(value))


@pytest.mark.parametrize("family", ("vit", "deit", "dinov2"))
def test_every_head_in_the_engine(tmp_path, family):
    """All heads on one backbone, exported and compared with the engine's numbers."""
    torch.manual_seed(0)
    kinds = [n for n in heads.NAMES if n[-1] not in "456789"]
    shape = Shape(4, family, image_size=32, patch_size=8, hidden_size=48, n_layers=len(kinds),
                  n_heads=4, mlp_size=96, exits=tuple(enumerate(kinds, start=1)))
    network = build(shape)
    _randomise(network)
    model_folder.write(tmp_path, network, ("a", "b", "c", "d"), 0.8)
    report = model_folder.check(tmp_path, network, _pictures(32))
    for k in range(len(kinds)):
        assert f"exit.{k}.logits" in report
    again = model_folder.read(tmp_path)
    assert again.shape == shape
    own, read = network.state_dict(), again.state_dict()
    assert all(torch.equal(own[k], read[k]) for k in own if "tracked" not in k)


SWIN = Shape(4, "swin", image_size=64, patch_size=4, hidden_size=32, n_layers=5, n_heads=2,
             mlp_size=96, norm_eps=1e-5, depths=(2, 3), window=4,
             exits=((2, "conv1_1"), (3, "attention_r2"), (4, "linear"), (5, "conv2_1")))


def test_swin_in_the_engine(tmp_path):
    torch.manual_seed(0)
    network = build(SWIN)
    _randomise(network)
    with torch.no_grad():
        for block in network.blk:
            block.attn.rel_bias.normal_()
    model_folder.write(tmp_path, network, ("a", "b", "c", "d"), 0.8)
    report = model_folder.check(tmp_path, network, _pictures(64))
    assert "exit.3.logits" in report
    again = model_folder.read(tmp_path)
    own, read = network.state_dict(), again.state_dict()
    assert again.shape == SWIN
    assert all(torch.equal(own[k], read[k]) for k in own if "tracked" not in k)


def test_check_notices_a_wrong_weight(tmp_path):
    torch.manual_seed(0)
    shape = Shape(4, "dinov2", image_size=32, patch_size=8, hidden_size=48, n_layers=2, n_heads=4,
                  mlp_size=96, exits=((1, "conv1_1"),))
    network = build(shape)
    model_folder.write(tmp_path, network, ("a", "b", "c", "d"), 0.8)
    with torch.no_grad():
        network.exit[0].head.cls.bias[2] += 0.01
    with pytest.raises(ValueError, match="exit.0.logits"):
        model_folder.check(tmp_path, network, _pictures(32))


def test_positions_follow_the_known_answer():
    """Bicubic 3x3 to 4x4, first row (spec: no antialias, a = -0.75)."""
    grid = torch.tensor([0., 1, 2, 3, 5, 7, 4, 8, 16])
    table = torch.cat([torch.tensor([9.]), grid]).view(1, 10, 1)
    found = resample_positions(table, 1, (4, 4))
    assert found.shape == (1, 17, 1) and found[0, 0, 0] == 9
    known = torch.tensor([-.281957, .276427, 1.149355, 1.707739])
    assert torch.allclose(found[0, 1:5, 0], known, atol=1e-5)


def test_shape_refuses_what_makes_no_model():
    for wrong in ({"family": "bert"}, {"image_size": 30}, {"exits": ((3, "conv1_1"),) * 2},
                  {"exits": ((13, "linear"),)}):
        with pytest.raises(ValueError):
            Shape(**{"n_classes": 4, "image_size": 32, "patch_size": 8, **wrong})
