"""The delta rule with a decay, which can also clear the whole memory."""

import dataclasses
from typing import NamedTuple

import jax
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


class GatedDeltaNetParams(NamedTuple):
    """Parameters of `GatedDeltaNet`."""

    kernel: Array  # [F, 3H], query, key, value
    gate_kernel: Array  # [F, 2N], writing strength, step of the decay
    step_bias: Array  # [N]
    rate_log: Array  # [N], log of the rate of the decay


@dataclasses.dataclass(frozen=True)
class GatedDeltaNet(MatrixCell[GatedDeltaNetParams]):
    """Gated DeltaNet: the memory decays before one step of gradient descent on |S^T k - v|^2.

        q, k, v = silu(x_t W), in N heads of D = H / N features each; q and k of length 1
        beta = sigmoid(x_t W_beta),    alpha = exp(-exp(A) softplus(x_t W_alpha + b))
        S_t = alpha (I - beta k k^T) S_{t-1} + beta k v^T,    y_t = S_t^T q / sqrt(D)

    alpha and beta are one number for each head.

    Args:
      features: H, the size of y.
      heads: N, by which H is divisible.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.GatedDeltaNet(16, heads=2)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Chunkwise())

    References: Yang et al. 2024, "Gated delta networks: improving Mamba2 with delta rule", eq.
    10; alpha and its start as in Dao & Gu 2024, "Transformers are SSMs" (Mamba-2): rates exp(A) in
    [1, 16], softplus(b) in [0.001, 0.1]. Left out: the short convolutions before, the norm, the
    gate and the output projection after. Keys and values have one size; theirs are D and 2D. The
    norm is sqrt(|k|^2 + 1e-6), finite at 0. The factor 1 / sqrt(D) is that of the authors' code;
    the paper has none.
    """

    features: int
    heads: int = 1

    def __post_init__(self):
        check_heads("GatedDeltaNet", self.features, self.heads)

    def init(self, key: Key, in_features: int) -> GatedDeltaNetParams:
        key_in, key_gate, key_step, key_rate = jax.random.split(key, 4)
        return GatedDeltaNetParams(
            initializers.input_kernel(key_in, in_features, 3 * self.features),
            initializers.input_kernel(key_gate, in_features, 2 * self.heads),
            initializers.step_bias(key_step, self.heads, 1e-3, 0.1),
            initializers.rate_log(key_rate, self.heads),
        )

    def initial_carry(
        self, params: GatedDeltaNetParams, batch_shape: tuple[int, ...] = ()
    ) -> MatrixCarry:
        return zero_memory(params.kernel, batch_shape, self.features, self.heads)

    def project(self, params: GatedDeltaNetParams, x: Array) -> MatrixInput:
        q, k, v = split_heads(jax.nn.silu(linear(x, params.kernel)), self.heads, parts=3)
        q, k = unit_norm(q), unit_norm(k)
        beta, step = jnp.split(linear(x, params.gate_kernel), 2, axis=-1)
        (beta,) = gates(beta, ("sigmoid",))
        step = jax.nn.softplus(step + widened(params.step_bias, step))
        log_decay = -jnp.exp(widened(params.rate_log, step)) * step
        write = beta[..., None] * k
        return MatrixInput(
            q * q.shape[-1] ** -0.5, write, v, log_decay[..., None], probe=k, erase=write
        )

    def output(self, params: GatedDeltaNetParams, read: Array, log_scale, z) -> Array:
        return merge_heads(read).astype(params.kernel.dtype)
