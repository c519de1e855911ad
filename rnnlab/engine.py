"""`unroll`: checks what it is given, then runs a cell over a sequence with a strategy."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec, reshard

from rnnlab.core import checks
from rnnlab.core.cell import Cell
from rnnlab.core.ops import zero_unless
from rnnlab.core.types import Array, PyTree
from rnnlab.core.varying import varying_alike
from rnnlab.strategies.base import Inputs, Marks, Strategy
from rnnlab.strategies.scan import Scan


def unroll(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    carry: PyTree | None = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    reverse: bool = False,
    strategy: Strategy = Scan(),
) -> tuple[Any, Any]:
    """Runs a cell over a sequence.

        h_t = recur(h_{t-1}, project(x_t)),    y_t = readout(h_t, project(x_t))

    It is compiled by one internal `jax.jit` with cell, strategy and `reverse` static, so equal
    cells share one trace; inside your own `jit`, `grad` or `vmap` it is part of that program.

    Args:
      cell: what to run.
      params: the cell's parameters. Their dtype is the compute dtype.
      xs: inputs `[T, *batch, F]`, time first, any number of batch axes; or a tree of such arrays
        for a cell that reads one.
      carry: what the first step starts from; None takes `cell.initial_carry(params, batch)`.
      mask: bool `[T, *batch]`. A masked (False) step leaves the carry as it was, after its reset,
        and its output is zero. What `xs` holds there changes nothing, be it NaN.
      reset: bool `[T, *batch]`. Before a step where it is True, in processing order, the carry
        becomes `cell.initial_carry(params)`; also on a masked step.
      reverse: processes the last step first. Outputs stay in input order, and `mask` and `reset`
        are read literally, so right padding needs no flipping.
      strategy: how to run it; see `rnnlab.strategies`.

    Returns:
      The carry after the last step processed, and the outputs `[T, *batch, ...]`.

    Raises:
      TypeError: a cell, array, mask or carry of the wrong type, dtype or structure.
      ValueError: shapes that do not fit, or a strategy that cannot run this cell.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.LSTM(8)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> mask = rnnlab.lengths_to_mask(jnp.array([5, 2]), 5)
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 3)), mask=mask)
        >>> ys.shape, carry.h.shape
        ((5, 2, 8), (2, 8))
    """
    checks.check_cell_type(cell)
    if not isinstance(strategy, Strategy):
        raise TypeError(
            f"strategy: expected an instance such as rnnlab.strategies.Scan(), got {strategy!r}."
        )
    if not isinstance(reverse, bool):
        raise TypeError(f"reverse: expected True or False, a static choice, got {reverse!r}.")
    refusal = strategy.refusal(cell)
    if refusal:
        raise ValueError(f"strategy: {strategy} cannot run {cell}: {refusal}.")
    checks.check_arrays(params=params, xs=xs, carry=carry, mask=mask, reset=reset)
    return _unroll(params, xs, carry, mask, reset, cell=cell, strategy=strategy, reverse=reverse)


@functools.partial(jax.jit, static_argnames=("cell", "strategy", "reverse"))
def _unroll(params, xs, carry, mask, reset, *, cell: Cell, strategy: Strategy, reverse: bool):
    length, batch = checks.sequence_shape(cell, xs)
    checks.check_flags("mask", mask, length, batch)
    checks.check_flags("reset", reset, length, batch)
    initial = varying_alike(cell.initial_carry(params, batch), (params, xs, carry, mask, reset))
    initial = _sharded_alike(initial, xs, len(batch))
    if carry is None:
        carry = initial
    checks.check_carry(cell, carry, initial)
    carry = varying_alike(carry, initial)
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
    y = checks.check_step(cell, params, x, carry)
    checks.check_projection(cell, params, xs, batch)
    if length == 0:
        return carry, jax.tree.map(lambda a: jnp.zeros((0, *a.shape), a.dtype), y)
    inputs = Inputs(params, carry, initial, zero_unless(mask, xs), Marks(mask, reset))
    return strategy.run(cell, inputs, reverse)


def _sharded_alike(tree: PyTree, xs: PyTree, batch_ndim: int) -> PyTree:
    """`tree`, its batch axes sharded as those of `xs` `[T, *batch, ...]` where jax is told how.

    Only under a mesh with explicit axes, where a loop has to keep the sharding of its carry.
    """
    axes = tuple(jax.typeof(jax.tree.leaves(xs)[0]).sharding.spec)[1 : 1 + batch_ndim]
    if not any(axes):
        return tree

    def shard(leaf):
        return reshard(leaf, PartitionSpec(*axes, *[None] * (leaf.ndim - batch_ndim)))

    return jax.tree.map(shard, tree)
