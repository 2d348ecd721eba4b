# SPDX-License-Identifier: MIT
"""The damaged files of the shared data through the command: no crash, an answer a frame, a documented exit code, in time
and memory. Whether each JPEG's verdict is libjpeg-turbo's own is tests/ingest/test_jpeg_corpus.c's question."""
import json
import pathlib
import re
import resource
import tarfile

import pytest
from conftest import SANITIZED, error_line, run, shared

MAX_SECONDS, MAX_RSS_KIB = 2, 256 * 1024


def unpack(name, folder):
    with tarfile.open(shared(f"bad/{name}.tar.xz")) as archive:
        archive.extractall(folder)
    return sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file())


def test_damaged_jpegs(tmp_path):
    """All in one folder, so that each meets a decoder that has seen the others."""
    files = unpack("jpeg_dev", tmp_path / "unpacked")
    folder = tmp_path / "all"
    folder.mkdir()
    for i, path in enumerate(files):
        path.rename(folder / f"{i:05d}.jpg")
    done = run("run", folder, "-q", "--workers", 2)
    assert done.code == 0, done.err
    assert [line["frame"] for line in done.lines] == list(range(len(files)))
    failed = [line for line in done.lines if line["status"] == "failed"]
    assert {line["status"] for line in done.lines} == {"ok", "failed"}
    assert all(len(line["error"]) > 10 for line in failed)
    assert run("run", folder, "-q", "--strict", "--out", "/dev/null", "--workers", 2).code == 6
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert SANITIZED or peak <= MAX_RSS_KIB, f"{peak} KiB"


def children_cpu_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_damaged_videos(clip, tmp_path):
    """In CPU time, which does not depend on what else the machine does; one sound frame tells how slow the machine is."""
    begin = children_cpu_s()
    assert run("run", clip, "-q", "--limit", 1).code == 0
    longest_s = max(MAX_SECONDS, 5 * (children_cpu_s() - begin))
    for path in unpack("mp4_dev", tmp_path):
        begin = children_cpu_s()
        out = path.with_suffix(".jsonl")  # not made when the input cannot be opened at all, as in a build without libav
        done = run("run", path, "-q", "--out", out)
        assert done.code in (0, 3), f"{path.name}: {done.code} {done.err}"
        if done.code == 3:
            error_line(done)
        assert children_cpu_s() - begin < longest_s, path.name
        assert out.exists() or done.code == 3, path.name
        for line in out.read_text().splitlines() if out.exists() else []:
            json.loads(line)


@pytest.mark.parametrize("part", ["config.json", "safetensors header"])
def test_json_files_as_parts_of_a_model(model, tmp_path, part):
    """None of them is a model: each must be refused with one line, whatever it holds."""
    files = unpack("json_dev", tmp_path / "json")
    assert any(re.match("n_", p.name) for p in files)
    for path in files:
        text = path.read_bytes()
        if part == "config.json":
            (model / "config.json").write_bytes(text)
        else:
            (model / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
        done = run("inspect", model)
        assert done.code == 4, f"{path.name}: {done.code} {done.out[:100]}"
        error_line(done)
