# SPDX-License-Identifier: MIT
"""A peer's side: python -m eestream_peers.worker KIND MODEL IMAGE.f32 [--threads N] [--streams N] [--exits FILE]

KIND is one of `KINDS`; MODEL an ONNX file (torch: an eestream folder). With --exits the graph is the nested one, whose `threshold`
input forces each frame out at the exit the file names next.
"""

import argparse
import itertools
import sys

import numpy as np


class OnnxRuntime:
    def __init__(self, model, image, args):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = args.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # it warns of inputs with a default
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.image = image
        self.feeds = itertools.cycle(self.forced(args.exits))

    def forced(self, exits):
        if not exits:
            return [{"image": self.image}]
        inputs = [*self.session.get_inputs(), *self.session.get_overridable_initializers()]  # thresholds have a default
        n = next(i.shape[0] for i in inputs if i.name == "threshold")
        # a confidence is never above 2 and always above -1: the frame leaves at exit e and not before
        leaving = [np.array([-1.0 if k == e else 2.0 for k in range(n)], np.float32) for e in range(n + 1)]
        with open(exits, "rb") as file:
            return [{"image": self.image, "threshold": leaving[e]} for e in file.read()]

    def logits(self):
        return self.session.run(["logits"], next(self.feeds))[0]

    def stream(self, n):
        for _ in range(n):
            self.session.run(["logits"], next(self.feeds))


class OpenVino:
    def __init__(self, model, image, args):
        import openvino as ov
        from openvino import properties as p

        hints = {p.inference_num_threads(): args.threads, p.num_streams(): args.streams,
                 p.hint.inference_precision(): args.precision, p.hint.enable_cpu_pinning(): False}
        core = ov.Core()
        self.compiled = core.compile_model(core.read_model(model), "CPU", hints)
        self.image = image
        self.queue = ov.AsyncInferQueue(self.compiled, args.streams)

    def logits(self):
        return self.compiled({"image": self.image})["logits"]

    def stream(self, n):
        for _ in range(n):
            self.queue.start_async({"image": self.image})
        self.queue.wait_all()


class Torch:
    """The plain ViT on PyTorch's own fused attention; bf16 by autocast."""

    def __init__(self, model, image, args):
        import torch

        from eestream_peers.torch_vit import load

        torch.set_num_threads(args.threads)
        torch.set_grad_enabled(False)
        self.torch, self.bf16 = torch, args.precision == "bf16"
        self.model = load(model)
        self.image = torch.from_numpy(image)
        if self.bf16:
            self.model, self.image = self.model.bfloat16(), self.image.bfloat16()

    def logits(self):
        return self.model(self.image).float().numpy()

    def stream(self, n):
        for _ in range(n):
            self.model(self.image)


KINDS = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "torch": Torch}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--exits", help="bytes: the exit of each frame")
    args = parser.parse_args()
    pixels = np.fromfile(args.image, np.float32)
    side = round((pixels.size // 3) ** 0.5)
    peer = KINDS[args.kind](args.model, pixels.reshape(1, 3, side, side), args)
    for line in sys.stdin:
        if line.strip() == "logits":
            print(" ".join(f"{x:.9g}" for x in np.ravel(peer.logits())), flush=True)
        else:
            peer.stream(int(line))
            print("done", flush=True)


if __name__ == "__main__":
    main()
