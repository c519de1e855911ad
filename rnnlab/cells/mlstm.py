"""The matrix LSTM of xLSTM: exponential gates, no recurrent weights, a matrix as cell state."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.checks import check_forget_gate, check_heads
from rnnlab.core.matrix_cell import (
    MatrixCarry,
    MatrixCell,
    MatrixInput,
    merge_heads,
    split_heads,
)
from rnnlab.core.ops import gates, linear, wide_dtype
from rnnlab.core.types import Array, Key


class MLSTMParams(NamedTuple):
    """Parameters of `MLSTM`."""

    kernel: Array  # [F, 4H], query, key, value, o
    bias: Array  # [4H]
    gate_kernel: Array  # [F, 2N], i, f
    gate_bias: Array  # [2N]


@dataclasses.dataclass(frozen=True)
class MLSTM(MatrixCell[MLSTMParams]):
    """mLSTM: an LSTM whose cell state is a matrix and whose input gate is exponential.

        q, k, v, o = x_t W + b, in N heads of D = H / N features each
        i = exp(x_t w_i + b_i),    f = sigmoid or exp of (x_t w_f + b_f),    one for each head
        C_t = f C_{t-1} + i (k / sqrt(D)) v^T,    n_t = f n_{t-1} + i k / sqrt(D)
        y_t = sigmoid(o) * C_t^T q / max(|n_t . q|, 1)

    The carry holds exp(-m_t) C_t and, as one more column, exp(-m_t) n_t, with the stabiliser
    m_t = max(log f + m_{t-1}, log i), m_0 = 0: gates of any size neither overflow nor vanish.

    Args:
      features: H, the size of y.
      heads: N, by which H is divisible.
      forget_gate: "sigmoid" or "exp".

    Raises:
      ValueError: H is no multiple of N, or the forget gate is neither.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.MLSTM(16, heads=2)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Chunkwise())

    References: Beck et al. 2024, "xLSTM: extended long short-term memory", eq. 19 to 27,
    stabilised as in eq. 15 to 17. b_k is divided by sqrt(D) too. The blocks around it, with
    their convolution and norm, are left out. Forget biases start from 3 to 6 over the heads, input
    biases at 0. exp(-m_t) stops at the square root of the largest number.
    """

    features: int
    heads: int = 1
    forget_gate: str = "sigmoid"

    def __post_init__(self):
        check_heads("MLSTM", self.features, self.heads)
        check_forget_gate("MLSTM", self.forget_gate)

    def init(self, key: Key, in_features: int) -> MLSTMParams:
        key_in, key_gate = jax.random.split(key)
        forget = jnp.linspace(3.0, 6.0, self.heads, dtype=jnp.float32)
        return MLSTMParams(
            initializers.input_kernel(key_in, in_features, 4 * self.features),
            jnp.zeros(4 * self.features, jnp.float32),
            initializers.input_kernel(key_gate, in_features, 2 * self.heads),
            jnp.concatenate([jnp.zeros_like(forget), forget]),
        )

    def initial_carry(self, params: MLSTMParams, batch_shape: tuple[int, ...] = ()) -> MatrixCarry:
        size, dtype = self.features // self.heads, wide_dtype(params.kernel)
        return MatrixCarry(
            jnp.zeros((*batch_shape, self.heads, size, size + 1), dtype),
            jnp.zeros((*batch_shape, self.heads, 1), dtype),
        )

    def project(self, params: MLSTMParams, x: Array) -> MatrixInput:
        packed = linear(x, params.kernel, params.bias)
        q, k, v, o = split_heads(packed, self.heads, parts=4)
        log_i, log_f = split_heads(
            linear(x, params.gate_kernel, params.gate_bias), self.heads, parts=2
        )
        return MatrixInput(
            q,
            k * k.shape[-1] ** -0.5,
            jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1),
            log_decay=log_f if self.forget_gate == "exp" else jax.nn.log_sigmoid(log_f),
            log_gain=log_i,
            rest=gates(o, ("sigmoid",))[0],
        )

    def output(self, params: MLSTMParams, read: Array, log_scale: Array, z: MatrixInput) -> Array:
        # The derivative squares the divisor, and 0 / 0 has none.
        limit = 0.5 * math.log(jnp.finfo(read.dtype).max)
        one = jnp.exp(-jnp.clip(log_scale, -limit, limit))
        read, total = read[..., :-1], read[..., -1:]
        h = z.rest * read / jnp.maximum(jnp.abs(total), one)
        return merge_heads(h).astype(params.kernel.dtype)
