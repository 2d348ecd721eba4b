# SPDX-License-Identifier: MIT
"""The same input gives the same bytes whatever the workers, the plan and the way files are read."""
import re

import pytest
from conftest import run

PLANS = ["auto", "replicas", "equal:2", "1-3,4-12", "1-block4.attn,block4.mlp-12"]


def timeless(done):
    assert done.code == 0, done.err
    text, n = re.subn(r'"latency_ms":[\d.]+', '"latency_ms":0', done.out)
    assert n == text.count("\n") == 60
    return text


@pytest.fixture(scope="module")
def expected(mjpeg):
    return timeless(run("run", mjpeg, "-q", "--logits", "--workers", 1, "--plan", "replicas", "--io", "pread"))


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("plan", PLANS)
def test_bytes_do_not_depend_on_workers_or_plan(workers, plan, mjpeg, expected):
    if workers == 1 and plan not in ("auto", "replicas"):
        assert run("run", mjpeg, "-q", "--workers", 1, "--plan", plan).code == 2
        return
    for io in ("auto", "pread"):
        done = run("run", mjpeg, "-q", "--logits", "--workers", workers, "--plan", plan, "--io", io)
        assert timeless(done) == expected


@pytest.mark.parametrize("args", [["--workers", "2", "--slots", "3"], ["--workers", "8", "--slots", "9"],
                                  ["--slots", "64"], ["--no-pin"]])
def test_bytes_do_not_depend_on_slots_or_pinning(args, mjpeg, expected):
    assert timeless(run("run", mjpeg, "-q", "--logits", *args)) == expected


def test_io_uring_and_pread_agree(clip):
    uring = run("run", clip, "-q", "--io", "uring", "--limit", 60)
    if uring.code == 3 and "io_uring" in uring.err:
        pytest.skip("io_uring is not allowed here")
    assert timeless(uring) == timeless(run("run", clip, "-q", "--io", "pread", "--limit", 60))


def test_fifty_runs_agree(mjpeg, expected):
    for _ in range(50):
        assert timeless(run("run", mjpeg, "-q", "--logits", "--workers", 3)) == expected
