"""The two loops of the CPU kernel as functions of arrays, for any batch and under `jax.vmap`."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.types import Array, PyTree
from rnnlab.core.varying import varying_alike
from rnnlab.kernels.listed import Listed, State, Weights


class Rows(NamedTuple):
    """What a sequence starts from, every array `[B, ...]`."""

    start: State
    initial: State  # what a reset restarts from


class Forward(NamedTuple):
    """What the forward loop yields; `c` is the last `[B, H]` where nothing is saved."""

    hs: Array  # [T, B, H]
    last: State  # [B, H]
    cs: Array | None  # [T, B, H]
    saved: Array | None  # [T, B, S, H]


def forward(
    cell: Listed,
    weights: Weights,
    rows: Rows,
    xs: Array,
    mask: Array | None,
    reset: Array | None,
    *,
    reverse: bool,
    save: bool,
) -> Forward:
    """Runs a cell over `xs` `[T, B, F]`; with `save` it keeps what `backward` needs."""

    def call(weights: Weights, rows: Rows, steps: Any) -> tuple[State, Any]:
        xs, *flags = steps
        length, batch, _ = xs.shape
        features, has_c = weights.recurrent_kernel.shape[0], rows.start.c is not None
        carries = (length, batch, features)
        cs_shape = (carries if save else carries[1:]) if has_c else (0,)
        saved_shape = (length, batch, cell.saved_arrays, features) if save else (0,)
        arguments = [xs, *weights, *rows.start, *rows.initial]
        arguments = [_array(a, xs.dtype) for a in arguments] + [_array(a, bool) for a in flags]
        shapes = (carries, cs_shape, saved_shape)
        options = {"cell": cell.name, "reverse": reverse, "save": save}
        hs, cs, saved = _native("rnnlab_forward", arguments, shapes, **options)
        end = 0 if reverse else -1
        last = State(hs[end], (cs[end] if save else cs) if has_c else None)
        return last, (hs, cs if save and has_c else None, saved if save else None)

    arguments = _all_varying((weights, rows, (xs, mask, reset)))
    last, (hs, cs, saved) = _fold_mapped_axes(call)(*arguments)
    return Forward(hs, last, cs, saved)


def backward(
    cell: Listed,
    recurrent_kernel: Array,
    rows: Rows,
    carries: State,
    saved: Array,
    wanted: State,
    mask: Array | None,
    reset: Array | None,
    *,
    reverse: bool,
) -> tuple[State, State, State]:
    """What each carry is worth to the steps after it.

    Args:
      cell: the kernel's entry.
      recurrent_kernel: `[H, K]`.
      rows: what the sequence and its resets start from.
      carries: of every step, `[T, B, H]`.
      saved: what `forward` saved, `[T, B, S, H]`.
      wanted: the cotangent of every carry on its own, `[T, B, H]`.
      mask: bool `[T, B]`, or None.
      reset: bool `[T, B]`, or None.
      reverse: as in `forward`.

    Returns:
      The cotangents with what flows back, `[T, B, H]`; of `rows.start` and of `rows.initial`.
    """

    def call(recurrent_kernel: Array, rows: Rows, steps: Any) -> tuple[Any, State]:
        carries, saved, wanted, mask, reset = steps
        has_c = carries.c is not None
        states, first, initial = (
            (s.c if has_c else s.h) for s in (carries, rows.start, rows.initial)
        )
        arguments = [recurrent_kernel, saved, states, first, initial, *wanted]
        arguments = [_array(a, states.dtype) for a in arguments]
        arguments += [_array(a, bool) for a in (mask, reset)]
        whole, row = wanted.h.shape, wanted.h.shape[1:]
        shapes = [s for shape in (whole, row, row) for s in (shape, shape if has_c else (0,))]
        options = {"cell": cell.name, "reverse": reverse}
        results = _native("rnnlab_backward", arguments, shapes, **options)
        total, start, initial = (
            State(h, c if has_c else None) for h, c in zip(results[::2], results[1::2], strict=True)
        )
        return (start, initial), total

    arguments = _all_varying((recurrent_kernel, rows, (carries, saved, wanted, mask, reset)))
    (start, initial), total = _fold_mapped_axes(call)(*arguments)
    return total, start, initial


def flattened(tree: PyTree, lead: int, batch: tuple[int, ...]) -> PyTree:
    """Leaves `[*lead, *batch, ...]` with their batch axes as one."""

    def flatten(a: Array) -> Array:
        shape = (*a.shape[:lead], math.prod(batch), *a.shape[lead + len(batch) :])
        return a.reshape(shape)

    return jax.tree.map(flatten, tree)


def unflattened(tree: PyTree, lead: int, batch: tuple[int, ...]) -> PyTree:
    """The inverse of `flattened`."""
    return jax.tree.map(lambda a: a.reshape(*a.shape[:lead], *batch, *a.shape[lead + 1 :]), tree)


def _array(a: Array | None, dtype: Any) -> Array:
    """The kernel reads an array without entries as one that is not there."""
    return jnp.zeros((0,), dtype) if a is None else a.astype(dtype)


def _all_varying(arguments: PyTree) -> PyTree:
    """Under `jax.shard_map`, `arguments` as types that custom_vmap does not have to change."""
    return varying_alike(arguments, arguments)


def _native(target: str, arguments: list[Array], shapes: Sequence[Any], **attributes: Any) -> Any:
    """The results of one call of the library, of the dtype of the first argument."""
    types = [jax.ShapeDtypeStruct(shape, arguments[0].dtype) for shape in shapes]
    results = jax.ffi.ffi_call(target, types)(*arguments, **attributes)
    return varying_alike(results, arguments)


def _fold_mapped_axes(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call(shared, rows, steps) -> (rows, steps)`, a mapped axis made part of the batch.

    Rows are `[B, ...]` and steps `[T, B, ...]`. Only where the shared weights are mapped too, the
    calls are made one after another.
    """
    folded = jax.custom_batching.custom_vmap(call)

    @folded.def_vmap
    def _(size: int, mapped: Any, shared: PyTree, rows: PyTree, steps: PyTree):
        shared_mapped, *others = mapped

        def everywhere(tree: PyTree, flags: PyTree) -> PyTree:
            return jax.tree.map(
                lambda a, m: a if m else jnp.broadcast_to(a, (size, *a.shape)), tree, flags
            )

        rows, steps = (everywhere(t, f) for t, f in zip((rows, steps), others, strict=True))
        if any(jax.tree.leaves(shared_mapped)):
            shared = everywhere(shared, shared_mapped)
            results = lax.map(lambda one: _fold_mapped_axes(call)(*one), (shared, rows, steps))
            return results, jax.tree.map(lambda _: True, results)
        batch = jax.tree.leaves(rows)[0].shape[1]
        rows = jax.tree.map(lambda a: a.reshape(size * a.shape[1], *a.shape[2:]), rows)
        steps = jax.tree.map(
            lambda a: jnp.moveaxis(a, 0, 1).reshape(a.shape[1], size * a.shape[2], *a.shape[3:]),
            steps,
        )
        rows, steps = _fold_mapped_axes(call)(shared, rows, steps)
        rows = unflattened(rows, 0, (size, batch))
        steps = unflattened(steps, 1, (size, batch))
        steps = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), steps)
        return (rows, steps), jax.tree.map(lambda _: True, (rows, steps))

    return folded
