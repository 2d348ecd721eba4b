# SPDX-License-Identifier: MIT
"""Exit policies as ONNX nodes: a function of an exit's logits to one boolean, "leave here". State that counts exits in a
row is a tensor of one element that the next exit reads from outside its arm. A NaN makes no comparison true, so it never
leaves."""

import numpy as np

from .errors import ConvertError
from .graph import Graph


class Policy:
    """`threshold`: the graph's input (E,), None where the policy has none."""

    def __init__(self, about: dict, threshold: str | None):
        self.name, self.patience, self.threshold = about["name"], about["patience"], threshold
        if self.name not in DECIDE:
            raise ConvertError(f"policy '{self.name}' can't be written as ONNX; known are {', '.join(sorted(DECIDE))}. "
                               "--form all-exits leaves the decision to the caller")

    def leave(self, g: Graph, logits: str, k: int, state: dict) -> tuple[str, dict]:
        """@return the name of a bool (1,), and the state for the exits behind"""
        return DECIDE[self.name](self, g, logits, k, state)

    def limit(self, g: Graph, k: int) -> str:
        return g.add("Gather", [self.threshold, g.ints(k)], (1,), axis=0)

    def in_a_row(self, g: Graph, holds: str, start: int, state: dict) -> tuple[str, dict]:
        """Exits for which something holds, one after the other; `start`: what one for which it does not counts."""
        one = g.weight("count.1", np.ones(1, np.float32))
        if "count" in state:
            more = g.plus(state["count"], one)
        else:
            more = one
        count = g.add("Where", [holds, more, g.weight(f"count.{start}", np.full(1, start, np.float32))], (1,))
        enough = g.weight(f"patience.{self.patience}", np.full(1, self.patience - 0.5, np.float32))
        return g.add("Greater", [count, enough], (1,)), {"count": count}


def confidence(p: Policy, g: Graph, logits: str, k: int, state: dict):
    score = g.add("ReduceMax", [g.softmax(logits)], (1,), axes=[1], keepdims=0)
    return g.add("Greater", [score, p.limit(g, k)], (1,)), state


def low_entropy(p: Policy, g: Graph, logits: str, k: int) -> str:
    """-sum p ln p < threshold"""
    probabilities = g.softmax(logits)
    terms = g.times(probabilities, g.unary("Log", probabilities))
    entropy = g.unary("Neg", g.add("ReduceSum", [terms, g.ints(1)], (1,), keepdims=0))
    return g.add("Less", [entropy, p.limit(g, k)], (1,))


def entropy(p: Policy, g: Graph, logits: str, k: int, state: dict):
    return low_entropy(p, g, logits, k), state


def patience(p: Policy, g: Graph, logits: str, k: int, state: dict):
    """Exits in a row of one class; the first counts 1."""
    answer = g.add("ArgMax", [logits], (1,), axis=1, keepdims=0)
    if "answer" in state:
        same = g.add("Equal", [answer, state["answer"]], (1,))
    else:
        same = g.weight("no", np.zeros(1, bool))
    leave, counted = p.in_a_row(g, same, 1, state)
    return leave, counted | {"answer": answer}


def patient_and_confident(p: Policy, g: Graph, logits: str, k: int, state: dict):
    return p.in_a_row(g, low_entropy(p, g, logits, k), 0, state)


DECIDE = {"confidence": confidence, "entropy": entropy, "patience": patience,
          "patient_and_confident": patient_and_confident}
