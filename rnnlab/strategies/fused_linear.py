"""A linear cell over a sequence: matmuls of many steps, and the CPU kernel's loop between them."""

import math

import jax
import jax.numpy as jnp

from rnnlab.core.cell import LinearCell
from rnnlab.core.checks import sequence_shape
from rnnlab.core.ops import zero_unless
from rnnlab.core.types import Array
from rnnlab.kernels.linear import linear_scan
from rnnlab.strategies.base import Inputs, coefficients, hold, readout
from rnnlab.strategies.chunks import cached_steps, run_chunks


def run_linear(cell: LinearCell, inputs: Inputs, reverse: bool):
    """As `Strategy.run`. Long sequences go in chunks of steps that stay in cache."""

    def run(inputs):
        return _run(cell, inputs, reverse)

    chunk = cached_steps(cell, inputs)
    return run_chunks(run, inputs, chunk, reverse) if chunk else run(inputs)


def _run(cell: LinearCell, inputs: Inputs, reverse: bool):
    params, carry, initial, xs, (mask, reset) = inputs
    zs = cell.project(params, xs)
    length, batch = sequence_shape(cell, xs)
    a, b = coefficients(cell, inputs, zs, (length, *batch))
    a = jax.tree.map(lambda a, b: a.astype(b.dtype), a, b)  # the kernel reads one dtype
    if mask is not None or reset is not None:
        a = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), a, b)
    if mask is not None:
        a, b = hold(mask, a, cell.identity(a)), zero_unless(mask, b)
    if reset is not None:
        before = jax.tree.map(lambda c, b: jnp.broadcast_to(c, b.shape), initial, b)
        restarted = jax.tree.map(jnp.add, cell.apply(a, before), b)
        b = hold(reset, restarted, b)
        reset = reset.reshape(length, math.prod(batch))

    def leaf(a: Array, b: Array, start: Array) -> Array:
        a, rows = _as_rows(a, b, len(batch)), _as_rows(b, b, len(batch))
        start = start.reshape(rows.shape[1:])
        return linear_scan(a, rows, start, reset, reverse=reverse).reshape(b.shape)

    carries = jax.tree.map(leaf, a, b, carry)
    last = jax.tree.map(lambda c: c[0 if reverse else -1], carries)
    return last, readout(cell, params, initial, carries, zs, inputs.marks)


def _as_rows(a: Array, b: Array, batch_rank: int) -> Array:
    """[T, *batch, ...] as [T, B, N], where T and B stay 1 if `a` is the same for all of them."""
    lead = 1 + batch_rank
    rows = a.shape[1:lead] if math.prod(a.shape[1:lead]) == 1 else b.shape[1:lead]
    a = jnp.broadcast_to(a, (a.shape[0], *rows, *b.shape[lead:]))
    return a.reshape(a.shape[0], math.prod(rows), math.prod(b.shape[lead:]))
