"""The simple recurrent network."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import Activation, activation_function, linear, wide_dtype
from rnnlab.core.types import Array, Key


class ElmanParams(NamedTuple):
    """Parameters of `Elman`."""

    kernel: Array  # [F, H]
    recurrent_kernel: Array  # [H, H]
    bias: Array  # [H]


@dataclasses.dataclass(frozen=True)
class Elman(GatedCell[ElmanParams, Array]):
    """Elman network: one activation of input and last output.

        h_t = activation(x_t W + h_{t-1} U + b),    y_t = h_t

    Args:
      features: H.
      activation: "tanh", "relu", "leaky_relu", "sigmoid", "identity" or a module-level function.

    Raises:
      ValueError: the name of the activation is unknown.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.Elman(16, activation="relu")
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Elman 1990, "Finding structure in time". Its units are logistic; tanh is the default
    here, and the recurrent kernel starts orthogonal.
    """

    features: int
    activation: Activation = "tanh"

    def __post_init__(self):
        check_size("Elman", features=self.features)
        activation_function(self.activation)

    def init(self, key: Key, in_features: int) -> ElmanParams:
        key_in, key_recurrent = jax.random.split(key)
        return ElmanParams(
            initializers.input_kernel(key_in, in_features, self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 1),
            jnp.zeros(self.features, jnp.float32),
        )

    def initial_carry(self, params: ElmanParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: ElmanParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: ElmanParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: ElmanParams, carry: Array, z: Array, u: Array) -> Array:
        return activation_function(self.activation)(z + u)

    def readout(self, params: ElmanParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
