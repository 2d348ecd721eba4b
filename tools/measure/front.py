#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a video of JPEGs costs beside the work it cannot do without: vit-ti16 in int8 with LGViT's exits, mix of threshold 0.8.

    tools/measure/front.py [--build build/release] [--video FILE] [--arch vit-ti16] [--precision int8] [--rounds N]

In one process and in turn: the video through the engine, on every core this process may use; the same JPEGs decoded by
libjpeg-turbo and nothing else; the same exits of frames that are decoded, resized and normalised already. Printed is what each
takes, and the stream's share of two limits, each median (min-max) over the rounds:

    the larger floor   max(decode, compute): as if decoding ran beside the model on something else
    both floors        decode + compute: the cores that run the model have to decode, too

in frames a second, and in CPU time a frame, which is what counts on a machine with other jobs: where all cores are busy the two
say the same.

Without --video one of 640x480 is made (ffmpeg): a moving fractal under grain, 4:2:0, about as many bytes a frame as a camera's.
Any file that eestream reads as JPEGs will do. Standard library only.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

SHARES = [4330, 1556, 943, 894, 1136, 498, 236, 94, 313]  # published: LGViT ViT-B/16 on CIFAR-100, threshold 0.8, by exit
PICTURE = "mandelbrot=size=640x480:rate=25:start_scale=1:end_scale=0.05:end_pts=240,noise=alls=8:allf=t"


def make_video(path):
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", PICTURE, "-frames:v", "240", "-pix_fmt", "yuvj420p",
                    "-c:v", "mjpeg", "-q:v", "5", str(path)], check=True)


def spread(values, form="{:.3f}"):
    return " ".join([form.format(statistics.median(values)), f"({form.format(min(values))}-{form.format(max(values))})"])


def shares(stream, compute, decode):
    """What the stream's time a frame has of the larger floor, and of both."""
    return max(compute, decode) / stream, (compute + decode) / stream


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--video", type=pathlib.Path)
    parser.add_argument("--arch", default="vit-ti16")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--frames", type=int, default=640, help="a round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    subprocess.run(["cmake", "--build", str(args.build), "--target", "bench_front"], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        video = args.video or pathlib.Path(folder) / "video.avi"
        if not args.video:
            make_video(video)
        done = subprocess.run([args.build / "tests/api/bench_front", args.arch, args.precision, video, str(args.frames),
                               str(args.rounds), ",".join(map(str, SHARES))], stdout=subprocess.PIPE, check=True)
        size_mb = video.stat().st_size / 1e6
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    ways = ("stream", "compute", "decode")
    print(f"| {args.arch} {args.precision} | stream | compute alone | decode alone | of the larger floor | of both floors |")
    print("|---|---|---|---|---|---|")
    for title, field, form, time in (("frames a second", "fps", "{:.0f}", lambda fps: 1 / fps),
                                     ("CPU ms a frame", "cpu_ms", "{:.2f}", lambda ms: ms)):
        larger, both = zip(*(shares(*(time(r[f"{way}_{field}"]) for way in ways)) for r in rounds))
        print(f"| {title} | " + " | ".join(spread([r[f"{way}_{field}"] for r in rounds], form) for way in ways) +
              f" | {spread(larger)} | {spread(both)} |")
    print(f"\n{rounds[0]['cores']} cores, {args.rounds} rounds of {args.frames} frames, a video of {size_mb:.1f} MB")


if __name__ == "__main__":
    main()
