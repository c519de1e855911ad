"""Causal linear attention, run as a recurrent network."""

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
from rnnlab.core.ops import linear
from rnnlab.core.types import Array, Key


class LinearAttentionParams(NamedTuple):
    """Parameters of `LinearAttention`."""

    kernel: Array  # [F, 3H], query, key, value


@dataclasses.dataclass(frozen=True)
class LinearAttention(MatrixCell[LinearAttentionParams]):
    """Linear attention: a sum of outer products, and a sum of keys that normalises what is read.

        q, k, v = x_t W, in N heads of D = H / N features each
        S_t = S_{t-1} + phi(k) v^T,    n_t = n_{t-1} + phi(k),    phi(a) = elu(a) + 1
        y_t = S_t^T phi(q) / (n_t . phi(q))

    n is one more column of the memory, `[*batch, N, D, D + 1]`, written by a value of 1.

    Args:
      features: H, the size of y.
      heads: N, by which H is divisible.
      normalised: False gives the plain form y_t = S_t^T q / sqrt(D), without phi and without n.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.LinearAttention(16, heads=2)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Chunkwise())

    References: Katharopoulos et al. 2020, "Transformers are RNNs", eq. 16 to 20, the sequence
    mixing without the output projection, the residual and f_l; the plain form, Yang et al. 2024,
    "Parallelizing linear transformers with the delta rule", section 2, with the factor 1 / sqrt(D)
    of the authors' code, which the paper has not. A memory into which nothing was written yet
    reads 0.
    """

    features: int
    heads: int = 1
    normalised: bool = True

    def __post_init__(self):
        check_heads("LinearAttention", self.features, self.heads)

    def init(self, key: Key, in_features: int) -> LinearAttentionParams:
        return LinearAttentionParams(initializers.input_kernel(key, in_features, 3 * self.features))

    def initial_carry(
        self, params: LinearAttentionParams, batch_shape: tuple[int, ...] = ()
    ) -> MatrixCarry:
        return zero_memory(params.kernel, batch_shape, self.features, self.heads, self.normalised)

    def project(self, params: LinearAttentionParams, x: Array) -> MatrixInput:
        q, k, v = split_heads(linear(x, params.kernel), self.heads, parts=3)
        if not self.normalised:
            return MatrixInput(q * q.shape[-1] ** -0.5, k, v)
        q, k = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
        return MatrixInput(q, k, jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1))

    def output(self, params: LinearAttentionParams, read: Array, log_scale, z) -> Array:
        if self.normalised:
            read, total = read[..., :-1], read[..., -1:]
            read = read / jnp.where(total == 0, 1, total)
        return merge_heads(read).astype(params.kernel.dtype)
