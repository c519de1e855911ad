"""The minimal long short-term memory whose gates read the input alone."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import LinearCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import linear, wide_dtype
from rnnlab.core.types import Array, Key


class MinLSTMParams(NamedTuple):
    """Parameters of `MinLSTM`."""

    kernel: Array  # [F, 3H], i, f, g
    bias: Array  # [3H]


@dataclasses.dataclass(frozen=True)
class MinLSTM(LinearCell[MinLSTMParams, Array]):
    """minLSTM: an LSTM without recurrent weights, linear in its state.

        i = sigmoid(x_t W_i + b_i),    f = sigmoid(x_t W_f + b_f),    g = x_t W_g + b_g
        h_t = f / (i + f) * h_{t-1} + i / (i + f) * g,    y_t = h_t

    Args:
      features: H.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.MinLSTM(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Associative())

    References: Feng et al. 2024, "Were RNNs all we needed?", section 3.2. f / (i + f) is computed
    as sigmoid(log f - log i), so gates that are both closed divide no zero by zero. The log-space
    form of the appendix, which makes g positive, is left out: composed steps are as stable.
    """

    features: int

    def __post_init__(self):
        check_size("MinLSTM", features=self.features)

    def init(self, key: Key, in_features: int) -> MinLSTMParams:
        return MinLSTMParams(
            initializers.input_kernel(key, in_features, 3 * self.features),
            jnp.zeros(3 * self.features, jnp.float32),
        )

    def initial_carry(self, params: MinLSTMParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: MinLSTMParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def coefficients(self, params: MinLSTMParams, z: Array) -> tuple[Array, Array]:
        i, f, new = jnp.split(z, 3, axis=-1)
        ratio = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
        return jax.nn.sigmoid(ratio), jax.nn.sigmoid(-ratio) * new

    def readout(self, params: MinLSTMParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
