# SPDX-License-Identifier: MIT
"""Help, version, doctor, and mistyped words."""
import os
import re
import time

import pytest
from conftest import SANITIZED, error_line, run

VERBS = ["run", "bench", "plan", "calibrate", "analyse", "inspect", "verify", "demo", "doctor"]


def test_help_fits_a_screen_and_starts_with_examples():
    done = run("--help")
    lines = done.out.splitlines()
    assert done.code == 0 and not done.err
    assert len(lines) <= 50 and max(map(len, lines)) <= 120
    assert lines.index("Examples") < lines.index("Verbs")
    assert all(re.search(rf"^  {verb} ", done.out, re.M) for verb in VERBS)
    assert done.out == run("help").out == run("-h").out


def test_no_argument_is_usage():
    done = run()
    assert done.code == 2 and not done.out and "Examples" in done.err


def test_version_names_the_build():
    done = run("--version")
    assert done.code == 0
    assert re.match(r"eestream \d+\.\d+\.\d+\n", done.out)
    assert "compiler:" in done.out and "cpu:" in done.out and "libav:" in done.out


def best_seconds(action):
    times = []
    for _ in range(20):
        start = time.monotonic()
        action()
        times.append(time.monotonic() - start)
    return min(times)


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["help", "run"]])
def test_starts_fast_and_loads_little(args):
    env = {**os.environ, "LD_DEBUG": "files"}
    loaded = run(*args, env=env).err
    assert "libc.so" in loaded
    assert not re.search(r"blas|avcodec|avformat", loaded)
    if SANITIZED:
        return
    own = best_seconds(lambda: run(*args)) - best_seconds(lambda: run(command="/bin/true"))
    assert own <= 0.020, f"{own * 1e3:.1f} ms"


@pytest.mark.parametrize("verb", VERBS)
def test_every_listed_option_is_parsed(verb):
    done = run("help", verb)
    assert done.code == 0
    assert done.out == run(verb, "--help").out
    rows = re.findall(r"^  (?:-\w,|   ) --([a-z-]+)(?: (\S+))?(?:  |$)", done.out, re.M)
    assert rows and ("help", "") in rows
    for name, value in rows:
        if value:  # the last argument: its value is missing
            done = run(verb, f"--{name}")
            assert done.code == 2 and f"--{name} needs a value" in error_line(done)
        else:
            done = run(verb, f"--{name}=1")
            assert done.code == 2 and f"--{name} takes no value" in error_line(done)


@pytest.mark.parametrize("args,hint", [
    (["rnu", "x"], "did you mean eestream run?"),
    (["benhc"], "did you mean eestream bench?"),
    (["run", "--worker", "2", "x"], "did you mean --workers?"),
    (["run", "--thresold=0.5", "x"], "did you mean --threshold?"),
    (["run", "--frobnicate", "x"], "eestream help run"),
    (["zzz"], "eestream --help"),
    ([__file__], "to stream it: eestream run"),
    (["help", "pln"], "did you mean eestream plan?"),
])
def test_mistyped_words_get_a_suggestion(args, hint):
    done = run(*args)
    assert done.code == 2 and hint in error_line(done)


@pytest.mark.parametrize("args,words", [
    (["run"], "needs an input"),
    (["run", "x", "--workers", "0"], "allowed are 1 to"),
    (["run", "x", "--workers", "many"], "not a whole number"),
    (["run", "x", "--workers=-1"], "not a whole number"),
    (["run", "x", "--io", "mmap"], "auto|uring|pread"),
    (["run", "x", "--threshold", "0.5,abc"], "not a number"),
    (["run", "x", "--fps", "nan"], "not a number"),
    (["run", "x", "--out="], "needs a value"),
    (["run", "x", "--format", "csv", "--logits"], "jsonl"),
    (["run", "x", "--replay-run", "a"], "--replay-exits"),
    (["run", "x", "y", "--truth", "t.csv"], "one input"),
    (["run", "-z", "x"], "unknown option -z"),
    (["run", "-", "-"], "stdin"),
    (["bench", "video.avi"], "unexpected argument"),
    (["plan", "video.avi"], "takes no input"),
    (["plan", "--exit-share", "1,2"], "needs 5"),
    (["verify"], "one model folder"),
    (["inspect", "a", "b"], "one model folder"),
    (["demo", "x.avi"], "takes no input"),
    (["doctor", "me"], "takes no argument"),
])
def test_usage_errors(args, words):
    done = run(*args)
    assert done.code == 2, done.err
    assert words in error_line(done)
    assert not done.out


def test_policy_and_plan_values_are_checked(clip):
    for args in (["--policy", "confidnce"], ["--plan", "equal:99"], ["--plan", "2-1,3-12"], ["--kernels", "sse9"],
                 ["--threshold", "0.1,0.2,0.3,0.4,0.5,0.6,0.7"], ["--full-depth", "--policy", "entropy"]):
        done = run("run", clip, "-q", *args)
        assert done.code == 2, (args, done.err)
        error_line(done)
        assert not done.out


def test_doctor_reports_each_subject():
    done = run("doctor")
    assert done.code == 0 and not done.err
    for subject in ("cores", "kernels", "model", "io_uring", "libav", "governor"):
        assert re.search(rf"^  (ok     |MISSING) {subject} ", done.out, re.M), subject


def test_help_into_a_full_disk_is_an_output_error():
    with open("/dev/full", "w") as full:
        for args in (["--help"], ["--version"], ["doctor"], ["inspect"]):
            done = run(*args, stdout=full)
            assert done.code == 5 and "stdout" in error_line(done)
