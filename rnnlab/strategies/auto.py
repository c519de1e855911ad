"""Chooses a strategy from the cell, the shape and the platform."""

import dataclasses
import math

import jax

from rnnlab.core.cell import Cell
from rnnlab.core.checks import sequence_shape
from rnnlab.select import select_strategy
from rnnlab.strategies.base import Inputs, Strategy


@dataclasses.dataclass(frozen=True)
class Auto(Strategy[Cell]):
    """Runs what `rnnlab.select.select_strategy` names: the only strategy that may choose."""

    def run(self, cell: Cell, inputs: Inputs, reverse: bool):
        length, batch = sequence_shape(cell, inputs.xs)
        chosen = select_strategy(cell, length, math.prod(batch), jax.default_backend())
        return chosen.run(cell, inputs, reverse)
