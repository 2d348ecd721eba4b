# SPDX-License-Identifier: MIT
"""`calibrate` and `analyse`: the log against the run it stands for, certificates against the run that uses them, figures against
their definitions."""
import json
import math
import struct
import xml.etree.ElementTree

import pytest
from conftest import MODEL, change_json, error_line, run
from tensors import Tensors


class Log:
    """A log, read by the rules of docs/calibration.md."""

    def __init__(self, path):
        file = Tensors(path)
        self.metadata = file.header["__metadata__"]
        for name in file.names:
            setattr(self, name, file.values(name))
        self.n, self.rows, self.classes = file.header["logits"]["shape"]

    def row(self, frame, e):
        at = (frame * self.rows + e) * self.classes
        return self.logits[at:at + self.classes]

    def cls(self, frame, e):
        row = self.row(frame, e)
        return row.index(max(row))

    def confidence(self, frame, e):
        row = self.row(frame, e)
        return 1 / sum(math.exp(z - max(row)) for z in row)


@pytest.fixture(scope="module")
def log_path(tmp_path_factory, clip, truth):
    path = tmp_path_factory.mktemp("log") / "clip.log"
    done = run("calibrate", clip, "--truth", truth, "--log", path, "--target", "depth=5", "-q", "-o", path.with_suffix(".json"))
    assert done.code == 0 and not done.out and not done.err, done.out + done.err
    return path


@pytest.fixture(scope="module")
def log(log_path):
    return Log(log_path)


def certificate(log_path, *args):
    done = run("calibrate", "--log", log_path, "-q", "-o", "-", *args)
    assert done.code == 0, done.err
    return json.loads(done.out)


def exits_of(done):
    return [line["exit"] for line in done.lines]


# ---- The log ---------------------------------------------------------------------------------------------


def test_log_holds_what_run_says(log, clip, labels):
    full = run("run", clip, "--full-depth", "--logits", "-q", "-o", "-").lines
    assert log.n == len(full) == 240 and log.rows == 5
    assert log.frames == tuple(range(240)) and set(log.inputs) == {0}
    for frame, line in enumerate(full):
        assert log.cls(frame, 4) == line["class"]
        assert log.row(frame, 4) == pytest.approx(line["logits"], abs=1e-6)
    names = sorted(json.loads((MODEL / "config.json").read_text())["label2id"])
    assert [names[label] for label in log.labels] == labels
    assert len(log.unit_ns) == len(log.unit_exit) == len(log.unit_block)
    assert [e for e in log.unit_exit if e >= 0] == [0, 1, 2, 3, 4]
    assert all(ns > 0 for ns, block in zip(log.unit_ns, log.unit_block) if block)


def test_log_does_not_depend_on_workers(log_path, clip, truth, tmp_path):
    again = tmp_path / "again.log"
    done = run("calibrate", clip, "--truth", truth, "--log", again, "--workers", 1, "--target", "depth=5", "-q")
    assert done.code == 0, done.err
    a, b = Log(log_path), Log(again)
    assert a.logits == b.logits and a.labels == b.labels
    for key in "model_hash", "data_hash", "heads", "blocks":
        assert a.metadata[key] == b.metadata[key]


def test_data_hash_tells_data_apart(log, mjpeg, tmp_path):
    hashes = {log.metadata["data_hash"]}
    for limit in 30, 31:
        path = tmp_path / f"{limit}.log"
        assert run("calibrate", mjpeg, "--limit", limit, "--log", path, "--target", "depth=5", "-q").code == 0
        hashes.add(Log(path).metadata["data_hash"])
    assert len(hashes) == 3


# ---- Certificates ----------------------------------------------------------------------------------------


def test_run_leaves_where_the_log_says(log, log_path, clip, tmp_path):
    path = tmp_path / "c.json"
    data = certificate(log_path, "--target", "depth=4.2")
    path.write_text(json.dumps(data))
    thresholds = data["policy"]["thresholds"]
    expected = [next((e for e in range(4) if log.confidence(i, e) > thresholds[e]), 4) for i in range(log.n)]
    assert exits_of(run("run", clip, "--certificate", path, "-q", "-o", "-")) == expected
    assert len(set(expected)) > 2


def test_certificate_beside_the_weights(model, clip, truth):
    plain = run("run", clip, "--model", model, "-q", "-o", "-")
    done = run("calibrate", clip, "--truth", truth, "--model", model, "--target", "loss=0.03")
    assert done.code == 0, done.err
    data = json.loads((model / "certificate.json").read_text())
    assert data["data"]["frames"] == 240 and data["data"]["search"] == data["data"]["certify"] == 120
    assert data["guarantee"]["bound"] == data["guarantee"]["epsilon"] == 0.03
    assert data["guarantee"]["p_value"] <= 0.05
    assert sum(data["exit_frames"]) == 120
    assert data["expected"]["mean_block"] == pytest.approx(
        sum(n * b for n, b in zip(data["exit_frames"], [3, 5, 7, 9, 12])) / 120)
    summary = model / "s.json"
    used = run("run", clip, "--model", model, "--summary", summary, "-q", "-o", "-")
    report = json.loads(summary.read_text())
    assert report["policy"]["thresholds"] == pytest.approx(data["policy"]["thresholds"])
    assert report["certificate"]["drifted"] is False
    assert exits_of(used) != exits_of(plain)
    assert exits_of(run("run", clip, "--model", model, "--certificate", "none", "-q", "-o", "-")) == exits_of(plain)
    given = run("run", clip, "--model", model, "--threshold", "0.784,0.874,0.626,0.672", "-q", "-o", "-")
    assert exits_of(given) == exits_of(plain)
    inspected = run("inspect", model, "--format", "json")
    assert json.loads(inspected.out)["policy"]["thresholds"] == pytest.approx(data["policy"]["thresholds"])


def test_plans_expect_the_mix_of_the_certificate(log_path, clip, tmp_path):
    """Shares given by name first, then the certificate as long as its thresholds are the ones in use, then nothing known."""
    path = tmp_path / "c.json"
    data = certificate(log_path, "--target", "depth=4.2")
    path.write_text(json.dumps(data))
    share = data["exit_frames"][0] / sum(data["exit_frames"])

    def plan(*args):
        data = json.loads(run("plan", "--certificate", path, "--format", "json", *args).out)
        return {unit["name"]: unit["reach"] for unit in data["units"]}["block4.attn"], data["exit_mix"]

    assert plan() == (pytest.approx(1 - share, abs=1e-6), f"{path}, 120 frames")
    assert "c.json" in run("plan", "--certificate", path, "--explain").out
    assert plan("--exit-share", "30,10,10,10,40") == (pytest.approx(0.7), "shares given")
    assert plan("--full-depth") == (1, None)
    simulated = json.loads(run("plan", "--certificate", path, "--simulate", "--frames", 500, "--format", "json").out)
    assert simulated["exit_share"][0] == pytest.approx(share)
    compared = json.loads(run("plan", "--certificate", path, "--compare", "--cores", 2, "--format", "json").out)
    assert {row["mix"] for row in compared["rows"]} == {"certificate", None}
    bench = ["bench", "--certificate", path, "--model", MODEL, "--input", clip, "--reps", 1, "--frames", 64, "--workers", 1]
    expected = exits_of(run("run", clip, "--certificate", path, "--limit", 64, "-q", "-o", "-"))
    model, = json.loads(run(*bench, "--format", "json").out)["models"]
    assert model["exit_mix"] == f"{path}, 120 frames"
    assert "by the model's policy; first plan for the mix of" in run(*bench).out
    assert all(sum(c["by_exit"]) == 64 for c in model["configurations"])
    assert json.loads(run(*bench, "--threshold", 2, "--format", "json").out)["models"][0]["exit_mix"] is None
    assert len(set(expected)) > 1


def test_certificate_is_the_same_from_log_and_frames(model, log_path, clip, truth, tmp_path):
    first, second = tmp_path / "first.json", certificate(log_path, "--model", model, "--target", "loss=0.03")
    done = run("calibrate", clip, "--truth", truth, "--model", model, "--target", "loss=0.03", "-q", "-o", first)
    assert done.code == 0, done.err
    first = json.loads(first.read_text())
    for key in "policy", "exit_frames", "data", "guarantee":
        assert first[key] == second[key]


def test_foreign_certificates_are_refused(model, log_path, clip):
    path = model / "certificate.json"
    fine = certificate(log_path, "--target", "depth=5")
    changes = {
        "model.hash": lambda d: d["model"].update(hash="xxh64:0123456789abcdef"),
        "model.exits": lambda d: d["model"].update(exits=[3, 5, 7, 10]),
        "model.classes": lambda d: d["model"].update(classes=17),
        "model.input": lambda d: d["model"].update(input=[64, 96]),
        "model.precision": lambda d: d["model"].update(precision="int8"),
        "exit_frames": lambda d: d.update(exit_frames=[1, 2]),
        "format": lambda d: d.update(format="diploma"),
        "version": lambda d: d.update(version=2),
        "policy.thresholds": lambda d: d["policy"].update(thresholds=[0.5, 0.5]),
        "policy.name": lambda d: d["policy"].update(name="hope"),
    }
    for field, change in changes.items():
        path.write_text(json.dumps(fine))
        change_json(path, change)
        done = run("run", clip, "--model", model, "-q")
        message = error_line(done)
        assert done.code == 4 and "certificate.json" in message and field in message, message
    path.write_text("{")
    assert run("run", clip, "--model", model, "-q").code == 4
    path.unlink()
    assert run("run", clip, "--model", model, "--limit", 1, "-q").code == 0
    assert run("run", clip, "--model", model, "--certificate", path, "-q").code == 4


def test_other_weights(model, log_path, clip):
    """One byte of the weights: neither the certificate nor the log are theirs."""
    assert run("calibrate", "--log", log_path, "--model", model, "--target", "depth=5", "-q").code == 0
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    done = run("run", clip, "--model", model, "-q")
    message = error_line(done)
    assert done.code == 4 and "model.hash" in message and "certificate.json" in message and "calibrate again" in message
    done = run("calibrate", "--log", log_path, "--model", model, "--target", "depth=5", "-q")
    message = error_line(done)
    assert done.code == 2 and "model_hash" in message and "clip.log" in message
    assert run("calibrate", clip, "--limit", 60, "--model", model, "--target", "depth=5", "-q").code == 0
    assert run("run", clip, "--limit", 1, "--model", model, "-q").code == 0


def test_other_precision(log_path, clip, tmp_path):
    """The same weights rounded otherwise: neither the certificate nor the log are of what runs."""
    path = tmp_path / "fp32.json"
    path.write_text(json.dumps(certificate(log_path, "--target", "depth=5")))
    done = run("run", clip, "--certificate", path, "--precision", "int8", "-q")
    assert done.code == 4 and "model.precision" in error_line(done) and "calibrate again" in error_line(done)
    done = run("calibrate", "--log", log_path, "--precision", "int8", "--target", "depth=5", "-q")
    assert done.code == 2 and "precision" in error_line(done) and "clip.log" in error_line(done)


# ---- Targets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [3.2, 4, 5.5, 8, 12])
def test_depth_target(log_path, depth):
    data = certificate(log_path, "--target", f"depth={depth}")
    assert data["expected"]["mean_block"] == pytest.approx(depth, abs=0.12 * depth)
    assert 0 < data["guarantee"]["bound"] < 0.15


def test_fps_target(log_path):
    """Faster costs depth; what the log says of the costs decides."""
    slow, fast = (certificate(log_path, "--target", f"depth={d}")["expected"] for d in (10, 3.5))
    assert fast["fps"] > slow["fps"]
    wanted = 0.5 * (fast["fps"] + slow["fps"])
    found = certificate(log_path, "--target", f"fps={wanted}")["expected"]
    assert found["fps"] == pytest.approx(wanted, rel=0.1)
    assert fast["mean_block"] < found["mean_block"] < slow["mean_block"]


@pytest.mark.parametrize("policy", ["confidence", "entropy", "entropy_norm", "margin", "sdn", "patience", "patience_pabee",
                                    "patient_and_confident", "pcee", "pcee_mean", "vote", "ensemble", "ensemble_mean", "temporal"])
def test_every_policy(log_path, clip, policy, tmp_path):
    """Each finds something between the extremes, and the run with it has the depth that the whole log promises."""
    path = tmp_path / "c.json"
    data = certificate(log_path, "--policy", policy, "--target", "depth=8")
    assert data["policy"]["name"] == policy
    assert 3 <= data["expected"]["mean_block"] <= 8.6
    path.write_text(json.dumps(data))
    summary = tmp_path / "s.json"
    assert run("run", clip, "--certificate", path, "--summary", summary, "-q").code == 0
    report = json.loads(summary.read_text())
    assert report["policy"]["name"] == policy
    assert report["mean_block"] == pytest.approx(data["expected"]["mean_block"], abs=0.8)


def test_gate(model, clip, truth, tmp_path):
    """A model with a gate: what it says is in the log, and a certificate for it decides as the log does."""
    weights = model / "model.safetensors"
    tensors = Tensors(weights)
    tensors.add("gate.weight", "F32", [1, 96], [0.05 * math.sin(i) for i in range(96)])
    tensors.add("gate.bias", "F32", [1], [0.1])
    tensors.write(weights)
    path = tmp_path / "gate.log"
    done = run("calibrate", clip, "--truth", truth, "--model", model, "--policy", "gate", "--target", "depth=7", "--log", path,
               "-q")
    assert done.code == 0, done.err
    log, data = Log(path), json.loads((model / "certificate.json").read_text())
    assert data["policy"]["name"] == "gate" and len(log.gates) == 4 * log.n and 0 < min(log.gates) < max(log.gates) <= 1
    thresholds = struct.unpack("4f", struct.pack("4f", *data["policy"]["thresholds"]))
    expected = [next((e for e in range(4) if log.gates[4 * i + e] < thresholds[e]), 4) for i in range(log.n)]
    assert exits_of(run("run", clip, "--model", model, "-q", "-o", "-")) == expected
    assert len(set(expected)) > 1
    curves = json.loads(run("analyse", "--log", path, "--format", "json").out)["curves"]
    assert "gate" in [curve["policy"] for curve in curves]


def test_degraded_loss(log_path, clip, tmp_path):
    data = certificate(log_path, "--target", "loss=0.03", "--degraded-loss", 0.08)
    policy, promise = data["policy"], data["guarantee"]["degraded"]
    assert all(d <= t for d, t in zip(policy["degraded_thresholds"], policy["thresholds"]))
    assert policy["degraded_thresholds"] != policy["thresholds"]
    assert promise["epsilon"] == 0.08 and promise["loss"] <= promise["bound"] < 0.15
    path = tmp_path / "c.json"
    path.write_text(json.dumps(data))
    assert run("run", clip, "--certificate", path, "-q").code == 0
    done = run("calibrate", "--log", log_path, "--target", "loss=0.1", "--policy", "vote", "--degraded-loss", 0.2, "-q")
    assert done.code == 2 and "vote" in error_line(done)


def test_given_patience_is_kept(log_path):
    data = certificate(log_path, "--policy", "pcee", "--patience", 3, "--target", "depth=10")
    assert data["policy"]["patience"] == 3


def test_teacher(clip, tmp_path):
    out = tmp_path / "c.json"
    done = run("calibrate", clip, "--target", "loss=0.05", "-o", out)
    assert done.code == 0, done.err
    data = json.loads(out.read_text())
    assert data["data"]["truth"] == "full depth" and data["expected"]["accuracy_full_depth"] == 1
    assert data["expected"]["same_as_full_depth"] == data["expected"]["accuracy"]
    assert "teacher" in done.out


def test_class_folders(jpegs, labels, tmp_path):
    frames = tmp_path / "frames"
    for i, (jpeg, label) in enumerate(zip(jpegs, labels)):
        (frames / label).mkdir(parents=True, exist_ok=True)
        (frames / label / f"{i:03}.jpg").write_bytes(jpeg)
    (frames / "unheard-of").mkdir()
    (frames / "unheard-of" / "a.jpg").write_bytes(jpegs[0])
    done = run("calibrate", frames, "--target", "loss=0.05", "-q", "-o", "-")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["data"]["truth"] == "labels" and data["data"]["frames"] == 241
    assert data["data"]["search"] + data["data"]["certify"] == 240


def test_video_is_no_set_of_independent_frames(log_path):
    done = run("calibrate", "--log", log_path, "--target", "loss=0.05")
    assert done.code == 0 and "warning" in done.out and "--scene" in done.out
    done = run("calibrate", "--log", log_path, "--policy", "temporal", "--target", "depth=8", "--lag", 3)
    assert done.code == 0 and "looks at earlier frames" in done.out and "lag of 3" in done.out
    done = run("calibrate", "--log", log_path, "--target", "loss=0.3", "--scene", 12, "-o", "-")
    assert done.code == 0 and "warning" not in done.err
    data = json.loads(done.out)
    assert data["data"]["scene"] == 12 and data["data"]["certify"] == 120 and "Hoeffding" in data["guarantee"]["method"]
    done = run("calibrate", "--log", log_path, "--target", "loss=0.05", "--scene", 12)
    assert done.code == 2 and "59 scenes" in error_line(done)


# ---- Drift -----------------------------------------------------------------------------------------------


def test_drift_is_warned_about_once(log_path, clip, tmp_path):
    path, summary = tmp_path / "c.json", tmp_path / "s.json"
    path.write_text(json.dumps(certificate(log_path, "--target", "depth=4.2")))
    done = run("run", clip, "--certificate", path, "-o", "/dev/null")
    assert done.code == 0 and "drifted" not in done.err and str(path) in done.err
    change_json(path, lambda d: d.update(exit_frames=[10, 10, 60, 20, 20]))
    done = run("run", clip, "--certificate", path, "-o", "/dev/null", "--summary", summary)
    assert done.code == 0 and done.err.count("have drifted") == 1
    report = json.loads(summary.read_text())["certificate"]
    assert report["drifted"] is True and report["distance"] > 0.1 and report["p_value"] < 0.001
    other = run("run", clip, "--certificate", path, "--threshold", 0.5, "-o", "/dev/null")
    assert other.code == 0 and "drifted" not in other.err  # the thresholds are not the certificate's


# ---- Bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target, words", [
    ("loss=0.001", ["2995 frames", "loss=0.02466"]),
    ("depth=1", ["out of reach", "is 3"]),
    ("fps=1e9", ["out of reach", "its most here"]),
    ("speed=3", ["loss=SHARE", "depth=BLOCKS"]),
    ("loss=1.5", ["below 1"]),
    ("loss=", ["loss=SHARE"]),
    ("depth=-2", ["depth=BLOCKS"]),
    ("loss=nan", ["loss=SHARE"]),
])
def test_bad_targets(log_path, target, words):
    done = run("calibrate", "--log", log_path, "--target", target, "-q", "-o", "/dev/null")
    message = error_line(done)
    assert done.code == 2 and all(word in message for word in words), message


def test_bad_requests(log_path, clip, tmp_path):
    cases = {
        ("calibrate", "--target", "loss=0.1"): "frames or a log",
        ("calibrate", clip): "needs a target",
        ("calibrate", "--log", log_path, "--target", "loss=0.1", "--policy", "none"): "nothing to calibrate",
        ("calibrate", "--log", log_path, "--target", "loss=0.1", "--policy", "hope"): "hope",
        ("calibrate", "--log", log_path, "--target", "loss=0.1", "--truth", "x.csv"): "--truth",
        ("calibrate", "--log", log_path, "--target", "loss=0.1", "--scene", "200"): "too few",
        ("analyse",): "frames or a log",
        ("analyse", "--log", log_path, "--model", MODEL): "--model",
        ("analyse", "--log", clip): "clip.avi",
        ("calibrate", "--log", tmp_path / "none.log", "--target", "loss=0.1"): "none.log",
    }
    for args, word in cases.items():
        done = run(*args, "-q")
        assert done.code == 2 and word in error_line(done), (args, done.err)
    (tmp_path / "empty").mkdir()
    done = run("calibrate", tmp_path / "empty", "--target", "loss=0.1", "-q")
    assert done.code == 3 and "empty" in error_line(done)
    done = run("calibrate", "--log", log_path, "--target", "depth=5", "-q", "-o", tmp_path / "no" / "c.json")
    assert done.code == 5 and "c.json" in error_line(done)


def test_bad_logs(log_path, tmp_path):
    bad = tmp_path / "bad.log"
    data = log_path.read_bytes()
    for n in 0, 7, 100, 2000, len(data) - 1:
        bad.write_bytes(data[:n])
        done = run("analyse", "--log", bad, "-q")
        assert done.code == 2 and "bad.log" in error_line(done)
    changes = {
        "format": lambda h: h["__metadata__"].update(format="x"),
        "data_hash": lambda h: h["__metadata__"].pop("data_hash"),
        "cores": lambda h: h["__metadata__"].update(cores="many"),
        "blocks": lambda h: h["__metadata__"].update(blocks="0"),
        "labels": lambda h: h.update(label=h.pop("labels")),
        "logits": lambda h: h["logits"].update(shape=[h["logits"]["shape"][0] * 5, 1, 16]),
    }
    for word, change in changes.items():
        log = Tensors(log_path)
        change(log.header)
        log.write(bad)
        done = run("analyse", "--log", bad, "-q")
        assert done.code == 2 and word in error_line(done), done.err
    log = Tensors(log_path)
    log.put("labels", (99, *log.values("labels")[1:]))
    log.write(bad)
    done = run("analyse", "--log", bad, "-q")
    assert done.code == 2 and "labels[0] is 99" in error_line(done)


# ---- Analyse ---------------------------------------------------------------------------------------------


def test_analysis_figures(log, log_path):
    done = run("analyse", "--log", log_path, "--format", "json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    classes = [[log.cls(i, e) for e in range(5)] for i in range(log.n)]
    right = [[c == label for c in row] for row, label in zip(classes, log.labels)]
    for e, at in enumerate(data["exits"]):
        assert at["right"] == pytest.approx(sum(r[e] for r in right) / log.n)
        assert at["agreement"] == pytest.approx([sum(c[e] == c[k] for c in classes) / log.n for k in range(5)])
        assert sum(b["frames"] for b in at["bins"]) == log.n
        mean = sum(log.confidence(i, e) for i in range(log.n)) / log.n
        assert sum(b["frames"] * b["confidence"] for b in at["bins"]) / log.n == pytest.approx(mean, abs=1e-5)
        rights = [log.confidence(i, e) for i in range(log.n) if right[i][e]]
        wrongs = [log.confidence(i, e) for i in range(log.n) if not right[i][e]]
        if wrongs:
            won = sum((a > b) + 0.5 * (a == b) for a in rights for b in wrongs)
            assert at["auroc"] == pytest.approx(won / len(rights) / len(wrongs), abs=1e-4)
        else:
            assert at["auroc"] is None
    assert data["overthinking"] == pytest.approx(sum(any(r[:4]) and not r[4] for r in right) / log.n)
    assert data["oracle"]["right"] == pytest.approx(sum(any(r) for r in right) / log.n)
    first = [next((e for e in range(5) if r[e]), 4) for r in right]
    assert data["oracle"]["mean_block"] == pytest.approx(sum((3, 5, 7, 9, 12)[e] for e in first) / log.n)
    up_to = [sum(log.unit_ns[:log.unit_exit.index(e) + 1]) * 1e-6 for e in range(5)]
    assert [at["cost_ms"] for at in data["exits"]] == pytest.approx(up_to, rel=1e-5)
    assert data["oracle"]["cost_ms"] == pytest.approx(sum(up_to[e] for e in first) / log.n, rel=1e-5)
    names = [curve["policy"] for curve in data["curves"]]
    assert "confidence" in names and "patience" in names and len(set(names)) == len(names)
    for curve in data["curves"]:
        assert all(p["policy"]["name"] == curve["policy"] and 0 <= p["right"] <= 1 for p in curve["points"])
        assert curve["points"][0]["cost_ms"] >= curve["points"][-1]["cost_ms"]


def test_overthinking_is_seen(log_path, log, tmp_path):
    """Labels from the first exit: wherever the last one differs, it overthought."""
    bad = tmp_path / "overthought.log"
    file = Tensors(log_path)
    file.put("labels", [log.cls(i, 0) for i in range(log.n)])
    file.write(bad)
    found = json.loads(run("analyse", "--log", bad, "--format", "json").out)
    differ = sum(log.cls(i, 0) != log.cls(i, 4) for i in range(log.n)) / log.n
    assert found["overthinking"] == pytest.approx(differ) and differ > 0
    assert found["oracle"] == pytest.approx({"right": 1, "cost_ms": found["exits"][0]["cost_ms"], "mean_block": 3})


def test_plots(log_path, tmp_path):
    folder = tmp_path / "plots"
    done = run("analyse", "--log", log_path, "--svg", folder)
    assert done.code == 0, done.err
    assert sorted(p.name for p in folder.iterdir()) == ["accuracy.svg", "agreement.svg", "cost.svg", "reliability.svg"]
    for path in folder.iterdir():
        root = xml.etree.ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg") and len(root) > 10
        assert "nan" not in path.read_text() and "inf" not in path.read_text()
    for word in "overthinks", "oracle", "agreement", "policies", "conv1_1":
        assert word in done.out
    assert run("analyse", "--log", log_path, "--svg", log_path / "x", "-q").code == 5


def test_analyse_frames(clip, tmp_path):
    log = tmp_path / "a.log"
    done = run("analyse", clip, "--limit", 50, "--log", log)
    assert done.code == 0 and "without labels" in done.out
    assert Log(log).n == 50
