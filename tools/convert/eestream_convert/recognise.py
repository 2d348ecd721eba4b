# SPDX-License-Identifier: MIT
"""From a walked graph to a model: classifier, blocks, embedding, exits."""

from .exits import answers_of, find_exits, put_exits
from .parts import refuse
from .swin import read_swin
from .vit import Model, put_blocks, put_classifier, put_embedding, unwind
from .walk import Walk


def is_swin(stream) -> bool:
    """Its blocks end in front at a merge, or at the LayerNorm of the patches."""
    first, _ = unwind(stream)
    node = first.whole()
    return node is not None and node.kind in ("linear", "layernorm")


def recognise(walk: Walk, output: str, others: list[str]) -> Model:
    """`output`: the tensor to answer with; `others`: further outputs, which may be exits."""
    image = walk.image
    model = Model(image=(image.shape[2], image.shape[3]))
    value = walk.run(output)
    final = answers_of(value)
    stream = put_classifier(model, value, final)
    if is_swin(stream):
        sums = read_swin(model, stream, image)
    else:
        first, sums = unwind(stream)
        put_blocks(model, stream, sums)
        put_embedding(model, first, image)
    if model.mean_from >= 0 and not model.stages and model.mean_from != 1 + model.has_dist + model.n_registers:
        refuse(stream, f"the mean is of tokens {model.mean_from} and up, expected all patches and nothing else")
    exits = find_exits(walk, final, [walk.run(name) for name in others]) if final else []
    put_exits(walk, model, sums, exits)
    return model

