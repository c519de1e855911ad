"""How forecasts are scored: all windows of a split, beside baselines, with pictures."""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import plot_forecasts
from rnnlab.data.calendar import write_times
from rnnlab.data.forecast_metrics import Scores, owa, seasonal_scale
from rnnlab.data.forecast_windows import WindowBatch, Windows
from rnnlab.data.naive2 import naive2
from rnnlab.models.forecasting import Forecaster

LEVELS = np.linspace(0.05, 0.95, 19)
"""Of the quantiles; the outermost bound the 90 % interval."""

PANELS = 4
MOST_KEPT = 16  # forecasts of a series of which its panels are chosen


class Guess(NamedTuple):
    """What a model says of some windows, on the scale it reads."""

    forecast: np.ndarray  # [B, H, C]
    quantiles: np.ndarray | None = None  # [Q, B, H, C], of `LEVELS`

    def affine(self, mean: np.ndarray, scale: np.ndarray) -> "Guess":
        """On another scale: `mean` and `scale` are `[B, 1, C]`."""
        quantiles = None if self.quantiles is None else self.quantiles * scale + mean
        return Guess(self.forecast * scale + mean, quantiles)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """A model as a function of batches, compiled once.

    Attributes:
      model: what forecasts.
      samples: paths of a probabilistic model, where it samples.
    """

    model: Forecaster
    samples: int = 100

    @functools.cached_property
    def _point(self) -> Callable:
        return jax.jit(self.model.forecast)

    @functools.cached_property
    def _quantiles(self) -> Callable:
        levels = jnp.asarray(LEVELS, jnp.float32)
        return jax.jit(
            lambda params, window, key: self.model.quantiles(
                params, window, levels, key, self.samples
            )
        )

    def __call__(self, params: Any, batch: WindowBatch, key: jax.Array) -> Guess:
        window = jax.tree.map(jnp.asarray, batch.window)
        if not self.model.probabilistic:
            return Guess(np.asarray(self._point(params, window), np.float64))
        # A key of its own for each batch, and the same one when it is scored again.
        key = jax.random.fold_in(jax.random.fold_in(key, batch.number[0]), batch.origin[0])
        quantiles = np.asarray(self._quantiles(params, window, key), np.float64)
        return Guess(quantiles[len(LEVELS) // 2], quantiles)  # the median


class Report(NamedTuple):
    """The scores of a split, and what its pictures are drawn of."""

    metrics: dict[str, float]
    errors: np.ndarray  # [H], of the metric that is drawn
    panels: list[plot_forecasts.Panel]
    residuals: dict[tuple[int, int], list[float]]  # (series, channel) -> those of the first step


def measured_metric(windows: Windows) -> str:
    """What is drawn along the horizon: as a competition scores, or the squared error."""
    return "smape" if windows.data.competition else "mse"


def score(
    windows: Windows, batches: Iterable[WindowBatch], predict: Callable[[WindowBatch], Guess]
) -> Report:
    """Scores every window of some batches.

    Args:
      windows: what cut them.
      batches: of held-out origins.
      predict: what to score.
    """
    scores, reference = Scores(windows.horizon), Scores(windows.horizon)
    panels: dict[int, Spread] = {}
    residuals: dict[tuple[int, int], list[float]] = defaultdict(list)
    past_scale = functools.cache(functools.partial(_past_scale, windows))
    for batch in batches:
        real = batch.weights > 0
        mean, size = windows.affine(batch.number)
        guess = predict(batch)
        unscaled = guess.affine(mean, size)
        truth = np.where(real[:, None, None], windows.truth(batch.number, batch.origin), np.nan)
        _keep_panels(panels, windows, batch, unscaled)
        for row, number in enumerate(batch.number[real].tolist()):
            for channel, residual in enumerate(truth[row, 0] - unscaled.forecast[row, 0]):
                residuals[number, channel].append(residual)
        pairs = list(zip(batch.number.tolist(), batch.origin.tolist(), strict=True))
        scale = np.stack([past_scale(*windows.held_out_from(*pair)) for pair in pairs])
        if windows.data.competition:
            benchmark = np.stack([_naive2(windows, *pair) for pair in pairs])
            reference.add(truth, benchmark, scale=scale)
        if windows.data.scored_scaled:
            truth, scale = (truth - mean) / size, scale / size[:, 0]
        else:
            guess = unscaled
        scores.add(truth, guess.forecast, scale=scale, quantiles=guess.quantiles, levels=LEVELS)
    metrics = scores.values()
    if windows.data.competition:
        metrics["owa"] = owa(metrics, reference.values())
    return Report(
        metrics, scores.by_step(measured_metric(windows)), _choose(panels), dict(residuals)
    )


def _past_scale(windows: Windows, number: int, rows: int) -> np.ndarray:
    """Of MASE: `[C]`, from the first rows of a series."""
    return seasonal_scale(windows.data.series[number].values[:rows], windows.data.season)


def _naive2(windows: Windows, number: int, origin: int) -> np.ndarray:
    """`[H, C]`."""
    past = windows.data.series[number].values[:origin]
    columns = [naive2(column, windows.data.season, windows.horizon) for column in past.T]
    return np.stack(columns, axis=1)


@dataclasses.dataclass
class Spread:
    """Some of many things that come one by one, as far from each other as from the first.

    Attributes:
      most: of them that are kept, an even number.
    """

    most: int = MOST_KEPT
    kept: list = dataclasses.field(default_factory=list)
    seen: int = 0
    every: int = 1

    def add(self, make: Callable[[], Any]) -> None:
        """Makes the next one if it is to be kept."""
        if self.seen % self.every == 0:
            if len(self.kept) == self.most:
                del self.kept[1::2]
                self.every *= 2
            if self.seen % self.every == 0:
                self.kept.append(make())
        self.seen += 1


def _keep_panels(
    panels: dict[int, Spread], windows: Windows, batch: WindowBatch, guess: Guess
) -> None:
    """Forecasts spread over all origins, of the first few series."""
    for row, number in enumerate(batch.number[batch.weights > 0].tolist()):
        if number in panels or len(panels) < PANELS:
            spread, origin = panels.setdefault(number, Spread()), int(batch.origin[row])
            spread.add(functools.partial(panel_of, windows, number, origin, guess, row))


def _choose(panels: Mapping[int, Spread]) -> list[plot_forecasts.Panel]:
    """Some origins of one series, or a late one of several."""
    if len(panels) > 1:
        return [spread.kept[-1] for spread in panels.values()]
    (found,) = (spread.kept for spread in panels.values())
    places = np.unique(np.linspace(0, len(found) - 1, PANELS).astype(int))
    return [found[place] for place in places]


def panel_of(
    windows: Windows, number: int, origin: int, guess: Guess, row: int
) -> plot_forecasts.Panel:
    """A picture of one forecast, in the units of the data."""
    one = windows.data.series[number]
    past = min(origin, max(2 * windows.horizon, 48))
    quantiles = None if guess.quantiles is None else guess.quantiles[:, row, :, 0]
    truth = windows.truth(np.array([number]), np.array([origin]))[0, :, 0]
    times = windows.times(number, origin, past)
    name = f"{one.name} {windows.data.channel_names[0]}" if windows.data.names else one.name
    title = f"{name}, from {_short_time(times[past:], windows.data.frequency)}"
    return plot_forecasts.Panel(
        title=title,
        times=times,
        past=one.values[origin - past : origin, 0],
        forecast=guess.forecast[row, :, 0],
        truth=truth if np.isfinite(truth).any() else None,
        quantiles=quantiles,
        levels=LEVELS.tolist(),
    )


def _short_time(times: np.ndarray, frequency: str) -> str:
    """The first one, without seconds of 0."""
    (first,) = write_times(times[:1], frequency)
    if times.dtype.kind != "M":
        return f"step {first}"
    return first.replace("T", " ").removesuffix(":00")


def pictures(windows: Windows, report: Report, others: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """File name -> what draws it.

    Args:
      windows: what was scored.
      report: of the model.
      others: baseline -> its errors along the horizon.
    """
    curves = {"model": report.errors, **others}
    metric = measured_metric(windows)
    files = {
        "fan_chart.png": functools.partial(plot_forecasts.fan_chart, report.panels),
        "error_by_step.png": functools.partial(plot_forecasts.error_by_step, curves, metric),
    }
    residuals = [np.array(one) for one in report.residuals.values()]
    residuals = [one for one in residuals if np.isfinite(one).sum() >= 10]
    if residuals:
        files["residual_autocorrelation.png"] = functools.partial(
            plot_forecasts.residual_autocorrelation,
            residuals,
            apart=windows.stride or windows.data.stride,
        )
    return files
