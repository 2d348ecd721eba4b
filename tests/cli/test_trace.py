# SPDX-License-Identifier: MIT
"""--trace, --timing and --audit: events nest, numbers agree with the lines and the summary, files stay readable."""
import collections
import json
import os
import resource
import signal
import subprocess

import pytest
from conftest import COMMAND, PATIENCE_S, WORLD, error_line, run, wait_for

ENDLESS = "synthetic:64x64,frames=1000000000"


def nanoseconds(event, field):
    micro, nano = f"{event[field]:.3f}".split(".")
    return int(micro) * 1000 + int(nano)


def check_track(events):
    """Slices nest: one begins when those before it have ended, or ends before they do. In file order, which is that of
    their beginnings, parents first."""
    open_ends, last_begin = [], 0
    for event in events:
        begin = nanoseconds(event, "ts")
        end = begin + nanoseconds(event, "dur")
        assert begin >= last_begin
        last_begin = begin
        while open_ends and open_ends[-1][0] <= begin and event["cat"] != "unit":
            open_ends.pop()
        while open_ends and open_ends[-1][1] == "unit":
            assert open_ends.pop()[0] <= begin
        if event["cat"] == "unit":
            assert open_ends and open_ends[-1][1] == "visit", "a unit without its visit"
        if open_ends:
            assert end <= open_ends[-1][0]
        open_ends.append((end, event["cat"]))


def read_trace(path, n_workers=None):
    """The events by phase, after everything about their form was checked."""
    trace = json.loads(path.read_text(), parse_float=float)
    phases = collections.defaultdict(list)
    for event in trace["traceEvents"]:
        phases[event["ph"]].append(event)
    names = {e["tid"]: e["args"]["name"] for e in phases["M"] if e["name"] == "thread_name"}
    assert sorted(names) == list(range(len(names))) and all(n.startswith(f"worker {t}") for t, n in names.items())
    assert n_workers is None or len(names) == n_workers
    tracks = collections.defaultdict(list)
    for event in phases["X"]:
        assert event["pid"] == 1 and event["tid"] in names and event["ts"] >= 0
        tracks[event["tid"]].append(event)
    for events in tracks.values():
        check_track(events)
    for event in phases["C"]:
        assert event["args"]["frames"] >= 0 and event["name"].startswith("frames ")
    for event in phases["i"]:
        assert event["s"] == "g" and event["args"]
    assert set(phases) <= {"M", "X", "C", "i"}
    return trace, phases


def of_kind(phases, kind):
    return [e for e in phases["X"] if e["cat"] == kind]


@pytest.mark.parametrize("args", [[], ["--plan", "1-3x1,4-12x2", "--workers", 3], ["--batch", 1], ["--workers", 1],
                                  ["--hint", "latency", "--workers", 2]])
def test_trace_agrees_with_lines_and_summary(args, clip, tmp_path):
    done = run("run", clip, "-q", "--timing", "--audit", 0.3, "--trace", tmp_path / "t.json", "--summary",
               tmp_path / "s.json", *args)
    assert done.code == 0, done.err
    s = json.loads((tmp_path / "s.json").read_text())
    trace, phases = read_trace(tmp_path / "t.json", s["workers"])
    assert s["trace"]["events"] == sum(len(phases[p]) for p in "XCi")
    assert s["trace"]["lost"] == trace["otherData"]["lost_events"] == 0
    visits = of_kind(phases, "visit")
    lines = done.lines
    assert sum(v["args"]["batch"] for v in visits) == sum(len(line["visits"]) for line in lines)
    assert {v["args"]["frame"] for v in visits} <= {line["frame"] for line in lines}
    assert len(of_kind(phases, "audit")) == s["audit"]["done"] + s["audit"]["missed"]
    unit_names = [row["name"] for row in json.loads(run("plan", "--format", "json").out)["units"]]
    assert {u["name"] for u in of_kind(phases, "unit")} <= set(unit_names)
    assert sum(u["args"]["batch"] for u in of_kind(phases, "unit") if u["name"] == "ingest") == len(lines)
    for v in visits:
        inside = [u for u in of_kind(phases, "unit") if u["tid"] == v["tid"] and
                  v["ts"] <= u["ts"] and u["ts"] + u["dur"] <= v["ts"] + v["dur"] + 0.0005]
        at = [unit_names.index(u["name"]) for u in inside]
        assert at == list(range(at[0], at[0] + len(at)))  # in chain order, none left out


def test_visits_of_a_line_follow_the_frame(clip, tmp_path):
    done = run("run", clip, "-q", "--timing", "--plan", "1-3x1,4-12x1", "--workers", 2)
    unit_names = [row["name"] for row in json.loads(run("plan", "--format", "json").out)["units"]]
    for line in done.lines:
        units = [v["units"].rsplit("-", 1) for v in line["visits"]]
        at = [(unit_names.index(u[0]), unit_names.index(u[-1])) for u in units]
        assert at[0][0] == 0 and all(a[1] + 1 == b[0] for a, b in zip(at, at[1:]))
        assert all(v["worker"] in (0, 1) and v["group"] in (0, 1) and v["batch"] >= 1 for v in line["visits"])
        spent = sum(v["wait_ms"] + v["run_ms"] for v in line["visits"])
        assert spent <= line["latency_ms"] + 0.01 * len(line["visits"]) + 0.01
    assert "visits" not in run("run", clip, "-q", "--limit", 1).lines[0]


def test_audit_reports_agreement_with_an_interval(clip, tmp_path):
    done = run("run", clip, "--audit", 1, "--format", "none", "--summary", tmp_path / "s.json")
    s = json.loads((tmp_path / "s.json").read_text())
    early = sum(e["frames"] for e in s["exits"][:-1])
    a = s["audit"]
    assert 0 < a["done"] + a["missed"] <= early
    assert a["agreed"] <= a["done"] and 0 <= a["low"] <= a["agreement"] <= a["high"] <= 1
    assert a["agreement"] == pytest.approx(a["agreed"] / a["done"])
    assert sum(e["done"] for e in a["exits"]) == a["done"] and sum(e["agreed"] for e in a["exits"]) == a["agreed"]
    assert 0 < a["busy_share"] < 1
    n, p, z = a["done"], a["agreement"], 1.959964  # Wilson's interval solves (p - x)^2 = z^2 x (1 - x) / n
    for x in (a["low"], a["high"]):
        assert (p - x) ** 2 == pytest.approx(z * z * x * (1 - x) / n, abs=1e-6)
    assert "agree (95 % confidence" in done.err
    assert "audit" not in run("run", clip, "--format", "none").err


def test_audited_answers_are_the_answers(mjpeg):
    def answers(*args):
        return [{k: v for k, v in line.items() if k != "latency_ms"} for line in run("run", mjpeg, "-q", "--logits",
                                                                                    *args).lines]
    assert answers("--audit", 1) == answers()


def test_trace_of_live_streams_tells_degrade_levels(mjpeg, tmp_path):
    done = run("run", "--realtime", mjpeg, mjpeg, "-q", "--fps", 100000, "--workers", 1, "--kernels", "scalar",
               "--backlog", 60, "--slots", 256, "--policy", "confidence", "--threshold", 1, "--degrade-thresholds", 0,
               "--trace", tmp_path / "t.json")
    assert done.code == 0, done.err
    _, phases = read_trace(tmp_path / "t.json", 1)
    levels = [float(e["args"]["level"]) for e in phases["i"] if "degraded" in e["name"]]
    assert levels and all(0 <= level <= 1 for level in levels)
    assert any(e["name"] == "frames not yet begun" and e["args"]["frames"] > 0 for e in phases["C"])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_trace_tells_that_cores_were_taken_away_and_given_back(tmp_path):
    path = tmp_path / "t.json"
    cores = os.sched_getaffinity(0)
    process = subprocess.Popen([COMMAND, "run", ENDLESS, "-q", "-o", "/dev/null", "--trace", path])
    wait_for(lambda: path.exists() and path.stat().st_size > 20000, process)
    for n, mask in ((1, {min(cores)}), (len(cores), cores)):
        def follow():
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                os.sched_setaffinity(int(thread), mask)
            return f'"{n} cores"' in path.read_text()
        wait_for(follow, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    _, phases = read_trace(path)
    counts = [int(e["args"]["cores"]) for e in phases["i"] if e["name"].endswith(" cores")]
    assert counts[0] == 1 and counts[-1] == len(cores)


def test_full_disk_is_exit_5(mjpeg):
    done = run("run", mjpeg, "-q", "--format", "none", "--trace", "/dev/full")
    assert done.code == 5 and "/dev/full" in error_line(done)


@pytest.mark.parametrize("limit", [3000, 20000])
def test_disk_that_fills_up_leaves_a_readable_trace(limit, clip, tmp_path):
    path = tmp_path / "t.json"
    done = run("run", clip, "-q", "-o", "/dev/null", "--trace", path,
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.code == 5 and "t.json" in error_line(done)
    read_trace(path)


def test_file_that_cannot_be_made(mjpeg):
    done = run("run", mjpeg, "-q", "--format", "none", "--trace", "/no/such/folder/t.json")
    assert done.code == 5 and "/no/such/folder" in error_line(done)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_trace_of_a_run_that_was_cut_short_is_readable(number, tmp_path):
    path = tmp_path / "t.json"
    process = subprocess.Popen([COMMAND, "run", ENDLESS, "-q", "-o", "/dev/null", "--trace", path])
    wait_for(lambda: path.exists() and path.stat().st_size > 20000, process)
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == (130 if number == signal.SIGINT else -number)
    _, phases = read_trace(path)
    assert len(phases["X"]) > 50


def test_trace_into_a_pipe(mjpeg, tmp_path):
    command = f"'{COMMAND}' run '{mjpeg}' -q -o '{tmp_path / 'r'}' --trace /dev/stdout | cat > '{tmp_path / 't.json'}'"
    assert subprocess.run(command, shell=True, timeout=PATIENCE_S).returncode == 0
    _, phases = read_trace(tmp_path / "t.json")
    assert of_kind(phases, "visit")


def test_no_frame_is_a_trace_too(tmp_path):
    (tmp_path / "empty.mjpeg").write_bytes(b"")
    done = run("run", tmp_path / "empty.mjpeg", WORLD / "nothing.avi", "-q", "--trace", tmp_path / "t.json")
    assert done.code == 3
    if (tmp_path / "t.json").exists():
        read_trace(tmp_path / "t.json")


def test_a_replan_is_an_event(tmp_path):
    """By costs with which cuts pay, and frames that all leave where the mix the first plan was made for has less than half."""
    assert run("plan", "--workers", 2, "--no-profile-cache", "--save-profile", tmp_path / "measured.json").code == 0
    profile = json.loads((tmp_path / "measured.json").read_text())
    for costs in profile["core_types"]:
        costs["warm_ns"] = [0.3 * ns for ns in costs["cold_ns"]]
        costs["private_cache_bytes"] = sum(profile["weights_bytes"]) * 7 // 10
    (tmp_path / "cuts.json").write_text(json.dumps(profile))
    done = run("run", "synthetic:64x64,frames=4000", "-q", "--threshold", 0, "--workers", 2, "--profile", tmp_path / "cuts.json", "--trace",
               tmp_path / "t.json", "--summary", tmp_path / "s.json", "--format", "none")
    assert done.code == 0, done.err
    replans = json.loads((tmp_path / "s.json").read_text())["replans"]
    _, phases = read_trace(tmp_path / "t.json", 2)
    events = [e for e in phases["i"] if "plan" in e["name"]]
    assert replans["n"] > 0 and len(events) == replans["n"], (replans, phases["i"])


def test_profile_of_another_model(clip, tmp_path):
    (tmp_path / "p.json").write_text("{}")
    error_line(run("run", clip, "--profile", tmp_path / "p.json"))
