"""Several cells, each reading the output of the one below, as one cell."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax

from rnnlab.core.cell import Cell
from rnnlab.core.types import Key


@dataclasses.dataclass(frozen=True)
class Stack(Cell):
    """A deep cell for running one step at a time: generation and control.

        y^0_t = x_t,    (h^l_t, y^l_t) = step^l(h^l_{t-1}, y^{l-1}_t),    y_t = y^L_t

    Parameters and carry are tuples, one entry a layer, as in `rnnlab.sequences.stack`, which runs
    layer by layer and is what to train with: there each layer projects all of its inputs at once.

    Args:
      cells: the layers, the one that reads the input first; at least one.

    Raises:
      ValueError: there are no layers.
      TypeError: a layer is not a cell.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.Stack((rnnlab.cells.GRU(16), rnnlab.cells.GRU(16)))
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, y = cell.step(params, cell.initial_carry(params), jnp.ones(3))

    References: Graves et al. 2013, "Speech recognition with deep recurrent neural networks".
    """

    cells: tuple[Cell, ...]

    def __post_init__(self):
        if not isinstance(self.cells, Iterable):
            raise TypeError(f"Stack: expected a tuple of cells, got {self.cells!r}.")
        object.__setattr__(self, "cells", tuple(self.cells))  # a list would not be hashable
        if not self.cells:
            raise ValueError("Stack: expected at least one cell, got none.")
        for i, cell in enumerate(self.cells):
            if not isinstance(cell, Cell):
                raise TypeError(f"Stack: cells[{i}] is not an rnnlab.Cell but {cell!r}.")

    @property
    def feature_ndim(self) -> int:
        return self.cells[0].feature_ndim

    def input_shape(self, in_features: int) -> tuple[int, ...]:
        return self.cells[0].input_shape(in_features)

    def init(self, key: Key, in_features: int) -> tuple:
        params = []
        for cell, layer_key in zip(self.cells, jax.random.split(key, len(self.cells)), strict=True):
            params.append(cell.init(layer_key, in_features))
            in_features = cell.out_features(params[-1], in_features)
        return tuple(params)

    def initial_carry(self, params: tuple, batch_shape: tuple[int, ...] = ()) -> tuple:
        layers = zip(self.cells, params, strict=True)
        return tuple(cell.initial_carry(p, batch_shape) for cell, p in layers)

    def project(self, params: tuple, x: Any) -> Any:
        return self.cells[0].project(params[0], x)

    def recur(self, params: tuple, carry: tuple, z: Any) -> tuple:
        new = [self.cells[0].recur(params[0], carry[0], z)]
        y = self.cells[0].readout(params[0], new[0], z)
        for cell, p, h in self._upper_layers(params, carry):
            h, y = cell.step(p, h, y)
            new.append(h)
        return tuple(new)

    def readout(self, params: tuple, carry: tuple, z: Any) -> Any:
        # The z of an upper layer is a function of the carries below: XLA computes it once a step.
        y = self.cells[0].readout(params[0], carry[0], z)
        for cell, p, h in self._upper_layers(params, carry):
            y = cell.readout(p, h, cell.project(p, y))
        return y

    def _upper_layers(self, params: tuple, carry: tuple) -> list[tuple[Cell, Any, Any]]:
        return list(zip(self.cells, params, carry, strict=True))[1:]
