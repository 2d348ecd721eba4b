# SPDX-License-Identifier: MIT
"""Models of `transformers` with random weights and odd sizes, saved by save_pretrained(): every hidden state and the
logits to 1e-4."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from live import blocks_of, check, eestream, random_pixels, randomize  # noqa: E402

BLOCKS = ("ViTLayer", "DeiTLayer", "Dinov2Layer", "Dinov2WithRegistersLayer", "SwinLayer")
VIT = dict(image_size=32, patch_size=8, hidden_size=48, num_hidden_layers=3, num_attention_heads=3,
           intermediate_size=96, num_labels=5, attn_implementation="eager")
DINOV2 = {key: value for key, value in VIT.items() if key != "intermediate_size"}
SWIN = dict(image_size=64, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=5)


def make(family: str, seed: int = 1, **settings):
    defaults = SWIN if family == "Swin" else DINOV2 if family.startswith("Dinov2") else VIT
    config = getattr(transformers, f"{family.removesuffix('Teacher')}Config")(**(defaults | settings))
    suffix = "ForImageClassificationWithTeacher" if family.endswith("Teacher") else "ForImageClassification"
    return randomize(getattr(transformers, family.removesuffix("Teacher") + suffix)(config), seed)


def check_saved(folder, model, size=None, dtype=torch.float32, **call_args):
    """size: (height, width) of the input, where it is not the training's. dtype: of the file; the reference computes in
    float32 with those values."""
    model.to(dtype).save_pretrained(folder)
    model.float()
    side = model.config.image_size
    height, width = size or (side if isinstance(side, (list, tuple)) else (side, side))
    pixels = random_pixels(2, height, width)
    check(folder, model, blocks_of(model, *BLOCKS), pixels, lambda: model(pixels, **call_args).logits)


ODD = {
    "as it is": {},
    "odd sizes": dict(image_size=35, patch_size=5, hidden_size=60, num_attention_heads=5, num_labels=7),
    "wide": dict(image_size=[24, 56]),
    "tall": dict(image_size=[40, 16], hidden_size=40, num_attention_heads=1),
    "a patch side twice": dict(patch_size=[8, 8]),
    "heads of 3 channels": dict(image_size=9, patch_size=3, hidden_size=33, num_attention_heads=11),
    "heads of 80 channels": dict(hidden_size=160, num_attention_heads=2),
    "one patch": dict(image_size=8),
    "patches of one pixel": dict(image_size=5, patch_size=1),
    "a rim that fills no patch": dict(image_size=30),
    "a wide rim": dict(image_size=[27, 47], patch_size=8),
    "one block": dict(num_hidden_layers=1),
    "no bias": dict(qkv_bias=False),
    "one class": dict(num_labels=1),
    "two classes": dict(num_labels=2),
    "many classes": dict(num_labels=1003),
    "large eps": dict(layer_norm_eps=0.01),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("family", ["ViT", "DeiT", "DeiTTeacher"])
def test_vit_and_deit(family, case, tmp_path):
    check_saved(tmp_path, make(family, **ODD[case]))


@pytest.mark.parametrize("width", [17, 101])
def test_odd_mlp(width, tmp_path):
    check_saved(tmp_path, make("ViT", intermediate_size=width))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("family", ["ViT", "DeiTTeacher", "Dinov2"])
def test_dtypes_of_files(family, dtype, tmp_path):
    check_saved(tmp_path, make(family), dtype=dtype)


SIZES = [(48, 48), (16, 16), (64, 24), (40, 32)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", ["ViT", "DeiT", "DeiTTeacher"])
def test_positions_at_another_size(family, size, tmp_path):
    check_saved(tmp_path, make(family), size, interpolate_pos_encoding=True)


@pytest.mark.parametrize("case", [case for case in ODD if case not in ("wide", "tall", "a wide rim")])
@pytest.mark.parametrize("family", ["Dinov2", "Dinov2WithRegisters"])
def test_dinov2(family, case, tmp_path):
    check_saved(tmp_path, make(family, **ODD[case]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", ["Dinov2", "Dinov2WithRegisters"])
def test_dinov2_positions_at_another_size(family, size, tmp_path):
    check_saved(tmp_path, make(family), size)


@pytest.mark.parametrize("settings", [dict(mlp_ratio=4), dict(mlp_ratio=3, hidden_size=72)])
@pytest.mark.parametrize("gated", [True, False])
def test_dinov2_mlp(gated, settings, tmp_path):
    check_saved(tmp_path, make("Dinov2", use_swiglu_ffn=gated, **settings))


@pytest.mark.parametrize("n", [0, 1, 5])
def test_dinov2_registers(n, tmp_path):
    check_saved(tmp_path, make("Dinov2WithRegisters", num_register_tokens=n))


def test_dinov2_without_mask_token(tmp_path):
    check_saved(tmp_path, make("Dinov2", use_mask_token=False))


SWINS = {
    "as it is": {},
    "three stages": dict(depths=[2, 2, 2], num_heads=[2, 4, 8]),
    "odd window": dict(image_size=56, window_size=7, depths=[1, 3]),
    "padded windows": dict(image_size=60, window_size=4),
    "odd grid to merge": dict(image_size=36, window_size=3),
    "wide": dict(image_size=[32, 64]),
    "mlp ratio": dict(mlp_ratio=3.0),
    "no bias": dict(qkv_bias=False),
    "absolute positions": dict(use_absolute_embeddings=True),
}


@pytest.mark.parametrize("case", SWINS)
def test_swin(case, tmp_path):
    check_saved(tmp_path, make("Swin", **SWINS[case]))


@pytest.mark.parametrize("family,settings,named", [
    ("ViT", dict(hidden_act="quick_gelu"), "hidden_act"),
    ("ViT", dict(patch_size=[8, 4]), "patch_size"),
    ("ViT", dict(num_channels=1), "num_channels"),
])
def test_what_is_not_supported_is_named(family, settings, named, tmp_path):
    make(family, **settings).save_pretrained(tmp_path)
    done = eestream("inspect", tmp_path)
    assert done.returncode == 4 and named in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
