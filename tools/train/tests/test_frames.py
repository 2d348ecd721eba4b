# SPDX-License-Identifier: MIT
"""Labelled frames for the command: the folder is the class, the same stream gives the same bytes."""
from eestream_train import data, frames, shapes, world


def test_frames_in_class_folders(tmp_path):
    frames.write(tmp_path / "a", seed=data.CALIBRATION_SEED, count=12)
    frames.write(tmp_path / "b", seed=data.CALIBRATION_SEED, count=12)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(shapes.CLASS_NAMES)
    files = sorted((tmp_path / "a").glob("*/*.jpg"), key=lambda p: p.name)
    assert [p.name for p in files] == [f"{i:06}.jpg" for i in range(12)]
    for i, path in enumerate(files):
        _, scene, _ = world.iid_frame(data.CALIBRATION_SEED, i)
        assert path.parent.name == shapes.CLASS_NAMES[scene.class_id]
        assert path.read_bytes() == (tmp_path / "b" / path.parent.name / path.name).read_bytes()
        assert path.read_bytes()[:2] == b"\xff\xd8"
