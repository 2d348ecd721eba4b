# SPDX-License-Identifier: MIT
"""`plan`: cores of other machines, costs kept in files and in the cache, and the plan as a graph."""
import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import MODEL, error_line, run


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """Costs of the embedded model, made up: one type of core, every unit 1 ms, warm 0.5 ms."""
    path = tmp_path_factory.mktemp("profile") / "p.json"
    assert run("plan", "--model", MODEL, "--save-profile", path, "--no-profile-cache").code == 0
    data = json.loads(path.read_text())
    n = len(data["weights_bytes"])
    data["core_types"] = [{"name": "core", "private_cache_bytes": 1 << 20, "cold_ns": [1e6] * n, "warm_ns": [5e5] * n,
                           "batch_ns": [1e6] * n}]
    path.write_text(json.dumps(data))
    return path


def plan(profile, *args):
    done = run("plan", "--model", MODEL, "--profile", profile, "--format", "json", *args)
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_saved_costs_are_used(profile):
    data = plan(profile, "--cores", 1)
    assert all(unit["cold_ms"] == 1 and unit["warm_ms"] == 0.5 for unit in data["units"])
    assert data["best"]["fps"] == pytest.approx(1000 / sum(unit["reach"] for unit in data["units"]))
    assert plan(profile, "--cores", 1) == data


def test_more_and_faster_cores(profile):
    one = plan(profile, "--cores", 1, "--plan", "replicas")["best"]["fps"]
    for cores, worth in (("64", 64), ("big=4,little=4", 5.6), ("a=2@1,b=2@0.5", 3), ("a=1@4", 1)):
        best = plan(profile, "--cores", cores, "--plan", "replicas")["best"]
        assert best["fps"] == pytest.approx(worth * one, rel=1e-6), cores
        solved = plan(profile, "--cores", cores)["best"]
        assert solved["fps"] >= 0.99 * best["fps"]
        assert 0 < solved["busy_share"] <= 1 + 1e-9
        groups = solved["groups"]
        assert sum(g["workers"] for g in groups) == solved["workers"]
        assert all(sum(g["cores"].values()) == g["workers"] for g in groups)
        assert max(g["load_ms"] for g in groups) == pytest.approx(1000 / solved["fps"])


def test_text_names_the_cores(profile):
    done = run("plan", "--model", MODEL, "--profile", profile, "--cores", "big=1,little=3", "--explain", "--plan", "1-6,7-12")
    assert done.code == 0, done.err
    assert re.search(r"^cores +1 big \(speed 1.00\) \+ 3 little \(speed 0.40\)", done.out, re.M)
    groups = re.findall(r"^ +\d+  \S+ +\d+ .*  ((?:\d+ (?:big|little)(?: \+ )?)+)$", done.out, re.M)
    assert len(groups) == 2 and "1 big" in " ".join(groups) and "little" in " ".join(groups)
    assert "The plan was given" in done.out


def test_dot(profile, tmp_path):
    done = run("plan", "--model", MODEL, "--profile", profile, "--dot", "--cores", "big=2,little=2", "--plan", "1-3,4-12",
               "--exit-share", "40,20,20,10,10")
    assert done.code == 0, done.err
    assert done.out.startswith("digraph plan {\n") and done.out.endswith("}\n")
    assert done.out.count("{") == done.out.count("}") and done.out.count('"') % 2 == 0
    assert re.search(r'g0 -> g1 \[label="60.0 %"\]', done.out)  # the first exit stands after block 2
    leaving = [float(x) for x in re.findall(r'g\d -> e\d \[label="([\d.]+) %"\]', done.out)]
    assert len(leaving) == 5 and sum(leaving) == pytest.approx(100, abs=0.3)
    if shutil.which("dot"):
        drawn = subprocess.run(["dot", "-Tsvg"], input=done.out.encode(), stdout=subprocess.PIPE, check=True).stdout
        assert b"<svg" in drawn


def notes(done):
    return [line for line in done.err.splitlines() if line.startswith("eestream: profile cache: ")]


def test_cache(tmp_path, clip):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "new/folder")}
    args = ["plan", "--model", MODEL, "-v", "--format", "json"]
    first = run(*args, env=env)
    assert "written" in notes(first)[0]
    file, = (tmp_path / "new/folder/eestream/profiles").iterdir()
    assert re.fullmatch(r"[0-9a-f]{16}\.json", file.name)
    again = run(*args, env=env)
    assert "used" in notes(again)[0] and again.out == first.out
    shared = run("run", clip, "--model", MODEL, "-v", "-o", tmp_path / "r.jsonl", "--workers", 2, env=env)
    assert shared.code == 0 and "used" in notes(shared)[0]  # one cache for all verbs
    other = run(*args, "--decode", "fast", env=env)
    assert "written" in notes(other)[0]
    before = file.read_bytes()
    none = run(*args, "--no-profile-cache", env=env)
    assert none.code == 0 and not notes(none) and file.read_bytes() == before


def test_unusable_caches_are_passed_over(tmp_path, clip):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    args = ["plan", "--model", MODEL]
    assert run(*args, env=env).code == 0
    file, = (tmp_path / "eestream/profiles").iterdir()
    for text in ("", "{}", "not json", file.read_text().replace('"key": "', '"key": "x'), file.read_text()[:-200]):
        file.write_text(text)
        done = run(*args, "-v", env=env)
        assert done.code == 0
        unusable, written = notes(done)
        assert "unusable" in unusable and file.name in unusable and "written" in written
        file.write_text(text)
        assert not run(*args, env=env).err  # silent
    (tmp_path / "file").write_text("in the way")
    for base in (tmp_path / "file", "/proc/nowhere"):
        done = run(*args, "-v", env={**env, "XDG_CACHE_HOME": str(base)})
        assert done.code == 0 and "not written" in notes(done)[-1]
    homeless = {k: v for k, v in env.items() if k not in ("XDG_CACHE_HOME", "HOME")}
    done = run("run", clip, "-q", env=homeless)
    assert done.code == 0 and not done.err


@pytest.mark.parametrize("cores,words", [
    ("0", "1 to 256"),
    ("300", "300 cores"),
    ("many", "not a number of cores"),
    ("big=4,huge=1", "speed of 'huge'"),
    ("big=4,little=4@0", "speed '0'"),
    ("a=200@1,b=100@1", "300 cores"),
    ("big=1,big=1", "given twice"),
])
def test_bad_cores(cores, words):
    done = run("plan", "--model", MODEL, "--cores", cores)
    assert done.code == 2 and words in error_line(done) and not done.out


def test_bad_profiles(profile, tmp_path):
    data = json.loads(profile.read_text())
    for change, words in (({"batch": -1}, "'batch' is -1"), ({"format": "x"}, "'format' is \"x\""),
                          ({"core_types": []}, "'core_types' is []"), ({"weights_bytes": [1, 2, 3]}, "expected 3")):
        (tmp_path / "bad.json").write_text(json.dumps({**data, **change}))
        done = run("plan", "--model", MODEL, "--profile", tmp_path / "bad.json")
        assert done.code == 2 and words in error_line(done) and "bad.json" in done.err, done.err
    done = run("plan", "--arch", "vit-ti16", "--profile", profile)
    assert done.code == 2 and "units" in error_line(done)
    done = run("plan", "--model", MODEL, "--profile", tmp_path / "gone.json")
    assert done.code == 2 and "gone.json" in error_line(done)
    done = run("plan", "--model", MODEL, "--profile", profile, "--save-profile", tmp_path / "no/such/folder.json")
    assert done.code == 5 and "folder.json" in error_line(done)
    done = run("plan", "--model", MODEL, "--profile", profile, "--dot", "--format", "json")
    assert done.code == 2 and "--dot" in error_line(done)
