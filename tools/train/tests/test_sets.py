# SPDX-License-Identifier: MIT
"""Pictures from atlases, folders and rendered worlds."""

import numpy as np
import pytest
from PIL import Image

from eestream_train import data, sets, shapes


def colour(label: int, index: int) -> np.ndarray:
    return np.full((32, 32, 3), (40 * label + 20, index % 256, index // 2), dtype=np.uint8)


def write_atlas(path, label: int, n_rows: int) -> None:
    tiles = [[colour(label, 25 * row + column) for column in range(25)] for row in range(n_rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack([np.hstack(row) for row in tiles])).save(path, lossless=True)


@pytest.fixture
def atlases(tmp_path):
    for label, name in enumerate(("bee", "ant")):
        write_atlas(tmp_path / "data/train" / f"{name}.webp", 1 - label, 3)
        write_atlas(tmp_path / "data/dev" / f"{name}.webp", 1 - label, 1)
    return tmp_path / "data"


def test_atlas_keeps_its_last_row_back(atlases):
    parts = {name: sets.load(atlases, name, 0) for name in sets.SETS}
    assert [len(parts[n]) for n in sets.SETS] == [100, 50, 50]
    assert parts["train"].class_names == ("ant", "bee")
    for index in (0, 26, 49):  # tile 26 is row 1, column 1
        assert (parts["train"].images[index] == colour(0, index)).all()
    assert (parts["train"].images[50] == colour(1, 0)).all()
    assert (parts["calibration"].images[0] == colour(0, 50)).all()
    assert parts["train"].labels.tolist() == [0] * 50 + [1] * 50


def test_cache_is_read_instead_of_the_pictures(atlases, tmp_path):
    first = sets.load(atlases, "dev", 0, tmp_path / "cache")
    for path in (atlases / "dev").iterdir():
        path.unlink()
    again = sets.load(atlases, "dev", 0, tmp_path / "cache")
    assert (again.images == first.images).all() and again.class_names == ("ant", "bee")


def test_jpegs_in_class_folders(atlases, tmp_path):
    dev = sets.load(atlases, "dev", 0)
    sets.write_jpegs(dev, tmp_path / "frames")
    paths = sorted((tmp_path / "frames/bee").iterdir())
    assert len(paths) == 25 and len(list((tmp_path / "frames/ant").iterdir())) == 25
    difference = np.asarray(Image.open(paths[3])).astype(int) - dev.images[28]
    assert np.abs(difference).max() <= 3


def test_atlas_of_another_width_is_refused(atlases):
    Image.new("RGB", (32, 32)).save(atlases / "dev/ant.webp")
    with pytest.raises(ValueError, match="32x32 pixels, expected 25 tiles"):
        sets.load(atlases, "dev", 0)


def test_folders(tmp_path):
    for split, count in (("train", 40), ("val", 4)):
        for label, name in enumerate(("dog", "cat")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (60, 40), (100 * label, i, 0)).save(folder / f"{i:03}.png")
    parts = {name: sets.load(tmp_path, name, 16) for name in sets.SETS}
    assert [len(parts[n]) for n in sets.SETS] == [76, 4, 8]
    assert parts["dev"].images.shape == (8, 16, 16, 3)
    assert parts["train"].class_names == ("cat", "dog")
    # No picture is in two sets: the green value is the file's number.
    green = {n: set(parts[n].images[parts[n].labels == 0, 8, 8, 1].tolist()) for n in sets.SETS}
    assert green["calibration"] == {19, 39} and not green["train"] & green["calibration"]
    assert len(green["train"]) == 38


def test_world(tmp_path):
    frames = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    for name in ("train", "val"):
        data.save(tmp_path, name, frames, np.arange(6), np.zeros(6, np.float32))
    parts = {name: sets.load(tmp_path, name, 0) for name in sets.SETS}
    assert [p.labels.tolist() for p in parts.values()] == [[0, 1, 2, 3, 4, 5], [3, 4, 5],
                                                           [0, 1, 2]]
    assert parts["dev"].class_names == shapes.CLASS_NAMES


def test_taking_few_keeps_every_class(atlases):
    few = sets.load(atlases, "dev", 0).take(10)
    assert len(few) == 10 and (np.bincount(few.labels) == 5).all()


def test_other_directories_are_refused(tmp_path):
    with pytest.raises(ValueError, match="neither"):
        sets.load(tmp_path, "train", 0)
