"""A cell with a skip connection around it."""

import dataclasses
from typing import Any

import jax

from rnnlab.core.types import Array, Key
from rnnlab.core.wrapper import Wrapper, init_of_one_size


@dataclasses.dataclass(frozen=True)
class Residual(Wrapper):
    """Adds a cell's input to its output.

        y_t = readout(h_t, z_t) + x_t

    Its parameters and its carry are those of the cell inside. As a cell it runs under the
    strategies that serve every cell; as a layer of `rnnlab.sequences.stack` the cell inside runs
    under any strategy it allows.

    Args:
      cell: what to wrap; its output has as many features as its input.

    Raises:
      TypeError: what is wrapped is not a cell, or is or holds a `Zoneout`, which reads `(x, keep)`.
      ValueError: at `init`, where input and output sizes differ.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.Residual(rnnlab.cells.GRU(16))
        >>> params = cell.init(jax.random.key(0), in_features=16)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 16)))

    References: He et al. 2016, "Deep residual learning for image recognition".
    """

    def init(self, key: Key, in_features: int) -> Any:
        return init_of_one_size("Residual", self.cell, key, in_features)

    def inner_params(self, params: Any) -> Any:
        return params

    def enter(self, params: Any, x: Array) -> tuple[Array, Array]:
        return x, x

    def leave(self, params: Any, side: Array, y: Array) -> Array:
        return jax.tree.map(lambda x, y: x.astype(y.dtype) + y, side, y)
