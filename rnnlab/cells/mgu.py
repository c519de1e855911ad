"""The minimal gated unit: a GRU with one gate for both of its jobs."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import gates, linear, separate_pass, wide_dtype, widened
from rnnlab.core.types import Array, Key


class MGUParams(NamedTuple):
    """Parameters of `MGU`."""

    kernel: Array  # [F, 2H], f, n
    recurrent_kernel: Array  # [H, 2H]
    bias: Array  # [2H]
    recurrent_bias: Array  # [H], of n, inside the product with f


@dataclasses.dataclass(frozen=True)
class MGU(GatedCell[MGUParams, Array]):
    """Minimal gated unit, in the form of Flax (its gate applied after the recurrent matmul).

        f = sigmoid(x_t W_f + h_{t-1} U_f + b_f)
        n = tanh(x_t W_n + b_n + f * (h_{t-1} U_n + b_u))
        h_t = (1 - f) * n + f * h_{t-1},    y_t = h_t

    Args:
      features: H.
      forget_bias: initial bias of f.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.MGU(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Zhou et al. 2016, "Minimal gated unit for recurrent neural networks". Deviations,
    both Flax's: f multiplies h U and its bias, not h, so that one matmul serves both parts; and f
    keeps the old state, where the paper's f takes in the new one.
    """

    features: int
    forget_bias: float = 1.0

    def __post_init__(self):
        check_size("MGU", features=self.features)

    def init(self, key: Key, in_features: int) -> MGUParams:
        key_in, key_recurrent = jax.random.split(key)
        return MGUParams(
            initializers.input_kernel(key_in, in_features, 2 * self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 2),
            initializers.gate_bias(self.features, (self.forget_bias, 0.0)),
            jnp.zeros(self.features, jnp.float32),
        )

    def initial_carry(self, params: MGUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: MGUParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: MGUParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: MGUParams, carry: Array, z: Array, u: Array) -> Array:
        (z_f, z_n), (u_f, u_n) = jnp.split(z, 2, axis=-1), jnp.split(u, 2, axis=-1)
        (forget,) = gates(z_f + u_f, ("sigmoid",))
        inner = u_n + widened(params.recurrent_bias, u_n)
        new = separate_pass(jnp.tanh(z_n + forget * inner))
        return (1 - forget) * new + forget * carry

    def readout(self, params: MGUParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
