"""The state of RWKV-7: a delta rule with a decay and a learning rate for every channel."""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.checks import check_heads
from rnnlab.core.matrix_cell import (
    MatrixCarry,
    MatrixCell,
    MatrixInput,
    merge_heads,
    split_heads,
    zero_memory,
)
from rnnlab.core.ops import gates, linear, unit_norm, widened
from rnnlab.core.types import Array, Key


class RWKV7Params(NamedTuple):
    """Parameters of `RWKV7`."""

    kernel: Array  # [F, 5H], receptance, key, value, decay, learning rate
    gate_bias: Array  # [2H], decay, learning rate
    removal: Array  # [H], xi
    replacement: Array  # [H], alpha
    bonus: Array  # [H], rho


@dataclasses.dataclass(frozen=True)
class RWKV7(MatrixCell[RWKV7Params]):
    """The time mixing of RWKV-7: a generalised delta rule, whose rates are vectors.

        r, k, v, d, a = x_t W,    a = sigmoid(a + b_a),    w = exp(-exp(-1/2) sigmoid(d + b_d))
        c = k * xi of length 1 in each head,    k' = k * (1 + (a - 1) * alpha)
        S_t = (diag(w) - (a * c) c^T) S_{t-1} + k' v^T
        y_t = S_t^T r + (r . (rho * k')) v,    in N heads of D = H / N features each

    c is the removal key and k' the replacement key. S is the transpose of the paper's. Since a
    `MatrixCell` decays before it looks up, its probe is c / w, with w > 0.54.

    Args:
      features: H, the size of y.
      heads: N, by which H is divisible.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.RWKV7(16, heads=2)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Chunkwise())

    References: Peng et al. 2025, "RWKV-7 Goose with expressive dynamic state evolution", section 4.
    Left out of the block: the token shift (feed [x_t, x_{t-1}] as one input: interpolating the two
    and projecting is a linear map of it), the value residual, the norm, the gate and the output
    projection. Its low-rank maps to d and a are full here, that to d without its tanh. The norm of
    c is sqrt(|c|^2 + 1e-6), finite at 0. xi, alpha and rho start at 0.85, 1 and 0,
    b_a at 0, and b_d evenly from -6 to -1 over the features, where the authors' code follows a
    curve.
    """

    features: int
    heads: int = 1

    def __post_init__(self):
        check_heads("RWKV7", self.features, self.heads)

    def init(self, key: Key, in_features: int) -> RWKV7Params:
        size = self.features
        slow_to_fast = jnp.linspace(-6.0, -1.0, size, dtype=jnp.float32)
        return RWKV7Params(
            initializers.input_kernel(key, in_features, 5 * size),
            jnp.concatenate([slow_to_fast, jnp.zeros_like(slow_to_fast)]),
            jnp.full(size, 0.85, jnp.float32),
            jnp.ones(size, jnp.float32),
            jnp.zeros(size, jnp.float32),
        )

    def initial_carry(self, params: RWKV7Params, batch_shape: tuple[int, ...] = ()) -> MatrixCarry:
        return zero_memory(params.kernel, batch_shape, self.features, self.heads)

    def project(self, params: RWKV7Params, x: Array) -> MatrixInput:
        packed = linear(x, params.kernel)
        r, k, v, rates = jnp.split(packed, [n * self.features for n in (1, 2, 3)], axis=-1)
        d, a = gates(rates + widened(params.gate_bias, rates), ("sigmoid", "sigmoid"))
        replacement = k * (1 + (a - 1) * widened(params.replacement, k))
        removal = k * widened(params.removal, k)
        bonus = r * widened(params.bonus, r) * replacement
        log_decay = -math.exp(-0.5) * d
        r, replacement, v, log_decay, removal, a, bonus = (
            split_heads(part, self.heads)[0]
            for part in (r, replacement, v, log_decay, removal, a, bonus)
        )
        removal = unit_norm(removal)
        return MatrixInput(
            r,
            replacement,
            v,
            log_decay,
            probe=removal * jnp.exp(-log_decay),
            erase=a * removal,
            rest=jnp.sum(bonus, axis=-1, keepdims=True) * v,
        )

    def output(self, params: RWKV7Params, read: Array, log_scale, z: MatrixInput) -> Array:
        return merge_heads(read + z.rest).astype(params.kernel.dtype)
