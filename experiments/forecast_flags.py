"""The flags of the forecasting experiment, and what is made from them."""

import dataclasses

from absl import flags

from experiments import common
from rnnlab.data.forecast_windows import Windows
from rnnlab.data.forecasting import (
    FORECAST_DATASETS,
    SCALINGS,
    ForecastData,
    load_forecast_data,
)
from rnnlab.data.series_csv import Columns, load_csv
from rnnlab.models.forecasting import FORECASTERS, Forecaster, ForecasterOptions
from rnnlab.models.forecasting.distributions import DISTRIBUTIONS
from rnnlab.models.forecasting.point import LOSSES
from rnnlab.strategies import STRATEGIES

MODES = ("train", "eval", "backtest", "predict", "plot")
LOOKS = ("mode", "folds", "fold_step", "samples", "eval_batch_size", "out")
"""Flags of a look at a run, which are not part of what it is."""

SELECTABLE = ("loss", "mse", "mae", "smape", "mase", "nd", "owa", "crps")
"""Metrics of validation, the less the better."""

CSV_HORIZON = 12
"""Of a CSV file, where --horizon does not say another."""


def define_flags(values: flags.FlagValues) -> None:
    """Data, model, and what to look at."""

    def enum(name, default, known, text):
        flags.DEFINE_enum(name, default, list(known), text, flag_values=values)

    def integer(name, default, text, low=0):
        flags.DEFINE_integer(name, default, text, low, flag_values=values)

    def number(name, default, text, low=0.0, high=1.0):
        flags.DEFINE_float(name, default, text, low, high, flag_values=values)

    def boolean(name, default, text):
        flags.DEFINE_bool(name, default, text, flag_values=values)

    def text(name, default, help_text):
        flags.DEFINE_string(name, default, help_text, flag_values=values)

    def names(name, help_text):
        flags.DEFINE_list(name, [], help_text, flag_values=values)

    enum("mode", "train", MODES, "What to do.")
    enum("dataset", "sunspots", FORECAST_DATASETS, "Series.")
    text("csv", "", "A CSV file of series, instead of --dataset.")
    text("time_column", "time", "Of the CSV file.")
    names("target", "Columns of the CSV file to forecast.")
    names("covariates", "Columns of the CSV file that are known in advance, such as holidays.")
    text(
        "series_column", "", "Of the CSV file: which series a row belongs to; empty: there is one."
    )
    number("valid_share", 0.1, "Rows of each series of the CSV file to validate on.")
    number("test_share", 0.2, "Rows of each series of the CSV file to test on.")
    integer("season", 0, "Steps of a season; 0: of the data set.")
    integer("horizon", 0, "Steps to forecast; 0: of the data set.")
    integer("context", 0, "Steps of the past; 0: three horizons or two seasons.")
    enum("scaling", "auto", ("auto", *SCALINGS), "Of the series, by their training rows.")
    integer("stride", 0, "Steps between held-out forecasts; 0: of the data set.")
    boolean("balanced", False, "Whether a long series counts no more in training than a short one.")
    boolean("age", True, "Whether a model reads how old a series is.")
    enum("model", "nlinear", FORECASTERS, "What forecasts.")
    enum("loss", "auto", ("auto", *LOSSES), "Of point forecasts; auto: of the model.")
    enum(
        "select",
        "auto",
        ("auto", *SELECTABLE),
        "Metric of validation that chooses the checkpoint; auto: owa of a competition, crps of a"
        " probabilistic model, else loss.",
    )
    number("dropout", 0.0, "Rate.", high=0.99)
    boolean("revin", False, "Whether each window is normalised by its own past (RevIN).")
    boolean("shared_channels", False, "Whether channels are forecast one by one, by one model.")
    integer("segment", 48, "Steps of a segment of seg_rnn.", 1)
    integer("patch", 1, "Steps read as one by direct, tcn and transformer.", 1)
    integer("heads", 4, "Of the transformer.", 1)
    integer("width", 3, "Steps of a kernel of the tcn.", 1)
    boolean("teacher_forcing", False, "Of encoder_decoder.")
    enum("distribution", "student_t", DISTRIBUTIONS, "Of deep_ar.")
    enum("window_scaling", "mean", ("mean", "standard"), "Of deep_ar: of each window.")
    names("lags", "Of deep_ar; empty: 1, 2, 3 and those around a season and seven.")
    integer("embedding", 0, "Of deep_ar: features of the embedding of a series.")
    names("seasons", "Of es_rnn; empty: the season of the data set.")
    integer("level_stride", 0, "Of es_rnn: steps between its windows; 0: a season.")
    integer("input_width", 0, "Of es_rnn: steps of a window; 0: a horizon or a season.")
    integer("samples", 100, "Paths drawn by a probabilistic model.", 1)
    integer("eval_batch_size", 256, "Held-out windows at once.", 1)
    integer("folds", 5, "Origins of a backtest, for each series.", 1)
    integer("fold_step", 0, "Steps from one of them to the next; 0: the horizon.")
    text("out", "", "CSV file of --mode=predict; empty: forecasts.csv in the run directory.")


def load_data(values: flags.FlagValues, held_out: bool = True) -> ForecastData:
    """The series of the flags.

    Args:
      values: the flags.
      held_out: whether a CSV file has rows to hold out; if not, all are past.

    Raises:
      ValueError: flags that do not fit, or a file that is not as they say.
      FileNotFoundError: no such file.
    """
    if values.csv:
        targets, covariates = tuple(values.target), tuple(values.covariates)
        data = load_csv(
            values.csv,
            Columns(values.time_column, targets, covariates, values.series_column),
            horizon=values.horizon or CSV_HORIZON,
            season=values.season,
            valid=values.valid_share,
            test=values.test_share,
            held_out=held_out,
        )
    else:
        for name in ("target", "covariates", "series_column"):
            if getattr(values, name):
                raise ValueError(f"--{name}: expected --csv beside it, for it names columns.")
        data = load_forecast_data(values.dataset, values.data_dir)
    changes = {"season": values.season} if values.season else {}
    if values.scaling != "auto":
        changes["scaling"] = values.scaling
    return dataclasses.replace(data, **changes)


def cut(values: flags.FlagValues, data: ForecastData, scales=None) -> Windows:
    """The windows of the flags."""
    horizon = values.horizon or data.horizon
    context = values.context or max(3 * horizon, 2 * data.season)
    return Windows(data, context, horizon, scales, stride=values.stride, age=values.age)


def build_options(values: flags.FlagValues, windows: Windows, num_series: int) -> ForecasterOptions:
    """What the flags and the data say of a model."""
    try:
        lags, seasons = (tuple(map(int, part)) for part in (values.lags, values.seasons))
    except ValueError as error:
        raise ValueError(
            f"--lags, --seasons: expected whole numbers with commas, {error}."
        ) from None
    return ForecasterOptions(
        context=windows.context,
        horizon=windows.horizon,
        channels=windows.data.channels,
        covariates=windows.covariates,
        num_series=num_series,
        season=windows.data.season,
        cell=values.cell,
        cell_options=common.cell_options(values),
        features=values.features,
        layers=values.layers,
        dropout=values.dropout,
        loss="" if values.loss == "auto" else values.loss,
        segment=values.segment,
        patch=values.patch,
        heads=values.heads,
        width=values.width,
        instance_norm=values.revin,
        shared_channels=values.shared_channels,
        teacher_forcing=values.teacher_forcing,
        distribution=values.distribution,
        scaling=values.window_scaling,
        lags=lags,
        embedding=values.embedding,
        seasons=seasons,
        stride=values.level_stride,
        input_width=values.input_width,
        strategy=STRATEGIES[values.strategy](),
    )


def build_model(values: flags.FlagValues, options: ForecasterOptions) -> Forecaster:
    """The model of the flags."""
    return FORECASTERS[values.model](options)


def selected(values: flags.FlagValues, data: ForecastData, model: Forecaster) -> str:
    """The metric that chooses the checkpoint: what the forecasts are for, if nobody says another.

    The loss of a model that reads its own samples says how well it goes on from the truth.
    """
    known = {"owa": data.competition, "crps": model.probabilistic}
    if values.select == "auto":
        return next((name for name, there in known.items() if there), "loss")
    if not known.get(values.select, True):
        raise ValueError(
            f"--select={values.select}: expected a metric that there is, for {data.name} and"
            f" {values.model} have no {values.select}. Take another, or auto."
        )
    return values.select


def recorded(values: flags.FlagValues) -> dict[str, str]:
    """The flags that define the run; a list is written with commas."""
    found = common.run_flags(values, unrecorded=LOOKS)
    lists = {name: ",".join(getattr(values, name)) for name in LISTS if name in found}
    return found | lists


LISTS = ("target", "covariates", "lags", "seasons")
