# SPDX-License-Identifier: MIT
"""Models of torchvision with random weights and odd sizes, saved as .pth and converted."""

import json

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from torchvision.models import SwinTransformer, VisionTransformer  # noqa: E402
from torchvision.models.vision_transformer import interpolate_embeddings  # noqa: E402

from eestream_convert import checkpoint  # noqa: E402
from live import blocks_of, check, random_pixels, randomize  # noqa: E402

VIT = dict(image_size=32, patch_size=8, num_layers=3, num_heads=3, hidden_dim=48, mlp_dim=96, num_classes=5)
SWIN = dict(patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=5)


def convert(folder, model, args: dict | None):
    torch.save(model.state_dict(), folder / "model.pth")
    config = None
    if args is not None:
        config = folder / "args.json"
        config.write_text(json.dumps({"framework": "torchvision", "class": type(model).__name__, "args": args}))
    checkpoint.convert(folder / "model.pth", folder, config)


def check_converted(folder, model, args, size):
    convert(folder, model, args)
    pixels = random_pixels(2, *size)
    check(folder, model, blocks_of(model, "EncoderBlock", "SwinTransformerBlock"), pixels, lambda: model(pixels))


@pytest.mark.parametrize("settings", [
    {}, dict(image_size=35, patch_size=5, hidden_dim=60, num_heads=5, mlp_dim=37), dict(num_layers=1, num_classes=1003),
    dict(hidden_dim=160, num_heads=2), dict(image_size=8), dict(representation_size=33),
    dict(representation_size=200, num_classes=1)], ids=str)
def test_vit(settings, tmp_path):
    args = VIT | settings
    check_converted(tmp_path, randomize(VisionTransformer(**args), 4), args, [args["image_size"]] * 2)


def test_vit_without_a_config(tmp_path):
    """Sizes from the tensors alone: heads have 64 channels."""
    args = VIT | dict(hidden_dim=128, num_heads=2)
    check_converted(tmp_path, randomize(VisionTransformer(**args), 4), None, (32, 32))


@pytest.mark.parametrize("side", [16, 48])
def test_positions_at_another_size(side, tmp_path):
    small, large = (randomize(VisionTransformer(**VIT | dict(image_size=n)), 5) for n in (32, side))
    large.load_state_dict(interpolate_embeddings(side, VIT["patch_size"], small.state_dict()))
    convert(tmp_path, small, VIT)
    pixels = random_pixels(2, side, side)
    check(tmp_path, large, blocks_of(large, "EncoderBlock"), pixels, lambda: large(pixels))


@pytest.mark.parametrize("size,settings", [
    ((64, 64), {}), ((64, 64), dict(depths=[2, 2, 2], num_heads=[2, 4, 8])), ((60, 60), {}), ((32, 64), {}),
    ((56, 56), dict(window_size=[7, 7], depths=[1, 3])), ((36, 36), dict(window_size=[3, 3]))], ids=str)
def test_swin(size, settings, tmp_path):
    args = SWIN | settings
    check_converted(tmp_path, randomize(SwinTransformer(**args), 6), args, size)
