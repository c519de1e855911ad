"""Windows of series for forecasters: batches to train on, and every origin of a held-out split."""

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data.batches import Batch, Batches
from rnnlab.data.calendar import calendar_features, extend_times
from rnnlab.data.checks import check_count
from rnnlab.data.forecasting import ForecastData, Series
from rnnlab.data.normaliser import Normaliser
from rnnlab.models.forecasting.base import Window

SPLITS = ("train", "valid", "test")


class WindowBatch(NamedTuple):
    """Several windows at once."""

    window: Window
    number: np.ndarray  # int32 [B], which series of the data
    origin: np.ndarray  # int32 [B], the row of the series where the future begins
    weights: np.ndarray  # float32 [B], 1, or 0 for a row that only fills up


@dataclasses.dataclass(frozen=True)
class Scales:
    """What a run has to keep of its training rows to read other rows.

    Attributes:
      series: name -> the normaliser of its values.
      covariates: that of the covariates; None where there are none.
    """

    series: dict[str, Normaliser]
    covariates: Normaliser | None = None

    @classmethod
    def fit(cls, data: ForecastData) -> "Scales":
        """Measures the training rows of every series."""
        names = [one.name for one in data.series]
        covariates = None
        if data.covariates:
            pairs = zip(data.series, data.bounds, strict=True)
            rows = [one.covariates[: bounds.train] for one, bounds in pairs]
            covariates = Normaliser.fit(np.concatenate(rows))
        return cls(dict(zip(names, data.normalisers(), strict=True)), covariates)

    def to_json(self) -> str:
        """As a JSON object, exact to the bit, to be saved with a run."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    @classmethod
    def from_json(cls, content: str) -> "Scales":
        """Reads what `to_json` wrote."""
        fields = json.loads(content)
        series, covariates = fields["series"], fields["covariates"]
        return cls(
            {name: Normaliser.from_json(json.dumps(part)) for name, part in series.items()},
            Normaliser.from_json(json.dumps(covariates)) if covariates else None,
        )


class _Table(NamedTuple):
    """All series one after another, with room for a past and a future around each."""

    values: np.ndarray  # float32 [N, C], scaled, 0 where missing
    truth: np.ndarray  # float64 [N, C], as it is, NaN where missing
    covariates: np.ndarray  # float32 [N, K]
    starts: np.ndarray  # int64 [S], where row 0 of each series is


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Cuts series into windows, each at an origin: L steps before it, H from it on.

    Covariates are the calendar's, the age of the series (the logarithm of its row), and for each of
    the data's own two columns: its scaled value, 0 where it is not known, and whether it is known.
    Where a series begins less than L steps before the origin the window is padded on the left.

    Attributes:
      data: the series.
      context: L.
      horizon: H.
      scales: of values and covariates; by default those of the training rows.
      stride: steps between origins of held-out splits; 0 takes the data set's.
      age: whether the age is one of the covariates. It tells series apart that live at the same
        time; of a single one it is a date, by which a model learns the training rows by heart.

    Example:
        >>> from rnnlab.data.forecasting import load_forecast_data
        >>> windows = Windows(load_forecast_data("airline"), context=24, horizon=12)
        >>> len(windows.origins("test")), windows.window(windows.origins("test")).past.shape
        (13, (13, 24, 1))
    """

    data: ForecastData
    context: int
    horizon: int
    scales: Scales | None = None
    stride: int = 0
    age: bool = True

    def __post_init__(self):
        for name in ("context", "horizon"):
            check_count(name, getattr(self, name))
        check_count("stride", self.stride, least=0)

    @property
    def covariates(self) -> int:
        """K."""
        return self._table.covariates.shape[1]

    @property
    def num_series(self) -> int:
        """How many series the scales were measured on, for parameters of each."""
        return len(self._scales.series)

    @functools.cached_property
    def normalisers(self) -> list[Normaliser]:
        """Of the series, in their order."""
        known = self._scales.series
        missing = [one.name for one in self.data.series if one.name not in known]
        if missing:
            raise ValueError(
                f"scales: expected those of the series {', '.join(known)}, got none of"
                f" {', '.join(missing)}. Forecast series that the run was trained on."
            )
        return [known[one.name] for one in self.data.series]

    @functools.cached_property
    def _trained_numbers(self) -> np.ndarray:
        """For each series its number where the scales were measured: int32 `[S]`."""
        order = list(self._scales.series)
        return np.array([order.index(one.name) for one in self.data.series], np.int32)

    @functools.cached_property
    def _scales(self) -> Scales:
        return self.scales or Scales.fit(self.data)

    @functools.cached_property
    def _table(self) -> _Table:
        parts, starts, start = [], [], 0
        for one, normaliser in zip(self.data.series, self.normalisers, strict=True):
            starts.append(start + self.context)
            parts.append(self._padded(one, normaliser))
            start += len(parts[-1][0])
        values, truth, covariates = (np.concatenate(part) for part in zip(*parts, strict=True))
        return _Table(values, truth, covariates, np.array(starts))

    def _padded(self, one: Series, normaliser: Normaliser):
        around = ((self.context, self.horizon), (0, 0))
        truth = np.pad(one.values, around, constant_values=np.nan)
        values = np.nan_to_num(normaliser.apply(truth)).astype(np.float32)
        covariates = np.pad(self._covariates(one), ((self.context, 0), (0, 0)))
        return values, truth, covariates.astype(np.float32)

    def _covariates(self, one: Series) -> np.ndarray:
        """The covariates of rows 0 to T + H: `[T + H, K]`."""
        rows = len(one.values) + self.horizon
        times = extend_times(one.times, self.horizon, self.data.frequency)
        parts = [calendar_features(times, self.data.frequency)]
        if self.age:
            parts.append(np.log10(2 + np.arange(rows))[:, None])
        if self._scales.covariates is not None:
            known = one.covariates[:rows]
            known = np.pad(known, ((0, rows - len(known)), (0, 0)), constant_values=np.nan)
            scaled = self._scales.covariates.apply(known)
            parts += [np.nan_to_num(scaled), np.isfinite(known).astype(float)]
        return np.concatenate(parts, axis=1)

    def origins(self, split: str) -> np.ndarray:
        """Every origin of a split, series after series.

        Training windows lie wholly in the training rows, and have a whole past where the series is
        long enough for that; a series too short for one row of past gives none. The futures of a
        held-out split lie wholly in it, one every `stride` steps.

        Returns:
          int64 `[N, 2]`, series and row.

        Raises:
          ValueError: no such split, or no series has a window in it.
        """
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}.")
        found = []
        for number, bounds in enumerate(self.data.bounds):
            last = getattr(bounds, split) - self.horizon
            if split == "train":
                rows = np.arange(max(1, min(self.context, last)), last + 1)
            else:
                start = bounds.train if split == "valid" else bounds.valid
                rows = np.arange(start, last + 1, self.stride or self.data.stride)
            found.append(np.stack([np.full(len(rows), number), rows], axis=1))
        origins = np.concatenate(found)
        if not len(origins):
            raise ValueError(
                f"horizon: expected windows of {self.horizon} steps to fit into the {split} rows of"
                f" {self.data.name}; they fit into none of {len(self.data.series)} series. Lower"
                " --horizon or hold out more rows."
            )
        return origins

    def rolling_origins(self, folds: int, step: int = 0) -> np.ndarray:
        """Origins that a backtest forecasts from: the last ones whose future is in the test rows.

        Args:
          folds: at most how many for each series; fewer where validation and test are shorter.
          step: from one to the next; 0 is the horizon, so that futures do not overlap.

        Returns:
          int64 `[N, 2]`, series and row, oldest first within a series.

        Raises:
          ValueError: no series has a future that fits behind its training rows.
        """
        check_count("folds", folds)
        step = step or self.horizon
        found = []
        for number, bounds in enumerate(self.data.bounds):
            last = bounds.test - self.horizon
            rows = last - step * np.arange(folds)[::-1]
            rows = rows[rows >= bounds.train]
            found.append(np.stack([np.full(len(rows), number), rows], axis=1))
        origins = np.concatenate(found)
        if not len(origins):
            raise ValueError(
                f"horizon: expected {self.horizon} steps to fit behind the training rows of"
                f" {self.data.name}, which hold out fewer. Lower --horizon."
            )
        return origins

    def ends(self) -> np.ndarray:
        """The end of every series, from where what is not known yet is forecast: int64 `[S, 2]`."""
        lengths = [len(one.values) for one in self.data.series]
        return np.stack([np.arange(len(lengths)), lengths], axis=1)

    def window(self, origins: np.ndarray) -> Window:
        """The windows at some origins.

        Args:
          origins: `[B, 2]`, series and row.
        """
        table, (past, future) = self._table, self._places(origins)
        arrays: dict[str, Any] = {
            "past": table.values[past],
            "past_mask": np.isfinite(table.truth[past]),
            "past_covariates": table.covariates[past],
            "future_covariates": table.covariates[future],
            "future": table.values[future],
            "future_mask": np.isfinite(table.truth[future]),
            "series": self._trained_numbers[origins[:, 0]],
        }
        return Window(**arrays)

    def truth(self, numbers: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """What came: float64 `[B, H, C]`, not scaled, NaN where missing."""
        return self._table.truth[self._places(np.stack([numbers, origins], axis=1))[1]]

    def held_out_from(self, number: int, origin: int) -> tuple[int, int]:
        """The series, and the row where the split that an origin lies in begins."""
        bounds = self.data.bounds[number]
        return number, bounds.valid if origin >= bounds.valid else bounds.train

    def affine(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale of series, each `[B, 1, C]`: `scaled * scale + mean` is as the data."""
        means = np.array([normaliser.mean for normaliser in self.normalisers])
        scales = np.array([normaliser.scale for normaliser in self.normalisers])
        return means[numbers, None], scales[numbers, None]

    def times(self, number: int, origin: int, past: int) -> np.ndarray:
        """The times of `past` rows before an origin and of the H from it on: `[past + H]`."""
        one = self.data.series[number]
        times = extend_times(one.times, self.horizon, self.data.frequency)
        return times[origin - past : origin + self.horizon]

    def _places(self, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the table: past `[B, L]`, future `[B, H]`."""
        start = self._table.starts[origins[:, 0]] + origins[:, 1]
        around = [np.arange(-self.context, 0), np.arange(self.horizon)]
        return start[:, None] + around[0], start[:, None] + around[1]


@dataclasses.dataclass(frozen=True, eq=False)
class WindowBatches:
    """Batches of windows, each a function of an integer step as in `Batches`.

    Attributes:
      windows: what cuts them.
      origins: `[N, 2]`, where.
      batch_size: B.
      seed: of the order in training.
      balanced: whether a series counts as much as any other in training, however long it is.

    Example:
        >>> from rnnlab.data.forecasting import load_forecast_data
        >>> windows = Windows(load_forecast_data("airline"), context=24, horizon=12)
        >>> held_out = WindowBatches(windows, windows.origins("test"), batch_size=8)
        >>> [batch.weights.sum().item() for batch in held_out.epoch()]
        [8.0, 5.0]
    """

    windows: Windows
    origins: np.ndarray
    batch_size: int
    seed: int = 0
    balanced: bool = False

    @functools.cached_property
    def _batches(self) -> Batches:
        source: Any = repeat_shorter(self.origins) if self.balanced else self.origins
        return Batches(source, self.batch_size, self.seed, collate=np.array)

    def batch(self, step: int) -> WindowBatch:
        """The training batch of a step."""
        return self._cut(self._batches.batch(step))

    def batches(self, first_step: int = 0) -> Iterator[WindowBatch]:
        """The training batches from a step on, without end."""
        return map(self._cut, self._batches.batches(first_step))

    def epoch(self) -> Iterator[WindowBatch]:
        """Every origin once, in order; the last batch is filled up with weight 0."""
        source: Any = self.origins
        return map(self._cut, Batches(source, self.batch_size, collate=np.array).epoch())

    def _cut(self, batch: Batch) -> WindowBatch:
        window = self.windows.window(batch.examples)
        real = batch.weights > 0
        window = window._replace(future_mask=window.future_mask & real[:, None, None])
        numbers, origins = batch.examples.T.astype(np.int32)
        return WindowBatch(window, numbers, origins, batch.weights)


def repeat_shorter(origins: np.ndarray) -> np.ndarray:
    """Origins of which every series has as many: those of shorter ones come again.

    Args:
      origins: `[N, 2]`, series and row.

    Returns:
      `[series * largest, 2]`.

    Example:
        >>> repeat_shorter(np.array([[0, 5], [0, 6], [1, 9]])).tolist()
        [[0, 5], [0, 6], [1, 9], [1, 9]]
    """
    counts = np.unique(origins[:, 0], return_counts=True)[1]
    most = counts.max()
    places = np.arange(most)[None] * counts[:, None] // most  # [series, most], evenly
    order = np.argsort(origins[:, 0], kind="stable")
    starts = np.cumsum(counts) - counts
    return origins[order[(starts[:, None] + places).ravel()]]
