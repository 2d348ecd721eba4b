# SPDX-License-Identifier: MIT
"""Runners: anything that streams N frames when told so. Each is one or more child processes that read lines on stdin:
"N" runs N frames and answers with a line, "logits" answers with those of the frame. Children live through all rounds."""

import os
import subprocess
import sys
import time

import numpy as np


class Runner:
    """`commands` are started at once, each bound to its set of cores, and share every order equally."""

    def __init__(self, name, commands, cores):
        self.name = name
        self.children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                          preexec_fn=lambda allowed=allowed: os.sched_setaffinity(0, allowed))
                         for command, allowed in zip(commands, cores, strict=True)]

    def ask(self, lines):
        for child, line in zip(self.children, lines, strict=True):
            child.stdin.write(f"{line}\n")
            child.stdin.flush()
        answers = [child.stdout.readline() for child in self.children]
        if not all(answers):
            sys.exit(f"peers: {self.name}: a process ended early; its last words are above")
        return answers

    def logits(self):
        return np.array(self.ask(["logits"] * len(self.children))[0].split(), np.float32)

    def seconds(self, frames):
        """Wall time of `frames` frames, shared by the processes."""
        share, rest = divmod(frames, len(self.children))
        start = time.perf_counter()
        self.ask([share + (i < rest) for i in range(len(self.children))])
        return time.perf_counter() - start

    def max_rss_mib(self):
        total = 0
        for child in self.children:
            with open(f"/proc/{child.pid}/status") as status:
                total += next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        return total / 1024

    def close(self):
        for child in self.children:
            child.stdin.close()
        for child in self.children:
            child.wait()
