# SPDX-License-Identifier: MIT
"""Proves the tagged atomic accesses of engine/*.[ch], then weakens each and demands that a proof breaks.

A tag stands in the comment before an access, in square brackets: [ring.push.seq.load]. Its first word names the proof
(PROOFS below), and the first memory order in the code after it is the access's own. Each order stronger than relaxed
needs a tag, each tag its proof: the sources and the proofs cannot drift apart unnoticed.

    orders.py PROJECT BUILD [--cc CC] [--all] [--table]
        --all    also the proofs that take minutes, with nothing weakened
        --table  print the table of docs/proofs.md

Exit status 0: everything holds, and breaks where it is weakened."""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

# First word of a tag -> the program that proves it. `handover` is the long one: ring and event together.
PROOFS = {"ring": "ring", "event": "event", "window": "window", "team": "team", "trace": "trace", "sched": "publish",
          "stream": "publish", "audit": "publish"}
LONG_PROOFS = ["handover"]

TAG = re.compile(r"\[([a-z]\w*(?:\.\w+)+)\]")
ORDER = re.compile(r"memory_order_(\w+)")
# Without _explicit: sequentially consistent. (atomic_init is not atomic; atomic_flag and fences are not used here.)
IMPLICIT = re.compile(r"\batomic_(?:load|store|exchange|fetch_(?:add|sub|or|xor|and)|compare_exchange_(?:weak|strong))\s*\(")
FENCE = re.compile(r"\batomic_(?:thread|signal)_fence\b|\batomic_flag_")

# What each order is weakened to: a half at a time where it has two.
WEAKER = {"acquire": ["relaxed"], "release": ["relaxed"], "acq_rel": ["acquire", "release"]}
WEAKER_SEQ_CST = {"load": ["acquire"], "store": ["release"]}  # and a read-modify-write: none is used


def fail(text):
    sys.exit(f"orders.py: {text}")


class Access:
    """One tagged access: where its order stands in the text of its file."""

    def __init__(self, path, text, tag, start, end, order, implicit):
        self.path, self.tag, self.start, self.end, self.order, self.implicit = path, tag, start, end, order, implicit
        self.line = text.count("\n", 0, start) + 1
        self.kind = re.findall(r"\batomic_(\w+)", text[:end])[-1].removesuffix("_explicit")

    def weaker(self):
        return WEAKER_SEQ_CST[self.kind] if self.order == "seq_cst" else WEAKER[self.order]

    def proof(self):
        first = self.tag.split(".")[0]
        if first not in PROOFS:
            fail(f"{self.path.name}:{self.line}: [{self.tag}]: no proof for '{first}': add it to PROOFS")
        return PROOFS[first]

    def weakened(self, text, order):
        """The text of its file with another order. An implicit order stays: its proof has it from orders.h."""
        return text if self.implicit else text[:self.start] + f"memory_order_{order}" + text[self.end:]


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def accesses_of(path):
    text = path.read_text()
    code = re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", blank, text, flags=re.S)
    if FENCE.search(code):
        fail(f"{path.name}: fences and flags are beyond the checker and ThreadSanitizer")
    orders = [(m.start(), m.end(), m.group(1), False) for m in ORDER.finditer(code)]
    orders += [(m.start(), m.end(), "seq_cst", True) for m in IMPLICIT.finditer(code)]
    orders.sort()
    owner = {}
    for tag in TAG.finditer(text):
        if code[tag.start()] != " ":
            continue  # an index expression in code, not a comment
        after = [o for o in orders if o[0] > tag.end()]
        # A comment behind an access on its own line belongs to that access.
        same_line = [o for o in orders if o[0] < tag.start() and "\n" not in text[o[0]:tag.start()]]
        own = same_line[-1] if same_line else after[0] if after else None
        if own is None or (not same_line and text.count("\n", tag.end(), own[0]) > 3):
            fail(f"{path.name}: [{tag.group(1)}]: no atomic access follows")
        if own in owner:
            fail(f"{path.name}: [{tag.group(1)}] and [{owner[own]}] stand at one access")
        owner[own] = tag.group(1)
    for o in orders:
        line = text.count("\n", 0, o[0]) + 1
        if o[2] != "relaxed" and o not in owner:
            fail(f"{path.name}:{line}: {o[2]} without a tag")
        if o[2] == "relaxed" and o in owner:
            fail(f"{path.name}:{line}: [{owner[o]}] is relaxed: nothing to prove")
    return [Access(path, text, tag, *o) for o, tag in owner.items()]


def scan(project):
    found = {}
    for path in sorted(project.glob("engine/*.[ch]")):
        for access in accesses_of(path):
            if access.tag in found:
                fail(f"[{access.tag}] twice: {found[access.tag].path.name} and {path.name}")
            found[access.tag] = access
    for first, proof in PROOFS.items():
        if not any(tag.startswith(first + ".") for tag in found):
            fail(f"no access with a tag [{first}. ...] is left in engine/, but proof_{proof}.c is there")
    return found


class Builder:
    def __init__(self, project, build, cc):
        self.project, self.build, self.cc = project, build, cc
        self.here = project / "tests/proofs"
        build.mkdir(parents=True, exist_ok=True)
        self.checker = [build / f"{name}.o" for name in ("checker", "memory", "outcomes", "states", "threads", "tsan", "world")]
        for obj in self.checker:
            self.compile(["-O2", "-c", self.here / f"{obj.stem}.c", "-o", obj])

    def compile(self, args):
        subprocess.run([self.cc, "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{self.project}",
                        f"-I{self.project}/include", f"-I{self.here}", *args], check=True)

    def run(self, source, found, folder, changed=None, order=None, args=()):
        """Compile one program, with one order changed or none, and run it. Returns (status, output)."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for access in found.values():
            name = access.tag.replace(".", "_")
            lines.append(f"#define ORDER_{name} memory_order_{order if access is changed else access.order}\n")
        (folder / "orders.h").write_text("".join(lines))
        if changed:
            (folder / "engine").mkdir(exist_ok=True)
            (folder / "engine" / changed.path.name).write_text(changed.weakened(changed.path.read_text(), order))
        program = folder / source
        # As the engine is compiled, but that each access to memory becomes a call. -iquote: the changed file before the
        # engine's own.
        self.compile(["-O1", "-g", "-fsanitize=thread", "-Wno-unused-parameter", "-Wno-unused-function",
                      "-Dsyscall=proof_syscall", f"-iquote{folder}", f"-I{folder}", "-c", self.here / f"{source}.c",
                      "-o", f"{program}.o"])
        subprocess.run([self.cc, "-o", program, f"{program}.o", *self.checker], check=True)
        done = subprocess.run([program, *args], capture_output=True, text=True)
        if done.returncode not in (0, 1):
            fail(f"{source}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.returncode, done.stdout


def order_name(access):
    return access.order + (" (implicit)" if access.implicit else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--cc", default="gcc")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    found = scan(args.project.resolve())
    builder = Builder(args.project.resolve(), args.build.resolve(), args.cc)

    whole = ["litmus"] + [f"proof_{p}" for p in sorted(set(PROOFS.values())) + (LONG_PROOFS if args.all else [])]
    mutants = [(access, order) for access in found.values() for order in access.weaker()]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        proofs = [pool.submit(builder.run, name, found, builder.build / "whole" / name,
                              args=["full"] if args.all else []) for name in whole]
        broken = [pool.submit(builder.run, f"proof_{access.proof()}", found, builder.build / f"{access.tag}.{order}",
                              access, order) for access, order in mutants]
        for name, proof in zip(whole, proofs):
            status, output = proof.result()
            print(output, end="")
            bad += status != 0
        rows = ["| access | file | order | weakened to | what breaks |", "|---|---|---|---|---|"]
        for (access, order), mutant in zip(mutants, broken):
            status, output = mutant.result()
            verdict = re.search(r"(.*): BROKEN: (.*)", output)
            if status == 0:
                bad += 1
                print(f"[{access.tag}] {access.path.name}:{access.line}: {access.order} weakened to {order} is NOT caught")
            rows.append(f"| `{access.tag}` | `{access.path.name}` | {order_name(access)} | {order} | "
                        + (f"{verdict[2]} ({verdict[1]}) |" if verdict else "NOTHING |"))
    if args.table:
        print("\n".join(rows))
    print(f"{len(found)} accesses, {len(mutants)} weakened, {sum('NOTHING' in row for row in rows)} not caught")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
