"""Functions of whole sequences: lengths, both directions, several layers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from rnnlab.cells.stack import Stack
from rnnlab.core import checks
from rnnlab.core.cell import Cell
from rnnlab.core.ops import zero_unless
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.core.wrapper import Wrapper
from rnnlab.dropout import check_rate, variational_dropout
from rnnlab.dropout import dropout as plain_dropout
from rnnlab.engine import unroll
from rnnlab.strategies.base import Strategy
from rnnlab.strategies.scan import Scan

MERGES: dict[str, Callable[[Array, Array], Array]] = {
    "concat": lambda f, b: jnp.concatenate([f, b], axis=-1),
    "sum": lambda f, b: f + b,
    "mean": lambda f, b: (f + b) / 2,
    "product": lambda f, b: f * b,
}


def lengths_to_mask(lengths: Array, length: int) -> Array:
    """The mask of right-padded sequences: True while t < lengths.

    Args:
      lengths: integers `[*batch]`, each from 0 to T.
      length: T.

    Returns:
      bool `[T, *batch]`.

    Raises:
      TypeError: the lengths are not integers.
      ValueError: a length is above T or negative (checked where values are known, so not in jit).

    Example:
        >>> import jax.numpy as jnp, rnnlab
        >>> rnnlab.lengths_to_mask(jnp.array([2, 0]), 3).T.astype(int).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths: expected integers [*batch], got {lengths.dtype}.")
    if not isinstance(lengths, Tracer) and lengths.size:
        known = np.asarray(lengths)  # stays on the host, also inside jit
        if known.min() < 0 or known.max() > length:
            raise ValueError(
                f"lengths: expected 0 to {length}, got values from {known.min()} to {known.max()}."
            )
    steps = jnp.arange(length, dtype=jnp.int32)  # a narrow type would wrap around
    return lax.expand_dims(steps, range(1, 1 + lengths.ndim)) < lengths.astype(jnp.int32)[None]


def merge_function(
    merge: str | Callable[[Array, Array], Array], argument: str = "merge"
) -> Callable[[Array, Array], Array]:
    """The function behind a name of `MERGES`; a function is returned as it is."""
    if callable(merge):
        return merge
    if merge not in MERGES:
        raise ValueError(
            f"{argument}: expected one of {list(MERGES)} or a function, got {merge!r}."
        )
    return MERGES[merge]


def bidirectional(
    forward_cell: Cell,
    backward_cell: Cell,
    params: tuple[PyTree, PyTree],
    xs: PyTree,
    carry: tuple[PyTree, PyTree] | None = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    merge: str | Callable[[Array, Array], Array] = "concat",
    strategy: Strategy = Scan(),
) -> tuple[tuple[Any, Any], Any]:
    """Runs one cell forward and one backward over the same sequence and merges their outputs.

    Args:
      forward_cell: reads from the first step to the last.
      backward_cell: reads from the last step to the first.
      params: those of the two cells.
      xs: inputs `[T, *batch, F]`.
      carry: the carries the two start from, or None.
      mask: bool `[T, *batch]`; under `lengths_to_mask` both final carries are those at the true
        ends, without flipping anything.
      reset: bool `[T, *batch]`, True where a segment starts. The backward cell restarts where it
        enters a segment, which is the step before the next one's start.
      merge: "concat", "sum", "mean", "product", or a function of both outputs.
      strategy: how to run both.

    Returns:
      The final carries (forward, backward), and the merged outputs `[T, *batch, ...]`.

    Raises:
      ValueError: an unknown merge; and all that `rnnlab.unroll` raises.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.GRU(8)
        >>> params = tuple(cell.init(k, 3) for k in jax.random.split(jax.random.key(0)))
        >>> (last, first), ys = rnnlab.bidirectional(cell, cell, params, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 16)

    References: Schuster & Paliwal 1997, "Bidirectional recurrent neural networks".
    """
    merged = merge_function(merge)
    for name, pair in (("params", params), ("carry", (None, None) if carry is None else carry)):
        if len(pair) != 2:
            raise ValueError(f"{name}: expected a pair (forward, backward), got {len(pair)} parts.")
    carry_f, carry_b = (None, None) if carry is None else carry
    options = {"mask": mask, "strategy": strategy}
    carry_f, ys_f = unroll(forward_cell, params[0], xs, carry_f, reset=reset, **options)
    carry_b, ys_b = unroll(
        backward_cell, params[1], xs, carry_b, reset=segment_ends(reset), reverse=True, **options
    )
    ys = jax.tree.map(merged, ys_f, ys_b)
    return (carry_f, carry_b), zero_unless(mask, ys)


def segment_ends(reset: Array | None) -> Array | None:
    """Where segments end, from where they start: what a reversed run takes as its reset.

    Args:
      reset: bool `[T, *batch]`, True at the first step of a segment; or None.

    Returns:
      bool `[T, *batch]`, True at the step before each start; the last step is not marked.
    """
    if reset is None:
        return None
    return jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])


def stack(
    cells: Sequence[Cell],
    params: Sequence[PyTree],
    xs: PyTree,
    carry: Sequence[PyTree] | None = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    reverse: bool = False,
    strategy: Strategy | Sequence[Any] = Scan(),
    dropout: float = 0.0,
    variational: bool = False,
    key: Key | None = None,
) -> tuple[tuple[Any, ...], Any]:
    """Runs layers one after another over a whole sequence, each with its own strategy.

    Equal to `unroll(Stack(cells), ...)`, with the same parameters and carry, but every layer
    projects all of its inputs at once. So do the parts of a layer that is made of cells: the cell
    inside a `Wrapper` (`Residual`, a Mamba block), the layers of a `Stack`.

    Args:
      cells: the layers, the one that reads `xs` first.
      params: one entry a layer, as `Stack(cells).init` returns.
      xs: inputs `[T, *batch, F]`.
      carry: one entry a layer, or None.
      mask: bool `[T, *batch]`, as in `rnnlab.unroll`.
      reset: bool `[T, *batch]`, as in `rnnlab.unroll`.
      reverse: processes the last step first, in every layer.
      strategy: one for all layers, or one a layer; in turn one, or one a part, for a layer that is
        a `Stack` or has one inside.
      dropout: rate of the dropout between layers, not before the first nor after the last.
      variational: the same dropout mask at every time step.
      key: consumed by dropout; None evaluates, without dropout.

    Returns:
      The carries, one entry a layer, and the outputs of the last layer.

    Raises:
      ValueError: numbers of cells, params, carries or strategies that differ; and all that
        `rnnlab.unroll` raises.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cells = (rnnlab.cells.GRU(8), rnnlab.cells.LSTM(4))
        >>> params = rnnlab.cells.Stack(cells).init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.sequences.stack(
        ...     cells, params, jnp.ones((5, 2, 3)), strategy=rnnlab.strategies.Deferred())
        >>> ys.shape
        (5, 2, 4)
    """
    check_rate(dropout)
    depth = len(cells)
    if not depth:
        raise ValueError("cells: expected at least one layer, got none.")
    strategies = [strategy] * depth if isinstance(strategy, Strategy) else list(strategy)
    carries = [None] * depth if carry is None else list(carry)
    for name, parts in {"params": params, "carry": carries, "strategy": strategies}.items():
        if len(parts) != depth:
            raise ValueError(f"{name}: expected {depth} entries, one a layer, got {len(parts)}.")
    drop = variational_dropout if variational else plain_dropout
    keys = [None] * depth if key is None else jax.random.split(key, depth)
    last = []
    for layer, (cell, p, h, s, k) in enumerate(
        zip(cells, params, carries, strategies, keys, strict=True)
    ):
        if layer > 0 and k is not None:
            xs = drop(k, xs, dropout)
        h, xs = _layer(cell, p, xs, h, mask=mask, reset=reset, reverse=reverse, strategy=s)
        last.append(h)
    return tuple(last), xs


def _layer(cell: Cell, params: PyTree, xs: PyTree, carry: PyTree, *, mask: Array | None, **options):
    """`unroll`, but the cells a layer is made of run by themselves, so under any strategy."""
    if not isinstance(cell, (Stack, Wrapper)):
        return unroll(cell, params, xs, carry, mask=mask, **options)
    checks.check_arrays(params=params, xs=xs, carry=carry, mask=mask)
    length, batch = checks.sequence_shape(cell, xs)
    checks.check_flags("mask", mask, length, batch)
    if carry is not None:
        expected = jax.eval_shape(lambda params: cell.initial_carry(params, batch), params)
        checks.check_carry(cell, carry, expected)
    options["mask"] = mask
    if isinstance(cell, Stack):
        return stack(cell.cells, params, xs, carry, **options)
    us, side = cell.enter(params, zero_unless(mask, xs))
    carry, ys = _layer(cell.cell, cell.inner_params(params), us, carry, **options)
    return carry, zero_unless(mask, cell.leave(params, side, ys))
