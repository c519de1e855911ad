import json
import math

import pytest

from benchmarks import scaling_report
from tests.benchmarks.commands import run

BASE = {"length": 16, "batch": 2, "features": 4}


@pytest.mark.full
@pytest.mark.slow
def test_doubles_one_size_at_a_time_and_writes_rows_report_and_picture(tmp_path):
    path = tmp_path / "out.json"
    result = run(
        "scaling",
        *(f"--base_{name}={size}" for name, size in BASE.items()),
        *("--max_length=32", "--max_batch=4", "--max_features=7", "--cells=min_gru"),
        *("--blocks=1", "--block_seconds=0", "--threads=1", f"--out={path}"),
    )
    assert result.returncode == 0, result.stderr
    written = json.loads(path.read_text())
    assert written["base"] == BASE
    rows = [row for row in written["rows"] if row["strategy"] == "Remat"]
    sizes = [(row["length"], row["batch"], row["features"]) for row in rows]
    assert sizes == [(16, 2, 4), (32, 2, 4), (16, 4, 4)]
    assert {"Scan", "Associative"} <= {row["strategy"] for row in written["rows"]}
    assert all(row["backward"] and row["run_seconds"] > 0 for row in written["rows"])
    report = path.with_suffix(".md").read_text()
    assert "## MinGRU" in report and scaling_report.summary(written["rows"], BASE) in report
    assert path.with_suffix(".png").stat().st_size > 10_000


def made_up(power, lengths, strategy="Remat", **sizes):
    row = {"cell": "lstm", "strategy": strategy, "backward": True, "scan_over": [2.0, 2.0, 2.0]}
    return [
        row
        | BASE
        | {"length": t, "temporary_bytes": 1e4 * t**power, "run_seconds": 1e-3 + 2e-6 * t}
        | sizes
        for t in lengths
    ]


def test_the_exponent_of_a_power_law_is_found():
    assert scaling_report.exponent([1, 2, 4, 8], [3, 6, 12, 24]) == pytest.approx(1)
    assert scaling_report.memory_exponent(made_up(0.5, [16, 32, 64])) == pytest.approx(0.5)
    assert math.isnan(scaling_report.memory_exponent(made_up(0.5, [16])))


def test_the_exponent_of_memory_is_that_of_squares():
    rows = made_up(0.5, [4, 16, 64, 256]) + made_up(1.0, [8, 32, 128])
    rows = scaling_report.along(rows, "length", BASE)
    assert [row["length"] for row in rows] == [4, 8, 16, 32, 64, 128, 256]
    assert scaling_report.memory_exponent(rows) == pytest.approx(0.5)


def test_what_is_paid_once_drops_out_of_a_further_step():
    assert scaling_report.further_step(made_up(1, [16, 32, 64])) == pytest.approx(2e-6)


def test_the_summary_reads_the_axis_of_the_length_alone():
    rows = made_up(0.5, [16, 64]) + made_up(1.0, [64], batch=4)
    lines = scaling_report.summary(rows, BASE).splitlines()
    assert len(lines) == 3
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells == ["lstm", "Remat", "2", "0.50", f"{8e4 / 2**20:.2f}", "2.00"]
