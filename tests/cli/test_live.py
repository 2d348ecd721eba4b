# SPDX-License-Identifier: MIT
"""Live inputs and several at once: pace, overload, deadlines, fairness, stalls. Overload is made by time stamps that no
machine can follow (--fps 100000), never by hoping that this one is slow."""
import json
import os
import random
import re
import signal
import subprocess

import pytest
from conftest import COMMAND, PATIENCE_S, error_line, run, wait_for

ENDLESS = "synthetic:64x64,frames=1000000000"
FLOOD = ["--fps", "100000", "--workers", "1", "--kernels", "scalar"]


def summary_of(*args, code=0, path):
    done = run("run", *args, "-q", "--summary", path)
    assert done.code == code, done.err
    summary = json.loads(path.read_text())
    lines = done.lines
    count = {status: sum(line["status"] == status for line in lines) for status in ("ok", "dropped", "failed")}
    assert summary["decoded"] == len(lines) == summary["emitted"] + summary["skipped"] + summary["dropped"] + \
        summary["failed"]
    assert (summary["emitted"], summary["dropped"], summary["failed"]) == tuple(count.values())
    for early in ("degraded", "deadline"):
        assert summary[early] == sum(line.get("early") == early for line in lines)
    return summary, lines


def check_dropped(line):
    assert all(line[field] is None for field in ("exit", "block", "class", "label", "confidence", "entropy"))
    assert "early" not in line and "error" not in line


# ---- Pace ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["--realtime"], []])
def test_frames_come_by_their_time_stamps(args, mjpeg, tmp_path):
    source = mjpeg if args else f"live:{mjpeg}"
    s, lines = summary_of(source, *args, "--fps", 20, "--limit", 9, "--overload", "block", path=tmp_path / "s.json")
    assert [line["frame"] for line in lines] == list(range(9)) and s["dropped"] == 0
    assert {line["source"] for line in lines} == {str(mjpeg)}
    assert s["wall_s"] > 8 / 20 - 0.001  # the last one goes in 8/20 s after the first, however fast the machine


def test_interrupt_while_waiting_for_a_frame_to_be_due(mjpeg, tmp_path):
    out = tmp_path / "r.jsonl"
    process = subprocess.Popen([COMMAND, "run", f"live:{mjpeg}", "--fps", "0.001", "-o", out, "--progress",
                                tmp_path / "p"], stderr=subprocess.PIPE)
    wait_for(lambda: (tmp_path / "p").exists() and "frame=1\n" in (tmp_path / "p").read_text(), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and b"1 decoded = 1 emitted" in err
    assert len(out.read_text().splitlines()) == 1


# ---- Overload -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["drop-oldest", "drop-newest", "degrade", "auto"])
def test_too_many_frames_are_dropped_and_labelled(rule, mjpeg, tmp_path):
    s, lines = summary_of("--realtime", mjpeg, *FLOOD, "--backlog", 2, "--overload", rule, path=tmp_path / "s.json")
    assert [line["frame"] for line in lines] == list(range(60))
    assert s["dropped"] > 0 and s["emitted"] > 0
    assert {line["status"] for line in lines} == {"ok", "dropped"}
    for line in lines:
        if line["status"] == "dropped":
            check_dropped(line)
    assert lines[0 if rule == "drop-newest" else -1]["status"] == "ok"  # what the rule keeps
    assert run("run", "--realtime", mjpeg, *FLOOD, "--overload", rule, "-q", "--strict", "--format", "none").code == 6


def test_block_drops_nothing(mjpeg, tmp_path):
    s, _ = summary_of("--realtime", mjpeg, *FLOOD, "--backlog", 2, "--overload", "block", "--strict",
                      path=tmp_path / "s.json")
    assert s["emitted"] == 60


def test_overload_moves_the_thresholds(clip, mjpeg, tmp_path):
    """Nothing leaves early by itself; under overload everything does, a little later (the engine looks ten times a
    second), and says so."""
    s, lines = summary_of("--realtime", mjpeg, mjpeg, *FLOOD, "--backlog", 60, "--slots", 256, "--policy",
                          "confidence", "--threshold", 1, "--degrade-thresholds", 0, path=tmp_path / "s.json")
    last = s["exits"][-1]["exit"]
    degraded = [line for line in lines if line.get("early") == "degraded"]
    assert degraded and all(line["status"] == "ok" and line["exit"] < last for line in degraded)
    assert all(line["exit"] == last for line in lines if line["status"] == "ok" and "early" not in line)
    assert [p["degraded_thresholds"] for p in [s["policy"]]] == [[0] * last]


# ---- Deadlines ----------------------------------------------------------------------------------------------------


def test_files_past_their_deadline_get_the_first_answer(mjpeg, tmp_path):
    s, lines = summary_of(mjpeg, "--deadline-ms", 0.001, "--policy", "confidence", "--threshold", 1,
                          path=tmp_path / "s.json")
    assert len(lines) == 60 and s["dropped"] == 0
    assert all(line["exit"] == 0 and line["early"] == "deadline" and line["class"] >= 0 for line in lines)
    done = run("run", mjpeg, "--deadline-ms", 0.001, "--policy", "confidence", "--threshold", 1, "--format", "none")
    assert "60 at the deadline" in done.err


def test_live_frames_past_their_deadline_are_dropped(mjpeg, tmp_path):
    s, lines = summary_of(f"live:{mjpeg}", "--fps", 1000, "--deadline-ms", 0.001, "--policy", "confidence",
                          "--threshold", 1, path=tmp_path / "s.json")
    assert len(lines) == 60 and all(line["status"] == "dropped" for line in lines)


def test_csv_tells_the_same(mjpeg):
    done = run("run", mjpeg, "-q", "--format", "csv", "--deadline-ms", 0.001, "--policy", "confidence", "--threshold", 1)
    head, *rows = [line.split(",") for line in done.out.splitlines()]
    assert head[-6:] == ["early", "nonfinite", "wait_ms", "run_ms", "same_as", "change"]
    assert all(row[-6] == "deadline" and row[-5] == "0" and float(row[-3]) > 0 and row[-2:] == ["", ""] for row in rows)


# ---- Several inputs -----------------------------------------------------------------------------------------------


def by_source(lines):
    frames = {}
    for line in lines:
        frames.setdefault(line["source"], []).append(line["frame"])
    return frames


def test_a_camera_beside_an_endless_file_is_not_starved(mjpeg, tmp_path):
    out = tmp_path / "r.jsonl"
    process = subprocess.Popen([COMMAND, "run", "--concurrent", ENDLESS, f"live:{mjpeg}", "--overload", "block",
                                "--fps", "100", "-o", out, "--summary", tmp_path / "s.json"], stderr=subprocess.PIPE)
    wait_for(lambda: out.exists() and out.read_text().count("clip.mjpeg") >= 60, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err.decode()
    frames = by_source(json.loads(line) for line in out.read_text().splitlines())
    assert frames[str(mjpeg)] == list(range(60))
    assert frames[ENDLESS] == list(range(len(frames[ENDLESS]))) and frames[ENDLESS]
    s = json.loads((tmp_path / "s.json").read_text())
    file, camera = s["sources"]
    assert (camera["live"], camera["complete"], camera["emitted"], camera["dropped"]) == (True, True, 60, 0)
    assert (file["live"], file["complete"], file["emitted"]) == (False, False, len(frames[ENDLESS]))
    assert s["decoded"] == sum(source["decoded"] for source in s["sources"])
    assert f"{mjpeg} (live)" in err.decode() and "(not read to its end)" in err.decode()


def test_concurrent_inputs_give_the_answers_of_inputs_in_turn(mjpeg, clip, jpegs, tmp_path):
    (tmp_path / "one.jpg").write_bytes(jpegs[7])
    inputs = [mjpeg, clip, tmp_path / "one.jpg", mjpeg]

    def answers(*args):
        done = run("run", *inputs, "-q", "--logits", *args)
        assert done.code == 0, done.err
        return [(line["source"], line["frame"], line["exit"], line["logits"]) for line in done.lines]
    turn = answers()
    for args in (["--concurrent"], ["--concurrent", "--weights", "1,5,0.5,1", "--workers", 3],
                 ["--concurrent", "--unordered"], ["--unordered"]):
        assert sorted(answers(*args), key=lambda a: a[:3]) == sorted(turn, key=lambda a: a[:3]), args


def test_concurrent_inputs_keep_their_own_order(mjpeg, clip, tmp_path):
    s, lines = summary_of("--concurrent", mjpeg, clip, "synthetic:64x64,frames=100", path=tmp_path / "s.json")
    frames = by_source(lines)
    assert all(numbers == list(range(len(numbers))) for numbers in frames.values())
    assert sorted(map(len, frames.values())) == [60, 100, s["decoded"] - 160]
    assert [source["decoded"] for source in s["sources"]] == [60, s["decoded"] - 160, 100]
    assert all(source["complete"] and source["latency_ms"]["p50"] > 0 for source in s["sources"])


def test_limit_counts_all_inputs_together(mjpeg, clip):
    for n in (1, 59, 150):
        assert len(run("run", "--concurrent", mjpeg, clip, ENDLESS, "-q", "--limit", n).lines) == n


def test_limit_ends_a_silent_neighbour(mjpeg):
    read_end, write_end = os.pipe()
    done = run("run", "--concurrent", mjpeg, "-", "-q", "--limit", 60, stdin=os.fdopen(read_end))
    os.close(write_end)
    assert done.code == 0 and len(done.lines) == 60, done.err


def test_a_missing_input_does_not_end_its_neighbours(mjpeg, tmp_path):
    done = run("run", "--concurrent", mjpeg, tmp_path / "gone.avi", mjpeg, "-q")
    assert done.code == 3 and "gone.avi" in error_line(done)
    assert len(done.lines) == 120


def test_interrupt_of_concurrent_inputs_adds_up(mjpeg, tmp_path):
    rng = random.Random(3)
    for i in range(6):
        out = tmp_path / f"{i}.jsonl"
        process = subprocess.Popen([COMMAND, "run", "--concurrent", ENDLESS, f"live:{mjpeg}", ENDLESS, mjpeg, "-o", out,
                                    "--workers", str(rng.randint(1, 4))], stderr=subprocess.PIPE)
        wait_for(lambda: out.exists() and out.stat().st_size, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, err.decode()
        decoded, *parts = map(int, re.search(r"(\d+) decoded = (\d+) emitted \+ (\d+) skipped \+ (\d+) dropped \+ "
                                             r"(\d+) failed", err.decode()).groups())
        assert decoded == sum(parts) == len(out.read_text().splitlines())


def test_a_list_of_cameras(mjpeg, tmp_path):
    (tmp_path / "cams.streams").write_text(f"{mjpeg}\n{mjpeg}\n")
    s, _ = summary_of("--concurrent", f"live:{tmp_path / 'cams.streams'}", "--fps", 10000, "--overload", "block",
                      path=tmp_path / "s.json")
    assert [source["live"] for source in s["sources"]] == [True, True] and s["emitted"] == 120


# ---- Stalls -------------------------------------------------------------------------------------------------------

STALL = ["synthetic:5000x5000", "--limit", "20", "--stall-timeout", "0.001"]  # no machine decodes 25 Mpx in 1 ms


def test_a_stuck_worker_is_exit_7(tmp_path):
    done = run("run", *STALL, "-q", "-o", tmp_path / "r.jsonl", "--summary", tmp_path / "s.json", "--trace",
               tmp_path / "t.json", "--metrics", tmp_path / "m")
    assert done.code == 7 and "is stuck in" in error_line(done)
    text = (tmp_path / "r.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    s = json.loads((tmp_path / "s.json").read_text())
    assert s["stalled"] and s["unanswered"] > 0 and s["decoded"] == len(text.splitlines())
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert "eestream_frames_pushed_total" in (tmp_path / "m").read_text()


def test_a_stall_shows_threads_and_queues():
    done = run("run", *STALL, "--format", "none")
    assert done.code == 7
    assert done.err.startswith("eestream: worker ")
    assert re.search(r"^worker .*in unit", done.err, re.M) and re.search(r"^queue ", done.err, re.M)
    assert re.search(r"decoded = .*more without an answer", done.err)


# ---- Options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args,words", [
    (["--overload", "sometimes"], "auto|block|drop-oldest|drop-newest|degrade"),
    (["--overload", "drop-oldest"], "files are never dropped"),
    (["--overload", "drop-newest"], "--realtime"),
    (["--overload", "degrade"], "files are never dropped"),
    (["--backlog", "3"], "files are never dropped"),
    (["--backlog", "0", "--realtime"], "allowed are 1 to"),
    (["--degrade-thresholds", "0.5"], "files are never dropped"),
    (["--degrade-thresholds", "x", "--realtime"], "not a number"),
    (["--degrade-thresholds", "0.5", "--realtime", "--overload", "block"], "block"),
    (["--degrade-thresholds", "0.5", "--realtime", "--full-depth"], "--full-depth"),
    (["--deadline-ms", "0"], "allowed are 0.001 to 3600000"),
    (["--deadline-ms", "soon"], "not a number"),
    (["--weights", "1"], "--concurrent"),
    (["--weights", "1,2,3", "--concurrent"], "3 numbers for 1 inputs"),
    (["--weights", "0", "--concurrent"], "above 0"),
    (["--weights", "-2", "--concurrent"], "above 0"),
    (["--hint", "speed"], "throughput|latency"),
    (["--batch", "0"], "allowed are 1 to 16"),
    (["--batch", "17"], "allowed are 1 to 16"),
    (["--audit", "1.5"], "allowed are 0 to 1"),
    (["--audit", "-0.1"], "allowed are 0 to 1"),
    (["--stall-timeout", "-1"], "allowed are 0 to 86400"),
    (["--timing", "--format", "csv"], "jsonl"),
    (["--trace", "-"], "stdout"),
    (["--metrics", "-"], "stdout"),
    (["--take", "deepest"], "unknown option --take"),
])
def test_bad_values(args, words, mjpeg):
    done = run("run", mjpeg, "-q", *args)
    assert done.code == 2 and words in error_line(done) and not done.out


@pytest.mark.parametrize("args,words", [
    (["--take", "newest"], "deepest|oldest|upstream"), (["--load", "0"], "allowed are 0.01 to 1"),
    (["--load", "1.1"], "allowed are 0.01 to 1"), (["--hint", "x"], "throughput|latency"), (["--batch", "99"], "1 to 16"),
])
def test_bad_values_of_bench(args, words):
    done = run("bench", *args)
    assert done.code == 2 and words in error_line(done)


def test_degraded_thresholds_must_let_more_frames_leave(mjpeg):
    done = run("run", "--realtime", mjpeg, "-q", "--policy", "confidence", "--threshold", "0.5", "--degrade-thresholds",
               "0.9")
    assert done.code == 2 and "0.9" in error_line(done)


def test_live_and_files_in_turn_are_refused(mjpeg, clip):
    done = run("run", f"live:{mjpeg}", clip, "-q")
    assert done.code == 2 and "--concurrent" in error_line(done)


def test_more_concurrent_inputs_than_streams(mjpeg):
    done = run("run", "--concurrent", *[mjpeg] * 65, "-q")
    assert done.code == 2 and "at most 64" in error_line(done)
    done = run("run", "--concurrent", *[mjpeg] * 64, "-q", "--limit", 100)
    assert done.code == 0 and len(done.lines) == 100
