"""A long short-term memory in which every unit sees its own past alone."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import gates, linear, separate_pass, wide_dtype, widened
from rnnlab.core.types import Array, Key, LSTMCarry


class DiagonalLSTMParams(NamedTuple):
    """Parameters of `DiagonalLSTM`."""

    kernel: Array  # [F, 3H], gates f, g, o
    recurrent_kernel: Array  # [3H], the diagonals of the gates
    bias: Array  # [3H]
    peephole: Array  # [2H], f, o


@dataclasses.dataclass(frozen=True)
class DiagonalLSTM(GatedCell[DiagonalLSTMParams, LSTMCarry]):
    """Long short-term memory with diagonal recurrent kernels, coupled gates and peepholes.

        f = sigmoid(x_t W_f + h_{t-1} * u_f + p_f * c_{t-1} + b_f)
        g = tanh(x_t W_g + h_{t-1} * u_g + b_g),    c_t = f * c_{t-1} + (1 - f) * g
        o = sigmoid(x_t W_o + h_{t-1} * u_o + p_o * c_t + b_o)
        h_t = o * tanh(c_t),    y_t = h_t

    The Jacobian of a step has 2 x 2 blocks, one a unit, for a parallel Newton solve over time.

    Args:
      features: H.
      forget_bias: initial bias of f.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.DiagonalLSTM(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> (c, h), ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Danieli et al. 2025, "ParaRNN: unlocking parallel training of nonlinear RNNs for
    large language models" (ParaLSTM). Deviations: the input kernel is dense, not block-diagonal in
    heads; the diagonals start uniform in [-1, 1], the peepholes at 0.
    """

    features: int
    forget_bias: float = 1.0

    def __post_init__(self):
        check_size("DiagonalLSTM", features=self.features)

    def init(self, key: Key, in_features: int) -> DiagonalLSTMParams:
        key_in, key_recurrent = jax.random.split(key)
        return DiagonalLSTMParams(
            initializers.input_kernel(key_in, in_features, 3 * self.features),
            jax.random.uniform(key_recurrent, (3 * self.features,), jnp.float32, -1, 1),
            initializers.gate_bias(self.features, (self.forget_bias, 0.0, 0.0)),
            jnp.zeros(2 * self.features, jnp.float32),
        )

    def initial_carry(
        self, params: DiagonalLSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> LSTMCarry:
        shape, dtype = (*batch_shape, self.features), wide_dtype(params.kernel)
        return LSTMCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def project(self, params: DiagonalLSTMParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: DiagonalLSTMParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: LSTMCarry) -> Array:
        return carry.h

    def gate(self, params: DiagonalLSTMParams, carry: LSTMCarry, z: Array, u: Array) -> LSTMCarry:
        s_f, s_g, s_o = jnp.split(z + u, 3, axis=-1)
        peep_f, peep_o = (widened(p, s_f) for p in jnp.split(params.peephole, 2))
        s_f = s_f + peep_f * carry.c
        f, g = gates(jnp.concatenate([s_f, s_g], axis=-1), ("sigmoid", "tanh"))
        c = f * carry.c + (1 - f) * g
        (o,) = gates(s_o + peep_o * c, ("sigmoid",))
        return LSTMCarry(c, o * separate_pass(jnp.tanh(c)))

    def readout(self, params: DiagonalLSTMParams, carry: LSTMCarry, z: Array) -> Array:
        return carry.h.astype(params.kernel.dtype)
