"""A forecaster around another."""

import dataclasses

import jax.numpy as jnp

from rnnlab.core.checks import check_size
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.models.forecasting.base import Window
from rnnlab.models.forecasting.point import Pairs, PointForecaster


@dataclasses.dataclass(frozen=True)
class Around(PointForecaster):
    """Has the sizes and the loss of the forecaster inside.

    Attributes:
      inner: what is wrapped.

    Raises:
      TypeError: what is wrapped is no `PointForecaster`.
    """

    context: int = dataclasses.field(init=False)
    horizon: int = dataclasses.field(init=False)
    channels: int = dataclasses.field(init=False)
    covariates: int = dataclasses.field(init=False)
    loss: str = dataclasses.field(init=False)
    inner: PointForecaster

    def __post_init__(self):
        owner = type(self).__name__
        if not isinstance(self.inner, PointForecaster):
            raise TypeError(
                f"{owner}: expected a forecaster of one number a step, got {self.inner!r}. A"
                " probabilistic one scales its series itself."
            )
        for name in ("context", "horizon", "channels", "covariates", "loss"):
            object.__setattr__(self, name, getattr(self.inner, name))
        super().__post_init__()


@dataclasses.dataclass(frozen=True)
class ChannelShared(Around):
    """One forecaster of a single channel, with the same parameters for each of several.

        y_c = inner(x_c),    c = 1, ..., C

    Attributes:
      inner: forecasts one channel.
      count: C, the channels.

    Raises:
      ValueError: the forecaster inside has other than one channel, or a count below 1.

    Example:
        >>> from rnnlab.models.forecasting import ChannelShared, MLP
        >>> ChannelShared(MLP(336, 96, features=(64,)), 7).channels
        7

    References: Nie et al. 2023, "A time series is worth 64 words", for channel independence.
    """

    count: int

    def __post_init__(self):
        super().__post_init__()
        check_size("ChannelShared", count=self.count)
        if self.inner.channels != 1:
            raise ValueError(
                "ChannelShared: expected a forecaster of 1 channel, got one of"
                f" {self.inner.channels}. Make it with channels=1."
            )
        object.__setattr__(self, "channels", self.count)

    def init(self, key: Key) -> PyTree:
        """Draws float32 parameters, those of the forecaster inside."""
        return self.inner.init(key)

    def predict(self, params: PyTree, window: Window, key: Key | None = None) -> Array:
        return self._join(self.inner.predict(params, self._split(window), key))

    def pairs(self, params: PyTree, window: Window, key: Key | None = None) -> Pairs:
        return Pairs(*map(self._join, self.inner.pairs(params, self._split(window), key)))

    def _split(self, window: Window) -> Window:
        """`[B, T, C]` as `[B * C, T, 1]`; the series of a channel has a number of its own."""

        def split(values: Array) -> Array:
            return jnp.swapaxes(values, 1, 2).reshape(-1, values.shape[1], 1)

        def repeat(covariates: Array) -> Array:
            return jnp.repeat(covariates, self.channels, axis=0)

        numbers = window.series[:, None] * self.channels + jnp.arange(self.channels)
        return Window(
            past=split(window.past),
            past_mask=split(window.past_mask),
            past_covariates=repeat(window.past_covariates),
            future_covariates=repeat(window.future_covariates),
            future=split(window.future),
            future_mask=split(window.future_mask),
            series=numbers.reshape(-1),
        )

    def _join(self, values: Array) -> Array:
        """`[B * C, T, 1]` as `[B, T, C]`."""
        return jnp.swapaxes(values.reshape(-1, self.channels, values.shape[1]), 1, 2)
