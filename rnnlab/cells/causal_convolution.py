"""A short causal convolution over time that also runs step by step."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from rnnlab.core import initializers
from rnnlab.core.checks import check_size
from rnnlab.core.ops import (
    Activation,
    activation_function,
    check_features,
    linear,
    wide_dtype,
    widened,
)
from rnnlab.core.types import Array, Key
from rnnlab.core.window_cell import WindowCell, WindowInput


class CausalConvolutionParams(NamedTuple):
    """Parameters of `CausalConvolution` over C of the features of its inputs."""

    kernel: Array  # [K, C], the newest input last; [K, C, H] with `features`
    bias: Array  # [C]; [H] with `features`


@dataclasses.dataclass(frozen=True)
class CausalConvolution(WindowCell[CausalConvolutionParams]):
    """A convolution over the last K inputs.

        depthwise:        y_t = g(sum_k w_k * x_{t-K+k} + b),    k = 1, ..., K
        with `features`:  y_t = g(sum_k x_{t-K+k} W_k + b)

    Its carry is the window of these K inputs, `[*batch, K, C]`, so streaming equals unrolling and
    a reset clears it. Inputs before the first are zero, and a masked step is as if it was not
    there.

    Args:
      width: K.
      features: H, the size of y; None convolves channel by channel, so that y is as large as x.
      activation: g, a name of `rnnlab.core.ops.ACTIVATIONS` or a function.
      passed: how many features, the last ones, go past the convolution as they are.

    Raises:
      ValueError: an unknown activation; at `init`, no feature left to convolve.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.CausalConvolution(width=4, activation="silu")
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> window, ys = rnnlab.unroll(
        ...     cell, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Associative())

    References: Gu & Dao 2023, "Mamba", section 3.4; Fukushima 1980, "Neocognitron". The window
    holds x_t too, where K - 1 inputs would do: a readout sees the carry after its step.
    """

    width: int = 4
    features: int | None = None
    activation: Activation = "identity"
    passed: int = 0

    def __post_init__(self):
        check_size("CausalConvolution", width=self.width)
        if self.features is not None:
            check_size("CausalConvolution", features=self.features)
        if self.passed:
            check_size("CausalConvolution", passed=self.passed)
        activation_function(self.activation)

    def init(self, key: Key, in_features: int) -> CausalConvolutionParams:
        check_size("init", in_features=in_features)
        channels = in_features - self.passed
        if channels < 1:
            raise ValueError(
                f"CausalConvolution: expected more than passed={self.passed} features, got"
                f" in_features={in_features}."
            )
        shape = (self.width, channels)
        if self.features is None:
            kernel = initializers.input_kernel(key, *shape)
        else:
            kernel = initializers.input_kernel(key, self.width * channels, self.features)
            kernel = kernel.reshape(*shape, self.features)
        return CausalConvolutionParams(kernel, jnp.zeros(kernel.shape[-1], jnp.float32))

    def initial_carry(
        self, params: CausalConvolutionParams, batch_shape: tuple[int, ...] = ()
    ) -> Array:
        return jnp.zeros((*batch_shape, *params.kernel.shape[:2]), wide_dtype(params.kernel))

    def project(self, params: CausalConvolutionParams, x: Array) -> WindowInput:
        depthwise = params.kernel.ndim == 2
        convolved = x[..., : x.shape[-1] - self.passed] if self.passed else x
        check_features(convolved, params.kernel.T if depthwise else params.kernel)
        x = x.astype(params.kernel.dtype).astype(wide_dtype(params.kernel))
        return WindowInput(*jnp.split(x, params.kernel.shape[1:2], axis=-1))

    def readout(self, params: CausalConvolutionParams, carry: Array, z: WindowInput) -> Array:
        kernel = params.kernel
        if kernel.ndim == 2:
            y = jnp.sum(carry * widened(kernel, carry), axis=-2)
        else:
            y = linear(lax.collapse(carry, carry.ndim - 2), lax.collapse(kernel, 0, 2))
        y = activation_function(self.activation)(y + widened(params.bias, y))
        return jnp.concatenate([y, z.passed], axis=-1).astype(params.kernel.dtype)
