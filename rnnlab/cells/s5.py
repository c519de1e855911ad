"""The simplified state space layer: a complex diagonal system, discretised."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab.core import initializers
from rnnlab.core.cell import LinearCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import broadcast_to_rank, linear, real_product, wide_dtype
from rnnlab.core.types import Array, Key


class S5Params(NamedTuple):
    """Parameters of `S5`; lambda and the complex matrices in real form."""

    kernel_real: Array  # [F, N]
    kernel_imag: Array  # [F, N]
    decay_log: Array  # [N], Re(lambda) = -exp(decay_log)
    frequency: Array  # [N], Im(lambda)
    step_log: Array  # [N], log of the time between two steps
    output_real: Array  # [N, H]
    output_imag: Array  # [N, H]
    skip: Array  # [F, H]


class S5Input(NamedTuple):
    """z of `S5`: what drives the state, and what goes past it."""

    drive: Array  # [..., N], complex
    skip: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class S5(LinearCell[S5Params, Array]):
    """Diagonal state space layer, discretised under a zero-order hold.

        dh/dt = lambda * h + x B,    y = 2 Re(h C) + x D
        h_t = a * h_{t-1} + (a - 1) / lambda * (x_t B),    a = exp(step * lambda)

    The state stands for 2N numbers in conjugate pairs, of which one each is kept. lambda starts at
    the eigenvalues of the normal part of the HiPPO-LegS matrix of that size, and B and C in its
    eigenbasis. The carry is complex, `[*batch, N]`.

    Args:
      features: H, the size of y.
      state_features: N, the size of the complex state; None takes H.
      min_step: smallest starting step, above 0.
      max_step: largest.

    Raises:
      ValueError: steps out of order.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.S5(16, state_features=32)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Associative())

    References: Smith et al. 2022, "Simplified state space layers for sequence modeling", section 3
    and appendix B. One HiPPO block, not several. Re(lambda) is kept negative by an exponential. D
    is a matrix, so that F and H may differ; the paper's is diagonal. The activation and the gate
    that the paper puts after the layer are left to the model.
    """

    features: int
    state_features: int | None = None
    min_step: float = 1e-3
    max_step: float = 0.1

    def __post_init__(self):
        check_size("S5", features=self.features)
        if self.state_features is not None:
            check_size("S5", state_features=self.state_features)
        initializers.check_steps("S5", self.min_step, self.max_step)

    def init(self, key: Key, in_features: int) -> S5Params:
        size = self.state_features or self.features
        frequency, real, imag = (jnp.asarray(a, jnp.float32) for a in _hippo_normal(size))
        keys = jax.random.split(key, 4)
        kernel = initializers.input_kernel(keys[0], in_features, 2 * size)
        output = initializers.input_kernel(keys[1], 2 * size, self.features)
        return S5Params(
            kernel @ real,
            -kernel @ imag,
            jnp.full(size, np.log(0.5), jnp.float32),
            frequency,
            initializers.log_uniform(keys[2], size, self.min_step, self.max_step),
            real.T @ output,
            imag.T @ output,
            initializers.input_kernel(keys[3], in_features, self.features),
        )

    def initial_carry(self, params: S5Params, batch_shape: tuple[int, ...] = ()) -> Array:
        dtype = np.promote_types(wide_dtype(params.step_log), np.complex64)
        return jnp.zeros((*batch_shape, *params.step_log.shape), dtype)

    def project(self, params: S5Params, x: Array) -> S5Input:
        drive = lax.complex(linear(x, params.kernel_real), linear(x, params.kernel_imag))
        eigenvalues, step = self._continuous(params)
        held = jnp.expm1(step * eigenvalues) / eigenvalues
        return S5Input(broadcast_to_rank(held, drive) * drive, linear(x, params.skip))

    def coefficients(self, params: S5Params, z: S5Input) -> tuple[Array, Array]:
        eigenvalues, step = self._continuous(params)
        return broadcast_to_rank(jnp.exp(step * eigenvalues), z.drive), z.drive

    def readout(self, params: S5Params, carry: Array, z: S5Input) -> Array:
        y = 2 * real_product(carry, params.output_real, params.output_imag)
        return (y + z.skip).astype(params.skip.dtype)

    def _continuous(self, params: S5Params) -> tuple[Array, Array]:
        """Lambda and the step, both complex."""
        wide = wide_dtype(params.step_log)
        decay, frequency, step = (
            a.astype(wide) for a in (params.decay_log, params.frequency, params.step_log)
        )
        step = jnp.exp(step)
        return lax.complex(-jnp.exp(decay), frequency), lax.complex(step, jnp.zeros_like(step))


def _hippo_normal(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The spectrum of the normal part of HiPPO-LegS, which is -1/2 I plus a skew matrix.

    Returns:
      Of the upper eigenvalue of each conjugate pair the imaginary part `[N]`, and its eigenvector,
      real part and imaginary part `[2N, N]`.
    """
    root = np.sqrt(np.arange(2 * size) + 0.5)
    outer = np.outer(root, root)
    skew = np.triu(outer, 1) - np.tril(outer, -1)
    frequency, basis = np.linalg.eigh(-1j * skew)  # ascending
    upper = basis[:, size:]
    return frequency[size:], np.real(upper), np.imag(upper)
