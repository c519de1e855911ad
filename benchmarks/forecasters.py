"""What do recurrent models forecast beside an MLP, a CNN, a Transformer and lines of their size?

    python -m benchmarks.forecasters --data_dir=DIR --out=benchmarks/results/forecasters.json

Every network fills up the same budget of parameters; NLinear and DLinear have those that a matrix
from the past to the future has. All are trained by one trainer on the same windows in the same
batches, on the squared error, each at the learning rate that did best in a short run of its own,
and scored on every window of the test rows with the weights that were best on validation windows.
All forecast channel by channel, with the same weights for each. The GRU, the LSTM, the TCN and the
Transformer read the past in patches, SegRNN in segments. Those that do not work relative to the
last value by themselves see each window normalised by its own past (RevIN); DLinear is as in its
paper. Calendar and holidays are read by all but SegRNN and the linear ones.

About 12 minutes on one core; --out writes the rows after each model, then a report and a picture.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from benchmarks import command, forecaster_report, markdown, short_runs
from rnnlab.data.forecast_metrics import Scores
from rnnlab.data.forecast_windows import WindowBatches, Windows
from rnnlab.data.forecasting import FORECAST_DATASETS, load_forecast_data
from rnnlab.models import Transformer
from rnnlab.models.forecasting import FORECASTERS, Direct, Forecaster, ForecasterOptions
from rnnlab.models.forecasting.catalogue import wrapped
from rnnlab.models.sizes import count_params, largest_features, largest_transformer
from rnnlab.training import Ratio, Task
from rnnlab.training.optimizers import make_optimizer, make_schedule

EVALUATIONS = 8  # in a run
EVAL_BATCH = 64
HEADS = 4
KINDS = {"gru": "direct", "lstm": "direct"}  # of the catalogue, where it has another name
LAYERS = {"gru": 2, "lstm": 2, "mlp": 2, "tcn": 3, "transformer": 2}
NETWORKS = ("gru", "lstm", "seg_rnn", "mlp", "tcn", "transformer")
LINES = ("nlinear", "dlinear")
NAIVE = ("naive", "seasonal_naive")
NORMALISED = ("gru", "lstm", "mlp", "tcn", "transformer")

_DATASETS = command.names_list("datasets", "etth1,vic_elec", list(FORECAST_DATASETS))
_MODELS = command.names_list("models", ",".join([*NETWORKS, *LINES]), [*NETWORKS, *LINES])
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets lie, before $RNNLAB_DATA.")
_PARAMS = flags.DEFINE_integer("num_params", 65_000, "Most parameters of a network.", 1)
_CONTEXT = flags.DEFINE_integer("context", 336, "Steps of the past.", 1)
_PATCH = flags.DEFINE_integer("patch", 24, "Steps that are read as one.", 1)
_SEGMENT = flags.DEFINE_integer("segment", 48, "Steps of a segment of SegRNN.", 1)
_STEPS = flags.DEFINE_integer("steps", 500, "Updates.", lower_bound=EVALUATIONS)
_TRIAL_STEPS = flags.DEFINE_integer("trial_steps", 50, "Updates to try a learning rate.", 1)
_RATES = command.rates_list("rates", "1e-3,4e-3")
_BATCH = flags.DEFINE_integer("batch", 32, "Windows of a batch.", lower_bound=1)
_VALID = flags.DEFINE_integer("valid_windows", 256, "Validation windows, at most.", 1)


def options_of(name: str, windows: Windows, features: int = 1) -> ForecasterOptions:
    """What every model is told."""
    return ForecasterOptions(
        context=windows.context,
        horizon=windows.horizon,
        channels=windows.data.channels,
        covariates=windows.covariates,
        season=windows.data.season,
        cell="lstm" if name == "lstm" else "gru",
        features=features,
        layers=LAYERS.get(name, 1),
        loss="squared",
        segment=_SEGMENT.value,
        patch=_PATCH.value,
        instance_norm=name in NORMALISED,
        shared_channels=True,
    )


def build_model(name: str, windows: Windows) -> Forecaster:
    """The model, as large as the budget allows if it comes in sizes."""

    def sized(features: int) -> Forecaster:
        return FORECASTERS[KINDS.get(name, name)](options_of(name, windows, features))

    def around(body: Transformer) -> Forecaster:
        options = options_of(name, windows)
        return wrapped(options, Direct(**options.point_sizes, body=body, patch=options.patch))

    budget = _PARAMS.value
    if name == "transformer":
        patches = -(-windows.context // _PATCH.value)
        smallest = Transformer(2 * HEADS, LAYERS[name], HEADS, context=patches, causal=False)
        return around(
            largest_transformer(lambda body: count_params(around(body).init), budget, smallest)
        )
    if name in NETWORKS:
        return sized(largest_features(lambda n: count_params(sized(n).init), budget))
    return sized(1)


def build_task(model: Forecaster, windows: Windows, steps: int, rate: float) -> Task:
    """AdamW under a cosine with warm-up.

    Args:
      model: what forecasts.
      windows: to train on.
      steps: updates over which the learning rate falls.
      rate: the highest learning rate.
    """

    def loss(params, state, batch, key):
        losses, weights = model.losses(params, batch.window, key)
        return Ratio.mean(losses, weights), (state, {})

    origins = windows.origins("valid")
    origins = origins[np.unique(np.linspace(0, len(origins) - 1, _VALID.value).astype(int))]
    schedule = make_schedule("cosine", rate, steps // 10, steps)
    return Task(
        init=model.init,
        loss=loss,
        optimizer=make_optimizer("adamw", schedule, clip_norm=1.0),
        train_batches=WindowBatches(windows, windows.origins("train"), _BATCH.value).batches,
        eval_batches={"valid": WindowBatches(windows, origins, EVAL_BATCH).epoch},
        unit="value",
    )


def score(model: Forecaster, params: Any, windows: Windows) -> dict[str, float]:
    """Errors of every test window, on the scale on which the set is scored."""
    scores, forecast = Scores(windows.horizon), jax.jit(model.forecast)
    for batch in WindowBatches(windows, windows.origins("test"), EVAL_BATCH).epoch():
        real = batch.weights > 0
        mean, scale = windows.affine(batch.number[real])
        truth = windows.truth(batch.number[real], batch.origin[real])
        guess = np.asarray(forecast(params, batch.window), np.float64)[real]
        if windows.data.scored_scaled:
            truth = (truth - mean) / scale
        else:
            guess = guess * scale + mean
        scores.add(truth, guess)
    return {name: scores.values()[name] for name in ("mse", "mae")}


def measure(name: str, windows: Windows) -> dict[str, Any]:
    """A row of the table."""
    model = build_model(name, windows)
    row = {"dataset": windows.data.name, "model": name, "parameters": count_params(model.init)}
    if name in NAIVE:
        return row | score(model, (), windows)

    def task_of(steps: int, rate: float) -> Task:
        return build_task(model, windows, steps, rate)

    rates = [float(rate) for rate in _RATES.value]
    steps, batch = _TRIAL_STEPS.value, _BATCH.value
    rate, trials = short_runs.best_rate(lambda rate: task_of(steps, rate), rates, steps, batch)
    found = short_runs.train(task_of(_STEPS.value, rate), _STEPS.value, batch, EVALUATIONS)
    if found is None:
        raise SystemExit(f"{name}: training did not stay finite at {rate}. Give lower --rates.")
    row |= {"layers": str(model), "rate": rate, "trials": trials, "step": found.step}
    row |= {"valid_loss": found.loss, "seconds": found.cpu_seconds_per_step * _STEPS.value}
    row |= {"course": [(step, loss) for step, _, loss in found.course]}
    row |= score(model, found.params, windows)
    jax.clear_caches()
    return row


def report(rows: list[dict[str, Any]], about: Mapping[str, Windows]) -> str:
    """The Markdown file."""
    rates, chosen = ", ".join(_RATES.value), f" that was best after {_TRIAL_STEPS.value} updates"
    of_rates = f"the one of the learning rates {rates}{chosen}" if "," in rates else f"at {rates}"
    protocol = (
        f"At most {_PARAMS.value:,} parameters of a network. {_STEPS.value} updates of"
        f" {_BATCH.value} windows of {_CONTEXT.value} steps, AdamW under a cosine on the squared"
        f" error, {of_rates}; patches of {_PATCH.value} steps, segments of {_SEGMENT.value}; no"
        " dropout, one seed. The weights are those of the step that was best"
        f" on {_VALID.value} validation windows at most. Seconds are processor time of the updates:"
        " their number by the median of one."
    )
    sections = [protocol]
    for name, windows in about.items():
        scale = "training rows scaled to deviation 1" if windows.data.scored_scaled else "its units"
        sections.append(
            f"## {name}\n\n{windows.horizon} steps ahead, {windows.data.channels} channels,"
            f" {len(windows.origins('test'))} windows of the test rows; errors on the scale of"
            f" {scale}."
        )
        chosen = [row for row in rows if row["dataset"] == name]
        sections.append(forecaster_report.table(chosen))
        sections.append("\n".join(f"- `{row['layers']}`" for row in chosen if "layers" in row))
    return markdown.document(
        "What do recurrent models forecast beside an MLP, a CNN, a Transformer and lines?",
        f"python -m benchmarks.forecasters --data_dir=DIR --rates={','.join(_RATES.value)}"
        " --out=benchmarks/results/forecasters.json",
        sections,
    )


def main(argv: list[str]) -> None:
    command.start(argv)
    logging.set_verbosity(logging.WARNING)  # orbax tells of every save
    about, rows = {}, []
    for dataset in _DATASETS.value:
        data = load_forecast_data(dataset, _DATA_DIR.value)
        about[dataset] = Windows(data, _CONTEXT.value, data.horizon)
        for name in (*NAIVE, *_MODELS.value):
            rows.append(measure(name, about[dataset]))
            command.log(forecaster_report.describe(rows[-1]))
            command.save_rows(rows, steps=_STEPS.value)
        print("\n" + forecaster_report.table([r for r in rows if r["dataset"] == dataset]))
    command.save_report(report(rows, about), lambda path: forecaster_report.draw(rows, path))


if __name__ == "__main__":
    app.run(main)
