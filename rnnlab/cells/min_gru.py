"""The minimal gated recurrent unit whose gates read the input alone."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import LinearCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import linear, wide_dtype
from rnnlab.core.types import Array, Key


class MinGRUParams(NamedTuple):
    """Parameters of `MinGRU`."""

    kernel: Array  # [F, 2H], z, n
    bias: Array  # [2H]


@dataclasses.dataclass(frozen=True)
class MinGRU(LinearCell[MinGRUParams, Array]):
    """minGRU: a GRU without recurrent weights, linear in its state.

        z = sigmoid(x_t W_z + b_z),    n = x_t W_n + b_n
        h_t = (1 - z) * h_{t-1} + z * n,    y_t = h_t

    Args:
      features: H.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.MinGRU(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Associative())

    References: Feng et al. 2024, "Were RNNs all we needed?", section 3.1. Here z takes in the new
    value, as in that paper, where the z of `GRU` keeps the old one. The log-space form, which
    makes n positive, is left out: composed steps are as stable.
    """

    features: int

    def __post_init__(self):
        check_size("MinGRU", features=self.features)

    def init(self, key: Key, in_features: int) -> MinGRUParams:
        return MinGRUParams(
            initializers.input_kernel(key, in_features, 2 * self.features),
            jnp.zeros(2 * self.features, jnp.float32),
        )

    def initial_carry(self, params: MinGRUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: MinGRUParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def coefficients(self, params: MinGRUParams, z: Array) -> tuple[Array, Array]:
        update, new = jnp.split(z, 2, axis=-1)
        return jax.nn.sigmoid(-update), jax.nn.sigmoid(update) * new

    def readout(self, params: MinGRUParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
