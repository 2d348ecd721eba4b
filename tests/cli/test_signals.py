# SPDX-License-Identifier: MIT
"""SIGINT and SIGTERM: the first drains, the second leaves at once."""
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import time

import pytest
from conftest import COMMAND, SANITIZED

LONGEST_S = 20 if SANITIZED else 2


def start(*args, **kwargs):
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen([COMMAND, *map(str, args)], stderr=subprocess.PIPE, **kwargs)


def stop(process, number=signal.SIGINT):
    """@return seconds from the signal to the end"""
    process.send_signal(number)
    begin = time.monotonic()
    process.wait(60)
    return time.monotonic() - begin


def check_lines(path, summary):
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    seen = [(line["source"], line["frame"]) for line in lines]
    last = -1
    for _, frame in seen:
        assert frame == last + 1 or frame == 0
        last = frame
    counts = re.search(r"(\d+) decoded = (\d+) emitted \+ (\d+) skipped \+ (\d+) dropped \+ (\d+) failed", summary)
    decoded, *parts = map(int, counts.groups())
    assert decoded == sum(parts) == len(lines)


def test_interrupt_at_random_moments_drains(clip, tmp_path):
    rng = random.Random(7)
    stopped, tries = 0, 6 if SANITIZED else 25
    for i in range(tries):
        out = tmp_path / f"{i}.jsonl"
        process = start("run", *[clip] * 40, "-o", out, "--workers", rng.randint(1, 4))
        deadline = time.monotonic() + 30
        while not (out.exists() and out.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.3)
        took = stop(process, rng.choice([signal.SIGINT, signal.SIGTERM]))
        err = process.stderr.read().decode()
        assert process.returncode in (130, 0), err
        stopped += process.returncode == 130
        assert took < LONGEST_S
        check_lines(out, err)
    assert stopped >= tries * 0.8


def test_interrupt_while_starting(clip, tmp_path):
    rng = random.Random(8)
    for i in range(15):
        out = tmp_path / f"{i}.jsonl"
        process = start("run", *[clip] * 40, "-o", out)
        time.sleep(rng.random() * 0.05)
        assert stop(process) < LONGEST_S
        # before the command listens the system's own answer is right as well
        assert process.returncode in (130, -signal.SIGINT)
        process.stderr.close()
        if out.exists():
            assert out.read_text() == "" or out.read_text().endswith("\n")


def test_interrupt_of_a_quiet_pipe(mjpeg, tmp_path):
    """Frames come in, then nothing: the reader waits in a read, not in a frame."""
    read_end, write_end = os.pipe()
    process = start("run", "-", "-o", tmp_path / "r.jsonl", stdin=read_end)
    os.close(read_end)
    os.write(write_end, mjpeg.read_bytes()[:60000])
    time.sleep(0.7)
    took = stop(process)
    os.close(write_end)
    err = process.stderr.read().decode()
    assert process.returncode == 130, err
    assert took < LONGEST_S
    check_lines(tmp_path / "r.jsonl", err)


def test_second_signal_leaves_at_once(clip, tmp_path):
    """Results go into a pipe that nobody reads, so that draining cannot end."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    keep_open = os.open(fifo, os.O_RDWR)
    fcntl.fcntl(keep_open, 1031, 4096)  # F_SETPIPE_SZ: a few lines fill it
    process = start("run", *[clip] * 40, "-q", "-o", fifo, "--logits")
    time.sleep(5 if SANITIZED else 1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    assert stop(process) < (5 if SANITIZED else 0.1)
    assert process.returncode == 130
    process.stderr.close()
    os.close(keep_open)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_is_interrupted(number):
    process = start("demo", stdout=subprocess.PIPE)
    time.sleep(0.4)
    assert stop(process, number) < LONGEST_S
    assert process.returncode in (130, -number)
    process.stdout.close()
    process.stderr.close()


def test_closed_pipe_beats_waiting_for_input(mjpeg):
    """The reader of the results goes away while stdin stays open and silent: exit 5, not a hang."""
    read_end, write_end = os.pipe()
    process = start("run", "-", "-q", stdin=read_end, stdout=subprocess.PIPE)
    os.close(read_end)
    data = mjpeg.read_bytes()
    os.write(write_end, data[:60000])
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    os.write(write_end, data[60000:120000])
    assert process.wait(20) == 5
    os.close(write_end)
    process.stderr.close()
