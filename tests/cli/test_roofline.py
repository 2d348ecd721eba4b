# SPDX-License-Identifier: MIT
"""`bench --roofline`: the arithmetic of its figures, not the speed of this machine."""
import csv
import io
import json
import re

import pytest
from conftest import SANITIZED, WORLD, error_line, run

ROOFLINE = ["bench", "--roofline", "--model", WORLD / "model", "--reps", 1, "--min-time", 0.01]
COUNTERS = {"cycles", "instructions", "cache_misses", "stalled_cycles"}


def units_of_inspect(*args):
    return json.loads(run("inspect", WORLD / "model", "--format", "json", *args).out)["units"]


def measured(*args):
    done = run(*ROOFLINE, *args, "--format", "json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    model, = data["models"]
    assert data["cpu"] and data["build"] and model["kernels"]
    return model


def limit_s(unit, core):
    """(compute, memory): the least seconds of a unit by the printed rates."""
    return (unit["flops"] / core["peaks"][unit["precision"]]["flops_per_s"],
            unit["weights_bytes"] / core["reads"]["model"]["bytes_per_s"]
            + (unit["bytes"] - unit["weights_bytes"]) / core["reads"]["private_cache"]["bytes_per_s"])


@pytest.mark.parametrize("args", [[], ["--precision", "int8"], ["--kernels", "scalar"]])
def test_figures_belong_together(args):
    if SANITIZED and "scalar" in args:
        pytest.skip("seconds a frame under sanitizers")
    model = measured(*args)
    expected = units_of_inspect(*args)
    for core in model["cores"]:
        assert core["cycles_per_s"] > 0 and core["cpu"] >= -1
        assert "fp32" in core["peaks"]
        for peak in core["peaks"].values():
            assert peak["flops_per_cycle"] == pytest.approx(peak["flops_per_s"] / core["cycles_per_s"], rel=1e-4)
        reads = core["reads"]
        assert reads["private_cache"]["bytes"] < reads["memory"]["bytes"]
        assert reads["model"]["bytes"] <= reads["memory"]["bytes"]
        assert all(read["bytes_per_s"] > 0 for read in reads.values())
        assert [unit["name"] for unit in core["units"]] == [unit["name"] for unit in expected]
        for unit, known in zip(core["units"], expected):
            check_unit(unit, known, core)
        check_whole(core)


def check_unit(unit, known, core):
    assert unit["ms"] > 0 and 0 < unit["share"] < 1
    assert unit["flops"] == pytest.approx(known["flops"])
    assert unit["weights_bytes"] == known["weights_bytes"] < unit["bytes"]
    assert unit["precision"] == known["precision"]
    if unit["flops"] == 0:
        assert not {"limit", "share_of_limit", "flops_per_s"} & set(unit)
        return
    compute, memory = limit_s(unit, core)
    assert unit["limit"] == ("compute" if compute >= memory else "memory")
    assert unit["share_of_limit"] == pytest.approx(max(compute, memory) / (unit["ms"] * 1e-3), rel=1e-3)
    assert 0 < unit["share_of_limit"] < 2
    assert unit["flops_per_byte"] == pytest.approx(unit["flops"] / unit["bytes"], rel=1e-4)


def check_whole(core):
    units, whole = core["units"], core["all"]
    for key in ("ms", "flops", "bytes"):
        assert whole[key] == pytest.approx(sum(unit[key] for unit in units), rel=1e-4)
    assert sum(unit["share"] for unit in units) == pytest.approx(1, rel=1e-4)
    limits = sum(max(limit_s(unit, core)) for unit in units if unit["flops"])
    assert whole["share_of_limit"] == pytest.approx(limits / (whole["ms"] * 1e-3), rel=1e-3)
    assert 0 < whole["share_of_limit"] < 1.3
    if "no_counters" in core:  # told why, and what to do
        assert core["no_counters"]["why"] and core["no_counters"]["hint"]
        assert not any(COUNTERS & set(unit) for unit in units)
    else:
        assert any(COUNTERS & set(unit) for unit in units)


def test_precisions_have_their_own_peaks():
    core = measured("--precision", "int8")["cores"][0]
    assert set(core["peaks"]) == {"fp32", "int8"}
    assert {unit["precision"] for unit in core["units"]} == {"fp32", "int8"}


def test_markdown_folds_units(tmp_path):
    path = tmp_path / "r.md"
    done = run(*ROOFLINE, "-o", path)
    assert done.code == 0 and not done.out
    text = path.read_text()
    n_blocks = max(unit["block"] for unit in units_of_inspect())
    rows = {row[0]: row for row in (re.findall(r"[^|]+", line) for line in text.splitlines() if line.startswith("| "))
            for row in [[cell.strip() for cell in row]]}
    assert rows[f"block1..{n_blocks - 1}.mlp"][1] == str(n_blocks - 1)
    assert f"block{n_blocks}.mlp" in rows  # the last block makes only the rows that are read
    assert {"ingest", "embed", "final", "all"} <= set(rows)
    assert sum(int(row[1]) for name, row in rows.items() if name not in ("units", "all")) == len(units_of_inspect())
    for word in ("compiler", "computes at most: fp32", "FLOP a cycle", "reads at most:", "private cache", "memory"):
        assert word in text, word


def test_csv_has_every_unit():
    done = run(*ROOFLINE, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["unit"] for row in rows] == [unit["name"] for unit in units_of_inspect()] + ["all"]
    assert sum(float(row["ns"]) for row in rows[:-1]) == pytest.approx(float(rows[-1]["ns"]), abs=len(rows))
    assert COUNTERS <= set(rows[0])


@pytest.mark.parametrize("args,word", [
    (["--load", 0.5], "--load"), (["--workers", 2], "--workers"), (["--frames", 24], "--frames"),
    (["--unit-table"], "--unit-table"), (["--kernels", "sse9"], "sse9"),
])
def test_options_that_do_not_belong(args, word):
    done = run(*ROOFLINE, *args)
    assert done.code == 2 and word in error_line(done)


def test_unknown_names():
    done = run("bench", "--roofline", "--arch", "nonsense")
    assert done.code == 2 and "nonsense" in error_line(done)
    done = run(*ROOFLINE, "-o", "/dev/full")
    assert done.code == 5
    error_line(done)
