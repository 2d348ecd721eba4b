# SPDX-License-Identifier: MIT
"""A model on disk: `config.json` with LGViT's keys and `model.safetensors`, written and read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from . import data
from .files import write_json, write_tensors
from .model import Config, EarlyExitViT


def lgvit_config(config: Config, names: tuple[str, ...], threshold: list[float] | None,
                 train_strategy: str = "alternating_weighted") -> dict:
    """`config.json` as LGViT's `DeiTHighwayForImageClassification` writes it. `position_exits` is a
    string there; `transformers_version` names the naming scheme followed, not a dependency."""
    return {
        "architectures": ["DeiTHighwayForImageClassification"],
        "attention_probs_dropout_prob": 0.0,
        "backbone": "ViT",
        "encoder_ensemble": False,
        "encoder_stride": config.patch_size,
        "exit_strategy": "confidence",
        "hete_coefficient": 0.01,
        "hete_loss_coefficient": 0.01,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": config.hidden_size,
        "highway_type": "LGViT",
        "homo_coefficient": 0.01,
        "homo_loss_coefficient": 0.01,
        "id2label": {str(i): name for i, name in enumerate(names)},
        "image_size": config.image_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "label2id": {name: i for i, name in enumerate(names)},
        "layer_norm_eps": config.layer_norm_eps,
        "loss_coefficient": 0.3,
        "model_type": "deit",
        "num_attention_heads": config.n_heads,
        "num_channels": 3,
        "num_early_exits": len(config.exit_blocks),
        "num_hidden_layers": config.n_layers,
        "patch_size": config.patch_size,
        "position_exits": json.dumps(list(config.exit_blocks), separators=(",", ":")),
        "qkv_bias": True,
        "threshold": threshold,
        "torch_dtype": "float32",
        "train_strategy": train_strategy,
        "transformers_version": "4.26.0",
    }


def write(directory: Path, model: EarlyExitViT, config: dict) -> None:
    """Write config, weights (F32; step counters of BatchNorm I64) and preprocessing."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", config)
    write_json(directory / "preprocessor_config.json", data.preprocessor_config())
    write_tensors(directory / "model.safetensors", model.state_dict(), {"format": "pt"})


def read(directory: Path) -> tuple[EarlyExitViT, dict]:
    """Load a folder in eval mode; refuses missing, unknown and misshapen tensors."""
    config = json.loads((directory / "config.json").read_text())
    with torch.random.fork_rng():
        model = EarlyExitViT(Config.from_lgvit(config))
    model.load_state_dict(load_file(directory / "model.safetensors"))
    return model.eval(), config
