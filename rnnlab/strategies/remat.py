"""A scan over checkpointed chunks: memory for the gradient grows with the square root of T."""

import dataclasses
import math

import jax

from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.strategies.base import Inputs, Strategy
from rnnlab.strategies.chunks import even_chunk, run_chunks
from rnnlab.strategies.scan import Scan


@dataclasses.dataclass(frozen=True)
class Remat(Strategy[Cell]):
    """Keeps the carry at chunk boundaries only and runs each chunk again in the reverse pass.

    With chunks of about sqrt(T) steps the gradient needs O(sqrt T) memory besides inputs and
    outputs, for one more forward pass. Projections are recomputed too. A rest that does not fill a
    chunk is run as a shorter one.

    Attributes:
      chunk: steps per chunk; None takes about the square root of T, and no rest if it can.

    References: Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """

    chunk: int | None = None

    def __post_init__(self):
        if self.chunk is not None:
            check_size("Remat", chunk=self.chunk)

    def run(self, cell: Cell, inputs: Inputs, reverse: bool):
        length = jax.tree.leaves(inputs.xs)[0].shape[0]
        chunk = self.chunk or even_chunk(length, math.ceil(math.sqrt(length)))

        @jax.checkpoint
        def run(inputs):
            return Scan().run(cell, inputs, reverse)

        return run_chunks(run, inputs, min(length, chunk), reverse)
