# SPDX-License-Identifier: MIT
"""Inputs of `eestream run`: kinds, several at once, bad ones, true classes."""
import json
import os
import pty
import shutil
import subprocess

import pytest
from conftest import error_line, run, shared


def frames_of(done):
    return [line["frame"] for line in done.lines]


def test_clip_gives_each_frame_once_in_order(clip, jpegs):
    done = run("run", clip)
    assert done.code == 0
    assert frames_of(done) == list(range(len(jpegs)))
    assert all(line["status"] == "ok" and line["source"] == str(clip) for line in done.lines)


def test_the_same_frames_by_every_way_in(clip, jpegs, mjpeg, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, jpeg in enumerate(jpegs[:60]):
        (folder / f"f_{i:04}.jpg").write_bytes(jpeg)
    answers = []
    for done in (run("run", clip, "--limit", 60), run("run", mjpeg), run("run", "-", stdin=mjpeg.read_bytes()),
                 run("run", folder), run("run", f"{folder}/f_*.jpg")):
        assert done.code == 0, done.err
        answers.append([(line["frame"], line["exit"], line["class"], line["confidence"]) for line in done.lines])
    assert len(answers[0]) == 60
    assert all(a == answers[0] for a in answers)


def test_several_inputs_and_lists_keep_their_order(mjpeg, clip, tmp_path):
    shutil.copy(mjpeg, tmp_path / "b.mjpeg")
    (tmp_path / "all.streams").write_text(f"# two\nb.mjpeg\n\n{mjpeg}\n")
    done = run("run", mjpeg, tmp_path / "all.streams", clip, "--limit", 200)
    assert done.code == 0, done.err
    seen = [(line["source"], line["frame"]) for line in done.lines]
    expected = [(str(name), i) for name in (mjpeg, tmp_path / "b.mjpeg", mjpeg) for i in range(60)]
    assert seen == expected + [(str(clip), i) for i in range(20)]


def test_hundreds_of_inputs_need_few_descriptors(jpegs, tmp_path):
    names = []
    for i in range(300):
        names.append(tmp_path / f"{i}.jpg")
        names[-1].write_bytes(jpegs[i % len(jpegs)])
    done = run("run", *names, "--workers", 2, preexec_fn=lambda: __import__("resource").setrlimit(7, (64, 64)))
    assert done.code == 0, done.err
    assert [line["source"] for line in done.lines] == [str(name) for name in names]


def test_raw_pixels(tmp_path):
    raw = bytes(range(256)) * (64 * 48 * 3 * 4 // 256)
    done = run("run", "-", "--raw", "rgb24:64x48", stdin=raw)
    assert done.code == 0 and frames_of(done) == [0, 1, 2, 3]
    assert [line["pts_s"] for line in run("run", "-", "--raw", "rgb24:64x48", "--fps", 10, stdin=raw).lines] == \
        pytest.approx([0, 0.1, 0.2, 0.3])
    assert run("run", "-", "--raw", "rgb24:64", stdin=raw).code == 2


BAD = {
    "missing.avi": None,
    "empty.avi": b"",
    "text.avi": b"this is not a video\n" * 50,
    "zeros.mjpeg": bytes(5000),
    "riff.avi": b"RIFF\x10\x00\x00\x00AVI LIST",
    "dir/": "empty folder",
    "no.streams": b"# nothing here\n",
    "gone.streams": None,
    "f_*.jpg": None,
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_3(name, tmp_path):
    if BAD[name] == "empty folder":
        (tmp_path / name).mkdir()
    elif BAD[name] is not None:
        (tmp_path / name).write_bytes(BAD[name])
    done = run("run", tmp_path / name, "-q")
    assert done.code == 3, done.err
    assert str(tmp_path) in error_line(done)
    assert not done.out


def test_other_inputs_run_when_one_is_bad(mjpeg, tmp_path):
    done = run("run", "-q", tmp_path / "gone.avi", mjpeg, tmp_path / "gone2.avi", mjpeg)
    assert done.code == 3
    assert [line for line in done.err.splitlines() if "gone" in line] == done.err.splitlines()
    assert len(done.err.splitlines()) == 2
    assert frames_of(done) == 2 * list(range(60))


def test_cut_video_delivers_the_frames_before_the_cut(clip, jpegs, tmp_path):
    data = clip.read_bytes()
    whole = [(line["exit"], line["class"]) for line in run("run", clip).lines]
    for share in (0.1, 0.35, 0.5, 0.77, 0.99):
        cut = tmp_path / "cut.avi"
        cut.write_bytes(data[:int(len(data) * share)])
        done = run("run", cut, "-q")
        assert done.code == 3, (share, done.err)
        assert "cut.avi" in error_line(done)
        good = [line for line in done.lines if line["status"] == "ok"]
        assert [(line["exit"], line["class"]) for line in good] == whole[:len(good)]
        assert len(good) >= int(len(jpegs) * share) - 20
        assert frames_of(done) == list(range(len(done.lines)))


def test_damaged_frame_fails_alone(jpegs, tmp_path):
    frames = list(jpegs[:10])
    frames[4] = frames[4][:len(frames[4]) // 20] + b"\xff\xd9"
    for i, jpeg in enumerate(frames):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg)
    (tmp_path / "4.jpg").write_bytes(b"\xff\xd8\xff\xdb")
    done = run("run", tmp_path)
    assert done.code == 0
    assert [line["status"] for line in done.lines] == ["ok"] * 4 + ["failed"] + ["ok"] * 5
    assert "10 decoded = 9 emitted + 0 skipped + 0 dropped + 1 failed" in done.err
    assert run("run", tmp_path, "--strict").code == 6
    assert run("run", tmp_path, "--strict", "-q").err == ""


def test_frame_above_max_pixels_is_damaged(mjpeg):
    done = run("run", mjpeg, "--max-pixels", 100, "--strict", "-q")
    assert done.code == 6
    assert {line["status"] for line in done.lines} == {"failed"}


def test_terminal_as_stdin_is_usage():
    master, slave = pty.openpty()
    try:
        done = run("run", "-", stdin=slave)
    finally:
        os.close(master)
        os.close(slave)
    assert done.code == 2 and "terminal" in error_line(done)


def test_empty_stdin_is_a_source_error():
    done = run("run", "-", "-q", stdin=b"")
    assert done.code == 3
    error_line(done)


def test_closed_stdin_is_a_source_error():
    done = run("run", "-", "-q", preexec_fn=lambda: os.close(0))
    assert done.code == 3
    error_line(done)


def summary_of(tmp_path, *args):
    done = run("run", *args, "-q", "--format", "none", "--summary", tmp_path / "s.json")
    assert done.code == 0, done.err
    return json.loads((tmp_path / "s.json").read_text())


def test_accuracy_from_csv_and_from_class_folders_agree(clip, truth, jpegs, labels, tmp_path):
    folder = tmp_path / "classes"
    for i, (jpeg, label) in enumerate(zip(jpegs, labels)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{i:04}.jpg").write_bytes(jpeg)
    csv = summary_of(tmp_path, clip, "--truth", truth)
    folders = summary_of(tmp_path, folder)
    assert csv["judged"] == folders["judged"] == len(jpegs)
    assert csv["accuracy"] == folders["accuracy"] > 0.8
    right = sum(round(e["accuracy"] * e["frames"]) for e in csv["exits"] if "accuracy" in e)
    assert right == round(csv["accuracy"] * len(jpegs))
    done = run("run", clip)
    counted = sum(line["label"] == label for line, label in zip(done.lines, labels))
    assert counted == right


@pytest.mark.parametrize("text,words", [
    ("frame\n0\n", "columns"),
    ("frame,class\n", "no rows"),
    ("frame,class\nx,1\n", "line 2"),
    ("frame,class\n0,1\n1,9999\n", "line 3"),
    ("label,frame\nno such label,0\n", "line 2"),
    ("", "columns"),
])
def test_bad_truth_names_the_line(text, words, clip, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    done = run("run", clip, "-q", "--truth", tmp_path / "t.csv")
    assert done.code == 2 and words in error_line(done)


def test_truth_columns_in_any_order_with_quotes(clip, labels, tmp_path):
    rows = "".join(f'"{label}",x,{i}\r\n' for i, label in reversed(list(enumerate(labels))))
    (tmp_path / "t.csv").write_text("label,other,frame\r\n" + rows)
    assert summary_of(tmp_path, clip, "--truth", tmp_path / "t.csv")["accuracy"] > 0.8


def test_limit(clip, tmp_path):
    s = summary_of(tmp_path, clip, "--limit", 17)
    assert s["decoded"] == s["emitted"] == 17


@pytest.mark.parametrize("name", ["bottle-detection.mp4", "book.mkv"])
def test_real_clips_have_as_many_frames_as_ffprobe_counts(name):
    path = shared(f"clips/{name}")
    if not shutil.which("ffprobe"):
        pytest.skip("ffprobe is not installed")
    if "MISSING libav" in run("doctor").out:
        pytest.skip("this build has no libav module")
    count = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_packets", "-show_entries",
                            "stream=nb_read_packets", "-of", "csv=p=0", path], capture_output=True, check=True).stdout
    done = run("run", path)
    assert done.code == 0
    assert frames_of(done) == list(range(int(count)))
