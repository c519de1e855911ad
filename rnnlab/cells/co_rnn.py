"""The coupled oscillatory network."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_positive, check_size
from rnnlab.core.ops import linear, wide_dtype
from rnnlab.core.types import Array, Key


class CoRNNCarry(NamedTuple):
    """Positions and velocities of the oscillators, y and z in the paper."""

    h: Array  # [*batch, H]
    v: Array  # [*batch, H]


class CoRNNParams(NamedTuple):
    """Parameters of `CoRNN`."""

    kernel: Array  # [F, H]
    recurrent_kernel: Array  # [2H, H], of h above that of v
    bias: Array  # [H]


@dataclasses.dataclass(frozen=True)
class CoRNN(GatedCell[CoRNNParams, CoRNNCarry]):
    """Coupled oscillatory recurrent network: forced, damped oscillators, discretised in time.

        v_t = v_{t-1} + dt (tanh(x_t W + [h_{t-1}, v_{t-1}] U + b) - gamma h_{t-1} - eps v_{t-1})
        h_t = h_{t-1} + dt v_t,    y_t = h_t

    Args:
      features: H.
      time_step: dt.
      gamma: squared frequency of the oscillators.
      epsilon: damping.

    Raises:
      ValueError: a constant is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.CoRNN(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> (h, v), ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Rusch & Mishra 2021, "Coupled oscillatory recurrent neural network (coRNN)", eq. 3
    with explicit damping (n-bar = n - 1). The defaults are those of its sequential MNIST; the
    constants matter and are worth a search. U starts orthogonal in each of its halves.
    """

    features: int
    time_step: float = 0.042
    gamma: float = 2.7
    epsilon: float = 4.7

    def __post_init__(self):
        check_size("CoRNN", features=self.features)
        check_positive("CoRNN", time_step=self.time_step, gamma=self.gamma, epsilon=self.epsilon)

    def init(self, key: Key, in_features: int) -> CoRNNParams:
        key_in, key_recurrent = jax.random.split(key)
        return CoRNNParams(
            initializers.input_kernel(key_in, in_features, self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 2).T,
            jnp.zeros(self.features, jnp.float32),
        )

    def initial_carry(self, params: CoRNNParams, batch_shape: tuple[int, ...] = ()) -> CoRNNCarry:
        shape, dtype = (*batch_shape, self.features), wide_dtype(params.kernel)
        return CoRNNCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def project(self, params: CoRNNParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: CoRNNParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: CoRNNCarry) -> Array:
        return jnp.concatenate(carry, axis=-1)

    def gate(self, params: CoRNNParams, carry: CoRNNCarry, z: Array, u: Array) -> CoRNNCarry:
        h, v = carry
        force = jnp.tanh(z + u) - self.gamma * h - self.epsilon * v
        v = v + self.time_step * force
        return CoRNNCarry(h + self.time_step * v, v)

    def readout(self, params: CoRNNParams, carry: CoRNNCarry, z: Array) -> Array:
        return carry.h.astype(params.kernel.dtype)
