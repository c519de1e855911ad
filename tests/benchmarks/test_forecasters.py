import json

import numpy as np
import pytest

from benchmarks import forecaster_report
from rnnlab.data.forecast_metrics import mse
from rnnlab.data.forecast_windows import Windows
from rnnlab.data.forecasting import load_forecast_data
from tests.benchmarks.commands import run

TINY = (
    *("--datasets=airline", "--num_params=2000", "--context=24", "--patch=6", "--segment=12"),
    *("--steps=40", "--trial_steps=8", "--batch=16", "--rates=1e-9,1e-2", "--threads=1"),
)


def test_networks_fill_one_budget_and_are_trained_scored_and_drawn(tmp_path):
    path = tmp_path / "out.json"
    result = run("forecasters", *TINY, "--models=mlp,nlinear", f"--out={path}")
    assert result.returncode == 0, result.stderr
    rows = {row["model"]: row for row in json.loads(path.read_text())["rows"]}
    assert list(rows) == ["naive", "seasonal_naive", "mlp", "nlinear"]
    assert 1900 < rows["mlp"]["parameters"] <= 2000
    assert rows["nlinear"]["parameters"] == 24 * 12 + 12
    for name in ("mlp", "nlinear"):
        row = rows[name]
        assert row["trials"].keys() == {"1e-09", "0.01"} and row["rate"] == 1e-2
        losses = dict(row["course"])
        assert list(losses) == list(range(5, 41, 5))
        assert row["valid_loss"] == losses[row["step"]] == min(losses.values())
        assert row["seconds"] > 0
    # The test is scored in the units of the data, over every window.
    data = load_forecast_data("airline")
    windows = Windows(data, 24, 12)
    origins = windows.origins("test")
    last = data.series[0].values[origins[:, 1] - 1][:, None]
    truth = windows.truth(*origins.T)
    assert rows["naive"]["mse"] == pytest.approx(mse(truth, last + np.zeros(truth.shape)), rel=1e-5)
    assert forecaster_report.table(list(rows.values())) in path.with_suffix(".md").read_text()
    assert path.with_suffix(".png").stat().st_size > 10_000


@pytest.mark.full
@pytest.mark.slow
def test_every_network_fills_the_budget(tmp_path):
    path = tmp_path / "out.json"
    options = ("--num_params=8000", "--steps=8", "--rates=1e-3")
    result = run("forecasters", *TINY, *options, f"--out={path}")
    assert result.returncode == 0, result.stderr
    rows = {row["model"]: row for row in json.loads(path.read_text())["rows"]}
    for name in ("gru", "lstm", "seg_rnn", "mlp", "tcn", "transformer"):
        assert 7200 < rows[name]["parameters"] <= 8000, name
    assert {row["parameters"] for name, row in rows.items() if "naive" in name} == {0}


@pytest.mark.parametrize(
    ("option", "message"),
    [("--models=arima", "expected names among"), ("--datasets=tides", "expected names among")],
)
def test_what_is_no_model_or_no_data_set_is_refused(option, message):
    result = run("forecasters", option)
    assert result.returncode != 0
    assert message in result.stderr


def test_the_least_error_comes_first_and_the_picture_has_a_line_for_each_set(tmp_path):
    trained = {"rate": 2e-3, "valid_loss": 0.4321, "step": 300, "seconds": 12.4, "course": []}
    rows = [
        {"dataset": "a", "model": "naive", "parameters": 0, "mse": 3.0, "mae": 1.5},
        {"dataset": "a", "model": "gru", "parameters": 7997, "mse": 2.0, "mae": 1.0} | trained,
    ]
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in forecaster_report.table(rows).splitlines()
    ]
    assert lines[2] == ["gru", "7,997", "2", "1", "0.4321", "300", "0.002", "12"]
    assert lines[3] == ["naive", "0", "3", "1.5", "", "", "", ""]
    sizes = []
    for number, chosen in enumerate((rows, rows + [row | {"dataset": "b"} for row in rows])):
        forecaster_report.draw(chosen, tmp_path / f"{number}.png")
        header = (tmp_path / f"{number}.png").read_bytes()[16:24]
        sizes.append(int.from_bytes(header[4:], "big"))
    assert sizes[1] > 1.8 * sizes[0]
