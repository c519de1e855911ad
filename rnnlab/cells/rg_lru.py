"""The real-gated linear recurrent unit of Griffin and RecurrentGemma."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import LinearCell
from rnnlab.core.checks import check_positive, check_size
from rnnlab.core.ops import gates, linear, linear_or_same, wide_dtype, widened
from rnnlab.core.types import Array, Key


class RGLRUParams(NamedTuple):
    """Parameters of `RGLRU`."""

    input_kernel: Array | None  # [F, H]; None where F = H
    kernel: Array  # [H, 2H], r, i
    bias: Array  # [2H]
    decay: Array  # [H], Lambda: a = sigmoid(Lambda)


class RGLRUInput(NamedTuple):
    """z of `RGLRU`; each `[..., H]`."""

    log_a: Array
    gated: Array  # i * x


@dataclasses.dataclass(frozen=True)
class RGLRU(LinearCell[RGLRUParams, Array]):
    """Real-gated linear recurrent unit.

        r = sigmoid(x_t W_r + b_r),    i = sigmoid(x_t W_i + b_i)
        a_t = sigmoid(Lambda)^(c r),    h_t = a_t * h_{t-1} + sqrt(1 - a_t^2) * (i * x_t)
        y_t = h_t

    Lambda starts where sigmoid(Lambda)^c is uniform between `min_radius` and `max_radius`.

    Args:
      features: H.
      exponent: c.
      min_radius: smallest starting decay of a step with an open gate, above 0.
      max_radius: largest, below 1.

    Raises:
      ValueError: radii out of order, or an exponent that is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.RGLRU(16)
        >>> params = cell.init(jax.random.key(0), in_features=16)
        >>> h, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 16)), strategy=rnnlab.strategies.Associative())

    References: De et al. 2024, "Griffin: mixing gated linear recurrences with local attention for
    efficient language models", section 2.4 and appendix A. The gate kernels are dense; the
    authors' code has them block-diagonal. Where F and H differ, x_t is x_t W: in Griffin a linear
    layer stands before the unit. Where a_t rounds to 1 the square root is taken as constant, so
    that its gradient stays finite.
    """

    features: int
    exponent: float = 8.0
    min_radius: float = 0.9
    max_radius: float = 0.999

    def __post_init__(self):
        check_size("RGLRU", features=self.features)
        check_positive("RGLRU", exponent=self.exponent)
        if not 0 < self.min_radius < self.max_radius < 1:
            raise ValueError(
                f"RGLRU: expected 0 < min_radius < max_radius < 1, got min_radius="
                f"{self.min_radius}, max_radius={self.max_radius}."
            )

    def init(self, key: Key, in_features: int) -> RGLRUParams:
        keys = jax.random.split(key, 3)
        radius = jax.random.uniform(
            keys[2], (self.features,), jnp.float32, self.min_radius, self.max_radius
        )
        log_a = jnp.log(radius) / self.exponent  # log(sigmoid(Lambda))
        return RGLRUParams(
            initializers.matching_kernel(keys[0], in_features, self.features),
            initializers.input_kernel(keys[1], self.features, 2 * self.features),
            jnp.zeros(2 * self.features, jnp.float32),
            log_a - jnp.log(-jnp.expm1(log_a)),
        )

    def initial_carry(self, params: RGLRUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: RGLRUParams, x: Array) -> RGLRUInput:
        x = linear_or_same(x, params.input_kernel, params.kernel)
        r, i = gates(linear(x, params.kernel, params.bias), ("sigmoid", "sigmoid"))
        log_sigmoid = jax.nn.log_sigmoid(widened(params.decay, r))
        return RGLRUInput(self.exponent * log_sigmoid * r, i * x)

    def coefficients(self, params: RGLRUParams, z: RGLRUInput) -> tuple[Array, Array]:
        power = -jnp.expm1(2 * z.log_a)  # 1 - a^2
        open_ = power > 0
        scale = jnp.where(open_, jnp.sqrt(jnp.where(open_, power, 1)), 0)
        return jnp.exp(z.log_a), scale * z.gated

    def readout(self, params: RGLRUParams, carry: Array, z: RGLRUInput) -> Array:
        return carry.astype(params.kernel.dtype)
