"""Anybody's series: a CSV file with a column of times, others of values, perhaps one of names."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from rnnlab.data.calendar import extend_times, infer_frequency, step_seconds, steps_between
from rnnlab.data.forecasting import Bounds, ForecastData, Series
from rnnlab.data.readers import numbers
from rnnlab.data.readers.common import located
from rnnlab.data.readers.tables import csv

MISSING = ("", "NA", "NaN", "nan", "null")
"""Cells that stand for a missing value."""

SEASONS = {"m": 86400.0, "h": 86400.0, "D": 7 * 86400.0, "M": 365.2425 * 86400}
"""Unit of a frequency -> seconds after which its series usually repeat themselves."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table are what.

    Attributes:
      time: ISO dates and times such as 2020-01-31 or 2020-01-31 06:00, or whole numbers.
      targets: what is forecast, one channel each; empty cells are missing.
      covariates: what is known in advance; rows after the last target say it for the future.
      series: the name of the series a row belongs to; "" where there is only one.
    """

    time: str
    targets: tuple[str, ...]
    covariates: tuple[str, ...] = ()
    series: str = ""


def load_csv(
    path: str,
    columns: Columns,
    *,
    horizon: int,
    season: int = 0,
    valid: float = 0.1,
    test: float = 0.2,
    held_out: bool = True,
) -> ForecastData:
    """Reads series from a CSV file.

    Rows may be in any order. Where the file has no row for a time, its values are missing; nothing
    is filled in. Rows at the end without any target only tell covariates of the future.

    Args:
      path: of the file, in UTF-8, with a row of column names.
      columns: which are what.
      horizon: H; validation and test hold out at least as many rows.
      season: steps; 0 takes a day for hours and minutes, a week for days, a year for months.
      valid: share of the rows of each series to validate on.
      test: share of its last rows to test on.
      held_out: whether to hold out any; if not all rows are training rows.

    Raises:
      ValueError: what is wrong, with the line or the series.
      FileNotFoundError: no such file.
    """
    with located(path):
        rows = csv(pathlib.Path(path).read_bytes())
        if not rows:
            raise ValueError("expected a row below the column names, got none.")
        _check_columns(rows[0], columns)
        times = _times([row[columns.time] for row in rows])
        values = numbers(rows, columns.targets, missing=MISSING)
        covariates = numbers(rows, columns.covariates, missing=MISSING)
        names = np.array([row[columns.series] if columns.series else "series" for row in rows])
        tables: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for name in dict.fromkeys(names.tolist()):
            chosen = np.flatnonzero(names == name)
            chosen = chosen[np.argsort(times[chosen], kind="stable")]
            tables[name] = times[chosen], values[chosen], covariates[chosen]
        frequency = _common_frequency(tables)
        series = tuple(_regular(name, *table, frequency) for name, table in tables.items())
        bounds = tuple(
            bounds_of(one.name, len(one.values), horizon, valid, test)
            if held_out
            else Bounds(*[len(one.values)] * 3)
            for one in series
        )
    season = season or usual_season(frequency)
    name = pathlib.Path(path).name
    return ForecastData(name, series, season, horizon, frequency, bounds, names=columns.targets)


def bounds_of(name: str, rows: int, horizon: int, valid: float, test: float) -> Bounds:
    """Bounds by share, but a horizon at least; the rest has to train one window.

    Example:
        >>> bounds_of("shop", 100, horizon=7, valid=0.1, test=0.1)
        Bounds(train=80, valid=90, test=100)
        >>> bounds_of("shop", 30, horizon=7, valid=0.1, test=0.1)
        Bounds(train=16, valid=23, test=30)
    """
    sizes = [max(horizon, int(rows * share)) for share in (valid, test)]
    train = rows - sum(sizes)
    if train <= horizon:
        raise ValueError(
            f"{name}: expected at least {3 * horizon + 1} rows, to train, validate and test with"
            f" a horizon of {horizon}, got {rows} of which {train} remain to train. Lower"
            " --horizon, or leave the series out."
        )
    return Bounds(train, rows - sizes[1], rows)


def usual_season(frequency: str) -> int:
    """Steps of the season that series of a frequency usually have; 1 for none.

    Example:
        >>> [usual_season(frequency) for frequency in ("15m", "1h", "1D", "1M", "3M", "1Y", "")]
        [96, 24, 7, 12, 4, 1, 1]
    """
    seconds = SEASONS.get(frequency[-1:], 0)
    return max(1, round(seconds / step_seconds(frequency))) if seconds else 1


def _check_columns(row: Mapping[str, str], columns: Columns) -> None:
    if not columns.targets:
        raise ValueError("target: expected the name of a column to forecast, got none.")
    optional = (columns.series,) if columns.series else ()
    chosen = (columns.time, *columns.targets, *columns.covariates, *optional)
    for column in chosen:
        if column not in row:
            raise ValueError(f"expected one of the columns {', '.join(row)}, got {column!r}.")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"expected different columns, got {', '.join(chosen)}.")


def _times(cells: Sequence[str]) -> np.ndarray:
    if all(cell.lstrip("-").isdecimal() for cell in cells) and not all(
        len(cell) == 4 for cell in cells
    ):  # four digits are years
        return np.array(cells, np.int64)
    times = np.empty(len(cells), "M8[s]")
    for place, cell in enumerate(cells):
        try:
            times[place] = np.datetime64(cell.strip().removesuffix("Z"), "s")
        except ValueError as error:
            raise ValueError(
                f"record {place + 1}: expected a time such as 2020-01-31 or 2020-01-31T06:00, or a"
                f" whole number, got {cell!r}."
            ) from error
        if np.isnat(times[place]):
            raise ValueError(f"record {place + 1}: expected a time, got {cell!r}.")
    return times


def _common_frequency(tables: Mapping[str, tuple[np.ndarray, ...]]) -> str:
    """That of the series with the smallest step, for the others may have gaps everywhere."""
    found = []
    for name, (times, *_) in tables.items():
        twice = np.flatnonzero(times[1:] == times[:-1])
        if len(twice):
            raise ValueError(
                f"{name}: expected one row for each time, got two for {times[twice[0]]}."
                " A column of names (--series_column) tells several series apart."
            )
        if len(times) > 1:
            with located(name):
                found.append(infer_frequency(times))
    if not found:
        raise ValueError("expected a series of two rows or more, got none.")
    return min(found, key=step_seconds)


def _regular(
    name: str, times: np.ndarray, values: np.ndarray, covariates: np.ndarray, frequency: str
) -> Series:
    """A series with a row for every time, up to its last target."""
    places = steps_between(times[0], times, frequency)
    grid = extend_times(times[:1], int(places[-1]), frequency)
    wrong = np.flatnonzero(grid[places] != times)
    if len(wrong):
        raise ValueError(
            f"{name}: expected times that are whole steps of {frequency} after {times[0]}, got"
            f" {times[wrong[0]]}."
        )
    dense = np.full((len(grid), values.shape[1]), np.nan)
    known = np.full((len(grid), covariates.shape[1]), np.nan)
    dense[places], known[places] = values, covariates
    observed = np.flatnonzero(np.isfinite(dense).any(axis=1))
    if not len(observed):
        raise ValueError(f"{name}: expected some value of a target, got none.")
    rows = observed[-1] + 1
    return Series(name, dense[:rows], grid[:rows], known)
