"""Linear attention that corrects what is stored under a key instead of adding to it."""

import dataclasses
from typing import NamedTuple

import jax

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
from rnnlab.core.ops import gates, linear, unit_norm
from rnnlab.core.types import Array, Key


class DeltaNetParams(NamedTuple):
    """Parameters of `DeltaNet`."""

    kernel: Array  # [F, 3H], query, key, value
    gate_kernel: Array  # [F, N], writing strength


@dataclasses.dataclass(frozen=True)
class DeltaNet(MatrixCell[DeltaNetParams]):
    """DeltaNet: one step of gradient descent on |S^T k - v|^2 for every input.

        q, k, v = x_t W, in N heads of D = H / N features each; silu(q) and silu(k) of length 1
        beta = sigmoid(x_t W_beta), one for each head
        S_t = S_{t-1} + beta k (v - S_{t-1}^T k)^T,    y_t = S_t^T q / sqrt(D)

    Args:
      features: H, the size of y.
      heads: N, by which H is divisible.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.DeltaNet(16, heads=2)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Chunkwise())

    References: Schlag et al. 2021, "Linear transformers are secretly fast weight programmers", the
    rule; Yang et al. 2024, "Parallelizing linear transformers with the delta rule over sequence
    length", section 3, feature map, norm and chunks. Left out: the short convolutions before, the
    norm and the output projection after. The norm is sqrt(|k|^2 + 1e-6), finite at 0. The factor
    1 / sqrt(D) is that of the authors' code; the paper has none.
    """

    features: int
    heads: int = 1

    def __post_init__(self):
        check_heads("DeltaNet", self.features, self.heads)

    def init(self, key: Key, in_features: int) -> DeltaNetParams:
        key_in, key_gate = jax.random.split(key)
        return DeltaNetParams(
            initializers.input_kernel(key_in, in_features, 3 * self.features),
            initializers.input_kernel(key_gate, in_features, self.heads),
        )

    def initial_carry(
        self, params: DeltaNetParams, batch_shape: tuple[int, ...] = ()
    ) -> MatrixCarry:
        return zero_memory(params.kernel, batch_shape, self.features, self.heads)

    def project(self, params: DeltaNetParams, x: Array) -> MatrixInput:
        q, k, v = split_heads(linear(x, params.kernel), self.heads, parts=3)
        q, k = unit_norm(jax.nn.silu(q)), unit_norm(jax.nn.silu(k))
        (beta,) = gates(linear(x, params.gate_kernel), ("sigmoid",))
        write = beta[..., None] * k
        return MatrixInput(q * q.shape[-1] ** -0.5, write, v, probe=k, erase=write)

    def output(self, params: DeltaNetParams, read: Array, log_scale, z) -> Array:
        return merge_heads(read).astype(params.kernel.dtype)
