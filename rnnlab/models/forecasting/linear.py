"""The linear baselines: one matrix from the past to the future, the same for all channels."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.checks import check_size
from rnnlab.core.types import Array, Key
from rnnlab.models.forecasting.base import Window
from rnnlab.models.forecasting.naive import last_observed
from rnnlab.models.forecasting.point import PointForecaster


class LinearParams(NamedTuple):
    """A map from the steps of the past to those of the future."""

    kernel: Array  # [L, H]
    bias: Array  # [H]


@dataclasses.dataclass(frozen=True)
class NLinear(PointForecaster):
    """A linear map of the past, taken relative to its last value.

        y = (x - x_L) @ kernel + bias + x_L,    channel by channel

    The last value is the last that was observed; missing ones count as equal to it. Covariates
    are not read.

    Attributes: see `PointForecaster`.

    Example:
        >>> import jax
        >>> from rnnlab.models.forecasting import NLinear
        >>> model = NLinear(context=336, horizon=96, channels=7)
        >>> model.init(jax.random.key(0)).kernel.shape
        (336, 96)

    References: Zeng et al. 2023, "Are transformers effective for time series forecasting?", where
    the start is uniform as here and nothing is missing.
    """

    def init(self, key: Key) -> LinearParams:
        """Draws float32 parameters."""
        return _draw(key, self.context, self.horizon)

    def predict(self, params: LinearParams, window: Window, key: Key | None = None) -> Array:
        last = last_observed(window.past, window.past_mask)[0][:, None]
        past = jnp.where(window.past_mask, window.past - last, 0)
        return _over_time(params, past) + last


class DLinearParams(NamedTuple):
    """The parameters of `DLinear`."""

    trend: LinearParams
    rest: LinearParams


@dataclasses.dataclass(frozen=True)
class DLinear(PointForecaster):
    """A linear map of the moving average of the past and another of the rest.

        trend = moving average of x,    y = trend @ A + a + (x - trend) @ B + b

    Missing values enter no average, and a window of `width` steps that has none but missing ones
    counts as 0, as does the rest of a missing value. Covariates are not read.

    Attributes:
      width: steps of the moving average, odd; the ends are continued by their values.
      others: see `PointForecaster`.

    Raises:
      ValueError: a width that is even.

    Example:
        >>> import jax
        >>> from rnnlab.models.forecasting import DLinear
        >>> model = DLinear(context=336, horizon=96, channels=7)
        >>> model.init(jax.random.key(0)).trend.kernel.shape
        (336, 96)

    References: Zeng et al. 2023, "Are transformers effective for time series forecasting?", where
    nothing is missing.
    """

    width: int = 25

    def __post_init__(self):
        super().__post_init__()
        check_size("DLinear", width=self.width)
        if self.width % 2 == 0:
            raise ValueError(f"DLinear: expected an odd width, got {self.width}.")

    def init(self, key: Key) -> DLinearParams:
        """Draws float32 parameters."""
        keys = jax.random.split(key)
        return DLinearParams(*(_draw(k, self.context, self.horizon) for k in keys))

    def predict(self, params: DLinearParams, window: Window, key: Key | None = None) -> Array:
        trend = moving_average(window.past, window.past_mask, self.width)
        rest = jnp.where(window.past_mask, window.past - trend, 0)
        return _over_time(params.trend, trend) + _over_time(params.rest, rest)


def moving_average(past: Array, mask: Array, width: int) -> Array:
    """The mean of what was observed within `width` steps around each step.

    Args:
      past: `[B, L, C]`, 0 where missing.
      mask: bool `[B, L, C]`.
      width: odd; the first and the last step are repeated beyond the ends.

    Returns:
      `[B, L, C]`, 0 where nothing was observed.
    """
    around = [(0, 0), (width // 2, width // 2), (0, 0)]

    def total(a: Array) -> Array:
        padded = jnp.pad(a, around, mode="edge")
        return jax.lax.reduce_window(
            padded, jnp.zeros((), a.dtype), jax.lax.add, (1, width, 1), (1, 1, 1), "VALID"
        )

    return total(past) / jnp.maximum(total(mask.astype(past.dtype)), 1)


def _draw(key: Key, context: int, horizon: int) -> LinearParams:
    """Uniform within 1 / sqrt(L), as in the authors' code."""
    bound = context**-0.5
    kernel_key, bias_key = jax.random.split(key)
    return LinearParams(
        jax.random.uniform(kernel_key, (context, horizon), minval=-bound, maxval=bound),
        jax.random.uniform(bias_key, (horizon,), minval=-bound, maxval=bound),
    )


def _over_time(params: LinearParams, past: Array) -> Array:
    """`[B, L, C]` to `[B, H, C]`."""
    return jnp.einsum("blc,lh->bhc", past, params.kernel) + params.bias[:, None]
