"""A Python loop over `step`: what every other strategy is tested against."""

import dataclasses

import jax
import jax.numpy as jnp

from rnnlab.core.cell import Cell
from rnnlab.core.ops import zero_unless
from rnnlab.strategies.base import Inputs, Strategy, hold, restart, sound


@dataclasses.dataclass(frozen=True)
class Unrolled(Strategy[Cell]):
    """One copy of the step for every time step in the compiled program.

    The plainest way to run a cell, so it is the oracle of the tests. XLA sees across steps, which
    can help for a handful of them, but compile time grows with T and faster than T for gradients.
    """

    def run(self, cell: Cell, inputs: Inputs, reverse: bool):
        params, carry, initial, xs, marks = inputs
        length = jax.tree.leaves(xs)[0].shape[0]
        ys = []
        for t in reversed(range(length)) if reverse else range(length):
            x, (mask, reset) = jax.tree.map(lambda a, t=t: a[t], (xs, marks))
            before = restart(reset, initial, carry)
            after, y = cell.step(params, sound(mask, before, initial), x)
            carry = hold(mask, after, before)
            ys.append(zero_unless(mask, y))
        if reverse:
            ys.reverse()
        return carry, jax.tree.map(lambda *y: jnp.stack(y), *ys)
