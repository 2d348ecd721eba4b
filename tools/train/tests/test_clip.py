# SPDX-License-Identifier: MIT
"""The AVI writer, and the clip with its truth file."""

import csv
import io
import json
import shutil
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image

from eestream_train import avi, clip, shapes


@pytest.fixture(scope="module")
def frames():
    return clip.render(seed=21, n_frames=70)


def test_written_avi_reads_back(tmp_path, frames):
    clip.write(tmp_path, frames)
    assert avi.read(tmp_path / "clip.avi") == [f.jpeg for f in frames]
    body = (tmp_path / "clip.avi").read_bytes()
    assert struct.unpack_from("<I", body, 4)[0] == len(body) - 8
    assert body[8:12] == b"AVI "


def test_cut_off_file_is_refused(tmp_path, frames):
    clip.write(tmp_path, frames[:3])
    body = (tmp_path / "clip.avi").read_bytes()
    (tmp_path / "clip.avi").write_bytes(body[:-20])
    with pytest.raises(ValueError, match="cut off"):
        avi.read(tmp_path / "clip.avi")


def probe(path) -> dict:
    if shutil.which("ffprobe") is None:
        pytest.skip("no ffprobe")
    command = ["ffprobe", "-v", "error", "-count_packets", "-of", "json", "-show_entries",
               "stream=nb_read_packets,codec_name,width,height,r_frame_rate", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)["streams"][0]


def test_ffprobe_likes_it(tmp_path, frames):
    clip.write(tmp_path, frames)
    assert probe(tmp_path / "clip.avi") == {
        "codec_name": "mjpeg", "width": 320, "height": 240, "r_frame_rate": "30/1",
        "nb_read_packets": str(len(frames))}


def test_same_seed_same_clip(frames):
    assert clip.render(seed=21, n_frames=70) == frames


def check_truth(directory) -> None:
    jpegs = avi.read(directory / "clip.avi")
    with open(directory / "clip.truth.csv", newline="") as file:
        assert file.readline() == "frame,class,label,difficulty\n"
        file.seek(0)
        rows = list(csv.DictReader(file))
    assert [int(r["frame"]) for r in rows] == list(range(len(jpegs)))
    assert all(shapes.CLASS_NAMES[int(r["class"])] == r["label"] for r in rows)
    assert all(0 <= float(r["difficulty"]) <= 1 for r in rows)
    labels = np.array([int(r["class"]) for r in rows])
    shots = np.diff(np.flatnonzero(np.concatenate([[1], np.diff(labels), [1]])))
    assert (shots >= 24).all() and (shots <= 64).all()
    assert all(Image.open(io.BytesIO(j)).size == (320, 240) for j in jpegs)


def test_truth_is_consistent(tmp_path, frames):
    clip.write(tmp_path, frames)
    check_truth(tmp_path)


def test_committed_clip(assets):
    check_truth(assets)
    _, _, difficulty = clip.read(assets)
    assert (difficulty < 0.35).sum() > 60 and (difficulty > 0.65).sum() > 60
    assert (assets / "clip.avi").stat().st_size <= 3_000_000
    assert probe(assets / "clip.avi")["nb_read_packets"] == str(len(difficulty))
