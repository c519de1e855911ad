"""A scan over checkpointed chunks: memory for the gradient grows with the square root of T."""

import dataclasses
import math

import jax
from jax import lax

from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.strategies.base import Inputs, Strategy, time_join, time_slice
from rnnlab.strategies.scan import Scan


@dataclasses.dataclass(frozen=True)
class Remat(Strategy[Cell]):
    """Keeps the carry at chunk boundaries only and runs each chunk again in the reverse pass.

    With chunks of about sqrt(T) steps the gradient needs O(sqrt T) memory besides inputs and
    outputs, for one more forward pass. Projections are recomputed too. A rest that does not fill a
    chunk is run as a shorter one.

    Attributes:
      chunk: steps per chunk; None takes the square root of T, rounded up.

    References: Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """

    chunk: int | None = None

    def __post_init__(self):
        if self.chunk is not None:
            check_size("Remat", chunk=self.chunk)

    def run(self, cell: Cell, inputs: Inputs, reverse: bool):
        length = jax.tree.leaves(inputs.xs)[0].shape[0]
        chunk = min(length, self.chunk or math.ceil(math.sqrt(length)))
        chunks, rest = divmod(length, chunk)
        sequence = (inputs.xs, inputs.marks)

        @jax.checkpoint
        def run_chunk(carry, sequence):
            xs, marks = sequence
            return Scan().run(cell, inputs._replace(carry=carry, xs=xs, marks=marks), reverse)

        # The rest comes last in processing order, so it stands first in time when reversed.
        cut = rest if reverse else length - rest
        whole = time_slice(sequence, *((cut, length) if reverse else (0, cut)))
        whole = jax.tree.map(lambda a: a.reshape(chunks, chunk, *a.shape[1:]), whole)
        carry, ys = lax.scan(run_chunk, inputs.carry, whole, reverse=reverse)
        ys = jax.tree.map(lambda a: a.reshape(chunks * chunk, *a.shape[2:]), ys)
        if not rest:
            return carry, ys
        last = time_slice(sequence, *((0, cut) if reverse else (cut, length)))
        carry, last_ys = run_chunk(carry, last)
        return carry, time_join([last_ys, ys] if reverse else [ys, last_ys])
