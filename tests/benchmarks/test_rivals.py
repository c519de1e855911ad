import json

import pytest

from benchmarks import rival_report
from tests.benchmarks.commands import run

TINY = (
    *("--num_params=8000", "--steps=8", "--trial_steps=2", "--batch=4", "--window=8"),
    *("--contexts=8,16", "--blocks=1", "--block_seconds=0", "--threads=1"),
)


@pytest.mark.full
@pytest.mark.slow
def test_rivals_fill_one_budget_and_are_trained_timed_and_drawn(tmp_path):
    path = tmp_path / "out.json"
    options = ("--dataset=python_docs", "--characters=2000", "--rates=1e-3,4e-3")
    result = run("rivals", *TINY, *options, "--models=gru,transformer", f"--out={path}")
    assert result.returncode == 0, result.stderr
    rows = json.loads(path.read_text())["rows"]
    assert [row["model"] for row in rows] == ["gru", "transformer"]
    for row in rows:
        assert 7000 < row["parameters"] <= 8000
        assert row["trials"][str(row["rate"])] == min(row["trials"].values())
        assert row["course"][-1][1] < row["course"][0][1] < 6
        assert row["update_bytes"] > 4 * 3 * row["parameters"], "weights and two moments at least"
        assert set(row["token_milliseconds"]) == {"8", "16"}
    report = path.with_suffix(".md").read_text()
    assert rival_report.tables(rows) in report and "Transformer(features=" in report
    assert path.with_suffix(".png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("option", "message"),
    [("--models=bigram", "expected names among"), ("--rates=fast", "expected numbers")],
)
def test_what_is_no_model_or_no_rate_is_refused(option, message):
    result = run("rivals", option)
    assert result.returncode != 0
    assert message in result.stderr


def made_up(model, loss):
    return {
        **{"model": model, "parameters": 7997, "loss": loss, "bits_per_character": loss / 0.6931},
        **{"rate": 4e-3, "seconds": 12.4, "tokens_per_second": 4625.4, "update_bytes": 3 * 2**20},
        **{"course": [(1.0, 3.0), (2.0, loss)], "token_milliseconds": {"64": 0.1, "256": 0.25}},
    }


def test_the_best_comes_first_and_the_picture_has_both_panels(tmp_path):
    rows = [made_up("mlp", 2.0), made_up("lstm", 1.5)]
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in rival_report.tables(rows).splitlines()
    ]
    assert lines[2] == ["lstm", "7,997", "1.500", "2.164", "0.004", "12", "4,625", "3"]
    assert lines[3][0] == "mlp"
    assert lines[-1] == ["mlp", "0.100", "0.250"]
    rival_report.draw(rows, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
