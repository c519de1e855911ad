"""A cell with a gated path past it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.ops import gates, linear
from rnnlab.core.types import Array, Key
from rnnlab.core.wrapper import Wrapper, init_of_one_size


class HighwayParams(NamedTuple):
    """Parameters of `Highway`."""

    cell: Any  # of the cell inside
    kernel: Array  # [F, F], of the transform gate
    bias: Array  # [F]


class HighwaySide(NamedTuple):
    """What goes past the cell inside."""

    x: Array  # [..., F]
    transform: Array  # [..., F]


@dataclasses.dataclass(frozen=True)
class Highway(Wrapper):
    """Lets a gate choose between a cell's output and its input.

        t = sigmoid(x_t W + b),    y_t = t * readout(h_t, z_t) + (1 - t) * x_t

    Its carry is that of the cell inside. As a cell it runs under the strategies that serve every
    cell; as a layer of `rnnlab.sequences.stack` the cell inside runs under any strategy it allows.

    Args:
      cell: what to wrap; its output has as many features as its input.
      transform_bias: initial b; below 0 the input passes at first.

    Raises:
      TypeError: what is wrapped is not a cell, or is or holds a `Zoneout`, which reads `(x, keep)`.
      ValueError: at `init`, where input and output sizes differ.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.Highway(rnnlab.cells.GRU(16))
        >>> params = cell.init(jax.random.key(0), in_features=16)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 16)))

    References: Srivastava et al. 2015, "Highway networks", eq. 3. Their layer is a dense one, ours
    a recurrent cell.
    """

    transform_bias: float = -1.0

    def init(self, key: Key, in_features: int) -> HighwayParams:
        key_cell, key_gate = jax.random.split(key)
        return HighwayParams(
            init_of_one_size("Highway", self.cell, key_cell, in_features),
            initializers.input_kernel(key_gate, in_features, in_features),
            jnp.full(in_features, self.transform_bias, jnp.float32),
        )

    def inner_params(self, params: HighwayParams) -> Any:
        return params.cell

    def enter(self, params: HighwayParams, x: Array) -> tuple[Array, HighwaySide]:
        (transform,) = gates(linear(x, params.kernel, params.bias), ("sigmoid",))
        return x, HighwaySide(x, transform)

    def leave(self, params: HighwayParams, side: HighwaySide, y: Array) -> Array:
        t = side.transform
        return (t * y.astype(t.dtype) + (1 - t) * side.x.astype(t.dtype)).astype(y.dtype)
