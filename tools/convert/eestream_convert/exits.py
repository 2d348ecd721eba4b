# SPDX-License-Identifier: MIT
"""Early exits of an imported graph: what the copying arm of an If answers, and further outputs of the graph.

A graph with exits is either nested (each If's one arm answers, its other is the rest of the network) or a chain (each If
copies the state of a frame that has left, or runs a block and its head). In both the walk follows the arm that computes,
and every classifier that some If hands on is an exit.
"""

import numpy as np

from .exit_heads import stages_of
from .places import place_head
from .symbolic import Node, Value
from .vit import Model, split_heads


def answers_of(value) -> list[Node]:
    """The classifier behind an answer: logits, probabilities, or these beside a constant exit number. [] if none."""
    if not isinstance(value, Value):
        return []
    parts = [part for part in value.split() if part[0].kind != "const"]
    if len(parts) != 1 or len(parts[0][1]) != parts[0][0].size:
        return []
    return split_heads(Value((parts[0][0],)))


def find_exits(walk, final: list[Node], outputs: list) -> list[list[Node]]:
    """Classifiers that leave the graph before the final one, each once, in the graph's order."""
    found, seen = [], {id(node) for node in final}
    values = [value for branch in walk.branches for value in (*branch.computed, *branch.copied)]
    for value in [*values, *outputs]:
        heads = answers_of(value)
        if heads and not any(id(node) in seen for node in heads):
            seen.update(id(node) for node in heads)
            found.append(heads)
    return found


def put_exits(walk, model: Model, sums: list, exits: list[list[Node]]) -> None:
    """Heads in order of their blocks, and the thresholds the graph compares with. `sums`: of all blocks"""
    stages = stages_of(model, sums)
    placed = sorted(((*place_head(stages, heads), heads) for heads in exits), key=lambda entry: entry[0])
    limits = find_limits(walk)
    for k, (block, name, tensors, _) in enumerate(placed):
        model.exits.append({"after_block": block, "head": name})
        for leaf, value in tensors.items():
            model.tensors[f"exit.{k}.{leaf}"] = value
    values = [limits.get(id(heads[0])) for *_, heads in placed]
    if values and None not in values:
        model.policy = {"name": "confidence", "thresholds": values}


def find_limits(walk) -> dict[int, float]:
    """Thresholds of max softmax > threshold, by classifier."""
    limits, seen = {}, set()
    todo = [branch.condition.node for branch in walk.branches]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.kind == "control" and node.origin is not None and node.origin.op_type == "Greater":
            heads, limit = answer_compared(node.args[0]), node.args[1]
            if heads and isinstance(limit, np.ndarray) and limit.size == 1:
                limits[id(heads[0])] = round(float(limit.reshape(-1)[0]), 7)
        todo += [source for value in node.inputs for source in value.sources if source.kind in ("control", "const", "add")]
    return limits


def answer_compared(value) -> list[Node]:
    node = value.node if isinstance(value, Value) else None
    if node is None or node.kind != "control" or node.origin is None or node.origin.op_type != "ReduceMax":
        return []
    return answers_of(node.inputs[0])
