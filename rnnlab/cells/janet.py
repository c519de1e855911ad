"""An LSTM with just another network: the forget gate alone."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import gates, linear, wide_dtype
from rnnlab.core.types import Array, Key


class JANETParams(NamedTuple):
    """Parameters of `JANET`."""

    kernel: Array  # [F, 2H], f, g
    recurrent_kernel: Array  # [H, 2H]
    bias: Array  # [2H]


@dataclasses.dataclass(frozen=True)
class JANET(GatedCell[JANETParams, Array]):
    """LSTM reduced to its forget gate.

        s = x_t W_f + h_{t-1} U_f + b_f,    g = tanh(x_t W_g + h_{t-1} U_g + b_g)
        h_t = sigmoid(s) * h_{t-1} + (1 - sigmoid(s - beta)) * g,    y_t = h_t

    Args:
      features: H.
      beta: how much more is taken in than is forgotten.
      forget_bias: initial bias of f.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.JANET(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: van der Westhuizen & Lasenby 2018, "The unreasonable effectiveness of the forget
    gate". Deviation: the forget bias starts at a constant; the paper's chrono initialiser, the
    logarithm of a uniform draw from 1 to the longest length, needs that length.
    """

    features: int
    beta: float = 1.0
    forget_bias: float = 1.0

    def __post_init__(self):
        check_size("JANET", features=self.features)

    def init(self, key: Key, in_features: int) -> JANETParams:
        key_in, key_recurrent = jax.random.split(key)
        return JANETParams(
            initializers.input_kernel(key_in, in_features, 2 * self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 2),
            initializers.gate_bias(self.features, (self.forget_bias, 0.0)),
        )

    def initial_carry(self, params: JANETParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: JANETParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: JANETParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: JANETParams, carry: Array, z: Array, u: Array) -> Array:
        s_f, s_g = jnp.split(z + u, 2, axis=-1)
        # 1 - sigmoid(s - beta) = sigmoid(beta - s), which keeps its precision at large s.
        all_three = jnp.concatenate([s_f, self.beta - s_f, s_g], axis=-1)
        keep, write, new = gates(all_three, ("sigmoid", "sigmoid", "tanh"))
        return keep * carry + write * new

    def readout(self, params: JANETParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
