import os
import pathlib
import subprocess
import sys

import pytest

from rnnlab.kernels import build

ROOT = pathlib.Path(__file__).parents[2]


def run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.cells", *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_a_row_for_each_cell_that_was_asked_for_those_that_learned_best_first(tmp_path):
    out = tmp_path / "cells.md"
    result = run("--cells=lstm,min_gru", "--steps=6", f"--out={out}")
    assert result.returncode == 0, result.stderr
    lines = [line.split("|")[1:-1] for line in out.read_text().splitlines() if "|" in line]
    rows = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines[2:]}
    assert set(rows) == {"lstm", "min_gru"}
    losses = [float(row[0]) for row in rows.values()]
    assert losses == sorted(losses) and 2 < losses[0] < 5
    strategies = ["Deferred", "Scan"] if build.load() else ["Fused", "Fused"]
    assert [rows[name][3] for name in ("lstm", "min_gru")] == strategies
    parameters = {name: int(row[2].replace(",", "")) for name, row in rows.items()}
    assert parameters["lstm"] > parameters["min_gru"] > 10_000
    assert all(int(row[1].replace(",", "")) > 0 for row in rows.values())


def test_a_name_that_is_none_is_refused():
    result = run("--cells=lstn")
    assert result.returncode != 0
    assert "--cells: expected names of" in result.stderr and "got ['lstn']" in result.stderr
