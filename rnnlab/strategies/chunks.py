"""A sequence run chunk by chunk, one compiled run inside a loop over them."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from rnnlab.core.cell import Cell
from rnnlab.strategies.base import Inputs, time_join, time_slice

FEW_BYTES = 16 << 20  # projections up to this size are made all at once
CACHE_BYTES = 1 << 20  # of projections that are made for the steps to come


def run_chunks(
    run: Callable[[Inputs], tuple[Any, Any]], inputs: Inputs, chunk: int, reverse: bool
) -> tuple[Any, Any]:
    """`run` over `chunk` steps after another; a rest that does not fill one is a shorter one."""
    sequence = (inputs.xs, inputs.marks)
    length = jax.tree.leaves(inputs.xs)[0].shape[0]
    chunks, rest = divmod(length, chunk)

    def run_chunk(carry, sequence):
        xs, marks = sequence
        return run(inputs._replace(carry=carry, xs=xs, marks=marks))

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


def even_chunk(length: int, wanted: int) -> int:
    """The chunk nearest to `wanted`, by ratio, that leaves no rest; `wanted` if all are far off.

    A rest is run on its own and joined to the others, which takes a copy of all outputs.
    """
    even = [c for c in range(1, length + 1) if length % c == 0 and wanted <= 2 * c <= 4 * wanted]
    return min(even, key=lambda c: abs(math.log(c / wanted)), default=min(wanted, length))


def cached_steps(cell: Cell, inputs: Inputs) -> int | None:
    """For how many steps to project at once, on a CPU; None for all of them.

    Large projections are written to memory that the system has just handed out and read again from
    there: both cost more than the loop over chunks. It asks the process that traces.
    """
    if jax.default_backend() != "cpu":
        return None
    length = jax.tree.leaves(inputs.xs)[0].shape[0]
    zs = jax.tree.leaves(jax.eval_shape(cell.project, inputs.params, inputs.xs))
    total = sum(z.size * z.dtype.itemsize for z in zs)
    if total <= FEW_BYTES:
        return None
    return even_chunk(length, max(1, round(CACHE_BYTES * length / total)))
