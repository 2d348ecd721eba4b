# SPDX-License-Identifier: MIT
"""Every exit head on random backbones, under the canonical names and under those of LGViT and EEVIT, against PyTorch
modules written from the heads' definitions; and the decisions of the policies."""

import json
import re

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from live import blocks_of, random_pixels, randomize, record, save_reference, verify  # noqa: E402
from spec_heads import HEADS, SWIN_HEADS, Backbone  # noqa: E402
from test_live_hf import BLOCKS, make  # noqa: E402

CHANNELS, CLASSES, PATCH = 48, 6, 4
EXITS = (1, 3)  # after these of three blocks


def build(family: str, size: tuple[int, int], n_blocks: int = 3, **settings):
    model = make(family, image_size=list(size), patch_size=PATCH, hidden_size=CHANNELS, num_labels=CLASSES,
                 num_hidden_layers=n_blocks, **settings)
    registers = getattr(model.config, "num_register_tokens", 0)
    return model, Backbone(
        channels=CHANNELS, heads=model.config.num_attention_heads, classes=CLASSES,
        grid=(size[0] // PATCH, size[1] // PATCH), special=(2 if family.startswith("DeiT") else 1) + registers,
        distilled=family.endswith("Teacher"), eps=model.config.layer_norm_eps,
        qkv_bias=model.config.qkv_bias)


@torch.no_grad()
def answer(model, heads: dict, pixels) -> dict:
    """Expected tensors. heads: module by the 1-based block it comes after."""
    seen = record(model, blocks_of(model, *BLOCKS), lambda: model(pixels).logits)
    return seen | {f"exit.{k}.logits": head(seen[f"hidden.{after - 1}"]) for k, (after, head) in enumerate(heads.items())}


def make_heads(names: list[str], backbone: Backbone, after=EXITS) -> dict:
    return {block: randomize(HEADS[name](backbone), seed=40 + k) for k, (name, block) in enumerate(zip(names, after))}


def head_tensors(heads: dict) -> dict:
    return {f"exit.{k}.{name}": value for k, head in enumerate(heads.values())
            for name, value in head.state_dict().items()}


def edit_folder(folder, rename, extra: dict, edit_config) -> None:
    """What save_pretrained() wrote, with other names, more tensors and another config."""
    tensors = {rename(name): value for name, value in load_file(folder / "model.safetensors").items()}
    save_file({name: value.contiguous() for name, value in (tensors | extra).items()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(edit_config(config)))


def check(folder, model, heads, size):
    pixels = random_pixels(2, *size)
    expected = answer(model, heads, pixels)
    save_reference(folder, pixels, expected)
    for kernels in ([], ["--kernels", "scalar"]):
        verify(folder, *kernels, n_tensors=len(expected) + 1)


BACKBONES = {
    "square": ("ViT", (24, 24), {}),
    "wide, odd grid": ("ViT", (20, 28), dict(qkv_bias=False)),
    "distilled": ("DeiTTeacher", (24, 24), {}),
    "unclassified distillation token": ("DeiT", (20, 20), {}),
    "registers": ("Dinov2WithRegisters", (24, 24), dict(num_register_tokens=3)),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_canonical(backbone, head, tmp_path):
    family, size, settings = BACKBONES[backbone]
    model, facts = build(family, size, **settings)
    heads = make_heads([head, head], facts)
    model.save_pretrained(tmp_path)
    exits = [{"after_block": block, "head": head} for block in heads]
    edit_folder(tmp_path, str, head_tensors(heads), lambda config: config | {"early_exits": {"exits": exits}})
    check(tmp_path, model, heads, size)


# ---- LGViT ------------------------------------------------------------------------------------------------

LAYOUTS = {
    2: ["conv1_1", "attention_r2"],
    4: ["conv1_1", "conv2_1", "attention_r2", "attention_r3"],
    6: ["conv1_1", "conv2_1", "attention_r2", "attention_r2", "attention_r3", "attention_r3"],
    8: ["conv1_1"] * 2 + ["conv2_1"] * 2 + ["attention_r2"] * 2 + ["attention_r3"] * 2,
}
LGVIT_MODULE = {"conv1": "mlp.conv1.0", "bn1": "mlp.conv1.2", "dw": "mlp.proj", "bn2": "mlp.proj_bn",
                "conv2": "mlp.conv2.0", "bn3": "mlp.conv2.1", "conv": "mlp.conv.0", "attn.qkv": "mlp.qkv",
                "attn.proj": "mlp.proj", "pool": "pooler.dense", "norm": "layernorm"}
LGVIT_LAYER = {"blk.norm1": "layernorm_before", "blk.attn.proj": "attention.output.dense", "blk.norm2": "layernorm_after",
               "blk.mlp.fc1": "intermediate.dense", "blk.mlp.fc2": "output.dense"}


def split_qkv(prefix: str, leaf: str, value) -> dict:
    return {f"{prefix}.{part}.{leaf}": piece for part, piece in zip(("query", "key", "value"), value.chunk(3))}


def lgvit_tensors(prefix: str, kind: str, head) -> dict:
    """An exit's tensors as LGViT names them."""
    tensors = {}
    classifiers = {"head.cls": "cls_classifier" if head.b.distilled else "classifier", "head.dist": "distillation_classifier"}
    inside = "classifier." if kind == "vit" or not (head.b.special or kind == "linear") else ""
    for name, value in head.state_dict().items():
        module, leaf = name.rsplit(".", 1)
        if module == "blk.attn.qkv":
            tensors |= split_qkv(f"{prefix}.layer.attention.attention", leaf, value)
        elif module in LGVIT_LAYER:
            tensors[f"{prefix}.layer.{LGVIT_LAYER[module]}.{leaf}"] = value
        elif module in classifiers:
            tensors[f"{prefix}.{inside}{classifiers[module]}.{leaf}"] = value
        elif kind == "self_attention" and module == "attn.qkv":
            tensors |= split_qkv(f"{prefix}.mlp.attention", leaf, value)
        elif kind == "self_attention" and module == "attn.proj":
            tensors[f"{prefix}.mlp.output.dense.{leaf}"] = value
        elif kind == "conv_normal" and module == "bn1":
            tensors[f"{prefix}.mlp.conv.2.{leaf}"] = value
        else:
            tensors[f"{prefix}.{inside if module in ('pool', 'norm') else ''}{LGVIT_MODULE[module]}.{leaf}"] = value
    return tensors


def save_lgvit(folder, family, size, kind: str, names: list[str], after, **keys):
    model, facts = build(family, size, n_blocks=max(after) + 1)
    heads = make_heads(names, facts, after)
    tensors = {"deit.pooler.dense.weight": torch.zeros(CHANNELS, CHANNELS), "deit.pooler.dense.bias": torch.zeros(CHANNELS)}
    for k, (name, head) in enumerate(zip(names, heads.values())):
        tensors |= lgvit_tensors(f"deit.encoder.highway.{k}", name, head)
    model.save_pretrained(folder)
    added = dict(architectures=["DeiTHighwayForImageClassification"], model_type="deit", highway_type=kind,
                 backbone="DeiT" if facts.distilled else "ViT", num_early_exits=len(names),
                 position_exits=json.dumps(list(after)), threshold=0.8, exit_strategy="confidence") | keys
    edit_folder(folder, lambda name: re.sub("^vit", "deit", name), tensors, lambda config: config | added)
    return model, heads


@pytest.mark.parametrize("family", ["ViT", "DeiTTeacher"])
@pytest.mark.parametrize("n_exits", LAYOUTS)
def test_lgvit_layouts(n_exits, family, tmp_path):
    size, after = (20, 28), tuple(range(2, 2 + n_exits))
    model, heads = save_lgvit(tmp_path, family, size, "LGViT", LAYOUTS[n_exits], after)
    check(tmp_path, model, heads, size)


@pytest.mark.parametrize("family", ["ViT", "DeiTTeacher"])
@pytest.mark.parametrize("kind", ["linear", "vit", "self_attention", "conv_normal", "conv1_1", "conv2_1", "attention_r1"])
def test_lgvit_heads(kind, family, tmp_path):
    size = (24, 24)
    model, heads = save_lgvit(tmp_path, family, size, kind, [kind, kind], (1, 2))
    check(tmp_path, model, heads, size)


# ---- Swin -------------------------------------------------------------------------------------------------

SWIN_SIZE, SWIN_DEPTHS = (30, 22), [2, 1]  # grids of 15 x 11 and 8 x 6, windows of 4
SWIN_EXITS = {2: "[2]", 3: "[1]"}          # by block, and as LGViT counts it in its stage


def build_swin(kind: str):
    """One head at the end of each stage."""
    model = make("Swin", image_size=list(SWIN_SIZE), patch_size=2, embed_dim=16, depths=SWIN_DEPTHS, num_labels=CLASSES)
    heads = {}
    for s, block in enumerate(SWIN_EXITS):
        grid = (15, 11) if s == 0 else (8, 6)
        facts = Backbone(channels=16 << s, heads=2 << s, classes=CLASSES, grid=grid, special=0, eps=1e-5)
        heads[block] = randomize(SWIN_HEADS[kind](facts), seed=50 + s)
    return model, heads


@pytest.mark.parametrize("kind", SWIN_HEADS)
def test_swin(kind, tmp_path):
    model, heads = build_swin(kind)
    model.save_pretrained(tmp_path)
    exits = [{"after_block": block, "head": kind} for block in heads]
    edit_folder(tmp_path, str, head_tensors(heads), lambda config: config | {"early_exits": {"exits": exits}})
    check(tmp_path, model, heads, SWIN_SIZE)


@pytest.mark.parametrize("kind", SWIN_HEADS)
def test_lgvit_swin(kind, tmp_path):
    model, heads = build_swin(kind)
    model.save_pretrained(tmp_path)
    tensors = {}
    for s, head in enumerate(heads.values()):
        tensors |= lgvit_tensors(f"swin.encoder.layers.{s}.highway.0", kind, head)
    added = dict(architectures=["SwinHighwayForImageClassification"], highway_type=kind, num_early_exits="[1,1]",
                 position_exits=f"[{','.join(SWIN_EXITS.values())}]", threshold=0.8, exit_strategy="confidence")
    edit_folder(tmp_path, str, tensors, lambda config: config | added)
    check(tmp_path, model, heads, SWIN_SIZE)


# ---- EEVIT ------------------------------------------------------------------------------------------------

EEVIT_NAMES = {
    "vit.embeddings.patch_embeddings.projection": "patch_embedding.projection",
    "vit.embeddings.cls_token": "patch_embedding.cls_token",
    "vit.embeddings.position_embeddings": "patch_embedding.pos_embedding",
    "vit.layernorm": "transformer.norm_post_layers", "classifier": "last_exit",
    "layernorm_before": "norm_1", "attention.output.dense": "attention_output.0", "layernorm_after": "mlps.norm_2",
    "intermediate.dense": "mlps.mlp_intermediate.0", "output.dense": "mlps.mlp_output.0",
}


def eevit_backbone(tensors: dict) -> dict:
    out, parts = {}, {}
    for name, value in tensors.items():
        block = re.match(r"vit\.encoder\.layer\.(\d+)\.(.*)\.(weight|bias)$", name)
        if not block:
            module = next(key for key in EEVIT_NAMES if name.startswith(key))
            out[EEVIT_NAMES[module] + name[len(module):]] = value
        elif block[2].startswith("attention.attention."):
            parts.setdefault((block[1], block[3]), {})[block[2].rsplit(".", 1)[1]] = value
        else:
            out[f"transformer.layers.{block[1]}.{EEVIT_NAMES[block[2]]}.{block[3]}"] = value
    for (block, leaf), qkv in parts.items():
        out[f"transformer.layers.{block}.W_QKV.{leaf}"] = torch.cat([qkv[part] for part in ("query", "key", "value")])
    return out


def eevit_tensors(after: int, head) -> dict:
    prefix, dummy = f"transformer.layers.{after - 1}.highway", {"fc1": "layer1", "fc2": "layer2"}
    names = {name: f"{prefix}.highway_head.{module.removeprefix('mlp.')}" for name, module in LGVIT_MODULE.items()}
    names |= {name: f"{prefix}.highway_head.{module}" for name, module in dummy.items()}
    names["head.cls"] = f"{prefix}.classifier.classifier"
    return {f"{names[name.rsplit('.', 1)[0]]}.{name.rsplit('.', 1)[1]}": value
            for name, value in head.state_dict().items()}


def eevit_config(config: dict, kinds: list[str], after) -> dict:
    exits = [[block - 1, "attention", {"sr_ratio": int(kind[-1])}] if kind.startswith("attention") else [block - 1, kind]
             for kind, block in zip(kinds, after)]
    return {"model": {
        "channels_num": 3, "image_size": config["image_size"], "num_classes": CLASSES, "pool": "cls",
        "embed_depth": CHANNELS, "patch_size": PATCH, "num_attn_heads": config["num_attention_heads"],
        "mlp_dim": config["intermediate_size"], "dim_head": CHANNELS // config["num_attention_heads"],
        "num_layers_transformer": config["num_hidden_layers"],
        "early_exit_config": {"enabled": True, "exit_strategy": "confidence", "confidence_threshold": 0.7,
                              "embed_depth": CHANNELS, "num_classes": CLASSES, "num_attn_heads": 8, "exits": exits}}}


@pytest.mark.parametrize("kinds", [["conv1_1", "conv2_1"], ["attention_r1", "attention_r3"], ["dummy_mlp", "conv1_1"]],
                         ids=str)
def test_eevit(kinds, tmp_path):
    size, after = (24, 24), (2, 3)
    model, facts = build("ViT", size, layer_norm_eps=1e-5)
    heads = make_heads(kinds, facts, after)
    model.save_pretrained(tmp_path)
    tensors = eevit_backbone(load_file(tmp_path / "model.safetensors"))
    for block, head in heads.items():
        tensors |= eevit_tensors(block, head)
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "model.safetensors")
    edit_folder(tmp_path, str, {}, lambda config: eevit_config(config | {"image_size": size[0]}, kinds, after))
    check(tmp_path, model, heads, size)
