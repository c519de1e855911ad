import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.full
@pytest.mark.slow
def test_fit_and_the_bare_loop_end_alike_and_are_timed(tmp_path):
    """The command compares both ends itself, and refuses to report where they differ."""
    out = tmp_path / "overhead.json"
    flags = ["--shapes=1", "--blocks=2", "--windows=1", f"--out={out}"]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.trainer_overhead", *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=True,
        timeout=300,
    )
    result = json.loads(out.read_text())
    (row,) = result["rows"]
    assert row["shape"] == {"features": 32, "batch": 4, "length": 16}
    assert row["speed"][1] <= row["speed"][0] <= row["speed"][2]
    assert all(milliseconds > 0 for milliseconds in row["milliseconds"].values())
