# SPDX-License-Identifier: MIT
"""Exit policies as ONNX nodes (docs/policies.md). What a policy remembers of a frame is a dictionary of tensors that the
next exit reads from outside its arm. A NaN makes no comparison true, so it never leaves."""

import math
from dataclasses import dataclass

import numpy as np

from .errors import ConvertError
from .graph import Graph

NEEDS_OTHERS = ("temporal",)  # frames


@dataclass(frozen=True)
class Answer:
    """What exit k says; the final classifier is the last."""

    k: int
    logits: str                # (1, K)
    pooled: str | None = None  # (1, P), what its classifier reads


class Policy:
    """`threshold`: the graph's input (E,), None where the policy has none. `n_exits`: without the final classifier."""

    def __init__(self, about: dict, threshold: str | None, n_exits: int, source):
        self.name, self.patience, self.weights = about["name"], about.get("patience", 0), about.get("weights")
        self.threshold, self.n_exits, self.source = threshold, n_exits, source
        if self.name in NEEDS_OTHERS:
            raise ConvertError(f"policy '{self.name}' compares frames with earlier ones, and a graph sees one frame: "
                               "--form all-exits leaves the decision to the caller")
        if self.name not in DECIDE:
            raise ConvertError(f"policy '{self.name}' can't be written as ONNX; known are {', '.join(sorted(DECIDE))}. "
                               "--form all-exits leaves the decision to the caller")

    @property
    def combines(self) -> bool:
        """The class it answers with is not always that of the exit's logits."""
        return self.name in COMBINE

    def decide(self, g: Graph, answer: Answer, state: dict) -> tuple[str | None, dict]:
        """@return the name of a bool (1,), "leave here" (None at the final classifier), and what is remembered; a policy
        that combines leaves the class (1,) under "class"."""
        if self.combines:
            state = COMBINE[self.name](self, g, answer, state)
        return (None, state) if answer.k == self.n_exits else DECIDE[self.name](self, g, answer, state)

    # ---- pieces -----------------------------------------------------------------------------------------------

    def compare(self, g: Graph, op: str, score: str, k: int) -> str:
        return g.add(op, [score, g.add("Gather", [self.threshold, g.ints(k)], (1,), axis=0)], (1,))

    def in_a_row(self, g: Graph, holds: str, start: int, state: dict) -> tuple[str, dict]:
        """Exits for which something holds, one after the other; `start`: what one for which it does not counts."""
        one = constant(g, 1)
        more = g.plus(state["count"], one) if "count" in state else one
        count = g.add("Where", [holds, more, constant(g, start)], (1,))
        return self.enough(g, count, self.patience), state | {"count": count}

    @staticmethod
    def enough(g: Graph, count: str, n: int) -> str:
        return g.add("Greater", [count, constant(g, n - 0.5)], (1,))


def constant(g: Graph, value: float) -> str:
    return g.weight(f"constant.{value}", np.full(1, value, np.float32))


def largest(g: Graph, x: str) -> str:
    return g.add("ReduceMax", [x], (1,), axes=[1], keepdims=0)


def argmax(g: Graph, x: str) -> str:
    return g.add("ArgMax", [x], (1,), axis=1, keepdims=0)


def total(g: Graph, x: str) -> str:
    return g.add("ReduceSum", [x, g.ints(1)], (1,), keepdims=0)


def is_class(g: Graph, x: str, index: str) -> str:
    """(1, K): where the class of this index is."""
    n = g.shape(x)[1]
    return g.add("Equal", [g.weight(f"classes.{n}", np.arange(n)[None]), index], (1, n))


def log_softmax(g: Graph, logits: str) -> str:
    return g.unary("LogSoftmax", logits, axis=-1)


# ---- Scores ---------------------------------------------------------------------------------------------------

def confidence_of(g: Graph, logits: str) -> str:
    return largest(g, g.softmax(logits))


def entropy_of(g: Graph, logits: str) -> str:
    """-sum p ln p, finite where a p underflows."""
    return g.unary("Neg", total(g, g.times(g.softmax(logits), log_softmax(g, logits))))


def entropy_norm_of(g: Graph, logits: str) -> str:
    n = g.shape(logits)[1]
    return g.times(entropy_of(g, logits), constant(g, 1 / math.log(n) if n > 1 else 0.0))


def margin_of(g: Graph, logits: str) -> str:
    p = g.softmax(logits)
    others = g.add("Where", [is_class(g, p, argmax(g, logits)), constant(g, 0), p], g.shape(p))
    return g.binary("Sub", largest(g, p), largest(g, others))


def gate_of(p: Policy, g: Graph, answer: Answer) -> str:
    """sigmoid(w h + b), one gate for all exits."""
    if answer.pooled is None:
        raise ConvertError(f"policy 'gate': the head of exit {answer.k} has no pooled vector")
    w = g.weight("gate.weight", p.source.read("gate.weight").T)
    sum_ = g.plus(g.matmul(answer.pooled, w), g.weight("gate.bias", p.source.read("gate.bias")))
    return g.unary("Sigmoid", g.reshape(sum_, 1))


# ---- Decisions ------------------------------------------------------------------------------------------------

def by(score, op: str):
    """Leave where the score of the exit's logits is beyond the threshold."""
    return lambda p, g, answer, state: (p.compare(g, op, score(g, answer.logits), answer.k), state)


def by_gate(p: Policy, g: Graph, answer: Answer, state: dict):
    return p.compare(g, "Less", gate_of(p, g, answer), answer.k), state


def in_a_row_below(score):
    return lambda p, g, answer, state: p.in_a_row(g, p.compare(g, "Less", score(g, answer.logits), answer.k), 0, state)


def patience(p: Policy, g: Graph, answer: Answer, state: dict, more: int = 0):
    """Exits in a row of one class; the first counts 1."""
    index = argmax(g, answer.logits)
    if "index" in state:
        same = g.add("Equal", [index, state["index"]], (1,))
    else:
        same = g.weight("no", np.zeros(1, bool))
    _, state = p.in_a_row(g, same, 1, state)
    return p.enough(g, state["count"], p.patience + more), state | {"index": index}


def by_votes(p: Policy, g: Graph, answer: Answer, state: dict):
    return p.enough(g, largest(g, state["votes"]), p.patience), state


def by_ensemble(p: Policy, g: Graph, answer: Answer, state: dict):
    return p.compare(g, "GreaterOrEqual", confidence_of(g, state["log_q"]), answer.k), state


DECIDE = {
    "confidence": by(confidence_of, "Greater"),
    "entropy": by(entropy_of, "Less"),
    "entropy_norm": by(entropy_norm_of, "Less"),
    "margin": by(margin_of, "Greater"),
    "sdn": by(confidence_of, "GreaterOrEqual"),
    "sdn_most_confident": by(confidence_of, "GreaterOrEqual"),
    "gate": by_gate,
    "patience": patience,
    "patience_pabee": lambda *args: patience(*args, more=1),
    "patient_and_confident": in_a_row_below(entropy_of),
    "pcee": in_a_row_below(entropy_norm_of),
    "pcee_mean": in_a_row_below(entropy_norm_of),
    "vote": by_votes,
    "ensemble": by_ensemble,
    "ensemble_additive": by_ensemble,
    "ensemble_mean": by_ensemble,
}


# ---- Combining ------------------------------------------------------------------------------------------------

def most_confident(p: Policy, g: Graph, answer: Answer, state: dict) -> dict:
    """The first of the surest answers so far is the final classifier's, where no exit fired."""
    sure, index = confidence_of(g, answer.logits), argmax(g, answer.logits)
    if "sure" not in state:
        return state | {"class": index, "sure": sure, "best": index}
    better = g.add("Greater", [sure, state["sure"]], (1,))
    best = g.add("Where", [better, index, state["best"]], (1,))
    sure = g.add("Where", [better, sure, state["sure"]], (1,))
    return state | {"class": best if answer.k == p.n_exits else index, "sure": sure, "best": best}


def vote(p: Policy, g: Graph, answer: Answer, state: dict) -> dict:
    """Most votes, among equals the larger sum of probabilities."""
    voted = is_class(g, answer.logits, argmax(g, answer.logits))
    votes = g.add("Cast", [voted], g.shape(voted), to=1)
    sums = g.softmax(answer.logits)
    if "votes" in state:
        votes, sums = g.plus(votes, state["votes"]), g.plus(sums, state["sums"])
    most = g.add("ReduceMax", [votes], (1, 1), axes=[1], keepdims=1)
    winners = g.add("Equal", [votes, most], g.shape(votes))
    left = g.add("Where", [winners, sums, constant(g, -1)], g.shape(sums))
    return state | {"votes": votes, "sums": sums, "class": argmax(g, left)}


def sum_of(g: Graph, terms: list[str]) -> str:
    first, *others = terms
    for term in others:
        first = g.plus(first, term)
    return first


def combined(state: dict, g: Graph, log_q: str) -> dict:
    return state | {"log_q": log_q, "class": argmax(g, log_q)}


def with_member(g: Graph, answer: Answer, state: dict) -> dict:
    """ln p of the exits so far."""
    return state | {"members": [*state.get("members", []), log_softmax(g, answer.logits)]}


def mean_of(g: Graph, members: list[str], weights) -> str:
    """ln of the weighted arithmetic mean of probabilities, but for a constant."""
    return g.unary("Log", sum_of(g, [g.times(g.unary("Exp", m), constant(g, float(w))) for m, w in zip(members, weights)]))


def learned(p: Policy, k: int) -> tuple[np.ndarray, np.ndarray | None]:
    """e^w of the members at exit k, and b."""
    if "ensemble.weight" not in p.source:
        return np.ones(k + 1), None
    weights = np.exp(p.source.read("ensemble.weight")[k, :k + 1].astype(np.float64))
    return weights, p.source.read("ensemble.bias")[k:k + 1]


def geometric(p: Policy, g: Graph, answer: Answer, state: dict) -> dict:
    state, (weights, bias) = with_member(g, answer, state), learned(p, answer.k)
    terms = [g.times(m, constant(g, float(w / len(weights)))) for m, w in zip(state["members"], weights)]
    log_q = sum_of(g, terms)
    return combined(state, g, log_q if bias is None else g.plus(log_q, g.weight(f"ensemble.bias.{answer.k}", bias)))


def additive(p: Policy, g: Graph, answer: Answer, state: dict) -> dict:
    state, (weights, bias) = with_member(g, answer, state), learned(p, answer.k)
    terms = [g.times(g.unary("Exp", m), constant(g, float(w))) for m, w in zip(state["members"], weights)]
    offset = g.weight(f"ensemble.exp_bias.{answer.k}", np.exp(bias.astype(np.float64)).astype(np.float32))
    return combined(state, g, g.unary("Log", g.plus(sum_of(g, terms), offset)))


def arithmetic(p: Policy, g: Graph, answer: Answer, state: dict) -> dict:
    state = with_member(g, answer, state)
    weights = p.weights or [1.0] * (p.n_exits + 1)
    return combined(state, g, mean_of(g, state["members"], weights))


def recent(p: Policy, g: Graph, answer: Answer, state: dict) -> dict:
    """Of the last exits, as many as must be sure; the final classifier answers alone."""
    state = with_member(g, answer, state)
    last = state["members"][-1 if answer.k == p.n_exits else -p.patience:]
    return combined(state, g, mean_of(g, last, [1.0] * len(last)))


COMBINE = {"sdn_most_confident": most_confident, "vote": vote, "ensemble": geometric, "ensemble_additive": additive,
           "ensemble_mean": arithmetic, "pcee_mean": recent}
