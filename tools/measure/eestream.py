# SPDX-License-Identifier: MIT
"""What the scripts of this folder share: running the command, and rows of Markdown."""
import argparse
import json
import statistics
import subprocess


def parser(doc):
    """With --eestream, which every script has."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--eestream", default="build/release/tools/eestream", help="the command (default %(default)s)")
    return p


def run(command, *args):
    """What it prints; it tells of failures itself, on stderr."""
    return subprocess.run([command, *map(str, args)], stdout=subprocess.PIPE, text=True, check=True).stdout


def report(command, *args):
    """What it prints with --format json."""
    return json.loads(run(command, *args, "--format", "json"))


def head(*names):
    row(*names)
    print("|" + "---|" * len(names))


def row(*cells):
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"
