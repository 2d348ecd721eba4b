# SPDX-License-Identifier: MIT
"""`eestream-convert import`: an ONNX graph into a folder that `eestream` reads."""

import json
import sys
from pathlib import Path

from . import folder, hf, onnx_file, vit
from .errors import ConvertError
from .walk import Walk

NAME = "import"
HELP = "turn an ONNX model into a model folder"
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def side_pair(text: str) -> tuple[int, int]:
    """WxH, as the command has it, to (height, width)."""
    width, height = (int(side) for side in text.split("x"))
    return height, width


def add_arguments(parser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--output", metavar="TENSOR",
                        help="the tensor where the imported part ends (default: the graph's first output). Normed tokens "
                             "make a backbone, whose logits are its features")
    parser.add_argument("--image-size", type=side_pair, metavar="WxH", help="of a graph that leaves it open")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="one a line, or id2label of a config.json")
    for key, values in IMAGENET.items():
        parser.add_argument(f"--{key}", type=float, nargs=3, default=values, metavar=("R", "G", "B"),
                            help="of the preprocessing, which is not in the graph (default: ImageNet's)")


def import_onnx(model: Path, output: str | None = None, image_size: tuple[int, int] | None = None) -> vit.Model:
    graph, tensors = onnx_file.load(model)
    walk = Walk(graph, tensors, image_size)
    del tensors
    return vit.recognise(walk.run(output or graph.graph.output[0].name), walk.image)


def read_labels(path: Path | None, n: int, is_backbone: bool) -> list[str]:
    if path is None:
        return [f"feature_{i}" if is_backbone else f"class_{i}" for i in range(n)]
    text = path.read_text()
    if path.suffix == ".json":
        table = json.loads(text)["id2label"]
        labels = [table[key] for key in sorted(table, key=int)]
    else:
        labels = text.splitlines()
    if len(labels) != n:
        raise ConvertError(f"{path}: {len(labels)} labels, the model has {n} classes")
    return labels


def write(model: vit.Model, out: Path, labels: list[str], mean: list[float], std: list[float]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    folder.write_tensors(out / "model.safetensors", hf.tensors(model))
    folder.write_json(out / "config.json", hf.config(model, labels))
    folder.write_json(out / "preprocessor_config.json", hf.preprocessor(model, mean, std))


def run(args) -> None:
    model = import_onnx(args.model, args.output, args.image_size)
    n = len(model.tensors["head.cls.bias"])
    write(model, args.out, read_labels(args.labels, n, model.is_backbone), args.mean, args.std)
    kind, _ = hf.model_type(model)
    what = f"a backbone whose {n} logits are its features" if model.is_backbone else f"{n} classes"
    print(f"{args.out}: {kind}, {model.n_blocks} blocks of width {model.width}, {what}", file=sys.stderr)
