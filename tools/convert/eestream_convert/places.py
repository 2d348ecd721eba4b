# SPDX-License-Identifier: MIT
"""Which exit head a classifier of an imported graph ends, and behind which block it stands."""

from .branch_heads import read_branch
from .exit_heads import Stage, linear_tensors, place_normed, place_pooled
from .parts import refuse
from .symbolic import Node


def place_head(stages: dict[int, Stage], heads: list[Node]) -> tuple[int, str, dict]:
    """(block, head's name, its tensors). `heads`: its classifier or, of a distilled model, its two."""
    ends_in_mlp = len(heads) == 1 and len(stages) == 1 and next(iter(stages.values())).n_special
    branch = read_branch(next(iter(stages.values())), heads[0]) if ends_in_mlp else None
    return branch or place_classifiers(stages, heads)


def place_classifiers(stages: dict[int, Stage], heads: list[Node]) -> tuple[int, str, dict]:
    width = heads[0].w.shape[1]
    if width not in stages:
        refuse(heads[0], f"an exit whose classifier reads {width} channels, expected a block's {' or '.join(map(str, stages))}")
    stage = stages[width]
    placed = [place_pooled(stage, head) if stage.n_special else place_normed(stage, head) for head in heads]
    block, name, tensors, _ = placed[0]
    if any(entry[0] != block or entry[1] != name for entry in placed):
        refuse(heads[1], "the two classifiers of an exit read two heads")
    in_order = [head for _, head in sorted(zip((entry[3] for entry in placed), heads), key=lambda pair: pair[0])]
    for leaf, head in zip(("head.cls", "head.dist"), in_order):
        tensors |= linear_tensors(leaf, head)
    return block, name, tensors
