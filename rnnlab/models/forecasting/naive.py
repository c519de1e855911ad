"""Forecasts without parameters, which every model has to beat."""

import dataclasses

import jax.numpy as jnp

from rnnlab.core.types import Array, Key
from rnnlab.models.forecasting.base import Forecaster, Window


@dataclasses.dataclass(frozen=True)
class Naive(Forecaster):
    """The last observed value, for the whole horizon; 0 where none was observed.

        y_{L+h} = y_{t*},    t* the last observed step

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from rnnlab.models.forecasting.naive import Naive, window_of
        >>> model = Naive(context=3, horizon=2)
        >>> model.forecast(model.init(jax.random.key(0)), window_of([1.0, 5.0, jnp.nan], 2)).ravel()
        Array([5., 5.], dtype=float32)

    References: Hyndman & Athanasopoulos 2021, "Forecasting: principles and practice", 5.2.
    """

    def init(self, key: Key) -> tuple[()]:
        """No parameters."""
        return ()

    def forecast(self, params: tuple[()], window: Window) -> Array:
        last, _ = last_observed(window.past, window.past_mask)
        return jnp.repeat(last[:, None], self.horizon, axis=1)


@dataclasses.dataclass(frozen=True)
class SeasonalNaive(Naive):
    """The last observed value of the same phase of the season; `Naive` where there is none.

        y_{L+h} = y_{L+h-kS},    k the least number for which that is in the past and observed

    Attributes:
      season: S, steps after which the series repeats itself; 1 is `Naive`.

    References: Hyndman & Athanasopoulos 2021, "Forecasting: principles and practice", 5.2.
    """

    season: int = 1

    def __post_init__(self):
        super().__post_init__()
        if self.season < 1:
            raise ValueError(f"SeasonalNaive: expected season of 1 or more, got {self.season}.")

    def forecast(self, params: tuple[()], window: Window) -> Array:
        season = min(self.season, window.past.shape[1])
        fill = -window.past.shape[1] % season  # on the left, so that a season ends at the origin
        padding = ((0, 0), (fill, 0), (0, 0))
        batch, _, channels = window.past.shape
        past, mask = (
            jnp.pad(x, padding).reshape(batch, -1, season, channels)
            for x in (window.past, window.past_mask)
        )
        latest, known = last_observed(past, mask)  # [B, S, C]
        latest = jnp.where(known, latest, super().forecast(params, window)[:, :1])
        return jnp.take(latest, jnp.arange(self.horizon) % season, axis=1)


@dataclasses.dataclass(frozen=True)
class Drift(Naive):
    """The line through the first and the last observed value.

        y_{L+h} = y_b + (t_{L+h} - b) (y_b - y_a) / (b - a),    a, b the observed steps at the ends

    References: Hyndman & Athanasopoulos 2021, "Forecasting: principles and practice", 5.2.
    """

    def forecast(self, params: tuple[()], window: Window) -> Array:
        length = window.past.shape[1]
        last, _ = last_observed(window.past, window.past_mask)
        first, _ = last_observed(window.past[:, ::-1], window.past_mask[:, ::-1])
        start = jnp.argmax(window.past_mask, axis=1)
        end = length - 1 - jnp.argmax(window.past_mask[:, ::-1], axis=1)
        slope = (last - first) / jnp.maximum(end - start, 1)
        steps = length + jnp.arange(self.horizon)[:, None] - end[:, None]  # [B, H, C]
        return last[:, None] + steps * slope[:, None]


def last_observed(values: Array, mask: Array) -> tuple[Array, Array]:
    """The last observed value along axis 1.

    Args:
      values: `[B, L, ...]`.
      mask: bool `[B, L, ...]`, True where observed.

    Returns:
      The values `[B, ...]`, 0 where none was observed, and a bool `[B, ...]`, whether one was.
    """
    last = values.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1, keepdims=True)
    known = jnp.any(mask, axis=1)
    return jnp.where(known, jnp.take_along_axis(values, last, axis=1)[:, 0], 0), known


def window_of(past, horizon: int) -> Window:
    """A batch of one series with one channel and no covariates, NaN where missing.

    Args:
      past: L numbers.
      horizon: H.
    """
    values = jnp.asarray(past, jnp.float32)[None, :, None]
    future = jnp.zeros((1, horizon, 1))
    return Window(
        past=jnp.nan_to_num(values),
        past_mask=~jnp.isnan(values),
        past_covariates=jnp.zeros((1, values.shape[1], 0)),
        future_covariates=jnp.zeros((1, horizon, 0)),
        future=future,
        future_mask=jnp.ones(future.shape, bool),
        series=jnp.zeros(1, jnp.int32),
    )
