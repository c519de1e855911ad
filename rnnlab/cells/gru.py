"""Gated recurrent unit, the reset gate applied after the recurrent matmul."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import linear, reset_after_update, wide_dtype
from rnnlab.core.types import Array, Key


class GRUParams(NamedTuple):
    """Parameters of `GRU`."""

    kernel: Array  # [F, 3H], gates r, z, n
    recurrent_kernel: Array  # [H, 3H]
    bias: Array  # [3H]
    recurrent_bias: Array  # [H], of n, inside the reset product


@dataclasses.dataclass(frozen=True)
class GRU(GatedCell[GRUParams, Array]):
    """Gated recurrent unit in the form of cuDNN and PyTorch (reset after the matmul).

        r, z = sigmoid(x_t W + h_{t-1} U + b), gate by gate
        n = tanh(x_t W_n + b_n + r * (h_{t-1} U_n + b_u))
        h_t = (1 - z) * n + z * h_{t-1},    y_t = h_t

    Args:
      features: H.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.GRU(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References:
      Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder"; z keeps the
      old state, as there. Deviations: the reset gate multiplies h U and its bias, not h, so that
      one matmul serves all gates; there are biases. `ResetBeforeGRU` is the paper's own form.
    """

    features: int

    def __post_init__(self):
        check_size("GRU", features=self.features)

    def init(self, key: Key, in_features: int) -> GRUParams:
        key_in, key_recurrent = jax.random.split(key)
        return GRUParams(
            initializers.input_kernel(key_in, in_features, 3 * self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 3),
            jnp.zeros(3 * self.features, jnp.float32),
            jnp.zeros(self.features, jnp.float32),
        )

    def initial_carry(self, params: GRUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: GRUParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: GRUParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: GRUParams, carry: Array, z: Array, u: Array) -> Array:
        return reset_after_update(carry, z, u, params.recurrent_bias)

    def readout(self, params: GRUParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
