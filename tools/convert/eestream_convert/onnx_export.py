# SPDX-License-Identifier: MIT
"""`eestream-convert export`: an early-exit model folder into ONNX.

`nested`: after each exit an If whose one arm answers and whose other arm is the rest of the network, so a frame that
leaves runs nothing more. Input `image` (1, 3, H, W) float32, normalised; `threshold` (E,), which has the model's own as
default; outputs `logits` (1, K) and `exit` (1,) int64, E for the final classifier, and of policies that combine exits
`class` (1,) int64. `all-exits`: every head runs; outputs `exit.0` .. and `logits`, for any batch fixed beforehand.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from .errors import ConvertError
from .graph import Graph, finish
from .head_graphs import HeadContext, head_of
from .layers import Layers
from .policies import Answer, Policy
from .source import Source
from .swin_graph import Swin
from .vit_graph import Vit

NAME = "export"
HELP = "turn a model folder into ONNX that answers at the same exits"
MAX_NESTED = 31              # deeper graphs exceed protobuf's limit of 100 levels, in ONNX Runtime and in onnx
MAX_INLINE = 1_800_000_000   # bytes of weights in one protobuf, which ends at 2 GB


OPTIONS = [("image-size", "WxH", "input of the network"), ("policy", "NAME", "of the nested form"),
           ("threshold", "X[,X...]", "one for all exits, or one an exit"), ("patience", "N", "exits in a row"),
           ("exit-weights", "W[,W...]", "of ensemble_mean")]


def add_arguments(parser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("out", type=Path, metavar="OUT.onnx")
    parser.add_argument("--form", choices=("nested", "all-exits"), default="nested")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="frames at once, of --form all-exits")
    for name, value, text in OPTIONS:
        parser.add_argument(f"--{name}", metavar=value, help=text + " (default: the model's)")
    parser.add_argument("--eestream", metavar="PATH", help="the command that reads the folder (default: found)")


class Export:
    def __init__(self, source: Source, batch: int = 1):
        self.source, self.info = source, source.info
        self.layers = Layers(source, batch)
        self.network = Swin(self.layers) if "blk.0.attn.rel_bias" in source else Vit(self.layers)
        self.context = HeadContext(self.layers, self.network)
        self.exits = self.info["exits"]
        self.graph = Graph()
        self.graph.root.shapes["image"] = (batch, 3, *self.layers.image)

    def logits_shape(self) -> list[int]:
        return [self.layers.batch, self.info["classes"]]

    def answer(self, g: Graph, x: str, k: int) -> Answer:
        """Of exit k, or of the final classifier."""
        if k == len(self.exits):
            return Answer(k, self.network.final(g, x))
        function, number = head_of(self.exits[k]["head"])
        self.layers.pooled = None
        logits = function(self.context, g, x, f"exit.{k}", number)
        return Answer(k, logits, self.layers.pooled)

    def blocks_before(self, k: int) -> range:
        """Blocks that run between the answers k-1 and k."""
        ends = [0, *(entry["after_block"] for entry in self.exits), self.info["blocks"]]
        return range(ends[k], ends[k + 1])

    # ---- all exits --------------------------------------------------------------------------------------------

    def all_exits(self) -> onnx.ModelProto:
        g, x = self.graph, self.network.embed(self.graph, "image")
        outputs = []
        for k in range(len(self.exits) + 1):
            for i in self.blocks_before(k):
                x = self.network.block(g, x, i)
            name = f"exit.{k}" if k < len(self.exits) else "logits"
            g.add("Identity", [self.answer(g, x, k).logits], tuple(self.logits_shape()), output=name)
            outputs.append((name, TensorProto.FLOAT, self.logits_shape()))
        return finish(g, [("image", TensorProto.FLOAT, list(g.shape("image")))], outputs, f"{self.info['name']}, all exits")

    # ---- nested -----------------------------------------------------------------------------------------------

    def nested(self) -> onnx.ModelProto:
        if len(self.exits) > MAX_NESTED:
            raise ConvertError(f"{self.info['name']} has {len(self.exits)} exits; more than {MAX_NESTED} nested Ifs are not "
                               "loaded by ONNX Runtime: use --form all-exits")
        policy_info, n = self.info["policy"], len(self.exits)
        inputs = [("image", TensorProto.FLOAT, list(self.graph.shape("image")))]
        threshold = None
        values = policy_info["thresholds"]
        if n and values:
            threshold = self.graph.weight("threshold", np.resize(np.float32(values), n))
            inputs.append(("threshold", TensorProto.FLOAT, [n]))
        policy = Policy(policy_info, threshold, n, self.source) if n and policy_info["name"] != "none" else None
        outputs = self.outputs(policy)
        results = self.rest(self.graph, self.network.embed(self.graph, "image"), 0, policy, {})
        for (name, _, shape), inner in zip(outputs, results):
            self.graph.add("Identity", [inner], tuple(shape), output=name)
        return finish(self.graph, inputs, outputs, f"{self.info['name']}, policy {policy_info['name']}")

    def outputs(self, policy: Policy | None) -> list:
        """Name, type and shape of what the graph and each arm give."""
        outputs = [("logits", TensorProto.FLOAT, self.logits_shape()), ("exit", TensorProto.INT64, [1])]
        return outputs + ([("class", TensorProto.INT64, [1])] if policy and policy.combines else [])

    def rest(self, g: Graph, x: str, k: int, policy: Policy | None, state: dict) -> list[str]:
        """Everything from the blocks in front of answer k on. @return names of what outputs() lists"""
        for i in self.blocks_before(k):
            x = self.network.block(g, x, i)
        if k < len(self.exits) and not policy:
            return self.rest(g, x, k + 1, policy, state)
        answer = self.answer(g, x, k)
        leave, state = policy.decide(g, answer, state) if policy else (None, state)
        results = [answer.logits, g.weight(f"exit.index.{k}", np.array([k], np.int64))]
        if policy and policy.combines:
            results.append(state["class"])
        if k == len(self.exits):
            return results
        here, there, outputs = g.scope(), g.scope(), self.outputs(policy)
        later = self.rest(there, x, k + 1, policy, state)
        names = [g.name(name) for name, _, _ in outputs]
        g.nodes.append(onnx.helper.make_node("If", [leave], names, name=f"If/exit.{k}",
                                             then_branch=self.arm_proto(here, results, outputs, f"exit.{k}"),
                                             else_branch=self.arm_proto(there, later, outputs, f"after.{k}")))
        return names

    @staticmethod
    def arm_proto(g: Graph, results: list[str], outputs: list, name: str) -> onnx.GraphProto:
        """What an arm gives must be made inside it."""
        infos = [onnx.helper.make_tensor_value_info(g.add("Identity", [inner], tuple(shape)), kind, shape)
                 for inner, (_, kind, shape) in zip(results, outputs)]
        return onnx.helper.make_graph(g.nodes, name, [], infos)


def export_onnx(directory: Path, out: Path, form: str, batch: int = 1, command: str | None = None, **options) -> dict:
    """`options`: of `eestream inspect`, see OPTIONS. @return what it tells about the model"""
    if form == "nested" and batch != 1:
        raise ConvertError(f"--batch {batch}: a nested graph decides for one frame, give --form all-exits")
    source = Source(directory, command, **options)
    export = Export(source, batch)
    model = export.nested() if form == "nested" else export.all_exits()
    save(model, out)
    return source.info


def save(model: onnx.ModelProto, out: Path) -> None:
    n_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    beside = out.name + ".data"
    onnx.save(model, out, save_as_external_data=n_bytes > MAX_INLINE, location=beside, all_tensors_to_one_file=True)


def run(args) -> None:
    options = {key: getattr(args, key) for key in ("image_size", "policy", "threshold", "patience", "exit_weights")}
    info = export_onnx(args.directory, args.out, args.form, args.batch, args.eestream, **options)
    print(f"{args.out}: {info['name']}, {len(info['exits'])} exits, {args.form}", file=sys.stderr)
