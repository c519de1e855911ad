"""A cell with a skip connection around it."""

import dataclasses
from typing import Any, NamedTuple

import jax

from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_cell_type
from rnnlab.core.types import Array, Key


class ResidualInput(NamedTuple):
    """z of `Residual`."""

    inner: Any  # z of the wrapped cell
    x: Array  # [..., F]


@dataclasses.dataclass(frozen=True)
class Residual(Cell):
    """Adds a cell's input to its output.

        y_t = readout(h_t, z_t) + x_t

    Its parameters and its carry are those of the cell inside. As a cell it runs under the
    strategies that serve every cell; as a layer of `rnnlab.sequences.stack` the cell inside runs
    under any strategy it allows.

    Args:
      cell: what to wrap; its output has as many features as its input.

    Raises:
      TypeError: what is wrapped is not a cell.
      ValueError: at `init`, where input and output sizes differ.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.Residual(rnnlab.cells.GRU(16))
        >>> params = cell.init(jax.random.key(0), in_features=16)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 16)))

    References: He et al. 2016, "Deep residual learning for image recognition".
    """

    cell: Cell

    def __post_init__(self):
        check_cell_type(self.cell)

    def init(self, key: Key, in_features: int) -> Any:
        params = self.cell.init(key, in_features)
        out_features = self.cell.out_features(params, in_features)
        if out_features != in_features:
            raise ValueError(
                f"Residual: expected {self.cell} to put out as many features as it reads, got"
                f" {in_features} in and {out_features} out. Give the cell {in_features} features,"
                f" or leave the first layer of a stack without Residual."
            )
        return params

    def initial_carry(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        return self.cell.initial_carry(params, batch_shape)

    def project(self, params: Any, x: Array) -> ResidualInput:
        return ResidualInput(self.cell.project(params, x), x)

    def recur(self, params: Any, carry: Any, z: ResidualInput) -> Any:
        return self.cell.recur(params, carry, z.inner)

    def readout(self, params: Any, carry: Any, z: ResidualInput) -> Array:
        return self.combine(z.x, self.cell.readout(params, carry, z.inner))

    def combine(self, x: Array, y: Array) -> Array:
        """The output of the layer from its input and the output of the cell inside."""
        return jax.tree.map(lambda x, y: x.astype(y.dtype) + y, x, y)
