#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How near the inner loops of the ARM products come to the rate at which a core issues multiply-adds, by llvm-mca's
models of the cores: for boards one doesn't own.

    cmake --preset aarch64 && cmake --build --preset aarch64 --target ees_kernels
    tools/measure/mca.py [build/aarch64]

The limit is what the same model says of the loop's multiply-adds alone, each on a register of its own. What the models do
not know: cache misses, store forwarding, how a core's fetch deals with a loop. LLVM 17 or newer is needed; older ones take
the Cortex-A57 for every core here (Debian: llvm-19).
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys

# Cores and the model that stands for each: LLVM has none for the A76, of which the N1 is the server's version, nor for the A78,
# its successor with the same two vector pipes and a wider front.
CORES = {"cortex-a76": "neoverse-n1", "cortex-a78": "neoverse-n1", "neoverse-n1": "neoverse-n1",
         "neoverse-v1": "neoverse-v1"}
HAS_I8MM = {"neoverse-v1"}

# object, product, what multiplies and adds
LOOPS = [("neon.c.o", "fp32", ("fmla",)), ("s8_dotprod.c.o", "int8, sdot", ("sdot",)),
         ("s8_i8mm.c.o", "int8, smmla", ("smmla",)), ("s8_neon.c.o", "int8, smull", ("smull", "smlal2", "sadalp"))]

TILE = "multiply_tile_8"  # of all rows
ITERATIONS = 200
OLDEST_LLVM = 17


def fail(message):
    sys.exit(f"mca: {message}")


def find_tool(*names):
    for name in names:
        if path := shutil.which(name):
            return path
    return fail(f"{names[0]} is not installed; Debian: apt-get install llvm-19 binutils-aarch64-linux-gnu")


def find_mca():
    """The newest llvm-mca, and its version."""
    paths = [p for n in range(40, OLDEST_LLVM - 1, -1) if (p := shutil.which(f"llvm-mca-{n}"))]
    path = paths[0] if paths else find_tool("llvm-mca")
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    version = int(re.search(r"version (\d+)", text)[1])
    if version < OLDEST_LLVM:
        fail(f"{path} is of LLVM {version}, which models no Neoverse; Debian: apt-get install llvm-19")
    return path, version


def disassemble(objdump, path):
    """(address, instruction) of the tile's function."""
    text = subprocess.run([objdump, "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True).stdout
    body = re.search(rf"<{TILE}>:\n(.*?)(?:\n\n|\Z)", text, re.S)
    if not body:
        fail(f"{path} has no function {TILE}")
    rows = re.findall(r"^\s*([0-9a-f]+):\t(.*?)(?:\s*//.*)?$", body[1], re.M)
    return [(int(address, 16), re.sub(r"\s+", " ", text).strip()) for address, text in rows]


def is_one_of(instruction, names):
    return instruction.split()[0] in names


def inner_loop(rows, names):
    """Of the shortest backward branches the one around most multiply-adds."""
    loops = []
    for end, (address, text) in enumerate(rows):
        branch = re.match(r"(b\.\w+|cbnz|tbnz)\s.*?\b([0-9a-f]+) <", text)
        if not branch or int(branch[2], 16) > address:
            continue
        first = next(i for i, (at, _) in enumerate(rows) if at == int(branch[2], 16))
        loops.append([re.sub(r"[0-9a-f]+ <.*", "again", instruction) for _, instruction in rows[first:end + 1]])
    loops = [loop for loop in loops if any(is_one_of(i, names) for i in loop)]
    if not loops:
        fail(f"no loop with {names[0]} in {TILE}")
    shortest = [loop for loop in loops
                if not any(len(other) < len(loop) and "\n".join(other) in "\n".join(loop) for other in loops)]
    return max(shortest, key=lambda loop: sum(is_one_of(i, names) for i in loop))


def cycles(mca, cpu, instructions):
    """Cycles an iteration, in the long run."""
    code = "again:\n" + "\n".join(instructions) + "\n"

    def total(n):
        done = subprocess.run([mca, "-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm", f"-iterations={n}",
                               "-json"], input=code, capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"llvm-mca: {done.stderr.strip()}")
        return json.loads(done.stdout)["CodeRegions"][0]["SummaryView"]["TotalCycles"]

    return (total(2 * ITERATIONS) - total(ITERATIONS)) / ITERATIONS


def alone(instructions, names):
    """The multiply-adds without what is around them, none waiting for another."""
    chosen = [i for i in instructions if is_one_of(i, names)]
    return [re.sub(r"v\d+", f"v{n % 30}", re.sub(r"(, )v\d+", r"\g<1>v31", i), count=1) for n, i in enumerate(chosen)]


def main(build):
    folder = build / "stages/kernels/CMakeFiles/ees_kernels.dir"
    for file, _, _ in LOOPS:
        if not (folder / file).exists():
            fail(f"{folder / file} is missing: cmake --build --preset aarch64 --target ees_kernels")
    mca, version = find_mca()
    objdump = find_tool("aarch64-linux-gnu-objdump", "llvm-objdump-19", "llvm-objdump")
    print(f"llvm-mca {version}; cycles of a step of the 8 x 8 tile | of its multiply-adds alone | share of that limit\n")
    print("| product | instructions | " + " | ".join(CORES) + " |")
    print("|---|---:|" + "---|" * len(CORES))
    for file, product, names in LOOPS:
        loop = inner_loop(disassemble(objdump, folder / file), names)
        cells = []
        for core, cpu in CORES.items():
            if "smmla" in names and core not in HAS_I8MM:
                cells.append("has none")
                continue
            takes, limit = cycles(mca, cpu, loop), cycles(mca, cpu, alone(loop, names))
            cells.append(f"{takes:.1f} \\| {limit:.1f} \\| {100 * limit / takes:.0f} %")
        print(f"| {product} | {len(loop)} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/aarch64"))
