"""Chooses a strategy from the cell, the shape and the platform."""

import dataclasses
import math

import jax

from rnnlab.core.cell import Cell
from rnnlab.core.checks import sequence_shape
from rnnlab.core.types import PyTree
from rnnlab.select import select_strategy
from rnnlab.strategies.base import Inputs, Strategy
from rnnlab.strategies.deferred import Deferred
from rnnlab.strategies.fused import Fused


@dataclasses.dataclass(frozen=True)
class Auto(Strategy[Cell]):
    """Runs what `rnnlab.select.select_strategy` names: the only strategy that may choose."""

    def run(self, cell: Cell, inputs: Inputs, reverse: bool):
        length, batch = sequence_shape(cell, inputs.xs)
        chosen = select_strategy(cell, length, math.prod(batch), jax.default_backend())
        return _for_inputs(chosen, inputs.xs).run(cell, inputs, reverse)


def _for_inputs(chosen: Strategy, xs: PyTree) -> Strategy:
    """`Deferred` in place of `Fused` for inputs that are shared out among devices."""
    shared = any(any(jax.typeof(x).sharding.spec) for x in jax.tree.leaves(xs))
    return Deferred() if shared and isinstance(chosen, Fused) else chosen
