# SPDX-License-Identifier: MIT
"""Results, summary, progress; full disks and closed pipes; whole lines always."""
import csv
import fcntl
import io
import json
import math
import os
import pty
import re
import resource
import select
import struct
import subprocess
import termios

import pytest
from conftest import COMMAND, PATIENCE_S, error_line, run, wait_for


def test_json_lines_have_the_promised_fields(mjpeg):
    done = run("run", mjpeg, "-q")
    assert done.err == "" and len(done.lines) == 60
    for line in done.lines:
        assert line["v"] == 1
        assert {"source", "frame", "pts_s", "exit", "block", "class", "label", "confidence", "latency_ms",
                "status"} <= line.keys()
        assert "logits" not in line
        assert 0 < line["confidence"] <= 1 and line["latency_ms"] > 0


def test_logits_agree_with_class_and_confidence(mjpeg):
    from math import exp
    for line in run("run", mjpeg, "-q", "--logits").lines:
        x = line["logits"]
        assert line["class"] == x.index(max(x))
        assert line["confidence"] == pytest.approx(1 / sum(exp(v - max(x)) for v in x), rel=1e-5)


def test_csv_holds_the_same_answers(mjpeg, tmp_path):
    assert run("run", mjpeg, "-q", "--format", "csv", "-o", tmp_path / "r.csv").code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    lines = run("run", mjpeg, "-q").lines
    assert [(int(r["frame"]), int(r["exit"]), r["label"]) for r in rows] == \
        [(x["frame"], x["exit"], x["label"]) for x in lines]


def test_format_none_and_quiet_say_nothing(mjpeg):
    done = run("run", mjpeg, "-q", "--format", "none")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_summary_adds_up_and_agrees_with_the_lines(clip, tmp_path):
    done = run("run", clip, "--summary", tmp_path / "s.json")
    s = json.loads((tmp_path / "s.json").read_text())
    lines = done.lines
    assert s["decoded"] == len(lines) == s["emitted"] + s["skipped"] + s["dropped"] + s["failed"]
    for e in s["exits"]:
        assert e["frames"] == sum(line["exit"] == e["exit"] for line in lines)
    mean = sum(line["block"] for line in lines) / len(lines)
    assert s["mean_block"] == pytest.approx(mean)
    assert s["block_speedup"] == pytest.approx(s["exits"][-1]["block"] / mean)
    ms = sorted(line["latency_ms"] for line in lines)
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1)):  # nearest rank, buckets of 1 %
        assert s["latency_ms"][name] == pytest.approx(ms[math.ceil(q * len(ms)) - 1], rel=0.015, abs=0.001), name
    assert s["fps"] == pytest.approx(len(lines) / s["wall_s"])
    assert not s["interrupted"]
    for word in ("decoded", "fps", "p50", "block_speedup", "max RSS", "plan ", "policy "):
        assert word in done.err, word
    assert re.search(r"frames +(\d+) decoded = (\d+) emitted \+ 0 skipped \+ 0 dropped \+ 0 failed", done.err)


def test_full_depth_and_thresholds_move_the_exits(mjpeg, tmp_path):
    def exits(*args):
        return [line["exit"] for line in run("run", mjpeg, "-q", *args).lines]
    last = max(exits("--full-depth"))
    assert set(exits("--full-depth")) == {last}
    assert set(exits("--policy", "confidence", "--threshold", 0)) == {0}
    assert set(exits("--policy", "confidence", "--threshold", 1)) == {last}
    per_exit = ",".join(["1", "0"] + ["0"] * (last - 2))
    assert set(exits("--policy", "confidence", "--threshold", per_exit)) == {1}


@pytest.mark.parametrize("args", [[], ["--format", "csv"], ["--logits"], ["--workers", "4"]])
def test_full_disk_is_exit_5(clip, args):
    done = run("run", clip, "-q", "-o", "/dev/full", *args)
    assert done.code == 5
    assert "/dev/full" in error_line(done)


def test_full_stdout_is_exit_5(clip):
    with open("/dev/full", "w") as full:
        done = run("run", clip, "-q", stdout=full)
    assert done.code == 5
    error_line(done)


@pytest.mark.parametrize("option", ["--out", "--summary", "--progress"])
def test_file_that_cannot_be_made(mjpeg, option):
    done = run("run", mjpeg, "-q", "--format", "jsonl", option, "/no/such/folder/file", stdout=subprocess.DEVNULL)
    assert done.code == 5 and "/no/such/folder" in error_line(done)


def test_summary_on_a_full_disk(mjpeg):
    done = run("run", mjpeg, "-q", "--format", "none", "--summary", "/dev/full")
    assert done.code == 5
    error_line(done)


@pytest.mark.parametrize("limit", [1, 777, 4096, 10000, 20011])
def test_disk_that_fills_up_keeps_whole_lines(clip, limit, tmp_path):
    out = tmp_path / "r.jsonl"

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        __import__("signal").signal(25, __import__("signal").SIG_IGN)  # SIGXFSZ

    done = run("run", clip, "-q", "-o", out, preexec_fn=limit_files)
    assert done.code == 5, done.err
    error_line(done)
    text = out.read_text()
    assert text == "" or text.endswith("\n")
    assert [json.loads(line)["frame"] for line in text.splitlines()] == list(range(text.count("\n")))


def test_closed_pipe_is_exit_5_with_whole_lines(clip):
    reader = subprocess.Popen([COMMAND, "run", clip, "synthetic:64x64,frames=1000000000", "-q"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    first = reader.stdout.readline()
    reader.stdout.close()
    err = reader.stderr.read().decode()
    assert reader.wait(PATIENCE_S) == 5
    assert json.loads(first)["frame"] == 0
    assert err.startswith("eestream: ") and err.count("\n") == 1


@pytest.mark.parametrize("closed,code", [(">&-", 5), ("<&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 5)])
def test_closed_standard_descriptors(closed, code, clip):
    """None of them is taken by another file; what has nowhere to go is an error."""
    done = subprocess.run(f"'{COMMAND}' run '{clip}' --limit 3 {closed}", shell=True, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == code, done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == (0 if code else 3)


def test_messages_do_not_end_in_the_results(mjpeg, tmp_path):
    command = f"'{COMMAND}' run '{mjpeg}' /gone.avi -v --limit 99 -o '{tmp_path / 'r.jsonl'}' <&- 2>&-"
    assert subprocess.run(command, shell=True, timeout=PATIENCE_S).returncode == 3
    assert len([json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]) == 60


def test_pipe_into_head(clip):
    done = subprocess.run(f"'{COMMAND}' run '{clip}' -q | head -1", shell=True, capture_output=True, timeout=PATIENCE_S)
    assert json.loads(done.stdout)["frame"] == 0


def test_progress_blocks_for_programs(jpegs, tmp_path):
    """One block a second, however fast the frames are done: the input stays open until the first block is there."""
    path = tmp_path / "progress"
    process = subprocess.Popen([COMMAND, "run", "-", "-q", "--format", "none", "--progress", path],
                               stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"".join(jpegs[:12]))
    process.stdin.flush()
    wait_for(lambda: path.exists() and "progress=continue\n" in path.read_text(), process)
    _, err = process.communicate(b"".join(jpegs[12:20]), timeout=PATIENCE_S)
    assert process.returncode == 0 and not err, err
    blocks = path.read_text().split("progress=")
    assert blocks[-1] == "end\n" and all(b.startswith("continue\n") for b in blocks[1:-1])
    last = dict(line.split("=", 1) for line in path.read_text().rsplit("progress=continue\n", 1)[-1].splitlines())
    assert int(last["frame"]) == int(last["ok"]) == sum(map(int, last["exits"].split(","))) == 20
    assert float(last["fps"]) > 0 and float(last["latency_p50_ms"]) > 0


def test_progress_to_a_descriptor(mjpeg):
    r, w = os.pipe()
    done = run("run", mjpeg, "-q", "--format", "none", "--progress", w, pass_fds=[w])
    os.close(w)
    with os.fdopen(r) as f:
        assert f.read().endswith("progress=end\n")
    assert done.code == 0
    assert run("run", mjpeg, "-q", "--progress", 77).code == 2


def read_terminal(master):
    """All that was written, until the other side is closed."""
    drawn = b""
    while select.select([master], [], [], PATIENCE_S)[0]:
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux tells the end
            break
        drawn += piece
    os.close(master)
    return drawn.decode()


def on_terminal(args, env=None, columns=100):
    """Run with stderr on a pseudo-terminal; returns what it drew."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([COMMAND, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=slave, env={**os.environ, "TERM": "xterm", **(env or {})})
    os.close(slave)
    drawn = read_terminal(master)
    assert process.wait(PATIENCE_S) == 0
    return drawn


def test_progress_line_on_a_terminal_only(clip):
    args = ["run", clip, "--format", "none", "--kernels", "scalar", "--limit", 24]
    drawn = on_terminal(args, columns=60)
    updates = [piece for piece in drawn.split("\r\x1b[K") if piece.startswith("frame ")]
    assert updates and all(len(line.split("\n")[0].rstrip("\r")) <= 60 for line in updates)
    assert any(re.match(r"frame \d+.*fps.*p50", line) for line in updates)
    assert "\x1b[K" not in on_terminal(args, {"TERM": "dumb"})
    assert "\x1b[" not in run(*args).err
    assert "\x1b[3" not in drawn and "\x1b[1m" not in drawn  # no colours at all, so NO_COLOR holds


def test_results_do_not_go_to_a_terminal_unless_asked(mjpeg):
    for args, n in (([], 0), (["-o", "-"], 60)):
        master, slave = pty.openpty()
        process = subprocess.Popen([COMMAND, "run", mjpeg, "-q", *args], stdin=subprocess.DEVNULL, stdout=slave)
        os.close(slave)
        assert read_terminal(master).count("\n") == n
        assert process.wait(PATIENCE_S) == 0
