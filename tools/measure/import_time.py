#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From the start of the process to the first answer, of a ViT-B/16 read from safetensors with a warm page cache: opening,
checking, packing and one frame.

    tools/measure/import_time.py [--eestream build/release/tools/eestream] [--rounds N] [--dtype F32|F16|BF16] [--model DIR]

Without --model a ViT-B/16 of random weights is written to a temporary folder (needs numpy).
"""
import json
import pathlib
import statistics
import struct
import subprocess
import tempfile
import time

import eestream

CHANNELS, WIDTH, BLOCKS, PATCH, TOKENS, CLASSES = 768, 3072, 12, 16, 197, 1000
CONFIG = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": CHANNELS,
          "num_hidden_layers": BLOCKS, "num_attention_heads": 12, "intermediate_size": WIDTH, "image_size": 224,
          "patch_size": PATCH, "num_labels": CLASSES}


def shapes():
    """Names and shapes as Hugging Face writes them."""
    def layer(name, *shape):
        return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    out = {"vit.embeddings.cls_token": (1, 1, CHANNELS), "vit.embeddings.position_embeddings": (1, TOKENS, CHANNELS)}
    out |= layer("vit.embeddings.patch_embeddings.projection", CHANNELS, 3, PATCH, PATCH)
    for i in range(BLOCKS):
        block = f"vit.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            out |= layer(f"{block}.attention.attention.{part}", CHANNELS, CHANNELS)
        out |= layer(f"{block}.attention.output.dense", CHANNELS, CHANNELS)
        out |= layer(f"{block}.intermediate.dense", WIDTH, CHANNELS) | layer(f"{block}.output.dense", CHANNELS, WIDTH)
        out |= layer(f"{block}.layernorm_before", CHANNELS) | layer(f"{block}.layernorm_after", CHANNELS)
    return out | layer("vit.layernorm", CHANNELS) | layer("classifier", CLASSES, CHANNELS)


def write_model(folder, dtype):
    import numpy
    draw = numpy.random.default_rng(1)
    element_bytes = 4 if dtype == "F32" else 2
    header, end = {}, 0
    for name, shape in shapes().items():
        begin, end = end, end + element_bytes * int(numpy.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes().values():
            values = draw.standard_normal(int(numpy.prod(shape)), dtype="float32") * numpy.float32(0.02)
            if dtype == "F16":
                values = values.astype("float16")
            elif dtype == "BF16":
                values = (values.view("uint32") >> 16).astype("uint16")
            out.write(values.tobytes())
    (folder / "config.json").write_text(json.dumps(CONFIG))


def first_answer_s(command, model):
    begin = time.monotonic()
    process = subprocess.Popen([command, "run", "synthetic:224x224,frames=1", "--model", model, "-o", "-", "-q"],
                               stdout=subprocess.PIPE)
    line = process.stdout.readline()
    elapsed = time.monotonic() - begin
    process.stdout.close()
    if process.wait() != 0 or json.loads(line)["status"] != "ok":
        raise SystemExit(f"no answer: {line!r}")
    return elapsed


def main():
    parser = eestream.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dtype", choices=["F32", "F16", "BF16"], default="F32")
    parser.add_argument("--model", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or pathlib.Path(folder)
        if not args.model:
            write_model(model, args.dtype)
        first_answer_s(args.eestream, model)  # fills the page cache
        times = [first_answer_s(args.eestream, model) for _ in range(args.rounds)]
    print(f"best {min(times):.3f} s, median {statistics.median(times):.3f} s, worst {max(times):.3f} s of {args.rounds} starts")


if __name__ == "__main__":
    main()
