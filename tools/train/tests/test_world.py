# SPDX-License-Identifier: MIT
"""The world is deterministic, honest (only the outline tells the class) and decidable."""

import dataclasses

import numpy as np
import pytest

from eestream_train import data, shapes, world

# Grey means of the 4 x 3 tiles of three frames. Tiles, not bytes: sines may differ in their last
# bit between processors, which moves single pixels by one level.
GOLDEN = {
    0: [127.2, 128.15, 127.62, 128.25, 123.61, 123.31,
        78.58, 117.92, 120.26, 118.99, 112.24, 121.34],
    7: [74.66, 70.85, 66.29, 58.93, 73.31, 73.97,
        70.2, 58.88, 68.21, 67.48, 58.0, 57.22],
    99: [89.83, 96.01, 101.64, 90.65, 89.76, 121.85,
        133.81, 90.9, 90.38, 99.49, 93.3, 90.98],
}


def tiles(frame: np.ndarray) -> np.ndarray:
    return frame.reshape(3, 80, 4, 80, 3).mean(axis=(1, 3, 4)).ravel()


@pytest.mark.parametrize("index", GOLDEN)
def test_frame_is_the_recorded_one(index):
    frame, _, _ = world.iid_frame(1, index)
    np.testing.assert_allclose(tiles(frame), GOLDEN[index], atol=0.05)


def test_same_seed_same_bytes_other_seed_other_bytes():
    first, again, other = (world.iid_frame(seed, 3)[0].tobytes() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_parallel_rendering_gives_the_same_bytes():
    images, labels, difficulty = data.generate(seed=11, count=3, workers=2)
    for i in range(3):
        frame, scene, d = world.iid_frame(11, i)
        assert (images[i] == data.preprocess(data.jpeg(frame, scene.jpeg_quality))).all()
        assert (labels[i], difficulty[i]) == (scene.class_id, np.float32(d))


def test_scene_does_not_depend_on_the_class():
    """A leak through colour, texture or place is impossible if the draws are the same."""
    scenes = [world.sample_scene(c, np.random.default_rng(5)) for c in (0, 9)]
    a, b = (dataclasses.asdict(s) for s in scenes)
    assert (a.pop("class_id"), b.pop("class_id")) == (0, 9)
    np.testing.assert_equal(a, b)


def mask_of(class_id: int, turn: float = 0.0, flip: bool = False) -> np.ndarray:
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1 if flip else 1, 1]) * 30
    return shapes.paint_mask([(p @ matrix.T + 32, v) for p, v in shapes.outline(class_id)], 64, 64)


def test_every_pair_of_classes_differs_at_every_angle():
    reference = [mask_of(c) for c in range(len(shapes.CLASS_NAMES))]
    for c in range(len(shapes.CLASS_NAMES)):
        for turn in np.arange(24) * np.pi / 12:
            for flip in (False, True):
                mask = mask_of(c, turn, flip)
                for other in range(c):
                    both = np.minimum(mask, reference[other]).sum()
                    either = np.maximum(mask, reference[other]).sum()
                    assert both / either < 0.87, (shapes.CLASS_NAMES[c], shapes.CLASS_NAMES[other])


def test_outlines_have_radius_one():
    for c in range(len(shapes.CLASS_NAMES)):
        assert np.linalg.norm(shapes.outline(c)[0][0], axis=1).max() == pytest.approx(1)


@pytest.mark.parametrize("difficulty", (0.0, 0.5, 1.0))
def test_object_stays_in_the_centre_square(difficulty):
    for seed in range(40):
        scene = world.sample_scene(0, np.random.default_rng(seed))
        level = {name: difficulty * share for name, share in scene.share.items()}
        for time in np.arange(0, 60, 5):
            radius, centre, _ = world._placement(scene, float(time), level)
            assert radius >= 46
            assert (np.abs(centre - (160, 120)) + radius <= 120).all()


def test_covers_hide_little():
    for seed in range(40):
        scene = world.sample_scene(seed % 16, np.random.default_rng(seed))
        mask = shapes.paint_mask(
            [(p * 50 + 60, v) for p, v in shapes.outline(scene.class_id)], 120, 120)
        shown = np.ones_like(mask)
        for cover, _ in world._covering(scene, mask, 50, np.array([60, 60]), 1.0):
            shown *= 1 - cover
        assert 1 - (shown * mask).sum() / mask.sum() <= world.MAX_COVERED + 1e-6


def test_difficulty_degrades_the_picture():
    """Contrast of the object to its background falls with the dial."""
    easy = np.mean([world.iid_frame(1, i, 0.0)[0].std() for i in range(20)])
    hard = np.mean([world.iid_frame(1, i, 1.0)[0].std() for i in range(20)])
    assert hard < 0.9 * easy


def test_preprocessing_keeps_the_centre():
    frame = np.zeros((240, 320, 3), dtype=np.uint8)
    frame[:, :160] = (255, 0, 0)
    image = data.preprocess(data.jpeg(frame, 95))
    assert image.shape == (64, 64, 3)
    assert (image[:, :30, 0] > 240).all() and (image[:, 35:, 0] < 15).all()


def test_normalisation():
    pixels = data.normalise(np.full((1, 64, 64, 3), 255, dtype=np.uint8))
    np.testing.assert_allclose(pixels[0, :, 0, 0], [2.2489083, 2.4285715, 2.64], rtol=1e-6)
