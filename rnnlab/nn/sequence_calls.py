"""What the nnx and the linen wrappers share: a call in Flax's words as one `rnnlab.unroll`.

Arrays come in the caller's layout, batch-major `[*batch, T, ...]` unless `time_major`; the engine
gets them time-major.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core import checks
from rnnlab.core.cell import Cell
from rnnlab.core.ops import zero_unless
from rnnlab.core.types import Array, PyTree
from rnnlab.engine import unroll
from rnnlab.sequences import lengths_to_mask, merge_function, segment_ends
from rnnlab.strategies.base import Strategy

Merge = str | Callable[[Array, Array], Array]


def either(given: bool | None, default: bool) -> bool:
    """An argument of a call, or the module's own choice where it is None."""
    return default if given is None else given


def run(
    cell: Cell,
    params: PyTree,
    inputs: PyTree,
    *,
    initial_carry: PyTree | None,
    seq_lengths: Array | None,
    mask: Array | None,
    reset: Array | None,
    time_major: bool,
    reverse: bool,
    keep_order: bool,
    strategy: Strategy,
) -> tuple[Any, Any]:
    """The carry and the outputs of `RNN`; the arguments are those of its call."""
    flip = reverse and not keep_order
    if flip and mask is not None:
        raise ValueError(
            "mask: expected keep_order=True with reverse=True. Otherwise outputs are flipped within"
            " lengths, and a mask with holes has none. Pass keep_order=True, or seq_lengths instead"
            " of mask."
        )
    layout = Layout.of(cell, inputs, time_major)
    valid = layout.valid_steps(seq_lengths, mask)
    layout.check_flags("reset", reset)
    valid, reset = layout.to_time_major((valid, reset))
    if initial_carry is not None:
        initial_carry = _as_carry(cell, params, initial_carry, layout.batch)
    carry, ys = unroll(
        cell,
        params,
        layout.to_time_major(inputs),
        initial_carry,
        mask=valid,
        reset=segment_ends(reset) if reverse else reset,
        reverse=reverse,
        strategy=strategy,
    )
    if flip:
        ys = _flip(ys, seq_lengths, layout.length)
    return carry, layout.from_time_major(ys)


def run_bidirectional(
    forward_rnn: Any,
    backward_rnn: Any,
    inputs: PyTree,
    *,
    initial_carry: tuple[PyTree, PyTree] | None,
    seq_lengths: Array | None,
    mask: Array | None,
    reset: Array | None,
    time_major: bool,
    merge_fn: Merge,
) -> tuple[tuple[Any, Any], Any]:
    """The carries and the merged outputs of `Bidirectional`, from two `RNN` modules."""
    merge = merge_function(merge_fn, "merge_fn")
    forward_carry, backward_carry = _pair(initial_carry)
    options = {
        "seq_lengths": seq_lengths,
        "mask": mask,
        "reset": reset,
        "time_major": time_major,
        "return_carry": True,
    }
    forward_carry, forward_ys = forward_rnn(
        inputs, initial_carry=forward_carry, reverse=False, **options
    )
    backward_carry, backward_ys = backward_rnn(
        inputs, initial_carry=backward_carry, reverse=True, keep_order=True, **options
    )
    ys = jax.tree.map(merge, forward_ys, backward_ys)
    valid = Layout.of(forward_rnn.cell, inputs, time_major).valid_steps(seq_lengths, mask)
    return (forward_carry, backward_carry), zero_unless(valid, ys)


def check_rnns(kind: type, **modules: Any) -> None:
    """Refuses a direction of `Bidirectional` that is not a module of class `kind`."""
    for name, module in modules.items():
        if not isinstance(module, kind):
            raise TypeError(
                f"{name}: expected an {kind.__module__}.{kind.__qualname__}, got"
                f" {type(module).__name__}. Wrap a cell as RNN(cell, ...)."
            )


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where time is in the caller's arrays."""

    time_major: bool
    length: int  # T
    batch: tuple[int, ...]

    @classmethod
    def of(cls, cell: Cell, inputs: PyTree, time_major: bool) -> "Layout":
        """That of `inputs`, an array or a tree of arrays that share their leading axes."""
        checks.check_cell_type(cell)
        checks.check_arrays(inputs=inputs)
        axes = "time, *batch" if time_major else "*batch, time"
        for path, leaf in jax.tree.leaves_with_path(inputs):
            if jnp.ndim(leaf) < 1 + cell.feature_ndim:
                raise ValueError(
                    f"inputs{jax.tree_util.keystr(path)}: expected [{axes}, *features] with"
                    f" {cell.feature_ndim} feature axis for {type(cell).__name__}, got shape"
                    f" {jnp.shape(leaf)}. Add the missing axes."
                )
        leaves = jax.tree.leaves(inputs)
        if not leaves:
            raise ValueError(f"inputs: expected an array [{axes}, features], got {inputs!r}.")
        lead = leaves[0].shape[: leaves[0].ndim - cell.feature_ndim]
        length, batch = (lead[0], lead[1:]) if time_major else (lead[-1], lead[:-1])
        return cls(time_major, length, batch)

    def to_time_major(self, tree: PyTree) -> PyTree:
        """Leaves in the caller's layout, time first."""
        if self.time_major:
            return tree
        return jax.tree.map(lambda a: jnp.moveaxis(a, len(self.batch), 0), tree)

    def from_time_major(self, tree: PyTree) -> PyTree:
        """Leaves with time first, in the caller's layout."""
        if self.time_major:
            return tree
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, len(self.batch)), tree)

    def check_flags(self, name: str, flags: Any) -> None:
        """Refuses a mask or a reset that is not bool with the leading axes of the inputs."""
        if flags is None:
            return
        axes = "[time, *batch]" if self.time_major else "[*batch, time]"
        lead = (self.length, *self.batch) if self.time_major else (*self.batch, self.length)
        got = f"{getattr(flags, 'dtype', type(flags).__name__)} {getattr(flags, 'shape', '')}"
        if getattr(flags, "dtype", None) != jnp.bool_:
            fix = "Pass lengths as seq_lengths" if name == "mask" else "Compare to get booleans"
            raise TypeError(f"{name}: expected bool {lead} = {axes}, got {got}. {fix}.")
        if flags.shape != lead:
            raise ValueError(
                f"{name}: expected shape {lead} = {axes}, the leading axes of the inputs, got"
                f" {got}. Transpose or broadcast it, or choose time_major={not self.time_major}"
                f" for inputs and {name} alike."
            )

    def valid_steps(self, seq_lengths: Array | None, mask: Array | None) -> Array | None:
        """Where both lengths and mask let a step through, in the caller's layout."""
        self.check_flags("mask", mask)
        if seq_lengths is None:
            return mask
        if jnp.shape(seq_lengths) != self.batch:
            raise ValueError(
                f"seq_lengths: expected one length per sequence, shape {self.batch} = [*batch], got"
                f" shape {jnp.shape(seq_lengths)}. For a mask of steps, pass mask."
            )
        within = self.from_time_major(lengths_to_mask(seq_lengths, self.length))
        return within if mask is None else within & mask


def _as_carry(cell: Cell, params: PyTree, carry: PyTree, batch: tuple[int, ...]) -> PyTree:
    """A carry that fits the cell, from what the caller gave: Flax's carries are plain tuples."""
    expected = jax.eval_shape(lambda params: cell.initial_carry(params, batch), params)
    checks.check_arrays(initial_carry=carry)
    carry = _named(jax.tree.map(jnp.asarray, carry), expected)
    checks.check_carry(cell, carry, expected, given="initial_carry")
    return carry


def _named(given: PyTree, like: PyTree) -> PyTree:
    """`given`, with plain tuples turned into the named tuples that stand there in `like`.

    Other named tuples stay as they are: their fields may have another order.
    """
    if type(given) is not tuple or not isinstance(like, tuple) or len(given) != len(like):
        return given
    parts = map(_named, given, like)
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)


def _pair(initial_carry: Any) -> tuple[Any, Any]:
    if initial_carry is None:
        return None, None
    if not isinstance(initial_carry, tuple) or len(initial_carry) != 2:
        raise ValueError(
            f"initial_carry: expected a pair (forward carry, backward carry), got"
            f" {jax.tree.structure(initial_carry)}."
        )
    return initial_carry


def _flip(ys: PyTree, seq_lengths: Array | None, length: int) -> PyTree:
    """Time-major outputs, each sequence reversed within its length and padding left in place."""
    if seq_lengths is None:
        return jax.tree.map(lambda y: jnp.flip(y, axis=0), ys)
    lengths = jnp.asarray(seq_lengths).astype(jnp.int32)[None]
    steps = lax.expand_dims(jnp.arange(length, dtype=jnp.int32), range(1, lengths.ndim))
    source = jnp.where(steps < lengths, lengths - 1 - steps, steps)

    def take(y: Array) -> Array:
        return jnp.take_along_axis(y, lax.expand_dims(source, range(source.ndim, y.ndim)), axis=0)

    return jax.tree.map(take, ys)
