"""The state space model of Mamba-2: one decay a head, a matrix as its state."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.checks import check_heads, check_size
from rnnlab.core.matrix_cell import (
    MatrixCarry,
    MatrixCell,
    MatrixInput,
    merge_heads,
    split_heads,
)
from rnnlab.core.ops import linear_or_same, wide_dtype, widened
from rnnlab.core.types import Array, Key


class SSDParams(NamedTuple):
    """Parameters of `SSD`."""

    kernel: Array | None  # [F, H + 2D + N], x, B, C, step; None where inputs come projected
    step_bias: Array  # [N]
    rate_log: Array  # [N], A = -exp(rate_log)
    skip: Array  # [N], the number that the paper calls D


@dataclasses.dataclass(frozen=True)
class SSD(MatrixCell[SSDParams]):
    """State space dual model: N heads of V = H / N features that share B and C.

        x_t, B_t, C_t, d_t = x_t W,    s_t = softplus(d_t + b)
        S_t = exp(s_t A) S_{t-1} + s_t B_t x_t^T,    y_t = S_t^T C_t + skip x_t,    in each head

    A, s_t and skip are one number for each head. This is the model alone; `rnnlab.cells.mamba2`
    is the block around it.

    Args:
      features: H, the size of y.
      heads: N, by which H is divisible.
      state_features: D, the size of B and C.
      project_input: False reads H + 2D + N features, which what stands before has projected.
      min_step: smallest starting step, above 0.
      max_step: largest.

    Raises:
      ValueError: heads that do not divide the features, or steps out of order; at `init`, another
        number of inputs than `project_input=False` reads.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.SSD(16, heads=2)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Chunkwise())

    References: Dao & Gu 2024, "Transformers are SSMs", sections 5 to 7, with one group: all heads
    share B and C. As in the authors' code B is discretised by an Euler step, and -A starts uniform
    between 1 and 16.
    """

    features: int
    heads: int = 1
    state_features: int = 64
    project_input: bool = True
    min_step: float = 1e-3
    max_step: float = 0.1

    def __post_init__(self):
        check_heads("SSD", self.features, self.heads)
        check_size("SSD", state_features=self.state_features)
        initializers.check_steps("SSD", self.min_step, self.max_step)

    @property
    def projected_features(self) -> int:
        """H + 2D + N: x, B, C and the step, side by side."""
        return self.features + 2 * self.state_features + self.heads

    def init(self, key: Key, in_features: int) -> SSDParams:
        kernel_key, step_key, rate_key = jax.random.split(key, 3)
        size, kernel = self.projected_features, None
        if self.project_input:
            kernel = initializers.input_kernel(kernel_key, in_features, size)
        elif in_features != size:
            raise ValueError(
                f"SSD: expected in_features={size}, H + 2D + N, with project_input=False, got"
                f" in_features={in_features}."
            )
        return SSDParams(
            kernel,
            initializers.step_bias(step_key, self.heads, self.min_step, self.max_step),
            initializers.rate_log(rate_key, self.heads),
            jnp.ones(self.heads, jnp.float32),
        )

    def initial_carry(self, params: SSDParams, batch_shape: tuple[int, ...] = ()) -> MatrixCarry:
        shape = (*batch_shape, self.heads, self.state_features, self.features // self.heads)
        return MatrixCarry(jnp.zeros(shape, wide_dtype(params.skip)))

    def project(self, params: SSDParams, x: Array) -> MatrixInput:
        z = linear_or_same(x, params.kernel, params.skip)
        size, states = self.features, self.state_features
        x, B, C, step = jnp.split(z, [size, size + states, size + 2 * states], axis=-1)
        step = jax.nn.softplus(step + widened(params.step_bias, step))[..., None]
        (x,) = split_heads(x, self.heads)
        rate = -jnp.exp(widened(params.rate_log[:, None], step))
        B, C = (jnp.repeat(a[..., None, :], self.heads, axis=-2) for a in (B, C))
        return MatrixInput(C, B, step * x, log_decay=step * rate, rest=x)

    def output(self, params: SSDParams, read: Array, log_scale: Any, z: MatrixInput) -> Array:
        y = read + widened(params.skip[:, None], read) * z.rest
        return merge_heads(y).astype(params.skip.dtype)
