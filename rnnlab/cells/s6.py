"""The selective state space model of Mamba: a diagonal system whose matrices follow the input."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import LinearCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import broadcast_to_rank, linear, linear_or_same, wide_dtype, widened
from rnnlab.core.types import Array, Key


class S6Params(NamedTuple):
    """Parameters of `S6`; R is the rank of the step."""

    input_kernel: Array | None  # [F, H]; None where F = H
    kernel: Array  # [H, R + 2N], step, B, C
    step_kernel: Array  # [R, H]
    step_bias: Array  # [H]
    rate_log: Array  # [H, N], A = -exp(rate_log)
    skip: Array  # [H], D


class S6Input(NamedTuple):
    """z of `S6`."""

    x: Array  # [..., H]
    step: Array  # [..., H]
    B: Array  # [..., N]
    C: Array  # [..., N]


@dataclasses.dataclass(frozen=True)
class S6(LinearCell[S6Params, Array]):
    """Selective state space model: N numbers a channel, with step, B and C made from the input.

        s_t = softplus(x_t W_down W_up + b),    B_t = x_t W_B,    C_t = x_t W_C
        h_t = exp(s_t A) * h_{t-1} + s_t B_t x_t,    y_t = sum_N C_t h_t + D * x_t

    A is diagonal, `[H, N]`, and starts at -1, ..., -N in each channel. The carry is `[*batch, H,
    N]`. This is the model alone; `rnnlab.cells.mamba` is the block around it.

    Args:
      features: H, the channels.
      state_features: N.
      step_rank: R, the size that the step goes through; None takes H / 16, rounded up.
      min_step: smallest starting step, above 0.
      max_step: largest.

    Raises:
      ValueError: steps out of order.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.S6(16)
        >>> params = cell.init(jax.random.key(0), in_features=16)
        >>> h, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 16)), strategy=rnnlab.strategies.Associative())

    References: Gu & Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces",
    section 3 and algorithm 2. As in the authors' code, A is discretised under a zero-order hold
    and B by an Euler step, s B, where equation 4 has a zero-order hold for both, and the starting
    step is log-uniform, where section 3.6 has it uniform. Where F and H differ, x_t is x_t W: in
    the block a linear layer stands before the model.
    """

    features: int
    state_features: int = 16
    step_rank: int | None = None
    min_step: float = 1e-3
    max_step: float = 0.1

    def __post_init__(self):
        check_size("S6", features=self.features, state_features=self.state_features)
        if self.step_rank is not None:
            check_size("S6", step_rank=self.step_rank)
        initializers.check_steps("S6", self.min_step, self.max_step)

    def init(self, key: Key, in_features: int) -> S6Params:
        size, states = self.features, self.state_features
        rank = self.step_rank or -(-size // 16)
        keys = jax.random.split(key, 4)
        rates = jnp.log(jnp.arange(1, states + 1, dtype=jnp.float32))
        return S6Params(
            initializers.matching_kernel(keys[0], in_features, size),
            initializers.input_kernel(keys[1], size, rank + 2 * states),
            initializers.input_kernel(keys[2], rank, size),
            initializers.step_bias(keys[3], size, self.min_step, self.max_step),
            jnp.tile(rates, (size, 1)),
            jnp.ones(size, jnp.float32),
        )

    def initial_carry(self, params: S6Params, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, *params.rate_log.shape), wide_dtype(params.rate_log))

    def project(self, params: S6Params, x: Array) -> S6Input:
        x = linear_or_same(x, params.input_kernel, params.kernel)
        rank, states = params.step_kernel.shape[0], self.state_features
        low, B, C = jnp.split(linear(x, params.kernel), [rank, rank + states], axis=-1)
        step = jax.nn.softplus(linear(low, params.step_kernel, params.step_bias))
        return S6Input(x, step, B, C)

    def coefficients(self, params: S6Params, z: S6Input) -> tuple[Array, Array]:
        step = z.step[..., None]
        A = -jnp.exp(broadcast_to_rank(params.rate_log.astype(step.dtype), step))
        return jnp.exp(step * A), (step * z.x[..., None]) * z.B[..., None, :]

    def readout(self, params: S6Params, carry: Array, z: S6Input) -> Array:
        y = jnp.sum(carry * z.C[..., None, :], axis=-1) + widened(params.skip, z.x) * z.x
        return y.astype(params.skip.dtype)
