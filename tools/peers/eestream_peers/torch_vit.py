# SPDX-License-Identifier: MIT
"""The plain ViT of eestream_peers.models in PyTorch, as an embedder would write it: fused attention, packed q, k and v."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as f


class Block(nn.Module):
    def __init__(self, c, heads, eps):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(c, eps), nn.LayerNorm(c, eps)
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.fc1, self.fc2 = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.proj(f.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c))
        return x + self.fc2(f.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, config, n_classes):
        super().__init__()
        c, p, eps = config["hidden_size"], config["patch_size"], config["layer_norm_eps"]
        self.patch = nn.Conv2d(3, c, p, p)
        self.cls = nn.Parameter(torch.zeros(1, 1, c))
        self.pos = nn.Parameter(torch.zeros(1, (config["image_size"] // p) ** 2 + 1, c))
        self.blocks = nn.ModuleList(Block(c, config["num_attention_heads"], eps) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.LayerNorm(c, eps)
        self.head = nn.Linear(c, n_classes)

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


def load(folder):
    """An eestream folder with Hugging Face names."""
    config = json.loads((Path(folder) / "config.json").read_text())
    w = load_file(Path(folder) / "model.safetensors")
    state = {"cls": w["vit.embeddings.cls_token"], "pos": w["vit.embeddings.position_embeddings"]}
    for kind in ("weight", "bias"):
        state[f"patch.{kind}"] = w[f"vit.embeddings.patch_embeddings.projection.{kind}"]
        state[f"norm.{kind}"] = w[f"vit.layernorm.{kind}"]
        state[f"head.{kind}"] = w[f"classifier.{kind}"]
        for i in range(config["num_hidden_layers"]):
            layer = f"vit.encoder.layer.{i}."
            names = {"norm1": "layernorm_before", "norm2": "layernorm_after", "proj": "attention.output.dense",
                     "fc1": "intermediate.dense", "fc2": "output.dense"}
            for ours, theirs in names.items():
                state[f"blocks.{i}.{ours}.{kind}"] = w[f"{layer}{theirs}.{kind}"]
            state[f"blocks.{i}.qkv.{kind}"] = torch.cat([w[f"{layer}attention.attention.{n}.{kind}"]
                                                         for n in ("query", "key", "value")])
    model = ViT(config, w["classifier.weight"].shape[0])
    model.load_state_dict(state)
    return model.eval()
