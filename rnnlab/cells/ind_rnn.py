"""The independently recurrent network: every unit sees its own past alone."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import Activation, activation_function, linear, wide_dtype
from rnnlab.core.types import Array, Key


class IndRNNParams(NamedTuple):
    """Parameters of `IndRNN`."""

    kernel: Array  # [F, H]
    recurrent_kernel: Array  # [H], a diagonal
    bias: Array  # [H]


@dataclasses.dataclass(frozen=True)
class IndRNN(GatedCell[IndRNNParams, Array]):
    """Independently recurrent network.

        h_t = activation(x_t W + h_{t-1} * u + b),    y_t = h_t

    Args:
      features: H.
      activation: "relu", "tanh", another name of an activation, or a module-level function.

    Raises:
      ValueError: the name of the activation is unknown.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.IndRNN(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Li et al. 2018, "Independently recurrent neural network (IndRNN)". u starts uniform
    in [0, 1], the paper's range for a relu over any length. Deviation: u is not clipped to that
    range while it is trained.
    """

    features: int
    activation: Activation = "relu"

    def __post_init__(self):
        check_size("IndRNN", features=self.features)
        activation_function(self.activation)

    def init(self, key: Key, in_features: int) -> IndRNNParams:
        key_in, key_recurrent = jax.random.split(key)
        return IndRNNParams(
            initializers.input_kernel(key_in, in_features, self.features),
            jax.random.uniform(key_recurrent, (self.features,), jnp.float32),
            jnp.zeros(self.features, jnp.float32),
        )

    def initial_carry(self, params: IndRNNParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: IndRNNParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: IndRNNParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: IndRNNParams, carry: Array, z: Array, u: Array) -> Array:
        return activation_function(self.activation)(z + u)

    def readout(self, params: IndRNNParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
