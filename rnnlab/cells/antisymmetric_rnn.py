"""The antisymmetric network: a discretised differential equation that neither grows nor fades."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_positive, check_size
from rnnlab.core.ops import gates, linear, symmetric_skew_mix, wide_dtype
from rnnlab.core.types import Array, Key


class AntisymmetricRNNParams(NamedTuple):
    """Parameters of `AntisymmetricRNN`."""

    kernel: Array  # [F, H]; gated: [F, 2H], z, n
    recurrent_kernel: Array  # [H, H], the M of M - M^T - gamma I
    bias: Array  # [H], or [2H]


@dataclasses.dataclass(frozen=True)
class AntisymmetricRNN(GatedCell[AntisymmetricRNNParams, Array]):
    """Antisymmetric recurrent network.

        u = h_{t-1} (M - M^T - gamma I)
        h_t = h_{t-1} + dt z * tanh(x_t W_n + u + b_n),    y_t = h_t
        z = sigmoid(x_t W_z + u + b_z) if gated, else 1

    Args:
      features: H.
      gated: adds the gate z, which reads the same u.
      time_step: dt, epsilon in the paper.
      gamma: diffusion, which makes up for the error of the discretisation.

    Raises:
      ValueError: the time step is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.AntisymmetricRNN(16, gated=True)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Chang et al. 2019, "AntisymmetricRNN: a dynamical system view on recurrent neural
    networks". M is stored whole, where the paper keeps a triangle of it, and starts
    normal with variance 1 / H.
    """

    features: int
    gated: bool = False
    time_step: float = 0.01
    gamma: float = 0.01

    def __post_init__(self):
        check_size("AntisymmetricRNN", features=self.features)
        check_positive("AntisymmetricRNN", time_step=self.time_step)

    def init(self, key: Key, in_features: int) -> AntisymmetricRNNParams:
        key_in, key_recurrent = jax.random.split(key)
        columns = (2 if self.gated else 1) * self.features
        return AntisymmetricRNNParams(
            initializers.input_kernel(key_in, in_features, columns),
            initializers.input_kernel(key_recurrent, self.features, self.features),
            jnp.zeros(columns, jnp.float32),
        )

    def initial_carry(
        self, params: AntisymmetricRNNParams, batch_shape: tuple[int, ...] = ()
    ) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: AntisymmetricRNNParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: AntisymmetricRNNParams) -> Array:
        return symmetric_skew_mix(params.recurrent_kernel, 1.0, self.gamma)

    def hidden(self, carry: Array) -> Array:
        return carry

    def gate(self, params: AntisymmetricRNNParams, carry: Array, z: Array, u: Array) -> Array:
        if not self.gated:
            return carry + self.time_step * jnp.tanh(z + u)
        both = z + jnp.concatenate([u, u], axis=-1)
        opened, new = gates(both, ("sigmoid", "tanh"))
        return carry + self.time_step * opened * new

    def readout(self, params: AntisymmetricRNNParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
