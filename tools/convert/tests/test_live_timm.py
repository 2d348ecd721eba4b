# SPDX-License-Identifier: MIT
"""Models of timm with random weights and odd sizes, saved as timm saves them for the hub."""

import json

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from timm.models import save_for_hf  # noqa: E402

from live import blocks_of, check, eestream, random_pixels, randomize  # noqa: E402

BLOCKS = ("Block", "SwinTransformerBlock")
TINY = dict(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=5)
SWIN = dict(img_size=64, patch_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=5)


def save(folder, name, settings, dtype=torch.float32, tell_settings=True):
    model = randomize(timm.create_model(name, pretrained=False, **settings), seed=3)
    size = model.patch_embed.img_size
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, *size)}
    save_for_hf(model.to(dtype), folder, model_args=settings if tell_settings else None, safe_serialization=True)
    return model.float()


def check_saved(folder, name="vit_tiny_patch16_224", size=None, dtype=torch.float32, tell_settings=True, **settings):
    model = save(folder, name, settings, dtype, tell_settings)
    pixels = random_pixels(2, *(size or model.patch_embed.img_size))
    check(folder, model, blocks_of(model, *BLOCKS), pixels, lambda: model(pixels))


CASES = {
    "as it is": {},
    "odd sizes": dict(img_size=35, patch_size=5, embed_dim=60, num_heads=5, mlp_ratio=1.7, num_classes=7),
    "wide": dict(img_size=(24, 56)),
    "a patch side twice": dict(patch_size=(8, 8)),
    "a rim that fills no patch": dict(img_size=(30, 45)),
    "no bias": dict(qkv_bias=False),
    "layer scale": dict(init_values=0.1),
    "registers": dict(reg_tokens=3),
    "registers without positions": dict(reg_tokens=3, no_embed_class=True),
    "class token without position": dict(no_embed_class=True),
    "a table like a square and one": dict(no_embed_class=True, img_size=(16, 40)),
    "a table like a square": dict(no_embed_class=False, img_size=(8, 24)),
    "mean of the patches": dict(global_pool="avg"),
    "mean after the norm": dict(global_pool="avg", fc_norm=False),
    "mean, registers": dict(global_pool="avg", reg_tokens=2),
    "class token behind fc_norm": dict(fc_norm=True),
    "no class token": dict(class_token=False, global_pool="avg"),
    "no class token, mean after the norm": dict(class_token=False, global_pool="avg", fc_norm=False),
    "no class token, registers": dict(class_token=False, global_pool="avg", reg_tokens=1, no_embed_class=True,
                                      img_size=(24, 40)),
    "no class token, registers with positions": dict(class_token=False, global_pool="avg", reg_tokens=4),
    "norm of queries and keys": dict(qk_norm=True),
    "norm of queries and keys, all else": dict(qk_norm=True, qkv_bias=False, init_values=0.1, embed_dim=60, num_heads=5,
                                               global_pool="avg", class_token=False),
    "norm in front": dict(pre_norm=True),
    "norm in front, all else": dict(pre_norm=True, qk_norm=True, global_pool="avg", reg_tokens=2, img_size=(16, 40)),
}


@pytest.mark.parametrize("case", CASES)
def test_vit(case, tmp_path):
    check_saved(tmp_path, **(TINY | CASES[case]))


def test_deit_distilled(tmp_path):
    check_saved(tmp_path, "deit_tiny_distilled_patch16_224", **TINY)


@pytest.mark.parametrize("registers", ["", "reg4_"])
def test_dinov2(registers, tmp_path):
    check_saved(tmp_path, f"vit_small_patch14_{registers}dinov2", **(TINY | dict(patch_size=7, img_size=28)))


def test_dinov2_gated(tmp_path):
    check_saved(tmp_path, "vit_giant_patch14_dinov2", **(TINY | dict(img_size=24, embed_dim=72)))


def test_deit3(tmp_path):
    check_saved(tmp_path, "deit3_small_patch16_224", **TINY)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtypes_of_files(dtype, tmp_path):
    check_saved(tmp_path, dtype=dtype, **TINY)


@pytest.mark.parametrize("size", [(48, 48), (16, 16), (64, 24)])
@pytest.mark.parametrize("settings", [{}, dict(reg_tokens=2), dict(no_embed_class=True)], ids=str)
def test_positions_at_another_size(settings, size, tmp_path):
    check_saved(tmp_path, size=size, dynamic_img_size=True, **(TINY | settings))


@pytest.mark.parametrize("name", ["vit_huge_patch14_224", "vit_giant_patch14_224", "vit_gigantic_patch14_224",
                                  "deit3_huge_patch14_224", "vit_giant_patch14_reg4_dinov2", "test_vit",
                                  "vit_base_patch16_224"])
def test_heads_follow_from_the_architecture(name, tmp_path):
    """Configs on the hub name the architecture and no sizes."""
    model = save(tmp_path, name, dict(depth=1, num_classes=2), tell_settings=False)
    done = eestream("inspect", tmp_path, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["heads"] == model.blocks[0].attn.num_heads


SWINS = {
    "as it is": {},
    "three stages": dict(depths=(2, 2, 2), num_heads=(2, 4, 8)),
    "odd window": dict(img_size=56, window_size=7, depths=(1, 3)),
    "wide": dict(img_size=(32, 64)),
    "mlp ratio": dict(mlp_ratio=3.0),
}


@pytest.mark.parametrize("case", SWINS)
def test_swin(case, tmp_path):
    check_saved(tmp_path, "swin_tiny_patch4_window7_224", **(SWIN | SWINS[case]))


@pytest.mark.parametrize("name,settings,named", [
    ("vit_tiny_patch16_224", dict(global_pool="map"), "global_pool"),
    ("vit_tiny_patch16_224", dict(global_pool="max"), "global_pool"),
    ("vit_tiny_patch16_224", dict(global_pool="avg", pool_include_prefix=True), "pool_include_prefix"),
    ("vit_tiny_patch16_224", dict(class_token=False, global_pool="map"), "global_pool"),
    ("vit_tiny_patch16_224", dict(norm_layer="rmsnorm"), "norm1.bias"),
    ("vit_tiny_patch16_224", dict(scale_attn_norm=True), "attn.norm"),
    ("vit_tiny_patch16_224", dict(attn_layer="diff"), "attn."),
    ("vit_base_patch32_clip_quickgelu_224", dict(), "quick gelu"),
    ("vit_base_patch16_rpn_224", dict(class_token=False, global_pool="avg"), "norms in front of"),
])
def test_what_is_not_supported_is_named(name, settings, named, tmp_path):
    save(tmp_path, name, TINY | settings)
    done = eestream("inspect", tmp_path)
    assert done.returncode == 4 and named in done.stderr and len(done.stderr.splitlines()) <= 2, done.stderr
