"""A parallel scan over time, for cells whose step is an affine map of the carry."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.cell import AffineCell, Cell
from rnnlab.core.checks import sequence_shape
from rnnlab.core.ops import zero_unless
from rnnlab.core.types import Array, PyTree
from rnnlab.strategies.base import Inputs, Strategy, coefficients, hold, readout, restart

_Step = tuple[PyTree, PyTree, Array]  # a and b, and whether it starts from a known carry


@dataclasses.dataclass(frozen=True)
class Associative(Strategy[AffineCell]):
    """Composes the steps h -> A h + b pairwise, in O(log T) rounds instead of T.

    It does about twice the arithmetic of the loop and keeps every carry, so it pays where
    parallelism is plentiful: long sequences on an accelerator.

    References: Blelloch 1990, "Prefix sums and their applications"; Martin & Cundy 2018,
    "Parallelizing linear recurrent neural nets over sequence length".
    """

    def refusal(self, cell: Cell) -> str | None:
        if isinstance(cell, AffineCell):
            return None
        return (
            f"it composes the steps h -> A h + b of an rnnlab.AffineCell, such as a LinearCell, and"
            f" {type(cell).__name__} is none. Use Scan() or Remat(), or run what a wrapper or a"
            f" stack is made of part by part with rnnlab.sequences.stack"
        )

    def run(self, cell: AffineCell, inputs: Inputs, reverse: bool):
        params, _, initial, xs, marks = inputs
        zs = cell.project(params, xs)
        length, batch = sequence_shape(cell, xs)
        lead = (length, *batch)
        a, b = coefficients(cell, inputs, zs, lead)
        a = jax.tree.map(lambda a: jnp.broadcast_to(a, lead + a.shape[len(lead) :]), a)
        a = hold(marks.mask, a, cell.identity(a))
        b = zero_unless(marks.mask, b)

        # A step that starts from a known carry is a constant, and `starts` cuts off what came
        # before it: not by a factor of zero, since a NaN must not survive a reset.
        starts = jnp.zeros(lead, bool).at[-1 if reverse else 0].set(True)
        before = jax.tree.map(lambda c, like: jnp.broadcast_to(c, like.shape), inputs.carry, b)
        if marks.reset is not None:
            starts = starts | marks.reset
            before = restart(marks.reset, initial, before)
        constant = jax.tree.map(jnp.add, cell.apply(a, zero_unless(starts, before)), b)
        b = hold(starts, constant, b)

        steps = (zero_unless(~starts, a), b, starts)
        compose = functools.partial(_compose, cell)
        steps = lax.associative_scan(compose, steps, reverse=reverse)
        carries = steps[1]
        last = jax.tree.map(lambda c: c[0 if reverse else -1], carries)
        return last, readout(cell, params, initial, carries, zs, marks)


def _compose(cell: AffineCell, first: _Step, then: _Step) -> _Step:
    """The step that does `first` and then `then`."""
    (a1, b1, start1), (a2, b2, start2) = first, then
    a1, b1 = zero_unless(~start2, (a1, b1))
    b = jax.tree.map(jnp.add, cell.apply(a2, b1), b2)
    return cell.compose(a1, a2), b, start1 | start2
