# SPDX-License-Identifier: MIT
"""`plan --simulate` and `plan --compare`: arithmetic and contract. Costs come from one profile, so that nothing depends on
this machine's speed."""
import json

import pytest
from conftest import WORLD, error_line, run

ARCH = ["--arch", "vit-ti16"]  # 12 blocks, 8 exits
MIX = "40,20,10,10,5,5,4,3,3"


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """Measured once, then made even: a block takes 10 ms (attention 3.6), all else nothing, no cache is large enough."""
    path = tmp_path_factory.mktemp("profile") / "p.json"
    assert run("plan", *ARCH, "--save-profile", path, "--no-profile-cache").code == 0
    data = json.loads(path.read_text())

    def even(values, names):
        return [3.6e6 if n.endswith(".attn") else 6.4e6 if n.endswith(".mlp") else 0 for n in names]

    names = [u["name"] for u in json.loads(run("plan", *ARCH, "--profile", path, "--format", "json").out)["units"]]

    def walk(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if isinstance(value, list) and len(value) == len(names) and key.endswith("_ns"):
                    node[key] = even(value, names)
                elif key == "private_cache_bytes":
                    node[key] = 0
                else:
                    walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)
    walk(data)
    path.write_text(json.dumps(data))
    return path


@pytest.fixture
def simulate(profile):
    def go(*args, model=ARCH):
        done = run("plan", *model, "--profile", profile, "--simulate", "--format", "json", *args)
        assert done.code == 0, done.err
        return json.loads(done.out)
    return go


def test_json_is_complete(simulate):
    data = simulate("--cores", 8)
    for key in ("model", "kernels", "cores", "core_types", "mix", "exit_share", "plan", "plan_fps", "frames", "rate_fps", "take",
                "help", "ordered", "fps", "busy_share", "busy", "latency_ms", "reorder_wait_ms", "helped_share", "replans"):
        assert key in data, key
    latency = data["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]
    assert data["cores"] == 8 and len(data["busy"]) == 8 and data["frames"] == 10000
    assert "0.8" in data["mix"] and sum(data["exit_share"]) == pytest.approx(1)


def test_fps_is_work_by_cores(simulate):
    blocks = sum(n * (4 + e if e < 8 else 12) for e, n in enumerate(map(int, MIX.split(",")))) / 100
    for cores in (1, 2, 12):
        data = simulate("--cores", cores, "--exit-share", MIX, "--plan", "replicas")
        assert data["fps"] == pytest.approx(cores * 100 / blocks, rel=0.005)
        assert data["busy_share"] > 0.995
    for how in (["--exit-share", "0,0,0,0,0,0,0,0,1"], ["--full-depth"]):
        full = simulate("--cores", 1, "--frames", 50, *how)
        assert full["fps"] == pytest.approx(100 / 12) and full["frames"] == 50


def test_classic_pipeline_waits_for_its_slowest_stage(simulate):
    args = ["--cores", 3, "--plan", "equal:3", "--exit-share", "1,0,0,0,0,0,0,0,0"]
    stays = simulate(*args, "--no-help")
    assert stays["fps"] == pytest.approx(25, rel=0.001) and stays["helped_share"] == 0 and not stays["help"]
    helps = simulate(*args)
    assert helps["fps"] == pytest.approx(75, rel=0.005) and helps["helped_share"] > 0.5


def test_core_types_and_sizes(simulate):
    data = simulate("--cores", "big=4,little=4@0.5", "--plan", "replicas")
    assert data["fps"] == pytest.approx(6 * simulate("--cores", 1)["fps"], rel=0.01)
    assert [(t["name"], t["cores"], t["speed"]) for t in data["core_types"]] == [("big", 4, 1), ("little", 4, 0.5)]
    many = simulate("--cores", 256)
    assert many["cores"] == 256 and many["busy_share"] > 0.95
    few = simulate("--cores", "big=4,little=4", "--workers", 5)
    assert few["cores"] == 5 and few["core_types"][1]["cores"] == 1


def test_paced_source(simulate):
    data = simulate("--cores", 4, "--rate", 10, "--exit-share", "1,0,0,0,0,0,0,0,0", "--frames", 500)
    assert data["fps"] == pytest.approx(10, rel=0.01) and data["rate_fps"] == 10
    assert data["latency_ms"]["max"] == pytest.approx(40)  # four blocks, nobody waits
    jitter = simulate("--cores", 4, "--rate", 10, "--exit-share", "1,0,0,0,0,0,0,0,0", "--frames", 500, "--jitter", 0.2)
    assert jitter["latency_ms"]["max"] > 45 and jitter["latency_ms"]["mean"] == pytest.approx(40, rel=0.05)


def test_recorded_runs(simulate, tmp_path):
    log = tmp_path / "run.jsonl"
    log.write_text("".join(f'{{"exit": {e}}}\n' for e in (0, 8, 0, 8)))
    data = simulate("--cores", 1, "--log", log, "--frames", 100)
    assert data["fps"] == pytest.approx(100 / 8) and "4 recorded frames" in data["mix"]
    assert simulate("--cores", 1, "--replay-exits", log, "--frames", 100)["fps"] == data["fps"]


@pytest.mark.parametrize("take", ["deepest", "oldest", "upstream"])
def test_take_orders(simulate, take):
    data = simulate("--cores", 4, "--plan", "1-2,3-4,5-8,9-12", "--take", take)
    assert data["take"] == take and data["busy_share"] > 0.99
    assert simulate("--cores", 4, "--plan", "1-2,3-4,5-8,9-12", "--take", take, "--unordered")["reorder_wait_ms"] == 0


def test_repeats(simulate):
    args = ["--cores", "a=3@1,b=2@0.3", "--jitter", 0.1]
    assert simulate(*args) == simulate(*args)


def test_text_and_trained_model(profile):
    out = run("plan", *ARCH, "--profile", profile, "--simulate", "--cores", 4).out
    for word in ("simulated", "fps", "busy", "p99", "plan ", "exit mix"):
        assert word in out
    done = run("plan", "--simulate", "--cores", "big=2,little=2", "--exit-share", "5,2,1,1,1")
    assert done.code == 0 and "2 big (speed 1.00) + 2 little (speed 0.40)" in done.out, done.err
    done = run("plan", "--model", WORLD / "model", "--simulate", "--format", "json")
    assert done.code == 0 and json.loads(done.out)["mix"] is None


def test_compare(profile):
    done = run("plan", *ARCH, "--profile", profile, "--compare", "--format", "json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["rows"]
    assert [(r["cores"], r["mix"]) for r in rows] == [(c, m) for c in ("4", "8", "12", "64") for m in ("0.8", "0.9", "0.99", None)]
    for row in rows:
        assert row["planned"]["busy_share"] >= 0.95 and row["planned"]["fps"] >= 0.99 * row["replicas"]["fps"]
        assert row["equal_depth"]["fps"] <= row["best_cuts"]["fps"] * 1.001 <= row["planned"]["fps"] * 1.01
    assert rows[0]["equal_depth"]["busy_share"] == pytest.approx(0.48, abs=0.01)
    out = run("plan", *ARCH, "--profile", profile, "--compare", "--cores", "2,3", "--exit-share", MIX).out
    assert len([line for line in out.splitlines() if line.startswith(("| 2 |", "| 3 |"))]) == 4
    assert run("plan", *ARCH, "--profile", profile, "--compare", "--cores", "big=1,little=1").code == 0


@pytest.mark.parametrize("args,words", [
    (["--simulate", "--cores", "eight"], "eight"),
    (["--simulate", "--cores", "0"], "0"),
    (["--simulate", "--cores", "257"], "257"),
    (["--simulate", "--cores", "wide=4"], "wide"),
    (["--simulate", "--exit-share", "1,2,3"], "needs 9"),
    (["--simulate", "--log", "gone.jsonl"], "gone.jsonl"),
    (["--simulate", "--full-depth", "--exit-share", MIX], "--full-depth"),
    (["--simulate", "--profile", "gone.json"], "gone.json"),
    (["--simulate", "--cores", "2", "--plan", "equal:3"], "equal:3"),
    (["--simulate", "--cores", "2", "--workers", "3"], "3 workers"),
    (["--simulate", "--cores", "4", "--slots", "3"], "3 slots"),
    (["--simulate", "--take", "best"], "deepest|oldest|upstream"),
    (["--simulate", "--dot"], "--dot"),
    (["--simulate", "--rate", "0"], "--rate"),
    (["--rate", "5"], "--simulate"),
    (["--no-help"], "--simulate"),
    (["--frames", "10"], "--simulate"),
    (["--compare", "--plan", "replicas"], "replicas"),
    (["--compare", "--cores", "4,,8"], "cores"),
    (["--compare", "--cores", "4,x"], "4,x"),
])
def test_bad_input(args, words, profile):
    done = run("plan", *ARCH, *([] if "--profile" in args else ["--profile", profile]), *args)
    assert done.code == 2 and words in error_line(done), done.err


def test_published_mixes_need_their_exits():
    done = run("plan", "--model", WORLD / "model", "--compare")
    assert done.code == 2 and "8 exits" in done.err


def test_full_output(profile):
    with open("/dev/full", "wb") as full:
        for how in ("--simulate", "--compare"):
            done = run("plan", *ARCH, "--profile", profile, how, stdout=full)
            assert done.code == 5
            error_line(done)
