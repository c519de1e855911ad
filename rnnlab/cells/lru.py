"""The linear recurrent unit: a complex diagonal recurrence."""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab.core import initializers
from rnnlab.core.cell import LinearCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import broadcast_to_rank, linear, real_product, wide_dtype, widened
from rnnlab.core.types import Array, Key


class LRUParams(NamedTuple):
    """Parameters of `LRU`; lambda, gamma and the complex matrices in real form."""

    kernel_real: Array  # [F, N]
    kernel_imag: Array  # [F, N]
    nu_log: Array  # [N], |lambda| = exp(-exp(nu_log))
    theta_log: Array  # [N], arg(lambda) = exp(theta_log)
    gamma_log: Array  # [N]
    output_real: Array  # [N, H]
    output_imag: Array  # [N, H]
    skip: Array  # [F, H]


class LRUInput(NamedTuple):
    """z of `LRU`: what drives the state, and what goes past it."""

    drive: Array  # [..., N], complex
    skip: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class LRU(LinearCell[LRUParams, Array]):
    """Linear recurrent unit with a complex diagonal state.

        h_t = lambda * h_{t-1} + gamma * (x_t B),    y_t = Re(h_t C) + x_t D
        lambda = exp(-exp(nu) + i exp(theta))

    The eigenvalues start on a ring, uniform in area, and gamma = sqrt(1 - |lambda|^2) then keeps
    the variance of the state at that of its input. The carry is complex, `[*batch, N]`.

    Args:
      features: H, the size of y.
      state_features: N, the size of the complex state; None takes H.
      min_radius: inner radius of the ring, at least 0.
      max_radius: outer radius of the ring, below 1.
      max_phase: largest starting angle of an eigenvalue, in radians.

    Raises:
      ValueError: the ring is empty or reaches the unit circle.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.LRU(16, state_features=32)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Associative())

    References: Orvieto et al. 2023, "Resurrecting recurrent neural networks for long sequences",
    sections 3.2 to 3.4. D is a matrix, so that F and H may differ; the paper's code has a diagonal.
    Complex matrices are stored as real and imaginary parts.
    """

    features: int
    state_features: int | None = None
    min_radius: float = 0.9
    max_radius: float = 0.999
    max_phase: float = 2 * math.pi

    def __post_init__(self):
        check_size("LRU", features=self.features)
        if self.state_features is not None:
            check_size("LRU", state_features=self.state_features)
        if not 0 < self.max_phase < math.inf:
            raise ValueError(f"LRU: expected max_phase > 0, got {self.max_phase!r}.")
        if not 0 <= self.min_radius < self.max_radius or np.float32(self.max_radius) >= 1:
            raise ValueError(
                f"LRU: expected 0 <= min_radius < max_radius < 1, got min_radius="
                f"{self.min_radius}, max_radius={self.max_radius}. A radius of 1 never forgets."
            )

    def init(self, key: Key, in_features: int) -> LRUParams:
        size = self.state_features or self.features
        keys = jax.random.split(key, 7)
        low, high = self.min_radius**2, self.max_radius**2
        # Uniform in area: the square of the radius is uniform. Never exactly 0, nor an angle of 0.
        draw = functools.partial(jax.random.uniform, shape=(size,), dtype=jnp.float32)
        square = draw(keys[0], minval=max(low, 1e-12), maxval=high)
        phase = self.max_phase * draw(keys[1], minval=1e-6)
        return LRUParams(
            initializers.input_kernel(keys[2], in_features, size) / math.sqrt(2),
            initializers.input_kernel(keys[3], in_features, size) / math.sqrt(2),
            jnp.log(-0.5 * jnp.log(square)),
            jnp.log(phase),
            0.5 * jnp.log1p(-square),
            initializers.input_kernel(keys[4], size, self.features),
            initializers.input_kernel(keys[5], size, self.features),
            initializers.input_kernel(keys[6], in_features, self.features),
        )

    def initial_carry(self, params: LRUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        dtype = np.promote_types(wide_dtype(params.nu_log), np.complex64)
        return jnp.zeros((*batch_shape, *params.nu_log.shape), dtype)

    def project(self, params: LRUParams, x: Array) -> LRUInput:
        real, imag = linear(x, params.kernel_real), linear(x, params.kernel_imag)
        gamma = jnp.exp(widened(params.gamma_log, real))
        return LRUInput(lax.complex(gamma * real, gamma * imag), linear(x, params.skip))

    def coefficients(self, params: LRUParams, z: LRUInput) -> tuple[Array, Array]:
        wide = wide_dtype(params.nu_log)
        radius = jnp.exp(-jnp.exp(params.nu_log.astype(wide)))
        phase = jnp.exp(params.theta_log.astype(wide))
        eigenvalues = lax.complex(radius * jnp.cos(phase), radius * jnp.sin(phase))
        return broadcast_to_rank(eigenvalues, z.drive), z.drive

    def readout(self, params: LRUParams, carry: Array, z: LRUInput) -> Array:
        y = real_product(carry, params.output_real, params.output_imag)
        return (y + z.skip).astype(params.skip.dtype)
