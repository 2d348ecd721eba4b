# SPDX-License-Identifier: MIT
"""Batches: what they are made of, and that they repeat."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra: torch)")
from PIL import Image  # noqa: E402

from eestream_train import views  # noqa: E402
from eestream_train.views import Augmentation  # noqa: E402

NONE = Augmentation(crop=1.0, flip=False)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)


def shown(pixels: torch.Tensor) -> np.ndarray:
    """Back to levels 0 .. 255."""
    return (pixels * views.STD + views.MEAN).mul(255).numpy()


def augmented(images, a: Augmentation, step: int = 0, size: int = 12):
    return views.augmented(images, np.arange(8) % 4, size, 4, a, seed=5, step=step)


def test_an_epoch_holds_every_picture_once():
    epoch = np.concatenate([views.draw(20, 5, 1, step) for step in range(4)])
    assert sorted(epoch) == list(range(20))
    assert (views.draw(20, 5, 1, 4) != epoch[:5]).any()
    assert len(np.unique(np.concatenate([views.draw(23, 5, 1, s) for s in range(4)]))) == 20


@pytest.mark.parametrize("size", (24, 30, 8))
def test_plain_resizes_as_pillow_does(images, size):
    found = shown(views.plain(images, size))
    for image, mine in zip(images, found):
        expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        difference = np.abs(mine.transpose(1, 2, 0) - np.asarray(expected, dtype=float))
        assert difference.max() <= 1.01 and (difference > 0.5).mean() < 0.25


def test_nothing_augmented_is_the_picture(images):
    pixels, target = augmented(images, NONE)
    assert np.abs(shown(pixels) - images.transpose(0, 3, 1, 2)).max() < 0.01
    assert target.argmax(dim=1).tolist() == [0, 1, 2, 3] * 2


def test_batches_depend_on_seed_and_step_only(images):
    full = Augmentation(crop=0.3, jitter=0.2, cutmix=0.5)
    a, b, other = (augmented(images, full, step)[0] for step in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, other)


def test_cutmix_labels_are_areas(images):
    flat = np.repeat(np.arange(8, dtype=np.uint8)[:, None] * 30, 12 * 12 * 3, 1)
    flat = flat.reshape(8, 12, 12, 3)
    for step in range(6):
        pixels, target = augmented(flat, Augmentation(crop=1.0, flip=False, cutmix=1.0), step)
        levels = shown(pixels)[1, 0].round()
        own, other = (levels == 30).mean(), (levels == 0).mean()
        assert own + other == 1
        assert target[1].tolist() == pytest.approx([other, own, 0, 0], abs=1e-6)
