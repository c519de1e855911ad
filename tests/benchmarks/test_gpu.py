import json
import math
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import gpu_contract, gpu_measure
from benchmarks.cases import GPU_SHAPES, Shape
from benchmarks.gpu_arms import cudnn_arm, rnnlab_arm
from benchmarks.gpu_flags import complaint
from benchmarks.gpu_measure import Session, make_arm, measure_entry
from benchmarks.gpu_plan import (
    CUDNN,
    PASSES,
    STRATEGIES,
    VARIANTS,
    Case,
    Entry,
    NotMeasured,
    plan,
    tiny,
)
from benchmarks.gpu_report import markdown, measured
from benchmarks.timing import largest_deviation

SMALL = Shape(3, 2, 4)
UNKNOWN = "--xla_no_such_flag=1"


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def written(path):
    result = json.loads(path.read_text())
    sections = {"contract": [], "layers": [], "flags": []}
    for row in result["rows"]:
        sections[row["section"]].append(row)
    return result, sections, path.with_suffix(".md").read_text()


@pytest.mark.slow
def test_a_dry_run_has_every_kind_of_row(tmp_path):
    path = tmp_path / "new" / "gpu.json"
    small = ("--cases=1", "--contract_cells=min_gru", "--trial=", f"--trial={UNKNOWN}")
    done = run("--tiny", "--blocks=2", f"--out={path}", *small)
    assert done.returncode == 0, done.stderr
    result, sections, text = written(path)
    assert {file.name for file in path.parent.iterdir()} == {"gpu.json", "gpu.md"}

    assert result["dry_run"].startswith("CPU dry run")
    assert text.startswith("# Recurrent layers on a GPU\n\n**CPU dry run")
    assert f"python -m benchmarks.gpu --tiny --blocks=2 --out={path}" in result["command"]
    assert result["machine"]["jax"] == jax.__version__

    assert len(sections["contract"]) == 4
    assert all(row["deviation"]["gradients"] <= 1e-5 for row in sections["contract"])

    arms = {row["arm"]: row for row in sections["layers"]}
    assert list(arms) == list(plan()[1].arms)
    for key in PASSES:
        for name in ("Scan", "Deferred"):
            assert arms[name][key]["us_per_step"] > 0
            assert arms[name][key]["compile_seconds"] > 0
            assert arms[name][key]["deviation"] <= 1e-5
        assert "CUDA" in arms["jax.experimental.rnn"][key]["not_measured"]
        torch = arms[CUDNN][key]
        assert (measured(torch) and torch["deviation"] <= 1e-5) or "torch" in torch["not_measured"]
        assert ("over_cudnn" in arms["Scan"][key]) == measured(torch)

    plain, fatal = sections["flags"][:2], sections["flags"][2:]
    assert all(measured(row[key]) for row in plain for key in PASSES)
    for row in fatal:
        assert row["flags"] == UNKNOWN
        assert all(UNKNOWN in row[key]["error"] for key in PASSES)
    assert "Unknown flag" in text


@pytest.mark.full
@pytest.mark.slow
def test_what_the_time_did_not_reach_is_listed(tmp_path):
    path = tmp_path / "gpu.json"
    done = run("--tiny", "--seconds=0", f"--out={path}")
    assert done.returncode == 0, done.stderr
    _, sections, text = written(path)
    assert len(sections["layers"]) == sum(len(entry.arms) for entry in plan())
    assert len(sections["flags"]) == 8
    for row in sections["layers"] + sections["flags"]:
        assert all("not reached" in row[key]["not_measured"] for key in PASSES)
    assert all("not_measured" in row["deviation"] for row in sections["contract"])
    assert text.count(": not measured: not reached") == len(plan())


def test_without_a_gpu_only_a_dry_run_is_made():
    done = run()
    assert done.returncode != 0
    assert "--tiny" in done.stderr
    assert "expected numbers from 0 to" in run(f"--cases={len(plan())}").stderr


def test_the_plan_begins_with_the_main_case_and_leaves_nothing_out():
    cases = [entry.case for entry in plan()]
    assert cases[0] == Case("lstm", "bfloat16", Shape(768, 16, 1024))
    assert len(set(cases)) == len(cases)
    assert {name for entry in plan() for name in entry.arms} > set(STRATEGIES)
    for cell in ("lstm", "gru"):
        for precision in ("bfloat16", "float32"):
            mine = [c for c in cases if (c.cell, c.precision) == (cell, precision)]
            assert {c.shape for c in mine if c.variant == "one layer"} == set(GPU_SHAPES)
        for variant in ("two layers", "both directions"):
            assert len([c for c in cases if (c.cell, c.variant) == (cell, variant)]) >= 2
    assert all(math.prod(tiny(entry).case.shape) < 1000 for entry in plan())


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_torch_computes_the_same(cell, variant, backward):
    pytest.importorskip("torch")
    case = Case(cell, "float32", SMALL, variant)
    results = [
        arm.compared(arm.call())
        for arm in (make_arm(n, case, case.data(), backward, dry=True) for n in ("Scan", CUDNN))
    ]
    assert len(results[0]) == len(results[1]) == (2 if backward else 1)
    assert largest_deviation(*results) <= 1e-5
    assert all(np.abs(a).max() > 0 for a in results[0])


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_are_packed_as_cudnn_reads_them(variant, backward, monkeypatch):
    """By the reference implementation that jax has for the CPU."""
    rnn = pytest.importorskip("jax.experimental.rnn")

    def on_a_cpu(xs, h, c, weights, lengths, features, state, layers, dropout, both):
        unpacked = rnn.unpack_lstm_weights(weights, features, state, layers, both)
        return rnn.lstm_ref(xs, h, c, *unpacked, lengths, features, state, layers, dropout, both)

    monkeypatch.setattr(rnn, "lstm", on_a_cpu)
    case = Case("lstm", "float32", SMALL, variant)
    ours, theirs = (
        arm.compared(arm.call())
        for arm in (
            rnnlab_arm("Scan", case, case.data(), backward),
            cudnn_arm(case, case.data(), backward),
        )
    )
    assert largest_deviation(theirs, ours[:1]) <= 1e-5


def test_cudnn_through_jax_refuses_what_it_is_not():
    for case in (Case("gru", "float32", SMALL), Case("lstm", "bfloat16", SMALL)):
        with pytest.raises(NotMeasured, match="LSTM in float32 only"):
            cudnn_arm(case, case.data(), backward=False)


def session(seconds=math.inf):
    return Session(seconds, blocks=2, block_seconds=0.0, dry=True, save=lambda: None)


@pytest.mark.parametrize("moment", ["make", "call"])
def test_an_arm_that_fails_is_a_row_and_the_others_go_on(moment, monkeypatch):
    def failing(*_):
        raise MemoryError("out of\n memory")

    def make(name, *rest):
        if name == "Deferred" and moment == "make":
            failing()
        arm = make_arm(name, *rest)
        return arm._replace(call=failing) if name == "Deferred" else arm

    monkeypatch.setattr(gpu_measure, "make_arm", make)
    entry = Entry(Case("gru", "float32", SMALL), ("Scan", "Deferred", "Remat"))
    rows = entry.rows()
    measure_entry(entry, rows, session())
    scan, deferred, remat = rows
    for key in PASSES:
        assert measured(scan[key]) and measured(remat[key])
        assert deferred[key] == {"error": "MemoryError: out of memory"}
    head = {"dry_run": "", "command": "", "machine": {}}
    assert "failed: MemoryError: out of memory" in markdown(head, rows)


def test_when_the_time_is_up_nothing_more_is_made():
    entry = Entry(Case("gru", "float32", SMALL), ("Scan",))
    rows = entry.rows()
    measure_entry(entry, rows, session(seconds=0.0))
    assert all(rows[0][key] == {"not_measured": "the time was up"} for key in PASSES)


def test_a_deviation_from_the_contract_is_an_error(monkeypatch):
    def off(cell, strategy, reverse, reference):
        return (0.0, 2e-5 if reverse else 0.0)

    monkeypatch.setattr(gpu_contract, "deviation", off)
    monkeypatch.setattr(gpu_contract, "expected", lambda cell, reverse: None)
    rows = gpu_contract.contract_rows(["elman"])
    gpu_contract.check_contract(rows, session())
    assert [row["deviation"] for row in rows] == [
        {"error": "values 0.0e+00, gradients 2.0e-05"}
    ] * 4


def test_the_complaint_is_found_among_other_lines():
    assert complaint("I0 loading\nF1 Unknown flag in XLA_FLAGS: --x\nusage: ...\n").startswith("F1")
    assert complaint("something\nelse\n\n") == "else"
    assert complaint("") == "no message"
