# SPDX-License-Identifier: MIT
"""A network with the control flow of EEVIT's exports: one torch.cond a layer, a token behind the others that says whether
the frame has left, a row of predictions that goes along. Weights by EEVIT's names."""

import torch
import torch.nn.functional as F


class Part(torch.nn.Module):
    """Weights under a prefix, as buffers without dots in their names."""

    def __init__(self, weights: dict[str, torch.Tensor], prefix: str):
        super().__init__()
        self.prefix = prefix
        for name, value in weights.items():
            if name.startswith(prefix) and value.is_floating_point():
                self.register_buffer(name.replace(".", "_"), value)

    def get(self, name: str) -> torch.Tensor:
        return getattr(self, (self.prefix + name).replace(".", "_"))

    def has(self, name: str) -> bool:
        return hasattr(self, (self.prefix + name).replace(".", "_"))

    def linear(self, x, name):
        return F.linear(x, self.get(name + ".weight"), self.get(name + ".bias") if self.has(name + ".bias") else None)

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.get(name + ".weight"), self.get(name + ".bias"))

    def batch_norm(self, x, name):
        return F.batch_norm(x, *(self.get(f"{name}.{end}") for end in ("running_mean", "running_var", "weight", "bias")))

    def conv(self, x, name, **kwargs):
        return F.conv2d(x, self.get(name + ".weight"), self.get(name + ".bias"), **kwargs)


def attend(q, k, v):
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Layer(Part):
    def __init__(self, weights, i: int, n_heads: int, head: tuple | None, threshold: float):
        super().__init__(weights, f"transformer.layers.{i}.")
        self.i, self.n_heads, self.head, self.threshold = i, n_heads, head, threshold

    def forward(self, state, row):
        x = state[:, :-1]
        normed, c = self.norm(x, "norm_1"), x.shape[-1]
        # the packed product three times, a third of each
        q, k, v = (self.linear(normed, "W_QKV")[:, :, c * n:c * (n + 1)].unflatten(2, (self.n_heads, -1)).transpose(1, 2)
                   for n in range(3))
        x = self.linear(attend(q, k, v), "attention_output.0") + x
        hidden = F.gelu(self.linear(self.norm(x, "mlps.norm_2"), "mlps.mlp_intermediate.0"))
        x = self.linear(hidden, "mlps.mlp_output.0") + x
        token = torch.zeros_like(x[:, :1])
        if self.head is None:
            return torch.cat([x, token], 1), row.clone()
        logits = self.exit(x)
        probabilities = logits.softmax(-1)
        left = (probabilities.max(-1).values > self.threshold).to(x.dtype)
        row = torch.cat([probabilities, torch.full((1, 1), float(self.i))], 1)
        state = torch.cat([x, token], 1)
        state[:, -1] = left
        return state, row

    def exit(self, x):
        patches, side = x[:, 1:], int((x.shape[1] - 1) ** 0.5)
        grid = patches.transpose(1, 2).unflatten(2, (side, side))
        y = self.attention(grid) if self.head[1] == "attention" else self.convolve(grid, patches)
        return self.linear(y.mean(1) + x[:, 0], "highway.classifier.classifier")

    def convolve(self, grid, patches):
        h = "highway.highway_head."
        y = self.batch_norm(F.gelu(self.conv(grid, h + "conv1.0")), h + "conv1.2")
        if self.head[1] == "conv1_1":
            y = self.batch_norm(F.gelu(self.conv(y, h + "proj", padding=1, groups=y.shape[1])), h + "proj_bn")
        return self.batch_norm(self.conv(y, h + "conv2.0"), h + "conv2.1").flatten(2).transpose(1, 2) + patches

    def attention(self, grid):
        h = "highway.highway_head."
        rows = F.avg_pool2d(grid, 1, self.head[2]["sr_ratio"]).flatten(2).transpose(1, 2)
        q, k, v = self.linear(rows, h + "qkv").unflatten(2, (3, 8, -1)).permute(2, 0, 3, 1, 4)
        return self.linear(attend(q, k, v), h + "proj")


class EEVIT(Part):
    def __init__(self, weights: dict[str, torch.Tensor], config: dict, threshold: float):
        super().__init__({k: v for k, v in weights.items() if ".layers." not in k}, "")
        self.n_classes, self.patch = config["num_classes"], config["patch_size"]
        heads = {entry[0]: tuple(entry) for entry in config["early_exit_config"]["exits"]}
        self.layers = torch.nn.ModuleList(Layer(weights, i, config["num_attn_heads"], heads.get(i), threshold)
                                          for i in range(config["num_layers_transformer"]))

    def classify(self, state, row):
        logits = self.linear(state[:, 0], "last_exit")
        return torch.cat([logits.softmax(-1), torch.full((1, 1), -1.0)], 1)

    def forward(self, image):
        def copy(state, row):
            return state.clone(), row.clone()

        x = self.conv(image, "patch_embedding.projection", stride=self.patch).flatten(2).transpose(1, 2)
        x = torch.cat([self.get("patch_embedding.cls_token"), x], 1) + self.get("patch_embedding.pos_embedding")
        state = torch.cat([x, torch.zeros_like(x[:, :1])], 1)
        row = torch.cat([torch.full((1, self.n_classes), 1 / self.n_classes), torch.zeros(1, 1)], 1)
        for layer in self.layers:
            state, row = torch.cond(state[:, -1].any(), copy, layer, (state, row))
        left, normed = state[:, -1:], self.norm(state[:, :-1], "transformer.norm_post_layers")
        state = torch.cat([normed, left], 1)
        return torch.cond(state[:, -1].any(), lambda state, row: row.clone(), self.classify, (state, row))
