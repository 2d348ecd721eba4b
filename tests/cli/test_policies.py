# SPDX-License-Identifier: MIT
"""Policies of the command: all are known and documented, and what depends on earlier frames is the same under every plan."""
import json
import re

import pytest

from conftest import ROOT, WORLD, error_line, run

LINE_FIELDS = ("frame", "status", "exit", "block", "class", "confidence", "entropy", "same_as", "change")
SCHEDULES = [("--workers", 1), ("--workers", 2, "--plan", "replicas"), ("--workers", 4, "--plan", "equal:3"),
             ("--workers", 4, "--plan", "1-5x3,6-12x1", "--batch", 4), ("--workers", 2, "--hint", "latency"),
             ("--workers", 3, "--plan", "equal:3", "--slots", 5)]


@pytest.fixture(scope="module")
def still(tmp_path_factory, clip):
    """Raw pictures: each frame of the clip's raw size stays for a while, with a little noise."""
    folder = tmp_path_factory.mktemp("still")
    path, side = folder / "still.rgb", 64
    state, frames = 1, []
    for scene in range(12):
        base = [(scene * 37 + i // 512 * 29) % 200 for i in range(side * side * 3)]
        for _ in range(1 + scene % 5 * 2):
            noisy = bytearray(base)
            for i in range(0, len(noisy), 7):
                state = (state * 1103515245 + 12345) % 2**31
                noisy[i] += state >> 20 & 3
            frames.append(bytes(noisy))
    path.write_bytes(b"".join(frames))
    return path, len(frames)


def raw(still):
    return (still[0], "--raw", "rgb24:64x64")


def names():
    listed = re.search(r"there are (.*)$", error_line(run("run", WORLD / "clip.avi", "-q", "--policy", "hope")))
    return listed.group(1).split(", ")


def test_every_policy_is_documented():
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/policies.md").read_text(), re.M)
    assert sorted(set(table) & set(names())) == sorted(names())


def test_every_policy_answers_every_frame(clip):
    for name in names():
        done = run("run", clip, "--policy", name, "--limit", 24, "-q", "--workers", 2)
        if name in ("gate", "ensemble_additive"):
            assert done.code == 2
            assert f"policy '{name}' needs a model" in error_line(done)
            continue
        assert done.code == 0, done.err
        assert [line["status"] for line in done.lines] == ["ok"] * 24


def key(line):
    return tuple(line.get(field) for field in LINE_FIELDS)


@pytest.mark.parametrize("rules", [("--policy", "temporal", "--lag", 1), ("--policy", "temporal"),
                                   ("--policy", "temporal", "--lag", 3, "--patience", 2, "--threshold", 0.3),
                                   ("--policy", "ensemble"), ("--policy", "vote", "--patience", 2)])
def test_answers_are_the_same_under_every_plan(clip, rules):
    first = None
    for schedule in SCHEDULES:
        done = run("run", clip, "-q", *rules, *schedule)
        assert done.code == 0, done.err
        answers = [key(line) for line in done.lines]
        first = first or answers
        assert answers == first, schedule
    assert len({answer[2] for answer in first}) > 1


def test_temporal_leaves_where_an_earlier_frame_says_so(clip):
    lines = run("run", clip, "-q", "--policy", "temporal", "--lag", 2, "--threshold", 0).lines
    last = max(line["exit"] for line in lines)
    assert all(line["exit"] == last for line in lines[:2])
    for before, line in zip(lines, lines[2:]):
        assert line["exit"] == last or line["class"] == before["class"]
    assert sum(line["exit"] < last for line in lines) > len(lines) / 2


def test_skipping_is_the_same_under_every_plan(still):
    first = None
    for schedule in SCHEDULES:
        for policy in (("--policy", "confidence"), ("--policy", "temporal", "--lag", 2)):
            done = run("run", *raw(still), "-q", "--skip-below", 4, *policy, *schedule, "--logits")
            assert done.code == 0, done.err
            answers = [(line["status"], line.get("same_as"), line.get("change")) for line in done.lines]
            first = first or answers
            assert answers == first, schedule
            for line in done.lines:
                if line["status"] == "skipped":
                    same = done.lines[line["same_as"]]
                    assert same["status"] == "ok" and line["change"] < 4
                    assert all(line[f] == same[f] for f in ("exit", "block", "class", "label", "confidence", "logits"))
    assert [status for status, *_ in first].count("skipped") == still[1] - 12


def test_skipped_frames_are_counted_and_audited(still, tmp_path):
    path = tmp_path / "s.json"
    done = run("run", *raw(still), "--skip-below", 4, "--audit", 1, "--summary", path)
    assert done.code == 0
    n_skipped = still[1] - 12
    assert f"{still[1]} decoded = 12 emitted + {n_skipped} skipped + 0 dropped + 0 failed" in done.err
    assert re.search(rf"skipped: .* of {n_skipped} agree", done.err)
    assert "frames skipped below a change of 4" in done.err
    summary = json.loads(path.read_text())
    assert summary["skipped"] == n_skipped and summary["audit"]["skipped"]["done"] == n_skipped
    assert sum(exit["frames"] for exit in summary["exits"]) == summary["emitted"] == 12
    assert summary["policy"]["skip_below"] == 4


def test_nothing_is_skipped_unasked(still):
    for args in ((), ("--skip-below", 0), ("--full-depth",)):
        assert {line["status"] for line in run("run", *raw(still), "-q", *args).lines} == {"ok"}
        assert all("change" not in line and "same_as" not in line for line in run("run", *raw(still), "-q", *args).lines)


def test_inputs_are_not_compared_with_each_other(still):
    lines = run("run", still[0], still[0], "--raw", "rgb24:64x64", "-q", "--skip-below", 255).lines
    assert [line["frame"] for line in lines if line["status"] == "ok"] == [0, 0]


def test_a_recorded_run_replays_what_was_computed(still, tmp_path):
    log = tmp_path / "log.jsonl"
    run("run", *raw(still), "-q", "--skip-below", 4, "-o", log)
    computed = [line["exit"] for line in run("run", *raw(still), "-q", "--skip-below", 4).lines
                if line["status"] == "ok"]
    replayed = [line["exit"] for line in run("run", *raw(still), "-q", "--replay-exits", log, "--skip-below", 4).lines]
    assert replayed == [computed[i % len(computed)] for i in range(still[1])]


def test_what_cannot_leave_is_said(clip):
    done = run("run", clip, "--policy", "patience", "--patience", 30, "--limit", 1)
    assert done.code == 0 and "no frame can leave early under patience, patience 30" in done.err
    assert "no frame can leave" not in run("run", clip, "--policy", "patience", "--patience", 2, "--limit", 1).err
    assert run("run", clip, "--policy", "patience", "--patience", 30, "--limit", 1, "-q").err == ""


def test_bad_values(clip):
    for args, words in (
            (("--policy", "confidence", "--lag", 2), "takes no lag"),
            (("--policy", "vote", "--threshold", 0.5), "takes no threshold"),
            (("--policy", "ensemble_mean", "--exit-weights", "1,2"), "got 2 weights, expected 5"),
            (("--policy", "ensemble_mean", "--exit-weights", "1,2,0,1,1"), "weight 2"),
            (("--policy", "temporal", "--unordered"), "unordered"),
            (("--skip-below", 3, "--unordered"), "unordered"),
            (("--full-depth", "--lag", 2), "--full-depth")):
        done = run("run", clip, "-q", *args)
        assert done.code == 2, done.err
        assert words in error_line(done)
