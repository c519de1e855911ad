import csv
import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import forecast as experiment
from experiments.forecast_baselines import fit_linear
from experiments.forecast_scoring import Spread, score
from rnnlab.cells import SLSTM
from rnnlab.data.forecast_metrics import crps, mse
from rnnlab.data.forecast_windows import Scales, WindowBatches, Windows
from rnnlab.data.forecasting import Bounds, ForecastData, Series
from tests.data.forecasting import small
from tests.experiments import shops

SIZES = "--model=nlinear --context=14 --horizon=5 --steps=40 --eval_every=20 --decay_steps=40"
OPTIONS = f"{shops.FLAGS} {SIZES} --learning_rate=1e-2 --eval_batch_size=16 --log_every=20"


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """What runs the experiment on a file with gaps, covariates and three series."""
    folder = tmp_path_factory.mktemp("shops")
    path = shops.write_shops(folder / "shops.csv")

    def run(*flags):
        fixed = [f"--workdir={folder / 'run'}", f"--csv={path}", *OPTIONS.split()]
        looks = [f"--workdir={folder / 'run'}"]
        experiment.main(["forecast", *(looks if "--mode" in "".join(flags) else fixed), *flags])
        return folder / "run"

    run()
    return run


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_trains_and_shows_the_baselines_beside_it(command):
    run = command("--mode=eval")
    summary = json.loads((run / "run.json").read_text())
    assert summary["finished"] and summary["step"] == 40
    assert {"mse", "mae", "smape", "mase", "nd"} <= summary["metrics"]["test"].keys()
    lines = (run / "scores.txt").read_text().splitlines()
    table = {name: cells for name, *cells in (line.split() for line in lines[1:])}
    assert list(table) == ["nlinear", "naive", "seasonal_naive", "drift", "linear"]
    metrics = lines[0].split()
    printed = float(table["nlinear"][metrics.index("mse")])
    assert printed == pytest.approx(summary["metrics"]["test"]["mse"], rel=1e-4)
    assert float(table["linear"][0]) < float(table["naive"][0])


def test_the_same_command_again_changes_nothing(command, capsys):
    before = (command("--mode=eval") / "metrics.jsonl").read_bytes()
    run = command()
    assert "resumed at step 40" in capsys.readouterr().out
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_backtest_writes_forecasts_from_every_origin(command, capsys):
    rows = rows_of(command("--mode=backtest", "--folds=3") / "backtest.csv")
    assert "fold 3, 3 windows" in capsys.readouterr().out
    assert len(rows) == 3 * 3 * 5
    origins = {row["origin"] for row in rows if row["series"] == "south"}
    assert sorted(origins) == ["2024-02-14", "2024-02-19", "2024-02-24"]
    known = [row for row in rows if row["truth"]]
    assert 0 < len(known) < len(rows)  # some days are missing


def test_a_prediction_is_of_what_comes_after_the_end(command, tmp_path):
    out = tmp_path / "next.csv"
    command("--mode=predict", f"--out={out}")
    rows = rows_of(out)
    assert len(rows) == 3 * 5 and not any(row["truth"] for row in rows)
    first = {row["series"]: row["time"] for row in rows if row["step"] == "1"}
    assert first["south"] == "2024-03-01"  # 60 days from the first of January on
    assert all(5 < float(row["forecast"]) < 150 for row in rows)
    newer = shops.write_shops(tmp_path / "newer.csv", seed=1)
    command("--mode=predict", f"--out={out}", f"--csv={newer}")
    assert [row["forecast"] for row in rows_of(out)] != [row["forecast"] for row in rows]


def test_pictures_are_drawn(command):
    run = command("--mode=plot")
    for name in ("fan_chart", "error_by_step", "residual_autocorrelation"):
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--target=sales", "--target: expected --csv beside it"),
        ("--horizon=1000", "expected windows of 1000 steps to fit into the"),
        ("--lags=1,x", "--lags, --seasons: expected whole numbers"),
    ],
)
def test_flags_that_do_not_fit_are_named(tmp_path, flag, message):
    with pytest.raises(ValueError, match=message):
        experiment.main(["forecast", f"--workdir={tmp_path}", "--dataset=airline", flag])


def line_data():
    """An autoregression of order 2 without noise, which a linear map forecasts exactly."""
    values = [1.0, 1.5]
    for _ in range(118):
        values.append(1.6 * values[-1] - 0.95 * values[-2] + 1)
    one = Series("line", np.array(values)[:, None], np.arange(120), np.zeros((120, 0)))
    return ForecastData("line", (one,), 1, 3, "", (Bounds(80, 100, 120),))


def test_the_linear_baseline_finds_a_linear_map():
    windows = Windows(line_data(), context=6, horizon=3)
    params = fit_linear(windows, 16)
    window = windows.window(windows.origins("test"))
    last = window.past[:, -1:]
    forecast = np.einsum("blc,lh->bhc", window.past - last, params.kernel)
    forecast = forecast + np.asarray(params.bias)[:, None] + last
    np.testing.assert_allclose(forecast, window.future, atol=2e-2)


def test_scores_do_not_depend_on_the_batch_size_and_are_in_the_units_of_the_data():
    data = small((60, 80))
    windows = Windows(data, 10, 4, Scales.fit(data))
    origins = windows.origins("test")
    reports = [
        score(windows, WindowBatches(windows, origins, size).epoch(), constant)
        for size in (1, 3, len(origins))
    ]
    for report in reports[1:]:
        assert report.metrics == pytest.approx(reports[0].metrics, rel=1e-9)
    truth = windows.truth(origins[:, 0], origins[:, 1])
    mean, _ = windows.affine(origins[:, 0])
    assert reports[0].metrics["mse"] == pytest.approx(mse(truth, mean + 0 * truth))
    scaled = dataclasses.replace(data, scored_scaled=True)
    other = Windows(scaled, 10, 4, Scales.fit(data))
    report = score(other, WindowBatches(other, origins, 3).epoch(), constant)
    future = other.window(origins).future
    assert report.metrics["mse"] == pytest.approx(mse(future, 0 * future), rel=1e-5)
    assert report.metrics["mase"] == pytest.approx(reports[0].metrics["mase"], rel=1e-9)
    assert np.nanmean(report.errors) == pytest.approx(report.metrics["mse"], rel=0.1)


def constant(batch):
    """The mean of the training rows."""
    return experiment.Guess(np.zeros(batch.window.future.shape))


@pytest.mark.parametrize("count", [1, 8, 9, 16, 17, 1000])
def test_what_is_drawn_is_spread_over_all_there_is(count):
    spread = Spread(most=8)
    for number in range(count):
        spread.add(lambda number=number: number)
    kept = spread.kept
    assert kept == list(range(0, count, spread.every))
    assert min(count, 4) <= len(kept) <= 8


def test_panels_do_not_depend_on_the_batch_size():
    windows = Windows(small((90,)), 10, 4)
    origins = windows.origins("test")
    titles = [
        [panel.title for panel in score(windows, batches.epoch(), constant).panels]
        for batches in (WindowBatches(windows, origins, size) for size in (1, 3, 64))
    ]
    assert titles[0] == titles[1] == titles[2]
    assert titles[0][0] == "s0, from 2020-03-28" and len(titles[0]) == 4


def test_quantiles_are_scored_and_drawn():
    data = small((60,))
    windows = Windows(data, 10, 4, Scales.fit(data))
    origins = windows.origins("test")

    def guess(batch):
        levels = experiment.LEVELS[:, None, None, None]
        shape = (len(levels), *batch.window.future.shape)
        quantiles = np.broadcast_to(8 * (levels - 0.5), shape)
        return experiment.Guess(quantiles[9], quantiles)

    report = score(windows, WindowBatches(windows, origins, 4).epoch(), guess)
    truth = windows.truth(origins[:, 0], origins[:, 1])
    mean, scale = windows.affine(origins[:, 0])
    quantiles = 8 * (experiment.LEVELS[:, None, None, None] - 0.5) * scale + mean
    expected = crps(truth, quantiles + 0 * truth, experiment.LEVELS)
    assert report.metrics["crps"] == pytest.approx(expected)
    assert report.metrics["coverage"] == 1.0
    assert report.panels[0].quantiles.shape == (19, 4)


def test_loss_and_its_gradient_are_finite_with_gaps():
    experiment.common.parse(experiment.FLAGS, ["forecast", "--dataset=airline", *SIZES.split()])
    data = small((60, 80, 70))
    windows = Windows(data, 14, 4, Scales.fit(data))
    predictor = experiment.Predictor(experiment.build_model(windows))
    task = experiment.build_task(windows, predictor)
    batch = next(task.train_batches(0))
    assert not batch.window.past_mask.all()

    def loss(params):
        return task.loss(params, (), batch, jax.random.key(0))[0].value

    value, gradient = jax.value_and_grad(loss)(task.init(jax.random.key(0)))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((value, gradient)))


def built(*flags):
    """Windows and model of some flags."""
    experiment.common.parse(experiment.FLAGS, ["forecast", *flags])
    windows = Windows(small((60, 80)), 14, 4)
    return windows, experiment.build_model(windows)


@pytest.mark.parametrize("model", ["deep_ar", "seg_rnn", "es_rnn"])
def test_a_cell_gets_its_options(model):
    flags = (f"--model={model}", "--features=4", "--cell=slstm", "--segment=7")
    forecaster: Any = built(*flags, '--cell_options={"heads": 2}')[1]
    cells = (forecaster.cell,) if model == "seg_rnn" else forecaster.cells
    assert cells == (SLSTM(4, heads=2),)
    with pytest.raises(SystemExit, match="--cell_options: expected what slstm takes"):
        built(*flags, '--cell_options={"legs": 2}')


def test_the_checkpoint_is_chosen_by_what_the_forecasts_are_scored_by():
    def selected(*flags, competition=False):
        windows, model = built(*flags)
        data = dataclasses.replace(windows.data, competition=competition)
        windows = dataclasses.replace(windows, data=data)
        return experiment.build_task(windows, experiment.Predictor(model)).select

    assert selected() == ("loss", "min")
    assert selected("--model=deep_ar") == ("crps", "min")
    assert selected("--model=deep_ar", competition=True) == ("owa", "min")
    assert selected("--model=deep_ar", "--select=loss") == ("loss", "min")
    with pytest.raises(ValueError, match="--select=owa: expected a metric that there is"):
        selected("--select=owa")
    with pytest.raises(ValueError, match="nlinear have no crps"):
        selected("--select=crps")
