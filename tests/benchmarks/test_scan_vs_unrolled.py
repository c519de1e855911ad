import dataclasses
import json
import os
import subprocess
import sys

import pytest

from benchmarks.layers import Case, catalogue
from benchmarks.scan_vs_unrolled import STRATEGIES, Patience, compiles_within
from benchmarks.strategy_report import STYLES
from rnnlab.strategies import Unrolled

TINY = "--lengths=3 --features=4 --batch=2 --blocks=1 --block_seconds=0 --cells=elman"


def run(*arguments, **environment):
    command = f"{sys.executable} -m benchmarks.scan_vs_unrolled {TINY}"
    return subprocess.run(
        [*command.split(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.slow
def test_measures_and_writes_table_json_and_picture(tmp_path):
    path = tmp_path / "new" / "out.json"
    cache = tmp_path / "cache"
    result = run(
        f"--out={path}",
        "--threads=1",
        JAX_COMPILATION_CACHE_DIR=str(cache),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    assert result.returncode == 0, result.stderr
    assert "## Elman, H = 4, B = 2" in result.stdout
    assert path.with_suffix(".png").stat().st_size > 10_000
    written = json.loads(path.read_text())
    assert written["machine"]["threads"] == 1
    rows = written["rows"]
    strategies = ["Unrolled", "Scan", "Scan 4", "Scan 16", "Remat", "Deferred"]
    assert [(r["backward"], r["strategy"]) for r in rows] == [
        (backward, strategy) for backward in (False, True) for strategy in strategies
    ]
    assert not cache.exists(), "compile times would be those of reading a cache"
    assert all(row["run_seconds"] > 0 and row["deviation"] <= 1e-5 for row in rows)


@pytest.mark.slow
def test_a_strategy_that_takes_too_long_to_compile_is_a_result(tmp_path):
    path = tmp_path / "out.json"
    result = run(f"--out={path}", "--max_compile_seconds=0")
    assert result.returncode == 0, result.stderr
    assert "> 0 s to compile" in result.stdout
    rows = json.loads(path.read_text())["rows"]
    assert [row["strategy"] for row in rows if "run_seconds" not in row] == ["Unrolled"] * 2


def test_unknown_cells_and_lengths_are_refused():
    assert "min_gru" in run("--cells=foo").stderr
    assert "expected T >= 1" in run("--lengths=8,0").stderr


def test_every_strategy_has_a_style_in_the_picture():
    assert set(STRATEGIES) | set(catalogue()) <= set(STYLES)


CASE = Case("elman", features=4, batch=2, length=64, backward=True)


def test_patience_ends_where_growth_alone_passes_the_limit(monkeypatch):
    tried = []
    monkeypatch.setattr(
        "benchmarks.scan_vs_unrolled.compiles_within", lambda *arguments: tried.append(arguments)
    )
    patience = Patience(limit=60.0)
    patience.note(32, 31.0)
    assert not patience.allows(CASE, Unrolled())  # 62 s at least
    patience.note(32, 14.0)
    assert patience.allows(CASE, Unrolled())  # 56 s at most, if it grows with the square
    assert not tried
    patience.note(32, 16.0)
    assert not patience.allows(CASE, Unrolled())  # in between: tried, and here it takes too long
    assert len(tried) == 1
    assert not patience.allows(
        dataclasses.replace(CASE, length=128), Unrolled()
    )  # and is not tried again
    assert len(tried) == 1


@pytest.mark.slow
def test_a_compilation_that_takes_too_long_is_ended():
    assert not compiles_within(0.0, CASE, Unrolled())
