"""The scalar-memory LSTM of xLSTM: exponential gates, heads, a normaliser."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_forget_gate, check_heads
from rnnlab.core.ops import gates, linear, wide_dtype
from rnnlab.core.types import Array, Key

_LARGEST_EXPONENT = 60.0


class SLSTMCarry(NamedTuple):
    """State of `SLSTM`; c and n stand for c exp(m) and n exp(m)."""

    c: Array  # [*batch, H], cell state
    n: Array  # [*batch, H], normaliser: positive, or 0 where nothing has come yet
    m: Array  # [*batch, H], stabiliser, the logarithm of a scale
    h: Array  # [*batch, H], output


class SLSTMParams(NamedTuple):
    """Parameters of `SLSTM`."""

    kernel: Array  # [F, 4H], gates i, f, g, o
    recurrent_kernel: Array  # [N, D, 4D], the gates within each of N heads of D = H / N
    bias: Array  # [4H]


@dataclasses.dataclass(frozen=True)
class SLSTM(GatedCell[SLSTMParams, SLSTMCarry]):
    """Scalar-memory LSTM with exponential gates, stabilised.

        i, f, g, o = exp, sigmoid or exp, tanh, sigmoid of (x_t W + h_{t-1} U + b), gate by gate
        m_t = max(log f + m_{t-1}, log i),    f' = f exp(m_{t-1} - m_t),    i' = i exp(-m_t)
        c_t = f' * c_{t-1} + i' * g,    n_t = f' * n_{t-1} + i'
        h_t = o * c_t / n_t,    y_t = h_t

    U is block-diagonal: units see the past of their own head alone. m changes no output; it keeps
    the exponentials in range. While n = 0 nothing has come, and m_t is log i. A negative n, which
    no sequence leads to, counts as -n, so that no carry divides by zero.

    Args:
      features: H.
      heads: N, a divisor of H.
      forget_gate: "sigmoid" or "exp".
      forget_bias: initial bias of f.

    Raises:
      ValueError: H is no multiple of N, or the forget gate is neither.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.SLSTM(16, heads=4)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> (c, n, m, h), ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Beck et al. 2024, "xLSTM: extended long short-term memory", section 2.2. The cell
    input g is the paper's z. Left out: the convolution, group norm and projections of the block
    that the paper puts around the cell.
    """

    features: int
    heads: int = 1
    forget_gate: str = "sigmoid"
    forget_bias: float = 1.0

    def __post_init__(self):
        check_heads("SLSTM", self.features, self.heads)
        check_forget_gate("SLSTM", self.forget_gate)

    def init(self, key: Key, in_features: int) -> SLSTMParams:
        key_in, key_recurrent = jax.random.split(key)
        size = self.features // self.heads
        blocks = [
            initializers.orthogonal_blocks(k, size, size, 4)
            for k in jax.random.split(key_recurrent, self.heads)
        ]
        return SLSTMParams(
            initializers.input_kernel(key_in, in_features, 4 * self.features),
            jnp.stack(blocks),
            initializers.gate_bias(self.features, (0.0, self.forget_bias, 0.0, 0.0)),
        )

    def initial_carry(self, params: SLSTMParams, batch_shape: tuple[int, ...] = ()) -> SLSTMCarry:
        shape, dtype = (*batch_shape, self.features), wide_dtype(params.kernel)
        return SLSTMCarry(*(jnp.zeros(shape, dtype) for _ in SLSTMCarry._fields))

    def project(self, params: SLSTMParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recurrent_kernel(self, params: SLSTMParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: SLSTMCarry) -> Array:
        return carry.h

    def gate(self, params: SLSTMParams, carry: SLSTMCarry, z: Array, u: Array) -> SLSTMCarry:
        by_head = u.reshape(*u.shape[:-1], 4, u.shape[-1] // 4)  # [..., N, 4, D]
        log_i, f, s_go = jnp.split(
            z + by_head.swapaxes(-3, -2).reshape(z.shape),
            [self.features, 2 * self.features],
            axis=-1,
        )
        log_f = f if self.forget_gate == "exp" else jax.nn.log_sigmoid(f)
        g, o = gates(s_go, ("tanh", "sigmoid"))
        kept = log_f + carry.m
        m = jnp.where(carry.n == 0, log_i, jnp.maximum(kept, log_i))
        # The bound acts where n = 0 alone: elsewhere the exponent is at most 0.
        keep, write = jnp.exp(jnp.minimum(kept - m, _LARGEST_EXPONENT)), jnp.exp(log_i - m)
        c = keep * carry.c + write * g
        n = keep * jnp.where(carry.n < 0, -carry.n, carry.n) + write
        return SLSTMCarry(c, n, m, o * c / n)

    def readout(self, params: SLSTMParams, carry: SLSTMCarry, z: Array) -> Array:
        return carry.h.astype(params.kernel.dtype)
