import json

import pytest

from tests.benchmarks.commands import run

SIZE = ["--sizes=30:16:64:8:10", "--blocks=1", "--block_seconds=0"]


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.peers
def test_the_same_model_is_trained_here_in_flax_and_in_torch(tmp_path):
    """The command compares the losses itself, and refuses to time where they differ."""
    pytest.importorskip("torch")
    path = tmp_path / "out.json"
    result = run("training", *SIZE, "--strategies=scan,deferred", "--threads=1", f"--out={path}")
    assert result.returncode == 0, result.stderr
    written = json.loads(path.read_text())
    assert set(written["versions"]) == {"flax", "optax", "torch"}
    arms = ["flax", "rnnlab scan", "rnnlab deferred", "torch"]
    assert [(r["cell"], r["arm"]) for r in written["rows"]] == [
        (cell, arm) for cell in ("lstm", "gru") for arm in arms
    ]
    for row in written["rows"]:
        assert row["tokens_per_second"] == pytest.approx(80 / row["seconds"])
        assert row["speed_over"][row["arm"]] == [1, 1, 1]
        first, again = row["losses"]
        assert again < first, "nothing was trained"
    report = path.with_suffix(".md").read_text()
    assert "2 layers of LSTM, V 30, E 16, H 64, B 8, T 10" in report and "rnnlab deferred" in report


def test_a_size_that_is_none_is_refused():
    assert "expected five numbers" in run("training", "--sizes=7:3").stderr
