"""Gated recurrent unit as first published, the reset gate applied before the recurrent matmul."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import kernel_product, linear, reset_before_update, wide_dtype
from rnnlab.core.types import Array, Key


class ResetBeforeGRUParams(NamedTuple):
    """Parameters of `ResetBeforeGRU`."""

    kernel: Array  # [F, 3H], gates r, z, n
    recurrent_kernel: Array  # [H, 3H]
    bias: Array  # [3H]


@dataclasses.dataclass(frozen=True)
class ResetBeforeGRU(Cell[ResetBeforeGRUParams, Array]):
    """Gated recurrent unit whose reset gate multiplies the state before the matmul.

        r, z = sigmoid(x_t W + h_{t-1} U + b), gate by gate
        n = tanh(x_t W_n + b_n + (r * h_{t-1}) U_n)
        h_t = (1 - z) * n + z * h_{t-1},    y_t = h_t

    Two matmuls follow one another in every step, so it is a plain `Cell`; `GRU` needs one.

    Args:
      features: H.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.ResetBeforeGRU(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder". The
    paper has no biases.
    """

    features: int

    def __post_init__(self):
        check_size("ResetBeforeGRU", features=self.features)

    def init(self, key: Key, in_features: int) -> ResetBeforeGRUParams:
        key_in, key_recurrent = jax.random.split(key)
        return ResetBeforeGRUParams(
            initializers.input_kernel(key_in, in_features, 3 * self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 3),
            jnp.zeros(3 * self.features, jnp.float32),
        )

    def initial_carry(
        self, params: ResetBeforeGRUParams, batch_shape: tuple[int, ...] = ()
    ) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: ResetBeforeGRUParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recur(self, params: ResetBeforeGRUParams, carry: Array, z: Array) -> Array:
        return reset_before_update(carry, z, params.recurrent_kernel, kernel_product)

    def readout(self, params: ResetBeforeGRUParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
