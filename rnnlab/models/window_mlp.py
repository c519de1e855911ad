"""A multilayer perceptron over the last steps."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.checks import check_size
from rnnlab.core.initializers import input_kernel
from rnnlab.core.ops import linear, wide_dtype
from rnnlab.core.types import Array, Key
from rnnlab.models.history import Dropout, HistoryBody, Window


class WindowLayerParams(NamedTuple):
    """Parameters of a layer over K steps."""

    kernel: Array  # [K, F, H], the newest step last
    bias: Array  # [H]


def window_layer(key: Key, width: int, in_features: int, features: int) -> WindowLayerParams:
    """Draws the float32 parameters of a layer over `width` steps of `in_features`."""
    check_size("init", in_features=in_features)
    kernel = input_kernel(key, width * in_features, features)
    return WindowLayerParams(kernel.reshape(width, in_features, features), jnp.zeros(features))


def window_ring(params: WindowLayerParams, batch_size: int, dilation: int = 1) -> Array:
    """What such a layer remembers before the first step, `[B, P, F]`."""
    width, in_features, _ = params.kernel.shape
    size = max(1, dilation * (width - 1))
    return jnp.zeros((batch_size, size, in_features), wide_dtype(params.kernel))


def over_window(
    params: WindowLayerParams, xs: Array, ring: Array, window: Window, dilation: int = 1
) -> Array:
    """sum_k x_{t - (K - k) dilation} W_k + b, k = 1, ..., K, of `[B, T, F]`: `[B, T, H]`.

    One matmul over the K steps side by side: XLA has no fast dilated convolution on a CPU, the
    gradient least of all, and none that stops where a text starts.
    """
    width = len(params.kernel)
    steps = [window.back(ring, xs, dilation * k) for k in reversed(range(width))]
    kernel = lax.collapse(params.kernel, 0, 2)
    return linear(jnp.concatenate(steps, axis=-1), kernel, params.bias)


@dataclasses.dataclass(frozen=True)
class WindowMLP(HistoryBody):
    """Looks at the last `context` inputs at once, and at nothing before them.

        y_t = tanh([x_{t-n+1}, ..., x_t] W + b),    further layers: y_t <- tanh(y_t W_l + b_l)

    Inputs before the first of a text are zero.

    Args:
      features: H, of every layer.
      context: n.
      layers: hidden layers.

    Raises:
      ValueError: a size below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from rnnlab.models import WindowMLP
        >>> body = WindowMLP(features=8, context=4)
        >>> params = body.init(jax.random.key(0), in_features=3)
        >>> carry, ys = body.apply(params, jnp.ones((10, 2, 3)))
        >>> ys.shape
        (10, 2, 8)

    References: Bengio et al. 2003, "A neural probabilistic language model", without the direct
    connections from the inputs to the softmax.
    """

    features: int
    context: int = 8
    layers: int = 1

    def __post_init__(self):
        check_size("WindowMLP", features=self.features, context=self.context, layers=self.layers)

    def init(self, key: Key, in_features: int) -> tuple[WindowLayerParams, ...]:
        first, *keys = jax.random.split(key, self.layers)
        layers = [window_layer(first, self.context, in_features, self.features)]
        layers += [window_layer(key, 1, self.features, self.features) for key in keys]
        return tuple(layers)

    def rings(self, params: tuple[WindowLayerParams, ...], batch_size: int) -> Array:
        return window_ring(params[0], batch_size)

    def run(
        self,
        params: tuple[WindowLayerParams, ...],
        xs: Array,
        rings: Array,
        window: Window,
        drop: Dropout,
    ) -> tuple[Array, Array]:
        first, *further = params
        ys = jnp.tanh(over_window(first, xs, rings, window))
        for number, layer in enumerate(further):
            ys = jnp.tanh(linear(drop(number, ys), layer.kernel[0], layer.bias))
        return window.write(rings, xs), ys.astype(first.kernel.dtype)
