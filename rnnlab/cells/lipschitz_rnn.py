"""The Lipschitz network: a linear part and a tanh, both of bounded growth."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_positive, check_size
from rnnlab.core.ops import linear, symmetric_skew_mix, wide_dtype
from rnnlab.core.types import Array, Key


class LipschitzRNNParams(NamedTuple):
    """Parameters of `LipschitzRNN`."""

    kernel: Array  # [F, H]
    linear_kernel: Array  # [H, H], the M of A
    recurrent_kernel: Array  # [H, H], the M of U
    bias: Array  # [H]


@dataclasses.dataclass(frozen=True)
class LipschitzRNN(GatedCell[LipschitzRNNParams, Array]):
    """Lipschitz recurrent network, discretised by forward Euler.

        h_t = h_{t-1} + dt (h_{t-1} A + tanh(x_t W + h_{t-1} U + b)),    y_t = h_t
        A, U = (1 - beta) (M + M^T) + beta (M - M^T) - gamma I, each of an M and a gamma of its own

    Args:
      features: H.
      beta: from 0, symmetric, to 1, skew.
      linear_gamma: of A; the larger, the faster the linear part decays.
      gamma: of U.
      time_step: dt.

    Raises:
      ValueError: beta is not from 0 to 1, or the time step is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.LipschitzRNN(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Erichson et al. 2021, "Lipschitz recurrent neural networks". One beta
    serves A and U, as in its experiments; the Runge-Kutta scheme is left out. Both M start normal
    with variance 1 / H.
    """

    features: int
    beta: float = 0.75
    linear_gamma: float = 0.001
    gamma: float = 0.001
    time_step: float = 0.03

    def __post_init__(self):
        check_size("LipschitzRNN", features=self.features)
        check_positive("LipschitzRNN", time_step=self.time_step)
        if not 0 <= self.beta <= 1:
            raise ValueError(f"LipschitzRNN: expected 0 <= beta <= 1, got {self.beta!r}.")

    def init(self, key: Key, in_features: int) -> LipschitzRNNParams:
        key_in, key_linear, key_recurrent = jax.random.split(key, 3)
        return LipschitzRNNParams(
            initializers.input_kernel(key_in, in_features, self.features),
            initializers.input_kernel(key_linear, self.features, self.features),
            initializers.input_kernel(key_recurrent, self.features, self.features),
            jnp.zeros(self.features, jnp.float32),
        )

    def initial_carry(self, params: LipschitzRNNParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: LipschitzRNNParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: LipschitzRNNParams) -> Array:
        a = symmetric_skew_mix(params.linear_kernel, self.beta, self.linear_gamma)
        u = symmetric_skew_mix(params.recurrent_kernel, self.beta, self.gamma)
        return jnp.concatenate([a, u], axis=1)

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: LipschitzRNNParams, carry: Array, z: Array, u: Array) -> Array:
        drift, inner = jnp.split(u, 2, axis=-1)
        return carry + self.time_step * (drift + jnp.tanh(z + inner))

    def readout(self, params: LipschitzRNNParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
