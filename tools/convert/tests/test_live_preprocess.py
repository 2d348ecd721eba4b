# SPDX-License-Identifier: MIT
"""Photos as JPEG through our preprocessing and through each library's own: the embeddings agree as they do for equal
pixels, which one level of one pixel would undo.

Today's Pillow begins a resize with the vertical pass where that is less work, on tall pictures and on most that grow;
older ones and this engine never do. Rounding between the passes then differs by a level, so no such picture is here."""

import io
import shutil
import subprocess

import numpy
import pytest
from PIL import Image

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

from safetensors.torch import save_file  # noqa: E402
from timm.data import create_transform, resolve_data_config  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.transforms import InterpolationMode  # noqa: E402

from live import blocks_of, random_pixels, randomize, record, shared, verify  # noqa: E402
from test_live_hf import BLOCKS, make  # noqa: E402
from test_live_timm import TINY, save as save_timm  # noqa: E402
from test_live_torchvision import VIT, convert as convert_torchvision  # noqa: E402

IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def as_jpeg(picture: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", **options)
    return out.getvalue()


@pytest.fixture(scope="session")
def jpegs(tmp_path_factory):
    """Frames of real clips: landscape, portrait, odd sizes, smaller than the input; and the kinds of JPEG there are."""
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    frames = []
    for clip in ("book.mkv", "bottle-detection.mp4"):
        png = subprocess.run(["ffmpeg", "-v", "error", "-i", shared(f"clips/{clip}"), "-frames:v", "1", "-f", "image2pipe",
                              "-c:v", "png", "-"], stdout=subprocess.PIPE, check=True).stdout
        frames.append(Image.open(io.BytesIO(png)).convert("RGB"))
    book, bottle = frames
    return [as_jpeg(book, quality=90), as_jpeg(bottle, quality=75, progressive=True),
            as_jpeg(bottle.transpose(Image.Transpose.ROTATE_90), quality=95, subsampling=0),
            as_jpeg(book.crop((101, 53, 398, 354)), subsampling=1), as_jpeg(book.crop((7, 9, 378, 70))),
            as_jpeg(bottle.crop((300, 100, 331, 119))), as_jpeg(book.convert("L")), as_jpeg(book.crop((50, 60, 275, 284)))]


def check(folder, jpegs, model, blocks, call, preprocess, n_tensors) -> None:
    """preprocess: a picture to (3, H, W); call: pixels to logits."""
    pictures = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in jpegs]
    pixels = torch.stack([torch.as_tensor(numpy.asarray(preprocess(picture))) for picture in pictures]).float()
    save_file({f"jpeg.{i}": torch.tensor(list(jpeg), dtype=torch.uint8) for i, jpeg in enumerate(jpegs)},
              folder / "inputs.safetensors")
    expected = record(model, blocks, lambda: call(pixels))
    save_file({name: value.contiguous() for name, value in expected.items()}, folder / "expected.safetensors")
    verify(folder, n_tensors=len(expected))


SMALL = dict(image_size=32, patch_size=4, num_hidden_layers=1)
PROCESSORS = {
    "ViT": ("ViT", "ViTImageProcessor", dict(size=dict(height=32, width=32))),
    "ViT, bicubic": ("ViT", "ViTImageProcessor", dict(size=dict(height=32, width=32), resample=3, image_mean=[.4, .5, .6])),
    "DeiT": ("DeiTTeacher", "DeiTImageProcessor",
             dict(size=dict(height=40, width=40), crop_size=dict(height=32, width=32))),
    "DINOv2": ("Dinov2", "BitImageProcessor", dict(size=dict(shortest_edge=37), crop_size=dict(height=32, width=32))),
}


@pytest.mark.parametrize("which", PROCESSORS)
def test_processors_of_transformers(which, jpegs, tmp_path):
    family, name, settings = PROCESSORS[which]
    model = make(family, **SMALL)
    pillow = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    processor = pillow(**settings)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    check(tmp_path, jpegs, model, blocks_of(model, *BLOCKS), lambda pixels: model(pixels).logits,
          lambda picture: processor(picture, return_tensors="np")["pixel_values"][0], n_tensors=3)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224.augreg_in21k_ft_in1k", "deit_tiny_distilled_patch16_224.fb_in1k",
                                  "vit_small_patch14_dinov2.lvd142m"])
def test_transforms_of_timm(name, jpegs, tmp_path):
    """What the pretrained config of the very weights says: crop share, filter, mean and deviation."""
    model = save_timm(tmp_path, name, TINY | dict(patch_size=4, depth=1))
    transform = create_transform(**resolve_data_config({}, model=model), is_training=False)
    check(tmp_path, jpegs, model, blocks_of(model, "Block"), model, transform, n_tensors=3)


def test_transforms_of_torchvision(jpegs, tmp_path):
    """ViT-B/16's, at an input of 32: 36 of 256 / 224."""
    model = randomize(torchvision.models.VisionTransformer(**VIT | dict(patch_size=4, num_layers=1)), 3)
    convert_torchvision(tmp_path, model, VIT | dict(patch_size=4, num_layers=1))
    weights = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.transforms
    transform = weights.func(**weights.keywords | dict(crop_size=32, resize_size=36))
    check(tmp_path, jpegs, model, blocks_of(model, "EncoderBlock"), model, transform, n_tensors=3)


def test_transforms_of_lgvit(jpegs, tmp_path):
    """torchvision's on a picture of PIL: shorter side to the input, bilinear, whatever the processor file says."""
    from test_live_heads import answer, save_lgvit
    model, heads = save_lgvit(tmp_path, "ViT", (32, 32), "conv1_1", ["conv1_1"], (1,))
    transformers.DeiTImageProcessor().save_pretrained(tmp_path)
    transform = transforms.Compose([transforms.Resize(32, InterpolationMode.BILINEAR), transforms.CenterCrop(32),
                                    transforms.ToTensor(), transforms.Normalize(**IMAGENET)])
    check(tmp_path, jpegs, model, blocks_of(model, *BLOCKS), lambda pixels: answer(model, heads, pixels)["logits"],
          transform, n_tensors=len(answer(model, {}, random_pixels(1, 32, 32))))


def test_one_level_is_seen(jpegs, tmp_path):
    """The comparison fails where it should."""
    model = make("ViT", **SMALL)
    processor = transformers.ViTImageProcessorPil(**PROCESSORS["ViT"][2])

    def wrong(picture):
        pixels = processor(picture, return_tensors="np")["pixel_values"][0].copy()
        pixels[1, 17, 5] += 2 / 255
        return pixels
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(AssertionError, match="embeddings .* OUT"):
        check(tmp_path, jpegs, model, blocks_of(model, *BLOCKS), lambda pixels: model(pixels).logits, wrong, n_tensors=3)
