"""Forecasts of time series, with a linear and naive baselines always beside the model.

    python -m experiments.forecast --workdir=runs/forecast
    python -m experiments.forecast --workdir=runs/forecast --mode=eval
    python -m experiments.forecast --workdir=runs/forecast --mode=backtest --folds=8
    python -m experiments.forecast --workdir=runs/forecast --mode=predict --out=forecasts.csv
    python -m experiments.forecast --workdir=runs/forecast --mode=plot

The first command trains and prints the scores of model and baselines on every window of the
held-out rows. The others look at the run, with its own flags: they score it again, forecast from
rolling origins, forecast what comes after the end of the data (those of the run, or a newer file
named with `--csv`), and draw. Series are a public data set (`--dataset`) or anybody's CSV file
(`--csv --time_column --target --covariates --series_column`).
"""

import csv
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from experiments import common, forecast_flags
from experiments.forecast_baselines import baselines
from experiments.forecast_scoring import LEVELS, Guess, Predictor, Report, pictures, score
from rnnlab.data.calendar import write_times
from rnnlab.data.forecast_windows import Scales, WindowBatch, WindowBatches, Windows
from rnnlab.models.forecasting import Forecaster, ForecasterOptions
from rnnlab.training import Evaluation, FitConfig, Ratio, Task, fit, load_best
from rnnlab.training.run import RunDirectory, identity

FLAGS = common.define_shared_flags(
    {
        "workdir": "runs/forecast",
        "steps": 1000,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "features": 64,
        "cell": "gru",
        "decay_steps": 1000,
        "eval_every": 200,
    }
)
forecast_flags.define_flags(FLAGS)
SAMPLING = forecast_flags.LOOKS
SCALES = "scales.json"
QUANTILES = {0.05: "low90", 0.5: "median", 0.95: "high90"}
"""Level -> column of what a probabilistic model writes."""


def setup() -> tuple[Windows, Predictor, Task, FitConfig]:
    """Everything that the flags say."""
    data = forecast_flags.load_data(FLAGS)
    windows = forecast_flags.cut(FLAGS, data, Scales.fit(data))
    predictor = Predictor(build_model(windows), FLAGS.samples)
    task = build_task(windows, predictor)
    config = common.fit_config(FLAGS, forecast_flags.recorded(FLAGS), data.fingerprint())
    return windows, predictor, task, config


def model_options(windows: Windows) -> ForecasterOptions:
    """What the flags and the data say of a model."""
    return forecast_flags.build_options(FLAGS, windows, windows.num_series)


def build_model(windows: Windows) -> Forecaster:
    """The model of the flags."""
    return forecast_flags.build_model(FLAGS, model_options(windows))


def build_task(windows: Windows, predictor: Predictor) -> Task:
    """The loss is the model's own; what it is good for is scored on every held-out window."""
    model = predictor.model

    def loss(params, state, batch, key):
        losses, weights = model.losses(params, batch.window, key)
        return Ratio.mean(losses, weights), (state, {})

    def evaluate(params, batches, key):
        report = score(windows, batches, lambda batch: predictor(params, batch, key))
        return Evaluation(report.metrics, pictures(windows, report, {}))

    train = WindowBatches(
        *(windows, windows.origins("train"), FLAGS.batch_size, FLAGS.seed, FLAGS.balanced)
    )
    return Task(
        init=model.init,
        loss=loss,
        optimizer=common.build_optimizer(FLAGS),
        train_batches=train.batches,
        eval_batches={split: held_out(windows, split) for split in ("valid", "test")},
        evaluate=evaluate,
        select=(forecast_flags.selected(FLAGS, windows.data, model), "min"),
        assets={SCALES: Scales.fit(windows.data).to_json()},
        unit="value",
    )


def held_out(windows: Windows, split: str) -> Callable:
    """The batches of one pass over a split."""
    return WindowBatches(windows, windows.origins(split), FLAGS.eval_batch_size).epoch


def train() -> None:
    """Trains or resumes, then prints the best checkpoint's scores beside the baselines'."""
    windows, predictor, task, config = setup()
    result = fit(task, config)
    if result is None:  # a dry run
        return
    with common.stoppable():
        print(f"\nstopped at step {result.step}: {result.stop_reason}")
        show(windows, predictor, result.params, result.best_step)


def evaluate(draw: bool = False) -> None:
    """Scores the best checkpoint of a run again, and draws it if asked to."""
    windows, predictor, task, config = setup()
    expected = identity(config.flags, config.data, task.assets)
    params, step = load_best(task.init, config.workdir, expected)
    show(windows, predictor, params, step, draw)


def show(windows: Windows, predictor: Predictor, params, step: int, draw: bool = False) -> None:
    """Prints the table of model and baselines on the test rows; keeps it as `scores.txt`."""
    run = RunDirectory(FLAGS.workdir)
    guesses = {FLAGS.model: bind(predictor, params)}
    guesses |= baselines(windows, model_options(windows), FLAGS.eval_batch_size)
    reports = {
        name: score(windows, held_out(windows, "test")(), guess) for name, guess in guesses.items()
    }
    text = table({name: report.metrics for name, report in reports.items()})
    print(f"test, {len(windows.origins('test'))} windows (checkpoint of step {step}):\n{text}")
    run.write("scores.txt", text + "\n")
    print(f"run directory: {FLAGS.workdir}")
    if draw:
        draw_all(windows, reports, run)


def draw_all(windows: Windows, reports: Mapping[str, Report], run: RunDirectory) -> None:
    """Writes the pictures of the first report, the others beside it, into the run directory."""
    first, *others = reports
    errors = {name: reports[name].errors for name in others}
    for name, draw in pictures(windows, reports[first], errors).items():
        draw().savefig(run.path / name, dpi=150)
        print(f"wrote {run.path / name}")


def bind(predictor: Predictor, params) -> Callable[[WindowBatch], Guess]:
    """The model as a function of batches alone."""
    return lambda batch: predictor(params, batch, jax.random.key(FLAGS.seed))


def table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """A line for each model and a column for each metric."""
    metrics = list(dict.fromkeys(metric for values in scores.values() for metric in values))
    width = max(map(len, scores))
    lines = [f"{'':{width}}" + "".join(f"{metric:>12}" for metric in metrics)]
    for name, values in scores.items():
        cells = (f"{values[m]:12.5g}" if m in values else f"{'':12}" for m in metrics)
        lines.append(f"{name:{width}}" + "".join(cells).rstrip())
    return "\n".join(lines)


def backtest() -> None:
    """Forecasts from rolling origins behind the training rows; `backtest.csv` has every number."""
    windows, predictor, task, config = setup()
    expected = identity(config.flags, config.data, task.assets)
    params, _ = load_best(task.init, config.workdir, expected)
    origins = windows.rolling_origins(FLAGS.folds, FLAGS.fold_step)
    ages = backwards(origins)
    scores = {}
    for fold in sorted(set(ages.tolist()), reverse=True):
        chosen = WindowBatches(windows, origins[ages == fold], FLAGS.eval_batch_size)
        name = f"fold {ages.max() - fold + 1}, {(ages == fold).sum()} windows"
        scores[name] = score(windows, chosen.epoch(), bind(predictor, params)).metrics
    everything = WindowBatches(windows, origins, FLAGS.eval_batch_size)
    guesses = {FLAGS.model: bind(predictor, params)}
    guesses |= baselines(windows, model_options(windows), FLAGS.eval_batch_size)
    for name, guess in guesses.items():
        scores[f"all, {name}"] = score(windows, everything.epoch(), guess).metrics
    print(table(scores))
    path = RunDirectory(config.workdir).path / "backtest.csv"
    write_forecasts(path, windows, everything, bind(predictor, params))


def backwards(origins: np.ndarray) -> np.ndarray:
    """For each origin how many later ones its series has."""
    _, first, counts = np.unique(origins[:, 0], return_index=True, return_counts=True)
    places = np.arange(len(origins)) - np.repeat(first, counts)
    return np.repeat(counts, counts) - 1 - places


def predict() -> None:
    """Forecasts what comes after the end of the series, into a CSV file."""
    run = RunDirectory(FLAGS.workdir)
    scales = Scales.from_json(run.read(SCALES))
    windows = forecast_flags.cut(FLAGS, forecast_flags.load_data(FLAGS, held_out=False), scales)
    predictor = Predictor(build_model(windows), FLAGS.samples)
    flags = forecast_flags.recorded(FLAGS) | {"csv": run.read_flags().get("csv", "")}
    params, _ = load_best(predictor.model.init, FLAGS.workdir, {"flags": flags})
    batches = WindowBatches(windows, windows.ends(), FLAGS.eval_batch_size)
    path = pathlib.Path(FLAGS.out) if FLAGS.out else run.path / "forecasts.csv"
    write_forecasts(path, windows, batches, bind(predictor, params))


def write_forecasts(
    path: pathlib.Path,
    windows: Windows,
    batches: WindowBatches,
    guess: Callable[[WindowBatch], Guess],
) -> None:
    """A row for each series, origin, step and target.

    The origin is the last time whose row the forecast knows. Where the truth is not known it is
    empty.
    """
    rows = 0
    columns = ["series", "origin", "time", "step", "target", "forecast", "truth"]
    chosen = [int(np.argmin(np.abs(LEVELS - level))) for level in QUANTILES]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for batch in batches.epoch():
            mean, scale = windows.affine(batch.number)
            unscaled = guess(batch).affine(mean, scale)
            truth = windows.truth(batch.number, batch.origin)
            if not rows:
                extra = [] if unscaled.quantiles is None else list(QUANTILES.values())
                writer.writerow(columns + extra)
            for row in np.flatnonzero(batch.weights):
                number, origin = int(batch.number[row]), int(batch.origin[row])
                times = write_times(windows.times(number, origin, 1), windows.data.frequency)
                for step, channel in np.ndindex(windows.horizon, windows.data.channels):
                    known = truth[row, step, channel]
                    cells = [windows.data.series[number].name, times[0], times[step + 1], step + 1]
                    cells += [windows.data.channel_names[channel]]
                    cells += [f"{unscaled.forecast[row, step, channel]:.8g}"]
                    cells += [f"{known:.8g}" if np.isfinite(known) else ""]
                    if unscaled.quantiles is not None:
                        cells += [
                            f"{unscaled.quantiles[q, row, step, channel]:.8g}" for q in chosen
                        ]
                    writer.writerow(cells)
                    rows += 1
    print(f"wrote {rows} forecasts to {path}")


def main(arguments: Sequence[str]) -> None:
    """Parses flags, and does what `--mode` says."""
    common.parse(FLAGS, arguments)
    if FLAGS.mode != "train":
        common.parse_with_run(FLAGS, arguments)
    modes = {"train": train, "eval": evaluate, "backtest": backtest, "predict": predict}
    modes["plot"] = lambda: evaluate(draw=True)
    modes[FLAGS.mode]()


if __name__ == "__main__":
    main(sys.argv)
