# SPDX-License-Identifier: MIT
"""Decisions of the policies on a random model with exits, by rules written anew from their definitions: 100 % the same."""

import json

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from live import random_pixels, save_reference, verify  # noqa: E402
from test_live_heads import answer, build, edit_folder, head_tensors, make_heads  # noqa: E402

SIZE, AFTER, N_IMAGES = (16, 16), (1, 2, 3, 4, 5, 6), 24


def entropy(p):
    return -(p * p.clamp_min(1e-30).log()).sum(-1)


def scores_of(logits):
    """What a rule compares, of every exit: confidence, entropy, normalised entropy, margin."""
    p = logits.softmax(-1)
    top = p.topk(2).values
    h = entropy(p)
    return {"confidence": top[..., 0], "entropy": h, "entropy_norm": h / torch.tensor(p.shape[-1]).log(),
            "margin": top[..., 0] - top[..., 1]}


def first_where(leaves) -> list[int]:
    """leaves: (exit, image) -> the first exit that does, or the number of exits."""
    return [next((k for k in range(len(leaves)) if leaves[k][i]), len(leaves)) for i in range(N_IMAGES)]


def run_lengths(counts_on) -> list:
    """(exit, image): how many in a row up to this one; `counts_on(k)` says whether exit k belongs to a row, and whether the
    row before it goes on."""
    rows, lengths = [0] * N_IMAGES, []
    for k in range(len(AFTER)):
        belongs, goes_on = counts_on(k)
        rows = [(rows[i] + 1 if goes_on[i] else 1) if belongs[i] else 0 for i in range(N_IMAGES)]
        lengths.append(list(rows))
    return lengths


def leave_above(score, threshold):
    return first_where(score > threshold)


def leave_below(score, threshold):
    return first_where(score < threshold)


def leave_after_equal(classes, n):
    always = [True] * N_IMAGES
    lengths = run_lengths(lambda k: (always, (classes[k] == classes[k - 1]).tolist() if k else always))
    return first_where([[length >= n for length in row] for row in lengths])


def leave_after_low(score, threshold, n):
    lengths = run_lengths(lambda k: ((score[k] < threshold).tolist(), [True] * N_IMAGES))
    return first_where([[length >= n for length in row] for row in lengths])


def middle_of_a_gap(score, share: float) -> float:
    """A threshold near a quantile of the scores that none of them is close to."""
    ordered = score.flatten().sort().values
    near = ordered[int(share * len(ordered) - 10):int(share * len(ordered) + 10)]
    gap = (near[1:] - near[:-1]).argmax()
    assert near[gap + 1] - near[gap] > 2e-3
    return float((near[gap] + near[gap + 1]) / 2)


def list_cases(exit_logits) -> list[dict]:
    scores, classes = scores_of(exit_logits), exit_logits.argmax(-1)
    cases = []
    for share in (0.5, 0.9):
        up = {name: middle_of_a_gap(scores[name], share) for name in ("confidence", "margin")}
        down = {name: middle_of_a_gap(scores[name], 1 - share) for name in ("entropy", "entropy_norm")}
        cases += [dict(policy=name, threshold=up[name], exit_index=leave_above(scores[name], up[name])) for name in up]
        cases += [dict(policy=name, threshold=down[name], exit_index=leave_below(scores[name], down[name])) for name in down]
        cases.append(dict(policy="sdn", threshold=up["confidence"],
                          exit_index=leave_above(scores["confidence"], up["confidence"])))
        for policy, name in (("patient_and_confident", "entropy"), ("pcee", "entropy_norm")):
            high = middle_of_a_gap(scores[name], 0.6)
            cases += [dict(policy=policy, threshold=high, patience=n, exit_index=leave_after_low(scores[name], high, n))
                      for n in (1, 2, 3)]
    cases += [dict(policy="patience", patience=n, exit_index=leave_after_equal(classes, n)) for n in (1, 2, 3, 4)]
    cases += [dict(policy="patience_pabee", patience=n, exit_index=leave_after_equal(classes, n + 1)) for n in (1, 2, 3)]
    each = [middle_of_a_gap(scores["confidence"], 0.4 + 0.08 * k) for k in range(len(AFTER))]
    cases.append(dict(policy="confidence", threshold=each,
                      exit_index=leave_above(scores["confidence"], torch.tensor(each)[:, None])))
    return cases


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder, and (exit or final, image, class) logits."""
    folder = tmp_path_factory.mktemp("policies")
    network, facts = build("ViT", SIZE, n_blocks=AFTER[-1] + 1)
    heads = make_heads(["conv1_1"] * len(AFTER), facts, AFTER)
    network.save_pretrained(folder)
    exits = [{"after_block": block, "head": "conv1_1"} for block in heads]
    edit_folder(folder, str, head_tensors(heads), lambda config: config | {"early_exits": {"exits": exits}})
    pixels = random_pixels(N_IMAGES, *SIZE)
    expected = answer(network, heads, pixels)
    save_reference(folder, pixels, expected)
    return folder, torch.stack([expected[f"exit.{k}.logits"] for k in range(len(AFTER))] + [expected["logits"]])


@pytest.mark.parametrize("policy", ["confidence", "entropy", "entropy_norm", "margin", "sdn", "patience", "patience_pabee",
                                    "patient_and_confident", "pcee"])
def test_decisions(policy, model, tmp_path):
    folder, logits = model
    cases = [case for case in list_cases(logits[:-1]) if case["policy"] == policy]
    blocks = [*AFTER, AFTER[-1] + 1]
    for i, case in enumerate(cases):
        case |= {"id": f"{policy} {i}", "blocks_run": [blocks[k] for k in case["exit_index"]],
                 "prediction": [int(logits[k, image].argmax()) for image, k in enumerate(case["exit_index"])]}
    assert any(len(set(case["exit_index"])) > 2 for case in cases), "the cases say little"
    (tmp_path / "policies.json").write_text(json.dumps({"cases": cases}))
    out = verify(folder, "--policies", tmp_path / "policies.json")
    assert out.count(f"{N_IMAGES} of {N_IMAGES} decisions  ok") == len(cases), out
