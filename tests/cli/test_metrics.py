# SPDX-License-Identifier: MIT
"""--metrics and SIGUSR1: Prometheus text that is whole whenever it is read, and agrees with the summary."""
import json
import re
import signal
import subprocess

import pytest
from conftest import COMMAND, PATIENCE_S, error_line, run, wait_for

ENDLESS = "synthetic:64x64,frames=1000000000"
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? ([-+0-9.e]+)')


def parse(text):
    """{(name, labels): value}; every family has its HELP and TYPE once, before its samples."""
    assert text.endswith("\n")
    types, helped, samples, current = {}, set(), {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in helped and len(line.split(" ", 3)[3]) > 5
            helped.add(current)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current and kind in ("counter", "gauge", "summary")
            types[name] = kind
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            family = re.sub(r"_(sum|count)$", "", name) if types.get(re.sub(r"_(sum|count)$", "", name)) == "summary" \
                else name
            assert family == current and family in types, line
            assert types[family] != "counter" or name.endswith("_total")
            assert (name, labels) not in samples
            samples[name, labels or ""] = float(value)
    assert helped == set(types)
    return samples


def test_metrics_agree_with_the_summary(clip, tmp_path):
    done = run("run", clip, "-q", "--format", "none", "--metrics", tmp_path / "m.prom", "--summary", tmp_path / "s.json",
               "--audit", 0.5)
    assert done.code == 0, done.err
    m = parse((tmp_path / "m.prom").read_text())
    s = json.loads((tmp_path / "s.json").read_text())
    assert m["eestream_frames_pushed_total", ""] == s["decoded"]
    for status, field in (("ok", "emitted"), ("skipped", "skipped"), ("dropped", "dropped"), ("failed", "failed")):
        assert m["eestream_frames_total", f'status="{status}"'] == s[field]
    for e in s["exits"]:
        assert m["eestream_exits_total", f'exit="{e["exit"]}"'] == e["frames"]
        if e["frames"]:
            assert m["eestream_latency_seconds_count", f'exit="{e["exit"]}"'] == e["frames"]
            assert m["eestream_latency_seconds", f'exit="{e["exit"]}",quantile="0.5"'] == \
                pytest.approx(e["latency_ms"]["p50"] * 1e-3, rel=1e-4)
    assert sum(v for (name, _), v in m.items() if name == "eestream_audit_frames_total") == s["audit"]["done"]
    workers = [v for (name, _), v in m.items() if name == "eestream_worker_busy_seconds_total"]
    assert len(workers) == s["workers"] and all(v >= 0 for v in workers)
    assert not list(tmp_path.glob("m.prom.*"))


def test_inputs_are_labelled(mjpeg, tmp_path):
    odd = tmp_path / 'a "quoted" \\ name.mjpeg'
    odd.write_bytes(mjpeg.read_bytes())
    done = run("run", "--concurrent", odd, mjpeg, "-q", "--format", "none", "--metrics", tmp_path / "m.prom")
    assert done.code == 0, done.err
    m = parse((tmp_path / "m.prom").read_text())
    per_input = {labels: v for (name, labels), v in m.items() if name == "eestream_stream_frames_total"}
    assert sum(per_input.values()) == 120 and len(per_input) == 8
    escaped = str(odd).replace("\\", "\\\\").replace('"', '\\"')
    assert per_input[f'stream="0",input="{escaped}",status="ok"'] == 60


def test_file_is_whole_whenever_it_is_read(tmp_path):
    path = tmp_path / "m.prom"
    process = subprocess.Popen([COMMAND, "run", ENDLESS, "-q", "-o", "/dev/null", "--metrics", path])
    wait_for(path.exists, process)
    seen = set()

    def renewed_twice():
        seen.add(parse(path.read_text())["eestream_frames_total", 'status="ok"'])
        return len(seen) >= 3
    wait_for(renewed_twice, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    m = parse(path.read_text())
    assert m["eestream_frames_pushed_total", ""] == m["eestream_frames_total", 'status="ok"'] >= max(seen)


def test_signal_prints_them(tmp_path):
    out = tmp_path / "r.jsonl"
    with open(tmp_path / "err", "w") as err:
        process = subprocess.Popen([COMMAND, "run", ENDLESS, "-q", "-o", out], stderr=err)
    wait_for(lambda: out.exists() and out.stat().st_size, process)
    for n in (1, 2):
        process.send_signal(signal.SIGUSR1)
        wait_for(lambda: (tmp_path / "err").read_text().count("\neestream_max_resident_bytes ") == n, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    text = (tmp_path / "err").read_text()
    for one in text.split("# HELP eestream_info")[1:]:
        assert parse("# HELP eestream_info" + one)["eestream_frames_pushed_total", ""] > 0


def test_devices_are_written_to_and_stay(mjpeg):
    done = run("run", mjpeg, "-q", "--format", "none", "--metrics", "/dev/full")
    assert done.code == 5 and "/dev/full" in error_line(done)
    done = run("run", mjpeg, "-q", "--format", "none", "--metrics", "/dev/stdout")
    assert done.code == 0 and parse(done.out[done.out.rindex("# HELP eestream_info"):])


def test_file_that_cannot_be_made(mjpeg):
    done = run("run", mjpeg, "-q", "--format", "none", "--metrics", "/no/such/folder/m")
    assert done.code == 5 and "/no/such/folder" in error_line(done)
