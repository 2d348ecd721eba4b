# SPDX-License-Identifier: MIT
"""`plan`, `bench`, `demo` and replayed exits: their arithmetic, not the speed of this machine."""
import csv
import io
import json
import re

import pytest
from conftest import MODEL, SANITIZED, error_line, run, shared

COUNTS = [50, 30, 10, 7, 3]


@pytest.fixture
def counts_file(tmp_path):
    exits = {f"exit_{k}": {"count": n} for k, n in zip((2, 4, 6, 11), COUNTS)}
    runs = {"first": {"exits": {"final": {"count": COUNTS[-1]}, **dict(reversed(exits.items()))}},
            "all_last": {"exits": {"exit_2": {"count": 0}, "exit_4": {"count": 0}, "exit_6": {"count": 0},
                                   "exit_11": {"count": 0}, "final": {"count": 1}}}}
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"runs": runs}))
    return path


def exits_of(*args):
    done = run("run", *args, "-q")
    assert done.code == 0, done.err
    return [line["exit"] for line in done.lines]


def test_replayed_counts_give_the_mix(clip, counts_file):
    args = [clip] * 3 + ["--replay-exits", counts_file, "--limit", 700]
    exits = exits_of(*args)
    for e, n in enumerate(COUNTS):
        assert abs(exits.count(e) - 7 * n) <= 2
    window = exits[:64]
    assert abs(window.count(0) - 32) <= 1  # every window of 64 holds the mix
    assert window != sorted(window)
    assert exits == exits_of(*args, "--workers", 3)
    assert set(exits_of(clip, "--replay-exits", counts_file, "--replay-run", "all_last")) == {4}


def test_recorded_lines_are_replayed_in_order(clip, tmp_path):
    path = tmp_path / "r.jsonl"
    assert run("run", clip, "-q", "-o", path).code == 0
    recorded = [json.loads(line)["exit"] for line in path.read_text().splitlines()]
    assert len(set(recorded)) > 2
    assert exits_of(clip, "--replay-exits", path, "--policy", "confidence") == recorded


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"exit":99}', '{"runs":{}}', '{"runs":{"a":{"exits":{}}}}',
                                  '{"runs":{"a":{"exits":{"exit_1":{"count":1},"final":{"count":2}}}}}',
                                  '{"runs":{"a":{"exits":{"x":{},"b":{},"c":{},"d":{},"e":{}}}}}'])
def test_bad_replay_files(text, clip, tmp_path):
    (tmp_path / "r.json").write_text(text)
    done = run("run", clip, "-q", "--replay-exits", tmp_path / "r.json")
    assert done.code == 2 and "r.json" in error_line(done)


def test_published_counts_fit_the_random_models():
    path = shared("lgvit_cifar100_exits.json")
    runs = json.loads(path.read_text())["runs"]
    name = list(runs)[-1]
    data = json.loads(run("plan", "--arch", "vit-ti16", "--replay-exits", path, "--replay-run", name, "--format",
                          "json").out)
    first = runs[name]["exits"]["exit_3"]["count"] / sum(e["count"] for e in runs[name]["exits"].values())
    reach = {unit["name"]: unit["reach"] for unit in data["units"]}
    assert reach["block4.mlp"] == 1 and reach["block5.attn"] == pytest.approx(1 - first, abs=0.001)
    assert name in data["exit_mix"]


def test_plan_predictions_add_up():
    data = json.loads(run("plan", "--workers", 4, "--exit-share", "40,20,20,10,10", "--format", "json").out)
    names = [unit["name"] for unit in data["units"]]
    for plan in [data["best"], *data["alternatives"]]:
        groups = plan["groups"]
        assert groups[0]["first"] == names[0] and groups[-1]["last"] == names[-1]
        assert sum(g["workers"] for g in groups) == plan["workers"]
        assert sum(g["share"] for g in groups) == pytest.approx(1)
        slowest = max(g["work_ms"] / g["workers"] for g in groups)
        assert plan["fps"] == pytest.approx(1000 / slowest)
        busy = sum(g["work_ms"] for g in groups) / (slowest * plan["workers"])
        assert plan["busy_share"] == pytest.approx(busy)
    assert data["best"]["fps"] >= max(p["fps"] for p in data["alternatives"]) * 0.985
    assert {"1 worker", "replicas", "equal:4", "equal:2"} <= {p["name"] for p in data["alternatives"]}


@pytest.mark.parametrize("plan", ["replicas", "equal:3", "1-2x1,3-12x2", "1-block4.attnx1,block4.mlp-8x1,9-12x1"])
def test_printed_plan_is_read_back(plan):
    def printed(text):
        return re.search(r"^plan +(\S+)$", run("plan", "--workers", 3, "--plan", text).out, re.M)[1]
    once = printed(plan)
    assert printed(once) == once


def test_explain_says_why():
    out = run("plan", "--explain", "--workers", 2).out
    for word in ("unit ", "warm ms", "alternative", "1 worker", "replicas", "equal:2", "this plan"):
        assert word in out
    assert re.search(r"(Replicas win|Cutting wins)", out)
    assert "The plan was given" in run("plan", "--explain", "--workers", 2, "--plan", "equal:2").out


BENCH = ["bench", "--reps", "2", "--frames", "24"]


@pytest.mark.parametrize("args,has_exits,n_configs", [
    (["--arch", "vit-ti16"], True, 6),
    (["--arch", "vit-ti16-plain"], False, 3),
])
def test_bench_json_is_complete(args, has_exits, n_configs):
    if SANITIZED:
        pytest.skip("minutes under sanitizers; the small model is measured below")
    done = run(*BENCH, *args, "--format", "json", "--workers", 2, "--unit-table")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["cpu"] and data["cores_allowed"] >= 1 and data["build"]
    model, = data["models"]
    configs = {c["name"]: c for c in model["configurations"]}
    assert len(configs) == n_configs and "1 worker" in configs and "replicas" in configs and "plan" in configs
    assert ("built-in mix" in model["exit_mix"]) if has_exits else model["exit_mix"] is None
    for name, c in configs.items():
        assert c["exits"] == name.endswith("exits")
        assert len(c["reps"]) == 2 and len(c["workers"]) == (1 if "1 worker" in name else 2)
        fps = sorted(r["fps"] for r in c["reps"])
        assert c["fps"]["median"] == pytest.approx(sum(fps) / 2)
        assert c["fps"]["min"] == pytest.approx(fps[0]) and c["fps"]["max"] == pytest.approx(fps[1])
        assert all(r["fps"] == pytest.approx(c["frames"] / r["wall_s"], rel=1e-4) for r in c["reps"])
        assert sum(c["by_exit"]) == 2 * c["frames"]
        # how the machine shares out its cores is its own business: a worker may have had nothing
        assert all(0 <= w["busy"] <= 1.5 for w in c["workers"]) and sum(w["busy"] for w in c["workers"]) > 0
        lat = c["latency_ms"]
        assert 0 < lat["p50"] <= lat["p90"] <= lat["p99"] <= lat["p99.9"]
        if not c["exits"]:
            assert sum(c["by_exit"][:-1]) == 0
        else:
            ratios = [r["fps"] / s["fps"] for r, s in zip(c["reps"], configs[name.replace(" + exits", "")]["reps"])]
            assert c["ratio_no_exits"]["median"] == pytest.approx(sum(ratios) / 2, rel=1e-4)
    assert {unit["name"] for unit in model["units"]} >= {"ingest", "embed", "block12.mlp", "final"}


def test_bench_markdown_and_csv(tmp_path, clip):
    args = [*BENCH, "--model", MODEL, "--input", clip, "--workers", 2]
    done = run(*args, "-o", tmp_path / "b.md", "--unit-table")
    assert done.code == 0 and not done.out
    text = (tmp_path / "b.md").read_text()
    assert len(re.findall(r"^\| (1 worker|replicas|plan)( \+ exits)? ", text, re.M)) == 6
    for word in ("compiler", "cores allowed", "kernels", "busy %", "fastest:", "max RSS", "| block12.mlp |", str(clip)):
        assert word in text, word
    done = run(*args, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["configuration"] for row in rows[3:]] == ["1 worker", "replicas", "plan"]
    assert all(float(row["fps_min"]) <= float(row["fps_median"]) <= float(row["fps_max"]) for row in rows)


def test_bench_of_a_trained_model_uses_its_own_exits(clip):
    done = run(*BENCH, "--model", MODEL, "--input", clip, "--format", "json")
    model, = json.loads(done.out)["models"]
    assert model["exit_mix"] is None and not model["random_weights"]
    with_exits = [c for c in model["configurations"] if c["exits"]]
    assert all(sum(c["by_exit"][:-1]) > 0 for c in with_exits)


def test_bench_replays_the_very_same_mix_everywhere(clip, counts_file):
    done = run("bench", "--model", MODEL, "--input", clip, "--reps", 3, "--frames", 70, "--workers", 2, "--replay-exits",
               counts_file, "--take", "oldest", "--hint", "latency", "--batch", 2, "--no-replan", "--format", "json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert (data["take"], data["hint"], data["batch"]) == ("oldest", "latency", "2")
    mixes = [c["by_exit"] for c in data["models"][0]["configurations"] if c["exits"]]
    assert len(mixes) == 3 and all(mix == mixes[0] for mix in mixes)
    assert sum(mixes[0]) == 3 * 128  # two whole windows a repetition
    assert all(abs(n / 384 - c / 100) < 0.02 for n, c in zip(mixes[0], COUNTS))


@pytest.mark.parametrize("form", ["json", "csv", "md"])
def test_bench_under_load(form, clip):
    """Every configuration is offered the same share of what replicas did; latency counts from when a frame was due."""
    done = run(*BENCH, "--model", MODEL, "--input", clip, "--workers", 2, "--load", 0.5, "--format", form)
    assert done.code == 0, done.err
    if form == "md":
        assert len(re.findall(r"^\| (?:1 worker|replicas|plan)", done.out, re.M)) == 12
        assert "50 % of what replicas can do" in done.out
        return
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(done.out)))
        assert all(float(row["load_p50_ms"]) <= float(row["load_p99_ms"]) for row in rows) and len(rows) == 6
        return
    configs = json.loads(done.out)["models"][0]["configurations"]
    by_name = {c["name"]: c for c in configs}
    for c in configs:
        replicas = by_name["replicas + exits" if c["exits"] else "replicas"]
        assert c["load"]["offered_fps"] == pytest.approx(0.5 * replicas["fps"]["median"], rel=1e-4)
        ms = c["load"]["latency_ms"]
        assert 0 < ms["p50"] <= ms["p90"] <= ms["p99"] <= ms["p99.9"]
        assert c["load"]["answered_fps"] > 0
        assert c["load"]["overloaded"] == (c["load"]["answered_fps"] < 0.95 * c["load"]["offered_fps"])


def test_bench_length_follows_min_time(clip):
    longest = 0
    for _ in range(5):  # set from a warm-up's speed, which a busy machine may not keep
        done = run("bench", "--model", MODEL, "--input", clip, "--reps", 1, "--min-time", 0.3, "--format", "json")
        model, = json.loads(done.out)["models"]
        replicas = next(c for c in model["configurations"] if c["name"] == "replicas + exits")
        longest = max(longest, replicas["reps"][0]["wall_s"])
        if longest > 0.1:
            break
    assert longest > 0.1


def test_bench_errors(tmp_path, clip):
    done = run("bench", "--input", tmp_path / "gone.avi")
    assert done.code == 3 and "gone.avi" in error_line(done)
    done = run("bench", "--arch", "nonsense,vit-ti16")
    assert done.code == 2 and "nonsense" in error_line(done)
    done = run(*BENCH, "--model", MODEL, "--input", clip, "-o", "/dev/full")
    assert done.code == 5
    error_line(done)


def test_demo(tmp_path, labels):
    done = run("demo", "-o", tmp_path / "d.jsonl")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(labels)))
    right = sum(line["label"] == label for line, label in zip(lines, labels))
    accuracy = re.search(r"with exits .* accuracy ([\d.]+) %", done.out)[1]
    assert float(accuracy) == pytest.approx(100 * right / len(labels), abs=0.01)
    mean = sum(line["block"] for line in lines) / len(lines)
    assert re.search(r"with exits .* mean depth ([\d.]+) of 12", done.out)[1] == f"{mean:.2f}"
    assert re.search(r"full depth .* mean depth 12.00 of 12", done.out)
    assert re.search(r"speed-up +[\d.]+ times", done.out)
    assert len(re.findall(r"^  eestream ", done.out, re.M)) in (3, 4)
