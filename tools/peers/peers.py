# SPDX-License-Identifier: MIT
"""eestream against ONNX Runtime on the same random ViT at full depth, alternating in one run.

    python peers.py --worker ../../build/release/tools/peers/stream_worker [--arch vit-b16] [--rounds 11] [--json out.json]

Each round times both, one after the other, on the same core(s); the figure is the median of the rounds' ratios. The
two must agree on the logits first. ONNX Runtime is given its faster graph (three products for q, k and v, or one).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from vit import CONFIGS, build_onnx, random_weights, write_folder


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


class OnnxRuntime:
    def __init__(self, model, image, threads):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.feed = {"image": image}

    def logits(self):
        return self.session.run(["logits"], self.feed)[0].ravel()

    def seconds(self, frames):
        start = time.perf_counter()
        for _ in range(frames):
            self.session.run(["logits"], self.feed)
        return time.perf_counter() - start


class Eestream:
    def __init__(self, worker, folder, image_file, threads):
        self.process = subprocess.Popen([worker, folder, str(threads), image_file], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("peers: stream_worker ended early")
        return answer

    def logits(self):
        return np.array(self.ask("logits").split(), np.float32)

    def seconds(self, frames):
        return float(self.ask(str(frames)))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(args, threads):
    config = CONFIGS[args.arch]
    weights = random_weights(config)
    image = np.random.default_rng(2).standard_normal((1, 3, config.image, config.image)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(config, weights, folder)
        image_file = os.path.join(folder, "image.f32")
        image.tofile(image_file)
        ours = Eestream(args.worker, folder, image_file, threads)
        peers = {name: OnnxRuntime(build_onnx(config, weights, packed), image, threads)
                 for name, packed in (("q, k, v apart", False), ("qkv packed", True))}
        want, got = next(iter(peers.values())).logits(), ours.logits()
        difference = float(np.abs(want - got).max())
        if difference > 1e-3:
            sys.exit(f"peers: logits differ by {difference}: not the same model")
        for runner in (ours, *peers.values()):
            runner.seconds(2)
        best = min(peers, key=lambda name: peers[name].seconds(3))
        rounds = [(ours.seconds(args.frames) / args.frames, peers[best].seconds(args.frames) / args.frames)
                  for _ in range(args.rounds)]
        ours.close()
    ratios = sorted(peer / our for our, peer in rounds)
    return {"arch": args.arch, "threads": threads, "graph": best, "largest_logit_difference": difference,
            "eestream_ms": 1e3 * statistics.median(r[0] for r in rounds),
            "onnxruntime_ms": 1e3 * statistics.median(r[1] for r in rounds),
            "ratio_median": statistics.median(ratios), "ratio_min": ratios[0], "ratio_max": ratios[-1],
            "rounds_ms": [[1e3 * a, 1e3 * b] for a, b in rounds]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", required=True, help="the built stream_worker")
    parser.add_argument("--arch", default="vit-b16", choices=sorted(CONFIGS))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--frames", type=int, default=4, help="frames a round")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--json", help="write everything measured to this file")
    args = parser.parse_args()
    print(f"{cpu_model()}; ONNX Runtime {ort.__version__}; fp32, batch 1, full depth; {args.rounds} rounds of {args.frames}")
    print("| model | threads | eestream ms | ONNX Runtime ms | ONNX Runtime / eestream (min-max) | logits differ by |")
    print("|---|---|---|---|---|---|")
    rows, cores = [], sorted(os.sched_getaffinity(0))
    for threads in args.threads:
        os.sched_setaffinity(0, cores[:threads])
        row = compare(args, threads)
        rows.append(row)
        print(f"| {row['arch']} | {threads} | {row['eestream_ms']:.1f} | {row['onnxruntime_ms']:.1f} ({row['graph']}) | "
              f"{row['ratio_median']:.3f} ({row['ratio_min']:.3f}-{row['ratio_max']:.3f}) | "
              f"{row['largest_logit_difference']:.1e} |", flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps({"cpu": cpu_model(), "onnxruntime": ort.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
