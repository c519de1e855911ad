"""A temporal convolutional network: causal convolutions that look further back in every block."""

import dataclasses
from typing import NamedTuple

import jax

from rnnlab.core.checks import check_size
from rnnlab.core.initializers import matching_kernel
from rnnlab.core.ops import linear_or_same
from rnnlab.core.types import Array, Key
from rnnlab.models.history import Dropout, HistoryBody, Window
from rnnlab.models.window_mlp import WindowLayerParams, over_window, window_layer, window_ring


class TCNBlockParams(NamedTuple):
    """Parameters of a block of a `TCN`."""

    first: WindowLayerParams  # [K, F, H]
    second: WindowLayerParams  # [K, H, H]
    skip_kernel: Array | None  # [F, H]; None where F = H


@dataclasses.dataclass(frozen=True)
class TCN(HistoryBody):
    """Residual blocks of two dilated causal convolutions each.

        u = relu(conv_d(x)),    v = relu(conv_d(u)),    y = relu(v + x),    d = 1, 2, 4, ...

    A block of d looks back 2 (K - 1) d steps: all of them 2 (K - 1) (2^L - 1). Inputs before the
    first of a text are zero.

    Args:
      features: H, of every block.
      blocks: L.
      width: K, steps of a kernel.

    Raises:
      ValueError: a size below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from rnnlab.models import TCN
        >>> body = TCN(features=8, blocks=3)
        >>> params = body.init(jax.random.key(0), in_features=3)
        >>> carry, ys = body.apply(params, jnp.ones((10, 2, 3)))
        >>> ys.shape, body.context
        ((10, 2, 8), 29)

    References: Bai et al. 2018, "An empirical evaluation of generic convolutional and recurrent
    networks for sequence modeling", without weight normalisation.
    """

    features: int
    blocks: int = 4
    width: int = 3

    def __post_init__(self):
        check_size("TCN", features=self.features, blocks=self.blocks, width=self.width)

    @property
    def context(self) -> int:
        """Inputs that an output depends on."""
        return 1 + 2 * (self.width - 1) * (2**self.blocks - 1)

    def init(self, key: Key, in_features: int) -> tuple[TCNBlockParams, ...]:
        check_size("init", in_features=in_features)
        blocks = []
        for block_key in jax.random.split(key, self.blocks):
            first, second, skip = jax.random.split(block_key, 3)
            blocks.append(
                TCNBlockParams(
                    window_layer(first, self.width, in_features, self.features),
                    window_layer(second, self.width, self.features, self.features),
                    matching_kernel(skip, in_features, self.features),
                )
            )
            in_features = self.features
        return tuple(blocks)

    def rings(self, params: tuple[TCNBlockParams, ...], batch_size: int) -> tuple:
        return tuple(
            tuple(window_ring(layer, batch_size, 2**i) for layer in (block.first, block.second))
            for i, block in enumerate(params)
        )

    def run(
        self,
        params: tuple[TCNBlockParams, ...],
        xs: Array,
        rings: tuple,
        window: Window,
        drop: Dropout,
    ) -> tuple[tuple, Array]:
        after = []
        for i, (block, (old_x, old_u)) in enumerate(zip(params, rings, strict=True)):
            us = jax.nn.relu(over_window(block.first, xs, old_x, window, 2**i))
            us = drop(2 * i, us)
            vs = jax.nn.relu(over_window(block.second, us, old_u, window, 2**i))
            after.append((window.write(old_x, xs), window.write(old_u, us)))
            skip = linear_or_same(xs, block.skip_kernel, block.first.kernel)
            xs = jax.nn.relu(drop(2 * i + 1, vs) + skip)
        return tuple(after), xs.astype(params[0].first.kernel.dtype)
