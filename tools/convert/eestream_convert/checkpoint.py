# SPDX-License-Identifier: MIT
"""PyTorch checkpoints (.pth, .pt, .bin, sharded ones by their index) into a folder. Names stay as they are: the engine
knows those of Hugging Face, timm, torchvision, DINOv2, LGViT and EEVIT. What is taken off is what training wraps around
a state dict: containers ({"state_dict": ...}, {"model": ...}) and prefixes ("module.", "_orig_mod.").

Files are unpickled with `weights_only`, so a checkpoint runs no code, and mapped, so that converting one takes little
more memory than its weights."""

import argparse
import ctypes
import json
import mmap
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from .errors import ConvertError
from .folder import Stored, write_json, write_tensors

NAME = "checkpoint"
HELP = "convert a PyTorch checkpoint (.pth, .pt, .bin) to a model folder"

PREFIXES = ("module.", "_orig_mod.", "model.")
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64", "int64": "I64", "int32": "I32",
          "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
# A tensor that only one family has, and the config its files get when nothing better is at hand: the engine reads the
# sizes from the tensors. DINOv2 as published is told from timm's copies by the mask token.
CONFIGS = {
    "mask_token": {"model_type": "dinov2"},
    "conv_proj.weight": {"framework": "torchvision", "class": "VisionTransformer", "args": {}},
    "features.0.0.weight": {"framework": "torchvision", "class": "SwinTransformer", "args": {}},
    "patch_embed.proj.weight": {},
}


# ---- Reading ----------------------------------------------------------------------------------------------

def import_torch():
    try:
        import torch
    except ImportError:
        raise ConvertError("PyTorch is needed to read its files: pip install 'eestream-convert[torch]'") from None
    return torch


def load(path: Path):
    """What a file holds. Containers and tensors only: anything else in the pickle is refused by name."""
    torch = import_torch()
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # options of the training script
            return torch.load(path, map_location="cpu", mmap=is_mapped(path), weights_only=True)
    except FileNotFoundError:
        raise ConvertError(f"{path}: no such file") from None
    except Exception as error:  # torch.load raises whatever its parsers do
        raise ConvertError(f"{path}: {explain(error)}") from None


def is_mapped(path: Path) -> bool:
    """Files from before PyTorch 1.6 are no archives and are read whole."""
    return zipfile.is_zipfile(path)


def explain(error: Exception) -> str:
    """One line of the many that torch.load has for what it refuses."""
    text = str(error)
    refused = re.search(r"GLOBAL ([\w.]+)", text)
    if refused:
        return (f"its pickle calls {refused[1]}, which could run any code, so it is not read; "
                "save model.state_dict() instead of the model")
    if "TorchScript" in text:
        return "a TorchScript archive, expected a state dict: save model.state_dict()"
    text = text.split("WeightsUnpickler error: ")[-1]  # behind a page of advice
    return f"not a checkpoint of PyTorch ({(text.splitlines() or [type(error).__name__])[0][:150]})"


def load_shards(index: Path) -> dict:
    """The tensors of the files an index names, all of them in its own folder, each with its file."""
    try:
        files = json.loads(index.read_text())["weight_map"]
        by_file = {name: [key for key in files if files[key] == name] for name in dict.fromkeys(files.values())}
        names = {name: Path(name).name for name in by_file}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConvertError(f"{index}: expected {{\"weight_map\": {{tensor: file}}}}") from None
    tensors = {}
    for name, keys in by_file.items():
        if names[name] != name:
            raise ConvertError(f"{index}: names the file '{name}', expected one in the same folder")
        shard = load_state_dict(index.parent / name)
        missing = [key for key in keys if key not in shard]
        if missing:
            raise ConvertError(f"{index.parent / name}: tensor '{missing[0]}' is missing ({len(missing)} such tensors)")
        tensors |= {key: shard[key] for key in keys}
    return tensors


# ---- The state dict inside --------------------------------------------------------------------------------

def is_tensor(value) -> bool:
    return isinstance(value, import_torch().Tensor)


def list_state_dicts(value, path: str = "") -> Iterator[tuple[str, Mapping]]:
    """Mappings of names to tensors, the innermost ones: beside a state dict may lie tensors, as an accuracy."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return
    inner = [found for key in value for found in list_state_dicts(value[key], f"{path}.{key}".lstrip("."))]
    if inner:
        yield from inner
    elif any(is_tensor(item) for item in value.values()):
        yield path, value


def load_state_dict(file: Path, key: str | None = None) -> dict:
    """Each tensor with the file it lies in."""
    return {name: (tensor, file) for name, tensor in find_state_dict(load(file), file, key).items()}


def find_state_dict(value, file: Path, key: str | None) -> dict:
    found = dict(list_state_dicts(value))
    if key is not None and key not in found:
        raise ConvertError(f"{file}: no state dict '{key}', there is {quoted(found) or 'none'}")
    if key is None and len(found) != 1:
        if found:
            raise ConvertError(f"{file}: holds several state dicts, {quoted(found)}: choose one with --key")
        inside = quoted(value) if isinstance(value, Mapping) else type(value).__name__
        raise ConvertError(f"{file}: holds no state dict, but {inside or 'nothing'}")
    tensors = found[key] if key is not None else next(iter(found.values()))
    others = [name for name, item in tensors.items() if not is_tensor(item)]
    if others:
        raise ConvertError(f"{file}: '{others[0]}' is {type(tensors[others[0]]).__name__}, expected a tensor")
    return dict(tensors)


def quoted(names) -> str:
    names = [f"'{name}'" for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def strip_prefixes(tensors: dict) -> dict:
    """Without what every name begins with. DINOv2's classifiers keep backbone and head apart."""
    for prefix in PREFIXES * 2:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if {name.split(".")[0] for name in tensors} == {"backbone", "linear_head"}:
        tensors = {name.removeprefix("backbone.").replace("linear_head.", "head."): tensor
                   for name, tensor in tensors.items()}
    return tensors


def add_head(tensors: dict, path: Path) -> dict:
    """The classifier from a file of its own, as DINOv2 publishes it: weight and bias."""
    head = load_state_dict(path)
    if set(head) != {"weight", "bias"}:
        raise ConvertError(f"{path}: a head is 'weight' and 'bias', this holds {quoted(head)}")
    return tensors | {f"head.{name}": tensor for name, tensor in head.items()}


# ---- Writing ----------------------------------------------------------------------------------------------

def forget_pages(tensor) -> None:
    """Give the pages of a mapped tensor back to the system, which has them in the file: a checkpoint then takes the
    memory of its largest tensor. Another one that shares the storage still finds its values."""
    begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.untyped_storage().nbytes()
           - tensor.storage_offset() * tensor.element_size()) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin and hasattr(mmap, "MADV_DONTNEED"):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def store(name: str, tensor, file: Path) -> Stored:
    """A tensor as it is written: its own elements in order, whatever storage it shares with others."""
    torch = import_torch()
    dtype = DTYPES.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None or tensor.layout is not torch.strided:
        raise ConvertError(f"{file}: tensor '{name}' is {tensor.dtype}, {tensor.layout}; expected plain {quoted(DTYPES)}")

    def write(out: BinaryIO) -> None:
        out.write(memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()))
        if is_mapped(file):
            forget_pages(tensor)
    return Stored(dtype, tuple(tensor.shape), tensor.numel() * tensor.element_size(), write)


def parse_yaml(text: str):
    try:
        import yaml
    except ImportError:
        raise ValueError("PyYAML is needed: pip install 'eestream-convert[torch]'") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def read_config(path: Path) -> dict:
    """JSON, or YAML as EEVIT's."""
    parse = parse_yaml if path.suffix in (".yaml", ".yml") else json.loads
    try:
        config = parse(path.read_text())
    except FileNotFoundError:
        raise ConvertError(f"{path}: no such file") from None
    except ValueError as error:
        raise ConvertError(f"{path}: cannot be parsed ({error})") from None
    if not isinstance(config, dict):
        raise ConvertError(f"{path}: expected an object, not {type(config).__name__}")
    return config


def find_config(file: Path, given: Path | None, tensors: dict) -> dict:
    """The config that is given, the one that lies beside the file, or what the tensors tell."""
    beside = file.parent / "config.json"
    if given or beside.exists():
        return read_config(given or beside)
    for marker, config in CONFIGS.items():
        if marker in tensors:
            return config
    raise ConvertError(f"{file}: these tensors don't tell the model's sizes ({quoted(sorted(tensors)[:3])}, ...): "
                       "give its config with --config")


def convert(file: Path, out_dir: Path, config: Path | None = None, key: str | None = None,
            head: Path | None = None) -> dict:
    """Convert a checkpoint; returns its tensors and where they were. An index of shards and a folder with either stand for their files."""
    if file.is_dir():
        names = ("pytorch_model.bin", "pytorch_model.bin.index.json")
        file = next((file / name for name in names if (file / name).exists()), file / names[0])
    tensors = load_shards(file) if file.suffix == ".json" else load_state_dict(file, key)
    tensors = strip_prefixes(tensors)
    if head:
        tensors = add_head(tensors, head)
    stored = {name: store(name, *where) for name, where in tensors.items()}
    settings = find_config(file, config, tensors)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_tensors(out_dir / "model.safetensors", stored)
    write_json(out_dir / "config.json", settings)
    processor = file.parent / "preprocessor_config.json"
    if processor.exists() and processor.parent.resolve() != out_dir.resolve():
        shutil.copyfile(processor, out_dir / processor.name)
    return tensors


# ---- The command ------------------------------------------------------------------------------------------

def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the checkpoint, the index of a sharded one, or their folder")
    parser.add_argument("out_dir", type=Path, help="folder to write model.safetensors and config.json to")
    parser.add_argument("--config", type=Path, help="the model's config, JSON or YAML (default: config.json beside FILE)")
    parser.add_argument("--key", help="which state dict, where a file holds several: 'state_dict_ema'")
    parser.add_argument("--head", type=Path, help="file with the classifier's weight and bias (DINOv2's linear heads)")


def run(args: argparse.Namespace) -> None:
    tensors = convert(args.file, args.out_dir, args.config, args.key, args.head)
    n_values = sum(tensor.numel() for tensor, _ in tensors.values())
    print(f"{args.out_dir}: {len(tensors)} tensors, {n_values * 1e-6:.1f} M values")
