"""`lax.scan` over the sequential part, with the projection of all inputs hoisted out of it."""

import dataclasses

from jax import lax

from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.strategies.base import Inputs, Strategy, readout, recur
from rnnlab.strategies.chunks import cached_steps, run_chunks


@dataclasses.dataclass(frozen=True)
class Scan(Strategy[Cell]):
    """Projects all T inputs as one matmul, then scans `recur` and `readout`. The default.

    On a CPU, many and wide projections are made in chunks of steps that stay in cache.

    Compile time and program size do not depend on T. Its gradient stores what autodiff needs of
    every step and carries the gradient of the parameters through the reverse loop.

    Attributes:
      unroll: steps per iteration of the compiled loop. More of them costs compile time, and pays
        for sequences of a few steps only: see `benchmarks/results/scan_vs_unrolled.md`.
    """

    unroll: int = 1

    def __post_init__(self):
        check_size("Scan", unroll=self.unroll)

    def run(self, cell: Cell, inputs: Inputs, reverse: bool):
        def run(inputs):
            zs = cell.project(inputs.params, inputs.xs)
            return scan_projected(cell, inputs._replace(xs=zs), reverse, self.unroll)

        chunk = cached_steps(cell, inputs)
        return run_chunks(run, inputs, chunk, reverse) if chunk else run(inputs)


def scan_projected(cell: Cell, inputs: Inputs, reverse: bool, unroll: int):
    """The loop of `Scan` over inputs that have been projected: `inputs.xs` holds z."""
    params, carry, initial, zs, marks = inputs

    def body(carry, now):
        z, marks = now
        carry = recur(cell, params, initial, carry, z, marks)
        return carry, readout(cell, params, initial, carry, z, marks)

    return lax.scan(body, carry, (zs, marks), reverse=reverse, unroll=unroll)
