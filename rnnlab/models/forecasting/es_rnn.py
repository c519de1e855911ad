"""A hybrid: exponential smoothing for each series, and one recurrent network for all of them."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.cells.lstm import LSTM
from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import linear
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.engine import unroll
from rnnlab.models.forecasting.base import Forecaster, Window
from rnnlab.models.forecasting.distributions import pinball
from rnnlab.models.forecasting.head import DenseParams, dense
from rnnlab.models.forecasting.point import started
from rnnlab.models.forecasting.smoothing import Smoothed, first_seasons, smooth
from rnnlab.strategies import Auto
from rnnlab.strategies.base import Strategy

LEAST_CHANGE = 1e-3
"""Of v, where a series hardly changes: a thousandth of its value."""


class SmoothingParams(NamedTuple):
    """One entry a series."""

    level: Array  # [N], the rate of the level, before its sigmoid
    seasons: tuple[Array, ...]  # [N], the rate of each season, likewise
    starts: tuple[Array, ...]  # [N, S], added to the logarithms of the first factors


class ESRNNParams(NamedTuple):
    """The parameters of an `ESRNN`."""

    smoothing: SmoothingParams
    cells: tuple[PyTree, ...]
    hidden: DenseParams
    output: DenseParams


@dataclasses.dataclass(frozen=True)
class ESRNN(Forecaster):
    """A recurrent network forecasts what is left of a series without its level and its seasons.

        x_t = log(y_{t-W+1..t} / (l_t s_{t-W+1..t})) / v,    r_t = cells(x_t)
        log y_{t+1..t+H} = v (tanh(r_t @ A + a) @ B + b) + log(l_t s_{t+1..t+H})

    Level l and seasons s are those of `smooth`, with rates and first factors of each series, learnt
    together with the network; v is the mean change of log y over the shortest season. The network
    reads a window every `stride` steps, the last one at the end of the past; a layer of dilation d
    passes its carry on to the d-th next window. In training every window counts, as far as the past
    and the future have what it forecasts, with the pinball loss of the logarithms over v^balance;
    in evaluation the last one alone.

    Only windows after the first of the longest seasons count, since the first factors are measured
    on it; they belong to the same phase as long as the past begins with the series. Let the context
    reach that far. Values that are not positive count as missing. Covariates are not read.

    Attributes:
      series: N, how many series there are.
      seasons: lengths, rising: (24, 168) for hours, () for none.
      cells: the layers, the one that reads x first; every one but the first is added to its input.
      dilations: one for each layer.
      width: W.
      stride: steps from one window to the next.
      hidden: features of the layer before the last.
      level: the quantile that the pinball loss aims at.
      balance: 0 makes errors count in proportion to the series, as sMAPE does, 1 in proportion to
        its changes, as MASE does.
      strategy: how the cells run.
      others: see `Forecaster`.

    Raises:
      ValueError: more than one channel; seasons that do not rise; numbers of cells and dilations
        that differ; a level outside 0 to 1.

    Example:
        >>> import jax
        >>> from rnnlab.cells import LSTM
        >>> from rnnlab.models.forecasting import ESRNN
        >>> from rnnlab.models.forecasting.naive import window_of
        >>> model = ESRNN(12, 4, seasons=(4,), cells=(LSTM(8),), dilations=(1,), width=4)
        >>> params, window = model.init(jax.random.key(0)), window_of([5, 7, 9, 6] * 3, 4)
        >>> model.forecast(params, window).shape
        (1, 4, 1)

    References: Smyl 2020, "A hybrid method of exponential smoothing and recurrent neural networks
    for time series forecasting". Deviations: one model and no ensemble of experts; first factors
    start from the data and not from 1; v, which is 1 there; no penalty on changes of the level, no
    noise on the inputs, no category of the series; windows every `stride` steps.
    """

    series: int = 1
    seasons: tuple[int, ...] = ()
    cells: tuple[Cell, ...] = dataclasses.field(default_factory=lambda: (LSTM(40), LSTM(40)))
    dilations: tuple[int, ...] = (1, 2)
    width: int = 24
    stride: int = 1
    hidden: int = 40
    level: float = 0.5
    balance: float = 0.5
    strategy: Strategy = dataclasses.field(default_factory=Auto)

    def __post_init__(self):
        super().__post_init__()
        sizes = {"series": self.series, "width": self.width, "stride": self.stride}
        check_size("ESRNN", **sizes, hidden=self.hidden)
        if self.channels != 1:
            raise ValueError(
                f"ESRNN: expected 1 channel, got {self.channels}. Make every channel a series."
            )
        if list(self.seasons) != sorted({*self.seasons}) or min(self.seasons, default=2) < 2:
            raise ValueError(f"ESRNN: expected seasons that rise from 2 on, got {self.seasons}.")
        if not self.cells or len(self.cells) != len(self.dilations) or min(self.dilations) < 1:
            raise ValueError(
                "ESRNN: expected one cell or more and for each a dilation of 1 or more, got"
                f" {len(self.cells)} cells and dilations {self.dilations}."
            )
        if not 0 < self.level < 1:
            raise ValueError(f"ESRNN: expected a level between 0 and 1, got {self.level}.")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"ESRNN: expected a balance from 0 to 1, got {self.balance}.")

    def init(self, key: Key) -> ESRNNParams:
        """Draws float32 parameters; rates start at 1/2 for the level and 1/5 for seasons."""
        keys = jax.random.split(key, 2 + len(self.cells))
        cells, features = [], self.width
        for cell, cell_key in zip(self.cells, keys[2:], strict=True):
            cells.append(cell.init(cell_key, features))
            before, features = features, cell.out_features(cells[-1], features)
            if len(cells) > 1 and features != before:
                raise ValueError(
                    "ESRNN: expected cells of one size, each added to its input, got"
                    f" {before} and {features} features."
                )
        rate = jnp.full(self.series, math.log(0.25), jnp.float32)
        smoothing = SmoothingParams(
            jnp.zeros(self.series),
            tuple(rate + 0 for _ in self.seasons),
            tuple(jnp.zeros((self.series, length)) for length in self.seasons),
        )
        hidden = dense(keys[0], features, self.hidden)
        return ESRNNParams(
            smoothing, tuple(cells), hidden, dense(keys[1], self.hidden, self.horizon)
        )

    def forecast(self, params: ESRNNParams, window: Window) -> Array:
        logs, mask = _logarithms(window.past, window.past_mask)
        smoothed = self.smooth(params, logs, mask, window.series)
        outputs = self._outputs(params, logs, mask, smoothed)[:, -1:]
        places = self._places()[-1:]
        return jnp.exp(outputs + self._scale(smoothed, places))[:, 0, :, None]

    def losses(
        self, params: ESRNNParams, window: Window, key: Key | None = None
    ) -> tuple[Array, Array]:
        logs, mask = _logarithms(window.past, window.past_mask)
        smoothed = self.smooth(params, logs, mask, window.series)
        outputs, places = self._outputs(params, logs, mask, smoothed), self._places()
        if key is None:
            outputs, places = outputs[:, -1:], places[-1:]
        ahead, there = _logarithms(window.future, window.future_mask)
        targets, known = (
            jnp.concatenate(pair, axis=1)[:, self._ahead(places)]  # [B, P, H]
            for pair in ((logs, ahead), (mask, there))
        )
        # The first season is what the first factors were measured on: nothing to be forecast there.
        since = jnp.cumsum(started(mask[..., None]), axis=1)[:, places]
        known &= (since > max(self.seasons, default=0))[..., None]
        errors = targets - outputs - self._scale(smoothed, places)
        weight = self._changes(logs, mask)[:, None, None] ** -self.balance
        losses = pinball(jnp.where(known, errors, 0), self.level) * weight
        return losses, known.astype(losses.dtype)

    def smooth(self, params: ESRNNParams, logs: Array, mask: Array, series: Array) -> Smoothed:
        """Level and seasons of the past.

        Args:
          params: what `init` returned.
          logs: logarithms of the past, `[B, L]`.
          mask: bool `[B, L]`.
          series: int `[B]`, the numbers of the series.
        """
        rates = params.smoothing
        first = jnp.argmax(mask, axis=1)[:, None]
        starts = []
        for measured, learnt in zip(
            first_seasons(logs, mask, self.seasons), rates.starts, strict=True
        ):
            turned = (jnp.arange(measured.shape[1]) - first) % measured.shape[1]
            starts.append(measured + jnp.take_along_axis(learnt[series], turned, axis=1))
        return smooth(
            jnp.exp(logs),
            mask,
            jax.nn.sigmoid(rates.level[series]),
            tuple(jax.nn.sigmoid(rate[series]) for rate in rates.seasons),
            tuple(starts),
        )

    def _places(self) -> Array:
        """The last steps of the windows, `[P]`."""
        return jnp.arange((self.context - 1) % self.stride, self.context, self.stride)

    def _ahead(self, places: Array) -> Array:
        """The steps that follow some places, `[P, H]`."""
        return places[:, None] + 1 + jnp.arange(self.horizon)

    def _scale(self, smoothed: Smoothed, places: Array) -> Array:
        """Logarithms of what forecasts from some places are multiplied with, `[B, P, H]`.

        Beyond one season the factors are those of the season before: nothing of later steps.
        """
        total = smoothed.level[:, places, None]
        for length, season in zip(self.seasons, smoothed.seasons, strict=True):
            ahead = places[:, None] + 1 + jnp.arange(self.horizon) % length
            total = total + season[:, ahead]
        return total

    def _outputs(self, params: ESRNNParams, logs: Array, mask: Array, smoothed: Smoothed) -> Array:
        """What the network puts out after each window, `[B, P, H]`."""
        places = self._places()
        plain = logs - sum(season[:, : self.context] for season in smoothed.seasons)
        steps = places[:, None] + jnp.arange(1 - self.width, 1)  # [P, W]
        there = mask[:, jnp.maximum(steps, 0)] & (steps >= 0)
        xs = plain[:, jnp.maximum(steps, 0)] - smoothed.level[:, places, None]
        changes = self._changes(logs, mask)[:, None, None]
        xs = jnp.swapaxes(jnp.where(there, xs / changes, 0), 0, 1)  # [P, B, W]
        begun = started(mask[..., None])[:, places].T
        for number, (cell, dilation) in enumerate(zip(self.cells, self.dilations, strict=True)):
            ys = dilated(cell, params.cells[number], xs, dilation, begun, self.strategy)
            xs = ys + xs if number else ys
        ys = linear(jnp.tanh(linear(xs, *params.hidden)), *params.output)
        return changes * jnp.swapaxes(ys, 0, 1)

    def _changes(self, logs: Array, mask: Array) -> Array:
        """v, the mean size of the changes from one season to the next, `[B]`; 1 without any."""
        season = min(self.seasons, default=1)
        pairs = mask[:, season:] & mask[:, :-season]
        changes = jnp.where(pairs, jnp.abs(logs[:, season:] - logs[:, :-season]), 0)
        count = jnp.sum(pairs, axis=1)
        mean = jnp.sum(changes, axis=1) / jnp.maximum(count, 1)
        return jnp.where(count > 0, jnp.maximum(mean, LEAST_CHANGE), 1)


def dilated(
    cell: Cell, params: PyTree, xs: Array, dilation: int, mask: Array, strategy: Strategy
) -> Array:
    """Outputs of a cell whose carry goes to the d-th next step, as d sequences side by side.

    Args:
      cell: what to run.
      params: its parameters.
      xs: `[T, B, F]`.
      dilation: d.
      mask: bool `[T, B]`.
      strategy: how to run it.

    Returns:
      `[T, B, H]`.

    References: Chang et al. 2017, "Dilated recurrent neural networks".
    """
    length, batch = mask.shape
    fill = -length % dilation

    def fold(a: Array) -> Array:  # [T, B, ...] to [T / d, d, B, ...]
        a = jnp.pad(a, ((fill, 0), *((0, 0),) * (a.ndim - 1)))
        return a.reshape(-1, dilation, batch, *a.shape[2:])

    _, ys = unroll(cell, params, fold(xs), mask=fold(mask), strategy=strategy)
    return ys.reshape(-1, batch, ys.shape[-1])[fill:]


def _logarithms(values: Array, mask: Array) -> tuple[Array, Array]:
    """Logarithms of one channel, `[B, T, 1]` to `[B, T]`, and which there are."""
    values, mask = values[..., 0], mask[..., 0]
    mask = mask & (jnp.where(mask, values, 0) > 0)
    return jnp.log(jnp.where(mask, values, 1)), mask
