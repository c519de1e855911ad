"""The update gate recurrent network: an Elman network with a gate between old and new."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import gates, linear, wide_dtype
from rnnlab.core.types import Array, Key


class UGRNNParams(NamedTuple):
    """Parameters of `UGRNN`."""

    kernel: Array  # [F, 2H], z, n
    recurrent_kernel: Array  # [H, 2H]
    bias: Array  # [2H]


@dataclasses.dataclass(frozen=True)
class UGRNN(GatedCell[UGRNNParams, Array]):
    """Update gate recurrent network.

        z = sigmoid(x_t W_z + h_{t-1} U_z + b_z)
        n = tanh(x_t W_n + h_{t-1} U_n + b_n)
        h_t = (1 - z) * n + z * h_{t-1},    y_t = h_t

    Args:
      features: H.
      forget_bias: initial bias of z, which keeps the old state.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.UGRNN(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Collins et al. 2017, "Capacity and trainability in recurrent neural networks", where
    z is g, n is c, and the forget bias is a constant beside the trained bias of the gate; here the
    bias starts from it.
    """

    features: int
    forget_bias: float = 1.0

    def __post_init__(self):
        check_size("UGRNN", features=self.features)

    def init(self, key: Key, in_features: int) -> UGRNNParams:
        key_in, key_recurrent = jax.random.split(key)
        return UGRNNParams(
            initializers.input_kernel(key_in, in_features, 2 * self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 2),
            initializers.gate_bias(self.features, (self.forget_bias, 0.0)),
        )

    def initial_carry(self, params: UGRNNParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: UGRNNParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: UGRNNParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: UGRNNParams, carry: Array, z: Array, u: Array) -> Array:
        update, new = gates(z + u, ("sigmoid", "tanh"))
        return (1 - update) * new + update * carry

    def readout(self, params: UGRNNParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
