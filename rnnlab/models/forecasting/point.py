"""What forecasters of one number a step share: the loss, and what a window says."""

import abc
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax

from rnnlab.core.types import Array, Key, PyTree
from rnnlab.models.forecasting.base import Forecaster, Window

LOSSES: dict[str, Callable[[Array], Array]] = {
    "squared": jnp.square,
    "absolute": jnp.abs,
    "huber": optax.losses.huber_loss,
}
"""What an error costs, by name."""


class Pairs(NamedTuple):
    """What training compares: `[B, H, C]`, or other axes between batch and channels."""

    predictions: Array
    targets: Array
    mask: Array  # bool, False where there is no truth


@dataclasses.dataclass(frozen=True)
class PointForecaster(Forecaster):
    """Learns to forecast one number for each value to come.

    A subclass defines `init` and `predict`, and `pairs` where training compares something else
    than the forecast with the future. Both see a window that is 0 wherever nothing was observed,
    whatever stood there.

    Attributes:
      loss: "squared", "absolute" or "huber": what an error costs.
      others: see `Forecaster`.
    """

    loss: str = "squared"

    def __post_init__(self):
        super().__post_init__()
        if self.loss not in LOSSES:
            raise ValueError(
                f"{type(self).__name__}: expected a loss of {list(LOSSES)}, got {self.loss!r}."
            )

    @abc.abstractmethod
    def predict(self, params: PyTree, window: Window, key: Key | None = None) -> Array:
        """The forecast `[B, H, C]`; `key` is consumed by dropout, None evaluates without any."""

    def pairs(self, params: PyTree, window: Window, key: Key | None = None) -> Pairs:
        """What training compares with what; `key` as in `predict`."""
        return Pairs(self.predict(params, window, key), window.future, window.future_mask)

    def forecast(self, params: PyTree, window: Window) -> Array:
        return self.predict(params, clean_past(window))

    def losses(self, params: PyTree, window: Window, key: Key | None = None) -> tuple[Array, Array]:
        future = jnp.where(window.future_mask, window.future, 0)
        window = clean_past(window)._replace(future=future)
        predictions, targets, mask = self.pairs(params, window, key)
        errors = jnp.where(mask, predictions - targets, 0)
        return LOSSES[self.loss](errors), mask.astype(errors.dtype)


def clean_past(window: Window) -> Window:
    """The same window, its past 0 wherever nothing was observed, whatever stood there."""
    return window._replace(past=jnp.where(window.past_mask, window.past, 0))


def started(mask: Array) -> Array:
    """Steps from the first observation on, of any channel: bool `[B, L]` of `[B, L, C]`.

    Example:
        >>> import jax.numpy as jnp
        >>> started(jnp.array([[[False], [True], [False]]]))[0].tolist()
        [False, True, True]
    """
    return jnp.cumsum(jnp.any(mask, axis=-1), axis=1) > 0


def step_features(window: Window) -> Array:
    """What a model of all channels reads at each step of the past: `[B, L, 2C + K]`.

    Values, 0 where missing; 1 where they were observed and 0 elsewhere; covariates.
    """
    observed = window.past_mask.astype(window.past.dtype)
    return jnp.concatenate([window.past, observed, window.past_covariates], axis=-1)
