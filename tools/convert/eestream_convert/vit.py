# SPDX-License-Identifier: MIT
"""Vision Transformers with a class token, recognised from their logits backwards: ViT, DeiT, DINOv2."""

from dataclasses import dataclass, field

import numpy as np

from . import symbolic
from .errors import ConvertError
from .parts import Linear, Norm, attention_of, expect, mlp_of, norm_of, refuse, rows_of
from .symbolic import Node, Value, arange, same


@dataclass
class Model:
    """A network in canonical names. A tensor is an array, or a list of arrays to be stacked."""

    image: tuple[int, int]  # height, width
    patch: int = 0
    width: int = 0
    n_heads: int = 0
    mlp_width: int = 0
    n_blocks: int = 0
    n_registers: int = 0
    has_dist: bool = False
    activation: str = ""
    eps: float = 0.0
    qkv_bias: bool = True
    pool: str = ""          # class, class_dist, class_mean, mean
    mean_from: int = -1     # first token of that mean
    is_backbone: bool = False
    exits: list = field(default_factory=list)  # (after_block, head)
    tensors: dict = field(default_factory=dict)

    def put(self, name: str, value: Linear | Norm, ending_bias: bool = True) -> None:
        if isinstance(value, Norm):
            self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"] = value.gamma, value.beta
            self.agree("eps", value.eps, value.node)
            return
        self.tensors[f"{name}.weight"] = value.w
        if ending_bias:
            self.tensors[f"{name}.bias"] = np.zeros(len(value.w), np.float32) if value.b is None else value.b

    def agree(self, key: str, value, where) -> None:
        """All blocks are alike."""
        if not getattr(self, key):
            setattr(self, key, value)
        known = getattr(self, key)
        if known != value and not (isinstance(value, float) and abs(known - value) < 1e-3 * known):
            refuse(where, f"{key.replace('_', ' ')} is {value}, in the blocks before {known}")


# ---- Blocks -----------------------------------------------------------------------------------------------


def unwind(x: Value) -> tuple[Value, list[tuple[Node, Value, Value]]]:
    """Residual sums from the last to the first: the stream before them all, and (sum, branch, stream before it)."""
    sums = []
    while (node := x.whole()) is not None and node.kind == "add":
        a, b = node.inputs
        branch, stream = (a, b) if ends_in_linear(a) and not ends_in_linear(b) else (b, a)
        if not ends_in_linear(branch):
            refuse(node, "a sum that is not a block's: neither term is a linear layer's")
        sums.append((node, branch, stream))
        x = stream
    return x, sums[::-1]


def ends_in_linear(value: Value) -> bool:
    while len(value.sources) == 1 and value.node.kind == "scale":
        value = value.through()
    return len(value.sources) == 1 and value.node.kind == "linear"


def put_stack(model: Model, prefix: str, parts: list[Linear]) -> None:
    """Layers of one input as one, stacked; no bias where none has one."""
    model.tensors[f"{prefix}.weight"] = [part.w for part in parts]
    if any(part.b is not None for part in parts):
        model.tensors[f"{prefix}.bias"] = [np.zeros(len(part.w), np.float32) if part.b is None else part.b for part in parts]


def put_attention(model: Model, i: int, branch: Value, x: Value) -> None:
    what = f"attention of block {i}"
    found = attention_of(branch, model.width, what)
    norm, inner = norm_of(found.input, model.width, what)
    n_tokens = x.size // model.width
    if found.added is not None or not np.array_equal(found.out_rows, arange(n_tokens)) or not same(inner, x):
        refuse(branch, f"expected attention over all tokens of the stream, without a mask ({what})")
    model.agree("n_heads", found.n_heads, norm.node)
    model.put(f"blk.{i}.norm1", norm)
    put_stack(model, f"blk.{i}.attn.qkv", [found.q, found.k, found.v])
    model.put(f"blk.{i}.attn.proj", found.proj)
    if found.layer_scale is not None:
        model.tensors[f"blk.{i}.ls1"] = found.layer_scale


def put_mlp(model: Model, i: int, branch: Value, x: Value) -> None:
    what = f"MLP of block {i}"
    found = mlp_of(branch, what)
    norm, inner = norm_of(found.input, model.width, what)
    if not same(inner, x):
        refuse(branch, f"expected the MLP of the stream ({what})")
    model.agree("activation", found.activation, norm.node)
    model.agree("mlp_width", found.fc2.w.shape[1], norm.node)
    model.put(f"blk.{i}.norm2", norm)
    first, second = ("w12", "w3") if found.activation == "silu_gate" else ("fc1", "fc2")
    if len(found.fc1) > 1:
        put_stack(model, f"blk.{i}.mlp.{first}", found.fc1)
    else:
        model.put(f"blk.{i}.mlp.{first}", found.fc1[0])
    model.put(f"blk.{i}.mlp.{second}", found.fc2)
    if found.layer_scale is not None:
        model.tensors[f"blk.{i}.ls2"] = found.layer_scale


def put_blocks(model: Model, x: Value) -> Value:
    """@return the first block's input"""
    first, sums = unwind(x)
    if not sums or len(sums) % 2:
        refuse(x, f"expected blocks of two residual sums each, found {len(sums)} sums")
    for i, (_, branch, stream) in enumerate(sums):
        (put_mlp if i % 2 else put_attention)(model, i // 2, branch, stream)
    model.n_blocks = len(sums) // 2
    biases = [f"blk.{i}.attn.qkv.bias" in model.tensors for i in range(model.n_blocks)]
    model.qkv_bias = any(biases)
    if model.qkv_bias and not all(biases):
        raise ConvertError("some blocks have a bias on queries, keys and values and some have none")
    return first


# ---- Embedding --------------------------------------------------------------------------------------------


def strip_shifts(x: Value) -> tuple[Value, np.ndarray]:
    """Look through sums with constants, element by element: what is left, and what was added."""
    added = np.zeros(x.size, np.float32)
    while any(node.kind == "shift" for node in x.sources):
        pieces = []
        for node, where, elements in x.split():
            inner = Value((node,), elements.astype(np.int32))
            if node.kind == "shift":
                added[where] += np.broadcast_to(node.c, node.shape).reshape(-1)[elements]
                inner = inner.through()
            pieces.append((where, inner))
        sources, indices = symbolic.join([inner for _, inner in pieces])
        index = np.empty(x.size, np.int32)
        for (where, _), moved in zip(pieces, indices):
            index[where] = moved
        x = symbolic.narrow(sources, index)
    return x, added


def put_embedding(model: Model, first: Value, image: Node) -> None:
    c = model.width
    x, added = strip_shifts(first)
    parts = x.split()
    convs = [part for part in parts if part[0].kind == "conv"]
    if len(convs) != 1:
        refuse(first, "expected the first block on the tokens of one patch convolution")
    conv, where, elements = convs[0]
    put_patches(model, conv, image)
    n = conv.shape[2] * conv.shape[3]
    n_tokens = x.size // c
    n_special = n_tokens - n
    expected = (arange(c)[None, :] * n + arange(n)[:, None]).reshape(-1)
    if not np.array_equal(where, np.arange(n_special * c, n_tokens * c)) or not np.array_equal(elements, expected):
        refuse(conv, "expected its patches row by row behind the special tokens")
    special = np.zeros(x.size, np.float32)
    for node, where, elements in parts:
        if node.kind == "const":
            special[where] = node.array.reshape(-1)[elements]
        elif node is not conv:
            refuse(node, "special tokens depend on the picture")
    put_tokens(model, special.reshape(n_tokens, c)[:n_special], added.reshape(n_tokens, c), n_special, conv)


def put_patches(model: Model, conv: Node, image: Node) -> None:
    patch = conv.w.shape[2]
    if conv.inputs[0].whole() is not image:
        refuse(conv, "expected the first convolution on the picture itself (put mean and std into the preprocessing)")
    if conv.w.shape[1:] != (3, patch, patch) or conv.strides != [patch, patch] or any(conv.pads) or conv.group != 1:
        refuse(conv, f"expected a patch convolution, kernel = stride, no padding; it is {conv.w.shape}, {conv.strides}")
    model.patch = patch
    model.put("embed.patch", Linear(conv.w, conv.b))


def put_tokens(model: Model, special: np.ndarray, added: np.ndarray, n_special: int, where) -> None:
    """The first token is the class token, a second one with a position the distillation token, the rest registers."""
    if n_special == 0:
        refuse(where, "there is no class token")
    positioned = [bool(np.any(added[i])) for i in range(n_special)]
    model.has_dist = n_special > 1 and positioned[1]
    n_fixed = 1 + model.has_dist
    model.n_registers = n_special - n_fixed
    if any(positioned[n_fixed:]):
        refuse(where, f"{n_special} special tokens have positions, at most two are known")
    model.tensors["embed.cls"] = special[None, :1]
    if model.has_dist:
        model.tensors["embed.dist"] = special[None, 1:2]
    if model.n_registers:
        model.tensors["embed.reg"] = special[None, n_fixed:]
    model.tensors["embed.pos"] = np.concatenate([added[:n_fixed], added[n_special:]])[None]


# ---- Classifier -------------------------------------------------------------------------------------------


def split_heads(logits: Value) -> list[Node]:
    """The classifier, or two of which the mean is taken."""
    node = logits.whole()
    if node is not None and node.kind == "softmax":
        node = node.inputs[0].whole()
    if node is not None and node.kind == "linear":
        return [node]
    if node is not None and node.kind == "scale" and np.all(node.c == 0.5):
        both = node.inputs[0].whole()
        if both is not None and both.kind == "add":
            return [expect(x, "linear", "a classifier") for x in both.inputs]
    return []


def pooled_rows(piece: Value, width: int) -> tuple[Norm, Value, bool]:
    """Tokens a classifier reads, after the final norm: (norm, their rows of the stream, is it their mean)."""
    node = piece.whole()
    if node is not None and node.kind == "mean":
        inner = node.inputs[0].reshape(width, -1).move(np.transpose)
        norm, rows = norm_of(inner, width, "final norm")
        return norm, rows, True
    norm, rows = norm_of(piece, width, "final norm")
    return norm, rows, False


def stream_of(rows: Value) -> Value:
    """The stream that rows are of: a residual sum, of which a part may be normed only."""
    return Value(rows.sources) if len(rows.sources) == 1 and rows.node.kind == "add" else rows


def width_of(x: Value) -> int:
    """Channels of the layer a pooled vector comes from."""
    node = x.sources[0]
    return node.inputs[0].shape[0] if node.kind == "mean" and len(node.inputs[0].shape) == 2 else node.shape[-1]


def tokens_of(model: Model, x: Value) -> list[tuple[Norm, str, Value]]:
    """What a pooled vector is made of: (norm, "class" or "mean" or token number, stream)."""
    pieces, at = [], 0
    flat = x.reshape(-1)
    while at < x.size:
        piece = flat.move(lambda index: index[at:at + model.width])
        norm, rows, is_mean = pooled_rows(piece, model.width)
        stream = stream_of(rows)
        numbers = rows_of(rows, model.width, "final norm") if len(rows.sources) == 1 else np.arange(rows.size // model.width)
        pieces.append((norm, numbers, is_mean, stream))
        at += model.width
    return pieces


def put_classifier(model: Model, logits: Value) -> Value:
    """@return the stream after the last block"""
    heads = split_heads(logits)
    if not heads:
        return put_features(model, logits)
    model.width = width_of(heads[0].inputs[0])
    pieces = [piece for head in heads for piece in tokens_of(model, head.inputs[0])]
    norm, stream = check_pieces(model, pieces)
    model.pool = name_pool(pieces, len(heads), stream, model)
    for name, head in zip(("head.cls", "head.dist"), order_heads(heads, pieces)):
        model.put(name, Linear(head.w, head.b))
    model.put("norm", norm)
    return stream


def order_heads(heads, pieces):
    return heads if len(heads) == 1 or pieces[0][1][0] == 0 else heads[::-1]


def check_pieces(model: Model, pieces) -> tuple[Norm, Value]:
    norm, _, _, stream = pieces[0]
    for other, _, _, other_stream in pieces[1:]:
        if other.node is not norm.node and not (np.array_equal(other.gamma, norm.gamma) and other.eps == norm.eps):
            refuse(other.node, "two final norms")
        if not same(other_stream, stream):
            refuse(other.node, "the classifier reads two different states")
    return norm, stream


def name_pool(pieces, n_heads: int, stream: Value, model: Model) -> str:
    n_tokens = stream.size // model.width
    kinds = []
    for _, numbers, is_mean, _ in pieces:
        if is_mean and np.array_equal(numbers, np.arange(numbers[0], n_tokens)):
            model.mean_from = int(numbers[0])
            kinds.append("mean")
        elif not is_mean and len(numbers) == 1 and numbers[0] < 2:
            kinds.append(("class", "dist")[numbers[0]])
        else:
            refuse(pieces[0][0].node, "the classifier reads neither the class token nor the mean of the patches")
    known = {("class",): "class", ("class", "mean"): "class_mean", ("mean",): "mean"}
    if n_heads == 2 and sorted(kinds) == ["class", "dist"]:
        return "class_dist"
    if tuple(kinds) not in known or n_heads == 2:
        refuse(pieces[0][0].node, f"a classifier of {' and '.join(kinds)} is not known")
    return known[tuple(kinds)]


def put_features(model: Model, output: Value) -> Value:
    """No classifier: the output is normed tokens. The model gets the identity as its classifier, so that its logits are
    the features: of the class token and, where all tokens were there, of the mean of the patches."""
    model.width = output.sources[0].shape[-1]
    norm, rows = norm_of(output, model.width, "final norm of a backbone")
    stream = stream_of(rows)
    model.is_backbone = True
    model.pool = "class_mean" if rows.size > model.width else "class"
    n = model.width * (2 if model.pool == "class_mean" else 1)
    model.put("head.cls", Linear(np.eye(n, dtype=np.float32), np.zeros(n, np.float32)))
    model.put("norm", norm)
    return stream


def recognise(output: Value, image: Node) -> Model:
    model = Model(image=(image.shape[2], image.shape[3]))
    stream = put_classifier(model, output)
    put_embedding(model, put_blocks(model, stream), image)
    if model.mean_from >= 0 and model.mean_from != 1 + model.has_dist + model.n_registers:
        refuse(stream, f"the mean is of tokens {model.mean_from} and up, expected all patches and nothing else")
    return model
