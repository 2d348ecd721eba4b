# SPDX-License-Identifier: MIT
"""One random Vision Transformer in two forms: a Hugging Face folder and an ONNX graph, with the same weights.

The graph is what an export of `ViTForImageClassification` amounts to (opset 20: LayerNormalization and Gelu as single
operators), in two variants, with q, k and v as three products or as one, so that the peer can be given its better one.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file


@dataclass(frozen=True)
class Config:
    width: int
    heads: int
    blocks: int = 12
    patch: int = 16
    image: int = 224
    classes: int = 100
    eps: float = 1e-12

    @property
    def tokens(self):
        return (self.image // self.patch) ** 2 + 1


CONFIGS = {"vit-ti16": Config(192, 3), "vit-s16": Config(384, 6), "vit-b16": Config(768, 12)}


def random_weights(c, seed=1):
    """Tensors under their Hugging Face names, scaled so that activations stay of order one."""
    rng = np.random.default_rng(seed)

    def matrix(*shape):
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def vector(n, around=0.0):
        return (around + 0.1 * rng.standard_normal(n)).astype(np.float32)

    w = {
        "vit.embeddings.cls_token": vector((1, 1, c.width)),
        "vit.embeddings.position_embeddings": vector((1, c.tokens, c.width)),
        "vit.embeddings.patch_embeddings.projection.weight": matrix(c.width, 3, c.patch, c.patch),
        "vit.embeddings.patch_embeddings.projection.bias": vector(c.width),
        "vit.layernorm.weight": vector(c.width, 1),
        "vit.layernorm.bias": vector(c.width),
        "classifier.weight": matrix(c.classes, c.width),
        "classifier.bias": vector(c.classes),
    }
    linears = {"attention.attention.query": (c.width, c.width), "attention.attention.key": (c.width, c.width),
               "attention.attention.value": (c.width, c.width), "attention.output.dense": (c.width, c.width),
               "intermediate.dense": (4 * c.width, c.width), "output.dense": (c.width, 4 * c.width)}
    for i in range(c.blocks):
        layer = f"vit.encoder.layer.{i}."
        for name, shape in linears.items():
            w[f"{layer}{name}.weight"] = matrix(*shape)
            w[f"{layer}{name}.bias"] = vector(shape[0])
        for name in ("layernorm_before", "layernorm_after"):
            w[f"{layer}{name}.weight"] = vector(c.width, 1)
            w[f"{layer}{name}.bias"] = vector(c.width)
    return w


def write_folder(c, weights, folder):
    """What `eestream` reads."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": c.width,
              "num_hidden_layers": c.blocks, "num_attention_heads": c.heads, "intermediate_size": 4 * c.width,
              "hidden_act": "gelu", "layer_norm_eps": c.eps, "image_size": c.image, "patch_size": c.patch,
              "num_channels": 3, "qkv_bias": True, "id2label": {str(i): f"class {i}" for i in range(c.classes)}}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    save_file(weights, folder / "model.safetensors")


class Graph:
    """Collects nodes and initialisers; every operator returns the name of its output."""

    def __init__(self):
        self.nodes, self.initialisers = [], []

    def const(self, array, name=None):
        name = name or f"const_{len(self.initialisers)}"
        self.initialisers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def op(self, kind, *inputs, **attributes):
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def linear(self, x, weight, bias):
        return self.op("Add", self.op("MatMul", x, self.const(weight.T)), self.const(bias))

    def shape(self, x, *dims):
        return self.op("Reshape", x, self.const(np.array(dims, np.int64)))


def attention(g, c, x, w, layer, packed):
    names = [f"{layer}attention.attention.{n}" for n in ("query", "key", "value")]
    d = c.width // c.heads
    if packed:
        qkv = g.linear(x, np.concatenate([w[n + ".weight"] for n in names]), np.concatenate([w[n + ".bias"] for n in names]))
        parts = [f"split_{layer}{n}" for n in "qkv"]
        g.nodes.append(helper.make_node("Split", [qkv], parts, axis=-1, num_outputs=3))
    else:
        parts = [g.linear(x, w[n + ".weight"], w[n + ".bias"]) for n in names]
    q, k, v = (g.shape(p, 1, c.tokens, c.heads, d) for p in parts)
    q = g.op("Transpose", q, perm=[0, 2, 1, 3])
    k = g.op("Transpose", k, perm=[0, 2, 3, 1])
    v = g.op("Transpose", v, perm=[0, 2, 1, 3])
    scores = g.op("Mul", g.op("MatMul", q, k), g.const(np.float32(d ** -0.5)))
    heads = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
    return g.shape(g.op("Transpose", heads, perm=[0, 2, 1, 3]), 1, c.tokens, c.width)


def build_onnx(c, w, packed):
    g = Graph()

    def norm(x, name):
        return g.op("LayerNormalization", x, g.const(w[name + ".weight"]), g.const(w[name + ".bias"]), axis=-1, epsilon=c.eps)

    patch = "vit.embeddings.patch_embeddings.projection"
    x = g.op("Conv", "image", g.const(w[patch + ".weight"]), g.const(w[patch + ".bias"]), strides=[c.patch, c.patch])
    x = g.op("Transpose", g.shape(x, 1, c.width, c.tokens - 1), perm=[0, 2, 1])
    x = g.op("Concat", g.const(w["vit.embeddings.cls_token"]), x, axis=1)
    x = g.op("Add", x, g.const(w["vit.embeddings.position_embeddings"]))
    for i in range(c.blocks):
        layer = f"vit.encoder.layer.{i}."
        y = attention(g, c, norm(x, layer + "layernorm_before"), w, layer, packed)
        x = g.op("Add", x, g.linear(y, w[layer + "attention.output.dense.weight"], w[layer + "attention.output.dense.bias"]))
        y = g.linear(norm(x, layer + "layernorm_after"), w[layer + "intermediate.dense.weight"], w[layer + "intermediate.dense.bias"])
        y = g.op("Gelu", y, approximate="none")
        x = g.op("Add", x, g.linear(y, w[layer + "output.dense.weight"], w[layer + "output.dense.bias"]))
    x = g.op("Gather", norm(x, "vit.layernorm"), g.const(np.array(0, np.int64)), axis=1)
    g.nodes[-1].output[0] = "class_token"
    g.nodes.append(helper.make_node("Gemm", ["class_token", g.const(w["classifier.weight"]), g.const(w["classifier.bias"])],
                                    ["logits"], transB=1))
    graph = helper.make_graph(
        g.nodes, "vit", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, c.image, c.image])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, c.classes])], g.initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model
