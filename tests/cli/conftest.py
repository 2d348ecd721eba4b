# SPDX-License-Identifier: MIT
"""What the tests of the command share: running it, and inputs made from the clip of the repository."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = os.environ.get("EES_COMMAND", str(ROOT / "build/release/tools/eestream"))
SHARED = pathlib.Path(os.environ.get("EES_SHARED_DATA", ROOT.parent / "shared/data"))
# Measured costs are kept between the commands of one test run, not in the home of whoever runs it.
CACHE = tempfile.TemporaryDirectory(prefix="eestream-cache-")
os.environ["XDG_CACHE_HOME"] = CACHE.name

SANITIZED = bool(os.environ.get("EES_SANITIZED"))
WORLD = ROOT / "tools/assets/world"
MODEL = WORLD / "model"

# What takes longer than this hangs, on whatever machine and under whatever load. A test waits for what must happen, never
# for a time in which it should have happened; where a time is promised, the best of several tries keeps it.
PATIENCE_S = 900


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


def wait_for(condition, process):
    """Until condition() is true, as long as the process lives; returns its value."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert process.poll() is None, f"ended too early, exit code {process.returncode}"
        assert time.monotonic() < deadline, "it never happens"
        time.sleep(0.005)
    return value


def run(*args, stdin=None, timeout=PATIENCE_S, command=COMMAND, **kwargs):
    """Run the command to its end. stdin: bytes, a file, or None for an empty one."""
    if isinstance(stdin, bytes):
        kwargs["input"] = stdin
    else:
        kwargs["stdin"] = stdin or subprocess.DEVNULL
    kwargs.setdefault("stdout", subprocess.PIPE)
    done = subprocess.run([command, *map(str, args)], stderr=subprocess.PIPE, timeout=timeout, **kwargs)
    return Done(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


def error_line(done):
    """The one line of a failure that was told with -q; never a bare errno."""
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("eestream: "), lines[0]
    message = lines[0][len("eestream: "):]
    assert message not in {os.strerror(n) for n in range(1, 134)}, message
    assert len(message) > 15, message
    return message


def change_json(path, change):
    """Read a file, let change() alter what it holds in place, write it back."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def avi_frames(path):
    """The JPEGs of an MJPEG AVI: the `00dc` chunks of its `movi` list."""
    data = path.read_bytes()
    at = data.index(b"movi") + 4
    frames = []
    while data[at:at + 4] == b"00dc":
        size = struct.unpack("<I", data[at + 4:at + 8])[0]
        frames.append(data[at + 8:at + 8 + size])
        at += 8 + size + size % 2
    return frames


@pytest.fixture(scope="session")
def clip():
    return WORLD / "clip.avi"


@pytest.fixture(scope="session")
def truth():
    return WORLD / "clip.truth.csv"


@pytest.fixture(scope="session")
def jpegs(clip):
    frames = avi_frames(clip)
    assert len(frames) > 100
    return frames


@pytest.fixture(scope="session")
def labels(truth):
    rows = [line.split(",") for line in truth.read_text().splitlines()]
    assert rows[0][:3] == ["frame", "class", "label"]
    return [row[2] for row in rows[1:]]


@pytest.fixture(scope="session")
def mjpeg(jpegs, tmp_path_factory):
    path = tmp_path_factory.mktemp("mjpeg") / "clip.mjpeg"
    path.write_bytes(b"".join(jpegs[:60]))
    return path


@pytest.fixture
def model(tmp_path):
    """A copy of the embedded model's folder, to be changed."""
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    return folder


def shared(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not in the shared data")
    return path
