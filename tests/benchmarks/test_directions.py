import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_measures_both_ways_and_writes_a_table(tmp_path):
    path = tmp_path / "directions.json"
    flags = f"--shapes=1 --blocks=1 --block_seconds=0 --out={path}"
    command = f"{sys.executable} -m benchmarks.directions {flags}"
    result = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = json.loads(path.read_text())["rows"]
    arms = {row["arm"] for row in rows}
    assert {"Scan, in turn", "Scan, batched", "Deferred, batched"} <= arms
    assert len(rows) == 2 * len(arms) and all(row["milliseconds"] > 0 for row in rows)
    assert "| 64, 1, 100 |" in path.with_suffix(".md").read_text()
