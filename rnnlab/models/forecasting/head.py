"""From what a model makes of the past to every step of the future."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.initializers import input_kernel
from rnnlab.core.ops import linear
from rnnlab.core.types import Array, Key


class DenseParams(NamedTuple):
    """The parameters of one layer."""

    kernel: Array  # [F, K]
    bias: Array  # [K]


def dense(key: Key, in_features: int, features: int) -> DenseParams:
    """Draws the float32 parameters of one layer."""
    return DenseParams(input_kernel(key, in_features, features), jnp.zeros(features))


class LocalParams(NamedTuple):
    """The parameters of what reads the covariates of a step to come."""

    state: DenseParams  # [F, D]
    covariates: Array  # [K, D]
    output: DenseParams  # [D, C]


class HeadParams(NamedTuple):
    """The parameters of a `Head`."""

    direct: DenseParams  # [F, H * C]
    local: LocalParams | None  # None without covariates


@dataclasses.dataclass(frozen=True)
class Head:
    """Forecasts all steps at once: linear in the state, with a perceptron for covariates.

        y_h = f @ A_h + a_h + relu(f @ B + x_h @ X + b) @ D + d

    f is the state, x_h what is known of step h; A_h is a matrix of its own for each step, the rest
    is the same for all of them. Without covariates it is y_h = f @ A_h + a_h.

    Attributes:
      horizon: H.
      channels: C.
      covariates: K.
      features: D, of the perceptron.

    References: Wen et al. 2017, "A multi-horizon quantile recurrent forecaster", for a decoder of
    the state and of the covariates of one step, here beside the linear map.
    """

    horizon: int
    channels: int
    covariates: int
    features: int = 32

    def init(self, key: Key, in_features: int) -> HeadParams:
        """Draws float32 parameters."""
        keys = jax.random.split(key, 4)
        direct = dense(keys[0], in_features, self.horizon * self.channels)
        if not self.covariates:
            return HeadParams(direct, None)
        local = LocalParams(
            dense(keys[1], in_features, self.features),
            input_kernel(keys[2], self.covariates, self.features),
            dense(keys[3], self.features, self.channels),
        )
        return HeadParams(direct, local)

    def apply(self, params: HeadParams, state: Array, covariates: Array) -> Array:
        """The forecast `[B, H, C]` from a state `[B, F]` and covariates `[B, H, K]`."""
        ys = linear(state, *params.direct).reshape(-1, self.horizon, self.channels)
        if params.local is None:
            return ys
        hidden = linear(state, *params.local.state)[:, None]
        hidden = jax.nn.relu(hidden + linear(covariates, params.local.covariates))
        return ys + linear(hidden, *params.local.output)
