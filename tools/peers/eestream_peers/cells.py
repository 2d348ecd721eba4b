# SPDX-License-Identifier: MIT
"""What is compared: cells, the contenders of each, and the files they need (made once, in a temporary folder)."""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from eestream_peers import models, quantised
from eestream_peers.runner import Runner

MIX_RUN = "orin_onnx_cpu"  # threshold 0.8


@dataclass(frozen=True)
class Cell:
    name: str
    arch: str
    precision: str      # of every contender that has it: fp32, bf16, int8
    mode: str           # latency: one frame at a time; throughput: as many as the contender likes
    cores: int
    frames: int         # a round
    exits: bool = False  # LGViT with 8 exits, the recorded mix replayed


def cells():
    for precision in ("fp32", "bf16", "int8"):
        for arch, frames in (("vit-b16", 4), ("vit-s16", 16), ("vit-ti16", 32)):
            yield Cell(f"{arch} {precision}", arch, precision, "latency", 1, frames)
        if precision != "bf16":
            for arch in ("deit-s16", "dinov2-s14", "swin-t"):
                yield Cell(f"{arch} {precision}", arch, precision, "latency", 1, 16)
        yield Cell(f"vit-b16 {precision} latency", "vit-b16", precision, "latency", 2, 4)
        yield Cell(f"vit-b16 {precision} throughput", "vit-b16", precision, "throughput", 2, 8)
    yield Cell("lgvit fp32", "vit-b16", "fp32", "throughput", 2, 32, exits=True)
    yield Cell("lgvit int8", "vit-b16", "int8", "throughput", 2, 32, exits=True)


CELLS = {cell.name.replace(" ", "-"): cell for cell in cells()}


class Workshop:
    """Makes models and graphs when a cell first asks for them."""

    def __init__(self, folder, build, mix):
        self.folder, self.build, self.mix = folder, build.resolve(), mix
        self.folder_of, self.graph = cache(self._folder_of), cache(self._graph)
        self.ort_int8, self.openvino_int8 = cache(self._ort_int8), cache(self._openvino_int8)

    def call(self, *args):
        done = subprocess.run(list(map(str, args)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"peers: {' '.join(map(str, args))}: {done.stderr.strip()}")

    @cached_property
    def image(self):
        path = self.folder / "image.f32"
        np.random.default_rng(2).standard_normal((3, 224, 224)).astype(np.float32).tofile(path)
        return path

    @cached_property
    def exits(self):
        """One byte a frame: exits in the recorded proportions, each due as soon as its share calls for it."""
        shares = np.array(mix_counts(json.loads(self.mix.read_text())), float)
        shares /= shares.sum()
        used, order = np.zeros(len(shares)), []
        for i in range(1, 961):
            order.append(int(np.argmax(shares * i - used)))
            used[order[-1]] += 1
        path = self.folder / "exits.bin"
        path.write_bytes(bytes(order))
        return path

    def _folder_of(self, arch, exits):
        if exits:
            return models.write_lgvit(self.folder / f"{arch}-lgvit", models.SIZES[arch])
        return models.write_plain(self.folder / arch, arch)

    def _graph(self, arch, exits, form):
        out = self.folder / f"{arch}-{form}.onnx"
        self.call(sys.executable, "-m", "eestream_convert", "export", self.folder_of(arch, exits), out, "--form", form)
        return out

    def _ort_int8(self, arch, exits, form):
        return quantised.onnxruntime_dynamic(self.graph(arch, exits, form), self.folder / f"{arch}-{form}-ort-int8.onnx")

    def _openvino_int8(self, arch):
        return quantised.openvino_nncf(self.graph(arch, False, "all-exits"), self.folder / f"{arch}-nncf.xml")


def mix_counts(document):
    """Frames that left at each exit, in order of depth, the final classifier last: exit_K is named by its 0-based block."""
    exits = document["runs"][MIX_RUN]["exits"]
    early = sorted((name for name in exits if name != "final"), key=lambda name: int(name.removeprefix("exit_")))
    return [exits[name]["count"] for name in [*early, "final"]]


def contenders(cell, workshop, cores):
    """eestream first."""
    return [ours(cell, workshop, cores), *(with_exits if cell.exits else full_depth)(cell, workshop, cores)]


def ours(cell, workshop, cores):
    folder = workshop.folder_of(cell.arch, cell.exits)
    command = [workshop.build / "tools/peers/stream_worker", folder, cell.precision, cell.cores, cell.mode, workshop.image]
    if cell.exits:
        command.append(workshop.exits)
    return Runner("eestream", [list(map(str, command))], [cores])


def peer(name, kind, model, workshop, cores, processes=1, streams=1, precision="f32", exits=None):
    """Threads as many as cores, or one in each of as many processes."""
    command = [sys.executable, "-m", "eestream_peers.worker", kind, str(model), str(workshop.image), "--threads",
               str(len(cores) // processes), "--streams", str(streams), "--precision", precision]
    if exits:
        command += ["--exits", str(exits)]
    share = len(cores) // processes
    return Runner(name, [command] * processes, [cores[i * share:(i + 1) * share] for i in range(processes)])


def full_depth(cell, workshop, cores):
    several = len(cores) if cell.mode == "throughput" else 1  # frames at once
    manner = {"latency": "", "throughput": f" x{several}"}[cell.mode]
    graph = lambda: workshop.graph(cell.arch, False, "all-exits")
    if cell.precision == "fp32":
        yield peer(f"ONNX Runtime{manner}", "onnxruntime", graph(), workshop, cores, processes=several)
        yield peer(f"OpenVINO{manner}", "openvino", graph(), workshop, cores, streams=several)
        if cell.arch.startswith("vit"):
            yield peer(f"PyTorch{manner}", "torch", workshop.folder_of(cell.arch, False), workshop, cores, processes=several)
    elif cell.precision == "bf16":
        yield peer(f"OpenVINO bf16{manner}", "openvino", graph(), workshop, cores, streams=several, precision="bf16")
        yield peer(f"PyTorch bf16{manner}", "torch", workshop.folder_of(cell.arch, False), workshop, cores, processes=several,
                   precision="bf16")
    else:
        yield peer(f"ONNX Runtime int8{manner}", "onnxruntime", workshop.ort_int8(cell.arch, False, "all-exits"), workshop, cores,
                   processes=several)
        yield peer(f"OpenVINO int8{manner}", "openvino", workshop.openvino_int8(cell.arch), workshop, cores, streams=several)


def with_exits(cell, workshop, cores):
    """The article's way, nested If, as two threads and as two processes; and full depth in OpenVINO's int8."""
    nested = workshop.graph(cell.arch, True, "nested")
    yield peer("ONNX Runtime nested If, threads", "onnxruntime", nested, workshop, cores, exits=workshop.exits)
    yield peer("ONNX Runtime nested If, processes", "onnxruntime", nested, workshop, cores, processes=len(cores),
               exits=workshop.exits)
    if cell.precision == "int8":
        yield peer(f"OpenVINO int8 full depth x{len(cores)}", "openvino", workshop.openvino_int8(cell.arch), workshop, cores,
                   streams=len(cores))
