"""What a forecaster is, and what it is given.

Like every model, a forecaster is a frozen dataclass of static configuration with pure methods, its
parameters outside it. What it reads is batch-major; a missing value is 0 with a False in its mask,
so that whoever forgets the mask reads a number and not NaN.
"""

import abc
import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from rnnlab.core.types import Array, Key, PyTree


class Window(NamedTuple):
    """A batch of pieces of series, each cut at its origin into past and future."""

    past: Array  # float32 [B, L, C], 0 where missing
    past_mask: Array  # bool [B, L, C], True where observed; padding on the left is False
    past_covariates: Array  # float32 [B, L, K], known in advance: calendar, holidays; finite
    future_covariates: Array  # float32 [B, H, K]
    future: Array  # float32 [B, H, C], the truth, 0 where missing; `forecast` never reads it
    future_mask: Array  # bool [B, H, C], False where missing, and in rows that only fill up
    series: Array  # int32 [B], the number of the series


@dataclasses.dataclass(frozen=True)
class Forecaster(abc.ABC):
    """Forecasts H steps of C channels from the L before them.

    A deterministic model defines `init` and `forecast`. One that learns something else than the
    squared error of its forecast defines `losses` too, and a probabilistic one `quantiles`.

    Attributes:
      context: L, steps of the past.
      horizon: H, steps of the future.
      channels: C, values at each step.
      covariates: K, covariates at each step, known in advance.
      probabilistic: whether it has `quantiles`.
    """

    context: int
    horizon: int
    channels: int = 1
    covariates: int = 0

    probabilistic: ClassVar[bool] = False

    def __post_init__(self):
        least = {"context": 1, "horizon": 1, "channels": 1, "covariates": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(
                    f"{type(self).__name__}: expected {name} of {low} or more, got"
                    f" {getattr(self, name)}."
                )

    @abc.abstractmethod
    def init(self, key: Key) -> PyTree:
        """Draws float32 parameters; `()` where there are none."""

    @abc.abstractmethod
    def forecast(self, params: PyTree, window: Window) -> Array:
        """One number for each value to come.

        Args:
          params: what `init` returned.
          window: `future` and `future_mask` are not read.

        Returns:
          `[B, H, C]`.
        """

    def losses(self, params: PyTree, window: Window, key: Key | None = None) -> tuple[Array, Array]:
        """What training minimises: by default the squared error of the forecast.

        Args:
          params: what `init` returned.
          window: the past and the truth.
          key: consumed by what is random in training, such as dropout; None evaluates.

        Returns:
          (losses, weights) of equal shapes led by the batch; the loss of a batch is
          `sum(losses * weights) / sum(weights)`. Rows that only fill up have weight 0.
        """
        del key
        errors = self.forecast(params, window) - window.future
        weights = window.future_mask.astype(errors.dtype)
        return jnp.square(errors), weights

    def quantiles(
        self, params: PyTree, window: Window, levels: Array, key: Key, samples: int
    ) -> Array:
        """Quantiles of what is to come.

        Args:
          params: what `init` returned.
          window: `future` and `future_mask` are not read.
          levels: `[Q]`, each between 0 and 1.
          key: consumed by sampling.
          samples: paths to draw, where the model samples.

        Returns:
          `[Q, B, H, C]`, not falling along Q.

        Raises:
          TypeError: the model is not probabilistic.
        """
        raise TypeError(
            f"{type(self).__name__}: expected a probabilistic forecaster for quantiles; this one"
            " gives point forecasts alone."
        )
