"""The simple recurrent unit: gates that read the input alone, and a highway past the state."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import LinearCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import (
    Activation,
    activation_function,
    gates,
    linear,
    linear_or_same,
    wide_dtype,
    widened,
)
from rnnlab.core.types import Array, Key


class SRUParams(NamedTuple):
    """Parameters of `SRU`."""

    kernel: Array  # [F, 3H], f, r, n
    bias: Array  # [2H], f, r
    skip_kernel: Array | None  # [F, H]; None where F = H


class SRUInput(NamedTuple):
    """z of `SRU`; each `[..., H]`."""

    forget: Array
    reset: Array
    new: Array
    skip: Array


@dataclasses.dataclass(frozen=True)
class SRU(LinearCell[SRUParams, Array]):
    """Simple recurrent unit.

        f = sigmoid(x_t W_f + b_f),    r = sigmoid(x_t W_r + b_r),    n = x_t W_n
        c_t = f * c_{t-1} + (1 - f) * n,    y_t = r * g(c_t) + (1 - r) * x_t

    Args:
      features: H.
      activation: g, a name of `rnnlab.core.ops.ACTIVATIONS` or a function.

    Raises:
      ValueError: an unknown activation.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.SRU(16)
        >>> params = cell.init(jax.random.key(0), in_features=16)
        >>> c, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 16)), strategy=rnnlab.strategies.Associative())

    References: Lei et al. 2017, "Training RNNs as fast as CNNs", section 2, in its first version.
    Later ones ("Simple recurrent units for highly parallelizable recurrence", 2018) let f and r
    read c_{t-1}, which is not linear in c, and scale the highway. Where F and H differ, the
    highway carries x_t W instead of x_t, as in the authors' code.
    """

    features: int
    activation: Activation = "tanh"

    def __post_init__(self):
        check_size("SRU", features=self.features)
        activation_function(self.activation)

    def init(self, key: Key, in_features: int) -> SRUParams:
        kernel_key, skip_key = jax.random.split(key)
        return SRUParams(
            initializers.input_kernel(kernel_key, in_features, 3 * self.features),
            jnp.zeros(2 * self.features, jnp.float32),
            initializers.matching_kernel(skip_key, in_features, self.features),
        )

    def initial_carry(self, params: SRUParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: SRUParams, x: Array) -> SRUInput:
        z = linear(x, params.kernel)
        gate, new = jnp.split(z, [2 * self.features], axis=-1)
        forget, reset = gates(gate + widened(params.bias, gate), ("sigmoid", "sigmoid"))
        skip = linear_or_same(x, params.skip_kernel, params.kernel)
        return SRUInput(forget, reset, new, skip)

    def coefficients(self, params: SRUParams, z: SRUInput) -> tuple[Array, Array]:
        return z.forget, (1 - z.forget) * z.new

    def readout(self, params: SRUParams, carry: Array, z: SRUInput) -> Array:
        seen = activation_function(self.activation)(carry)
        return (z.reset * seen + (1 - z.reset) * z.skip).astype(params.kernel.dtype)
