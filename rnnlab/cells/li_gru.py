"""The light gated recurrent unit: a GRU without a reset gate, with a relu."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import gates, linear, wide_dtype
from rnnlab.core.types import Array, Key


class LiGRUParams(NamedTuple):
    """Parameters of `LiGRU`."""

    kernel: Array  # [F, 2H], z, n
    recurrent_kernel: Array  # [H, 2H]
    bias: Array  # [2H]


@dataclasses.dataclass(frozen=True)
class LiGRU(GatedCell[LiGRUParams, Array]):
    """Light gated recurrent unit.

        z = sigmoid(x_t W_z + h_{t-1} U_z + b_z)
        n = relu(x_t W_n + h_{t-1} U_n + b_n)
        h_t = (1 - z) * n + z * h_{t-1},    y_t = h_t

    Args:
      features: H.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.LiGRU(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Ravanelli et al. 2018, "Light gated recurrent units for speech recognition".
    Deviation: the paper's batch norm of x W, which also keeps the relu in bounds, is left out and
    a bias stands in its place; clip the gradients.
    """

    features: int

    def __post_init__(self):
        check_size("LiGRU", features=self.features)

    def init(self, key: Key, in_features: int) -> LiGRUParams:
        key_in, key_recurrent = jax.random.split(key)
        return LiGRUParams(
            initializers.input_kernel(key_in, in_features, 2 * self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 2),
            jnp.zeros(2 * self.features, jnp.float32),
        )

    def initial_carry(self, params: LiGRUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: LiGRUParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: LiGRUParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: LiGRUParams, carry: Array, z: Array, u: Array) -> Array:
        s_z, s_n = jnp.split(z + u, 2, axis=-1)
        (update,) = gates(s_z, ("sigmoid",))
        return (1 - update) * jax.nn.relu(s_n) + update * carry

    def readout(self, params: LiGRUParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
