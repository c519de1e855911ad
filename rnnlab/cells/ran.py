"""The recurrent additive network: a gated sum of linear functions of the inputs."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import Activation, activation_function, gates, linear, wide_dtype, widened
from rnnlab.core.types import Array, Key


class RANParams(NamedTuple):
    """Parameters of `RAN`."""

    kernel: Array  # [F, 3H], i, f, g
    recurrent_kernel: Array  # [H, 2H], i, f
    bias: Array  # [2H]


class RANInput(NamedTuple):
    """z of `RAN`."""

    gates: Array  # [..., 2H]
    content: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class RAN(GatedCell[RANParams, Array]):
    """Recurrent additive network; its carry is c, of which h is a function.

        i, f = sigmoid(x_t W + h_{t-1} U + b), gate by gate
        c_t = f * c_{t-1} + i * (x_t W_g),    h_t = activation(c_t),    y_t = h_t

    Args:
      features: H.
      activation: "tanh", "identity", another name of an activation, or a module-level function.
      forget_bias: initial bias of f.

    Raises:
      ValueError: the name of the activation is unknown.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.RAN(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> c, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Lee et al. 2017, "Recurrent additive networks", whose two choices of g are "tanh"
    and "identity". The forget bias starts at 1, as that of `LSTM`.
    """

    features: int
    activation: Activation = "tanh"
    forget_bias: float = 1.0

    def __post_init__(self):
        check_size("RAN", features=self.features)
        activation_function(self.activation)

    def init(self, key: Key, in_features: int) -> RANParams:
        key_in, key_recurrent = jax.random.split(key)
        return RANParams(
            initializers.input_kernel(key_in, in_features, 3 * self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 2),
            initializers.gate_bias(self.features, (0.0, self.forget_bias)),
        )

    def initial_carry(self, params: RANParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: RANParams, x: Array) -> RANInput:
        both, content = jnp.split(linear(x, params.kernel), [2 * self.features], axis=-1)
        return RANInput(both + widened(params.bias, both), content)

    def recurrent_kernel(self, params: RANParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: Array) -> Array:
        return activation_function(self.activation)(carry)

    def gate(self, params: RANParams, carry: Array, z: RANInput, u: Array) -> Array:
        i, f = gates(z.gates + u, ("sigmoid", "sigmoid"))
        return f * carry + i * z.content

    def readout(self, params: RANParams, carry: Array, z: RANInput) -> Array:
        return self.hidden(carry).astype(params.kernel.dtype)
