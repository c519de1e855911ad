"""Series to forecast: the public data sets by name, each with its splits in time order."""

import dataclasses
import hashlib
import importlib.resources
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import numpy as np

from rnnlab.data.calendar import parse_frequency, steps_between
from rnnlab.data.normaliser import Normaliser
from rnnlab.data.readers import numbers, parse, read_records
from rnnlab.data.registry import DATASETS

SCALINGS = ("standard", "mean", "none")


class Series(NamedTuple):
    """One series."""

    name: str
    values: np.ndarray  # float64 [T, C], NaN where missing
    times: np.ndarray  # datetime64[s] [T], regular; or int64 steps where there is no calendar
    covariates: np.ndarray  # float64 [T + known future, K], known in advance; K may be 0


class Bounds(NamedTuple):
    """Where the splits of a series end: rows, of which the first is 0."""

    train: int
    valid: int
    test: int


@dataclasses.dataclass(frozen=True, eq=False)
class ForecastData:
    """Series that are forecast together.

    Training forecasts rows before `bounds.train`, validation those from there to `bounds.valid`,
    the test those from there to `bounds.test`; the past of a forecast may reach back into the
    split before, as it does in use.

    Attributes:
      name: of the data set.
      series: one or more, of any lengths, all with the same channels and covariates.
      season: steps after which they repeat themselves; 1 where they do not.
      horizon: how many steps are usually forecast.
      frequency: as `rnnlab.data.calendar` writes it; "" where there is no calendar.
      bounds: of every series.
      scaling: what a model reads, from the training rows of each series: "standard" has mean 0
        and deviation 1, "mean" a mean absolute value of 1, "none" is as the data are.
      scored_scaled: whether errors are measured on that scale, as the literature does for some.
      competition: whether sMAPE, MASE and OWA against Naive2 are the scores.
      stride: steps from one forecast of a held-out split to the next.
      names: of the channels; () calls them "value", or "value0" and so on.
    """

    name: str
    series: tuple[Series, ...]
    season: int
    horizon: int
    frequency: str
    bounds: tuple[Bounds, ...]
    scaling: str = "standard"
    scored_scaled: bool = False
    competition: bool = False
    stride: int = 1
    names: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.series or len(self.bounds) != len(self.series):
            raise ValueError(
                f"{self.name}: expected one series or more and bounds for each, got"
                f" {len(self.series)} and {len(self.bounds)}."
            )
        if self.scaling not in SCALINGS:
            raise ValueError(
                f"scaling: expected one of {', '.join(SCALINGS)}, got {self.scaling!r}."
            )
        if self.frequency:
            parse_frequency(self.frequency)
        widths = (self.channels, self.covariates)
        for one, bounds in zip(self.series, self.bounds, strict=True):
            _check_series(one, widths, self.frequency)
            if not 0 < bounds.train <= bounds.valid <= bounds.test <= len(one.values):
                raise ValueError(
                    f"{one.name}: expected bounds that rise to {len(one.values)} at most, got"
                    f" {tuple(bounds)}."
                )

    @property
    def channels(self) -> int:
        """C."""
        return self.series[0].values.shape[1]

    @property
    def channel_names(self) -> tuple[str, ...]:
        """A name for each channel."""
        numbered = [f"value{number}" for number in range(self.channels)]
        return self.names or (("value",) if self.channels == 1 else tuple(numbered))

    @property
    def covariates(self) -> int:
        """How many covariates the data themselves have."""
        return self.series[0].covariates.shape[1]

    def normalisers(self) -> tuple[Normaliser, ...]:
        """For each series what `scaling` says, measured on its training rows alone."""
        parts = [
            (one.name, one.values[: bounds.train])
            for one, bounds in zip(self.series, self.bounds, strict=True)
        ]
        return tuple(measure_scale(name, values, self.scaling) for name, values in parts)

    def fingerprint(self) -> dict[str, str]:
        """The SHA-256 of all numbers, under the name of the data set."""
        digest = hashlib.sha256()
        for one, bounds in zip(self.series, self.bounds, strict=True):
            digest.update(repr((one.name, one.values.shape, bounds)).encode())
            for array in (one.values, one.times, one.covariates):
                digest.update(np.ascontiguousarray(array).tobytes())
        return {self.name: digest.hexdigest()}


def _check_series(one: Series, widths: tuple[int, int], frequency: str) -> None:
    """A series has to be regular, finite or missing, and as wide as the others."""
    values, covariates = np.shape(one.values), np.shape(one.covariates)
    if len(values) != 2 or len(covariates) != 2 or (values[1], covariates[1]) != widths:
        raise ValueError(
            f"{one.name}: expected values [T, {widths[0]}] and covariates [.., {widths[1]}], got"
            f" shapes {values} and {covariates}."
        )
    if len(one.times) != values[0] or covariates[0] < values[0]:
        raise ValueError(
            f"{one.name}: expected {values[0]} times and at least as many rows of covariates, got"
            f" {len(one.times)} and {covariates[0]}."
        )
    if np.isinf(one.values).any() or np.isinf(one.covariates).any():
        raise ValueError(f"{one.name}: expected numbers, or NaN where missing; got an infinity.")
    if (one.times.dtype.kind == "M") != bool(frequency):
        raise ValueError(
            f"{one.name}: expected times with a calendar and a frequency, or neither, got"
            f" {one.times.dtype} and {frequency!r}."
        )
    steps = steps_between(one.times[0], one.times, frequency)
    if not np.array_equal(steps, np.arange(values[0])):
        place = int(np.argmin(steps == np.arange(values[0])))
        raise ValueError(
            f"{one.name}: expected regular times, {frequency or '1'} apart, got"
            f" {one.times[place - 1]} and then {one.times[place]}."
        )


def measure_scale(name: str, values: np.ndarray, scaling: str) -> Normaliser:
    """A normaliser of one kind, measured on `values` `[T, C]`, NaN where missing."""
    if scaling == "standard":
        try:
            return Normaliser.fit(values)
        except ValueError as error:
            raise ValueError(f"{name}, training rows: {error}") from error
    channels = values.shape[1]
    scale = np.ones(channels)
    if scaling == "mean":
        observed = np.isfinite(values)
        sizes = np.where(observed, np.abs(values), 0).sum(axis=0)
        scale = np.where(sizes > 0, sizes / np.maximum(observed.sum(axis=0), 1), 1.0)
    return Normaliser((0.0,) * channels, tuple(scale.tolist()))


def load_forecast_data(name: str, data_dir: str | None = None) -> ForecastData:
    """A public data set by its name.

    Args:
      name: one of `FORECAST_DATASETS`.
      data_dir: where its files are looked for first.

    Raises:
      ValueError: no such name, or a file whose content is not the one the registry names.
      FileNotFoundError: a file that is nowhere and cannot be downloaded.

    Example:
        >>> data = load_forecast_data("airline")
        >>> data.series[0].values.shape, data.frequency, data.bounds[0]
        ((144, 1), '1M', Bounds(train=96, valid=120, test=144))
    """
    if name not in FORECAST_DATASETS:
        known = ", ".join(FORECAST_DATASETS)
        raise ValueError(f"data set: expected one of {known}; got {name!r}.")
    return FORECAST_DATASETS[name](name, data_dir)


def _single(
    name: str, values: np.ndarray, times: np.ndarray, covariates: np.ndarray | None = None
) -> tuple[Series]:
    covariates = np.zeros((len(values), 0)) if covariates is None else covariates
    return (Series(name, values, times, covariates),)


def _rows(name: str, file: str, data_dir: str | None) -> list[dict[str, str]]:
    """The rows of a table with named columns."""
    return cast(list, read_records(DATASETS[name], file, data_dir))


def _parse_times(cells: list[str]) -> np.ndarray:
    return np.array([cell.removesuffix("Z") for cell in cells], "M8[s]")


def share_bounds(rows: int, valid: float = 0.1, test: float = 0.2) -> Bounds:
    """Bounds where the last rows, by their share rounded down, are held out."""
    held_out = int(rows * test)
    train = int(rows * (1 - valid - test) + 1e-9)
    return Bounds(train, rows - held_out, rows)


def _ett(name: str, data_dir: str | None) -> ForecastData:
    """Months of 30 days: 12 to train on, 4 to validate, 4 to test (Zhou et al. 2021)."""
    rows = _rows(name, DATASETS[name].files[0].name, data_dir)
    columns = [column for column in rows[0] if column != "date"]
    frequency, day = ("15m", 96) if name == "ettm1" else ("1h", 24)
    times = _parse_times([row["date"] for row in rows])
    bounds = Bounds(*(months * 30 * day for months in (12, 16, 20)))
    series = _single(name, numbers(rows, columns), times)
    options = {"scored_scaled": True, "names": tuple(columns)}
    return ForecastData(name, series, day, 96, frequency, (bounds,), **options)


def _exchange_rate(name: str, data_dir: str | None) -> ForecastData:
    """Seven tenths, one, two (Lai et al. 2018); its file has no dates, nor gaps on weekends."""
    values = np.asarray(read_records(DATASETS[name], "exchange_rate.txt", data_dir))
    series = _single(name, values, np.arange(len(values)))
    return ForecastData(name, series, 1, 96, "", (share_bounds(len(values)),), scored_scaled=True)


def _m4(name: str, data_dir: str | None) -> ForecastData:
    """The test is the organisers'; the last rows of what they gave to train on validate."""
    horizon, season = {"m4_hourly": (48, 24), "m4_weekly": (13, 1)}[name]
    dataset = DATASETS[name]
    past, future = (read_records(dataset, file.name, data_dir) for file in dataset.files)
    ahead = {one.name: one.values for one in future}
    pairs = [(one.name, one.values, ahead[one.name]) for one in past]
    return _competition(name, pairs, season, horizon)


def _m3(name: str, data_dir: str | None) -> ForecastData:
    """The test is the organisers'; the last rows of what they gave to train on validate."""
    dataset = DATASETS[name]
    rows = read_records(dataset, dataset.files[0].name, data_dir)
    pairs = [(row["id"], np.array(row["train"]), np.array(row["test"])) for row in rows]
    return _competition(name, pairs, 4 if name == "m3_quarterly" else 1, rows[0]["h"])


def _competition(name: str, pairs, season: int, horizon: int) -> ForecastData:
    series, bounds = [], []
    for label, past, future in pairs:
        values = np.concatenate([past, future]).astype(np.float64)[:, None]
        series.extend(_single(label, values, np.arange(len(values))))
        bounds.append(Bounds(len(past) - horizon, len(past), len(values)))
    options = {"scaling": "mean", "competition": True}
    return ForecastData(name, tuple(series), season, horizon, "", tuple(bounds), **options)


def _vic_elec(name: str, data_dir: str | None) -> ForecastData:
    """Demand, with holidays. Times are Melbourne's standard time, UTC + 10 h, all through the year.

    The temperature is left out: at the time of a forecast nobody knows it.
    """
    rows = _rows(name, "vic_elec.csv", data_dir)
    times = _parse_times([row["time_utc"] for row in rows]) + np.timedelta64(10, "h")
    values, holidays = numbers(rows, ["demand_mwh"]), numbers(rows, ["holiday"])
    series, bounds = _single(name, values, times, holidays), share_bounds(len(values))
    return ForecastData(name, series, 48, 48, "30m", (bounds,), stride=48)


def _beijing_pm25(name: str, data_dir: str | None) -> ForecastData:
    """The concentration, 2,067 hours of which are missing; nobody knows the weather in advance."""
    rows = _rows(name, "pollution.csv", data_dir)
    values = numbers(rows, ["pm2.5"], missing=["NA"])
    parts = [[int(row[unit]) for row in rows] for unit in ("year", "month", "day", "hour")]
    dates = [f"{y:04}-{m:02}-{d:02}T{h:02}:00:00" for y, m, d, h in zip(*parts, strict=True)]
    series, bounds = _single(name, values, _parse_times(dates)), share_bounds(len(values))
    return ForecastData(name, series, 24, 24, "1h", (bounds,), stride=24)


def _embedded(file: str) -> Series:
    """Numbers that come with the package."""
    path = importlib.resources.files("rnnlab.data").joinpath("embedded", file)
    rows = cast(list, parse(path.read_bytes(), "csv", file))
    month, column = rows[0]
    values = numbers(rows, [column])
    (one,) = _single(column.lower(), values, _parse_times([row[month] for row in rows]))
    return one


def _sunspots(name: str, data_dir: str | None) -> ForecastData:
    """A season is eleven years, the sun's cycle, which is not as regular as a calendar's."""
    one = _embedded("monthly-sunspots.csv")
    return ForecastData(name, (one,), 132, 24, "1M", (share_bounds(len(one.values)),))


def _airline(name: str, data_dir: str | None) -> ForecastData:
    """Two years to validate, two to test."""
    one = _embedded("airline-passengers.csv")
    return ForecastData(name, (one,), 12, 12, "1M", (Bounds(96, 120, 144),))


FORECAST_DATASETS: Mapping[str, Callable[[str, str | None], ForecastData]] = {
    "sunspots": _sunspots,
    "airline": _airline,
    "etth1": _ett,
    "etth2": _ett,
    "ettm1": _ett,
    "exchange_rate": _exchange_rate,
    "m4_hourly": _m4,
    "m4_weekly": _m4,
    "m3_yearly": _m3,
    "m3_quarterly": _m3,
    "m3_other": _m3,
    "vic_elec": _vic_elec,
    "beijing_pm25": _beijing_pm25,
}
"""Flag name -> loader. Sunspots and airline passengers come with the package."""
