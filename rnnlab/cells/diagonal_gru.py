"""A gated recurrent unit in which every unit sees its own past alone."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import linear, reset_after_update, wide_dtype
from rnnlab.core.types import Array, Key


class DiagonalGRUParams(NamedTuple):
    """Parameters of `DiagonalGRU`."""

    kernel: Array  # [F, 3H], gates r, z, n
    recurrent_kernel: Array  # [3H], the diagonals of the gates
    bias: Array  # [3H]


@dataclasses.dataclass(frozen=True)
class DiagonalGRU(GatedCell[DiagonalGRUParams, Array]):
    """Gated recurrent unit with diagonal recurrent kernels.

        r, z = sigmoid(x_t W + h_{t-1} * u + b), gate by gate
        n = tanh(x_t W_n + b_n + r * h_{t-1} * u_n)
        h_t = (1 - z) * n + z * h_{t-1},    y_t = h_t

    The Jacobian of a step is diagonal, which is what a parallel Newton solve over time asks for.
    With diagonals it does not matter whether r acts before or after the product.

    Args:
      features: H.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.DiagonalGRU(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Danieli et al. 2025, "ParaRNN: unlocking parallel training of nonlinear RNNs for
    large language models" (ParaGRU). Deviations: z keeps the old state, as in `GRU`; the input
    kernel is dense, not block-diagonal in heads; the diagonals start uniform in [-1, 1].
    """

    features: int

    def __post_init__(self):
        check_size("DiagonalGRU", features=self.features)

    def init(self, key: Key, in_features: int) -> DiagonalGRUParams:
        key_in, key_recurrent = jax.random.split(key)
        return DiagonalGRUParams(
            initializers.input_kernel(key_in, in_features, 3 * self.features),
            jax.random.uniform(key_recurrent, (3 * self.features,), jnp.float32, -1, 1),
            jnp.zeros(3 * self.features, jnp.float32),
        )

    def initial_carry(self, params: DiagonalGRUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: DiagonalGRUParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: DiagonalGRUParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: DiagonalGRUParams, carry: Array, z: Array, u: Array) -> Array:
        return reset_after_update(carry, z, u)

    def readout(self, params: DiagonalGRUParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
