import json
import math

import pytest

from benchmarks import crossover_report
from benchmarks.crossover_report import judge, judgement, share_within
from benchmarks.layers import catalogue, label
from rnnlab.cells import CELLS
from rnnlab.strategies import STRATEGIES, Deferred, Remat, Scan, Unrolled
from tests.benchmarks.commands import ROOT, run
from tests.native import needs_kernel

MEASURED = ROOT / "benchmarks" / "results" / "strategies.json"
TINY = ["--features=4", "--batches=2", "--blocks=1", "--block_seconds=0", "--threads=1"]


@pytest.mark.slow
def test_measures_what_is_in_the_grid_and_writes_rows_report_and_picture(tmp_path):
    path = tmp_path / "new" / "out.json"
    result = run(
        "strategies",
        *TINY,
        "--cells=elman,min_gru",
        "--lengths=2,3,1000000",
        "--unrolled_length=2",
        f"--out={path}",
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(path.read_text())["rows"]
    able = {
        name: {n for n, s in catalogue().items() if s.refusal(CELLS[name](4)) is None}
        for name in ("elman", "min_gru")
    }
    assert "Deferred" in able["elman"] and "Associative" in able["min_gru"]
    expected = {
        (cell, length, backward, name)
        for cell, names in able.items()
        for length in (2, 3)  # the carries of a million steps are too large
        for backward in (False, True)
        for name in names - ({"Unrolled"} if length > 2 else set())
    }
    got = [(r["cell"], r["length"], r["backward"], r["strategy"]) for r in rows]
    assert set(got) == expected and len(got) == len(expected)
    assert all(row["run_seconds"] > 0 and row["deviation"] <= 1e-4 for row in rows)
    assert "## Elman" in path.with_suffix(".md").read_text()
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert judgement(judge(rows, "cpu")) in result.stdout


def test_an_unknown_cell_and_an_empty_grid_are_refused():
    assert "min_gru" in run("strategies", "--cells=foo").stderr
    result = run("strategies", *TINY, "--cells=elman", "--max_gflops=0")
    assert result.returncode != 0 and "every point" in result.stderr


def made_up(length, backward=True, cell="lstm", **seconds):
    """Rows of a point; `seconds` of each strategy."""
    point = {"cell": cell, "features": 8, "batch": 2, "length": length, "backward": backward}
    return [point | {"strategy": n, "run_seconds": s, "scan_over": [1]} for n, s in seconds.items()]


@pytest.fixture
def deferred_below_100(monkeypatch):
    def select(cell, length, batch, platform):
        assert (type(cell).__name__, batch, platform) == ("LSTM", 2, "cpu")
        return Deferred() if length < 100 else Scan(unroll=2)

    monkeypatch.setattr(crossover_report, "select_strategy", select)


def test_a_verdict_compares_what_auto_names_with_the_fastest(deferred_below_100):
    rows = made_up(8, Scan=2.0, Deferred=1.0) + made_up(16, Scan=1.0, Deferred=1.5, Remat=3.0)
    first, second = judge(rows, "cpu")
    assert (first.chosen, first.best, first.loss, first.within) == ("Deferred", "Deferred", 0, True)
    assert (second.chosen, second.best, second.within) == ("Deferred", "Scan", False)
    assert second.loss == pytest.approx(0.5)


def test_the_share_counts_points_within_ten_percent_of_a_pass(deferred_below_100):
    rows = made_up(1, Scan=1.0, Deferred=1.09) + made_up(2, Scan=1.0, Deferred=1.11)
    rows += made_up(3, Scan=1.0, Deferred=0.5) + made_up(4, backward=False, Scan=1.0, Deferred=2.0)
    verdicts = judge(rows, "cpu")
    assert share_within(verdicts, backward=True) == pytest.approx(2 / 3)
    assert share_within(verdicts, backward=False) == 0
    assert math.isnan(share_within(verdicts[:3], backward=False))


def test_a_strategy_that_was_not_measured_is_not_within(deferred_below_100):
    rows = made_up(100, **{"Scan": 1.0, "Scan(unroll=4)": 0.5})
    (verdict,) = judge(rows, "cpu")
    assert verdict.chosen == "Scan(unroll=2)" and not verdict.within
    (verdict,) = judge(rows + made_up(100, **{"Scan(unroll=2)": 0.5}), "cpu")
    assert verdict.within


def test_the_judgement_lists_the_points_where_auto_loses(deferred_below_100):
    text = judgement(judge(made_up(8, Scan=1.0, Deferred=1.25), "cpu"))
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["lstm", "1", "0%", "-"] in lines and ["all", "1", "0%", "-"] in lines
    assert ["lstm", "8", "2", "8", "Deferred", "Scan", "25%"] in lines


def test_labels_tell_options_apart():
    assert [label(s) for s in (Scan(), Scan(unroll=4), Remat(chunk=3), Unrolled())] == [
        "Scan",
        "Scan(unroll=4)",
        "Remat(chunk=3)",
        "Unrolled",
    ]
    assert len(catalogue()) == len(STRATEGIES) - 1  # all but the one that chooses


@needs_kernel  # without it Auto names another strategy
def test_auto_is_within_ten_percent_on_ninety_percent_of_the_measured_grid():
    measured = json.loads(MEASURED.read_text())
    verdicts = judge(measured["rows"], measured["machine"]["platform"])
    assert share_within(verdicts, backward=True) >= 0.9, judgement(verdicts)
