"""Reversible instance normalisation: a forecaster sees every window on one scale."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from rnnlab.core.types import Array, Key, PyTree
from rnnlab.models.forecasting.around import Around
from rnnlab.models.forecasting.base import Window
from rnnlab.models.forecasting.point import Pairs


class InstanceNormParams(NamedTuple):
    """The parameters of an `InstanceNorm`."""

    scale: Array  # [C]
    bias: Array  # [C]
    inner: PyTree


class Statistics(NamedTuple):
    """Of what was observed in each channel of a window, `[B, 1, C]`."""

    mean: Array
    deviation: Array


@dataclasses.dataclass(frozen=True)
class InstanceNorm(Around):
    """Normalises each channel of each window by its own past, and undoes it on the forecast.

        u = (x - mean) / deviation * scale + bias
        y = (inner(u) - bias) / scale * deviation + mean

    Mean and deviation are those of the past that was observed; a channel of which nothing was
    counts as 0 with the least deviation. Missing values stay 0. Losses are those on the scale of x.

    Attributes:
      inner: what reads u.
      epsilon: added to the variance.

    Example:
        >>> import jax
        >>> from rnnlab.models.forecasting import DLinear, InstanceNorm
        >>> model = InstanceNorm(DLinear(336, 96, channels=7))
        >>> model.init(jax.random.key(0)).scale.shape
        (7,)

    References: Kim et al. 2022, "Reversible instance normalization for accurate time-series
    forecasting against distribution shift", where nothing is missing. As in the authors' code a
    trace of epsilon keeps the division by `scale` finite.
    """

    epsilon: float = 1e-5

    def init(self, key: Key) -> InstanceNormParams:
        """Draws float32 parameters."""
        ones = jnp.ones(self.channels)
        return InstanceNormParams(ones, 0 * ones, self.inner.init(key))

    def predict(self, params: InstanceNormParams, window: Window, key: Key | None = None) -> Array:
        statistics = self.statistics(window)
        window = self._normalised(params, window, statistics)
        return self.undo(params, self.inner.predict(params.inner, window, key), statistics)

    def pairs(self, params: InstanceNormParams, window: Window, key: Key | None = None) -> Pairs:
        statistics = self.statistics(window)
        window = self._normalised(params, window, statistics)
        predictions, targets, mask = self.inner.pairs(params.inner, window, key)
        predictions, targets = (
            self.undo(params, values, statistics) for values in (predictions, targets)
        )
        return Pairs(predictions, targets, mask)

    def statistics(self, window: Window) -> Statistics:
        """Mean and deviation of what was observed."""
        mask = window.past_mask
        count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
        mean = jnp.sum(window.past, axis=1, keepdims=True) / count
        centred = jnp.where(mask, window.past - mean, 0)
        variance = jnp.sum(jnp.square(centred), axis=1, keepdims=True) / count
        return Statistics(mean, jnp.sqrt(variance + self.epsilon))

    def apply(self, params: InstanceNormParams, values: Array, statistics: Statistics) -> Array:
        """u of x, `[B, T, C]`."""
        normal = (values - statistics.mean) / statistics.deviation
        return normal * params.scale + params.bias

    def undo(self, params: InstanceNormParams, values: Array, statistics: Statistics) -> Array:
        """x of u, `[B, T, C]`."""
        normal = (values - params.bias) / (params.scale + self.epsilon**2)
        return normal * statistics.deviation + statistics.mean

    def _normalised(
        self, params: InstanceNormParams, window: Window, statistics: Statistics
    ) -> Window:
        past, future = (
            jnp.where(mask, self.apply(params, values, statistics), 0)
            for values, mask in (
                (window.past, window.past_mask),
                (window.future, window.future_mask),
            )
        )
        return window._replace(past=past, future=future)
