"""The two calls of the CPU kernel's library, as functions of arrays with one batch axis."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.core.types import Array
from rnnlab.core.varying import varying_alike
from rnnlab.kernels.listed import Listed, State, Weights


class Marks(NamedTuple):
    """What is known of each step besides its input: bool arrays, or None."""

    mask: Any  # [T, B]
    reset: Any  # [T, B]
    keep: State | None = None  # [T, B, H]: what zoneout keeps


class Run(NamedTuple):
    """A cell's run over a sequence; all arrays but the marks of one dtype, float32 or float64."""

    weights: Weights
    start: State  # [B, H]
    initial: State  # [B, H], what a reset restarts from
    xs: Array  # [T, B, F]
    marks: Marks


class Kept(NamedTuple):
    """What the forward loop leaves for the reverse one."""

    carries: State  # [T, B, H]
    saved: Array  # [T, B, S, H]


def forward(cell: Listed, run: Run, *, reverse: bool, save: bool) -> tuple[State, Array, Any]:
    """The last carry, h of all steps `[T, B, H]`, and with `save` what `backward` needs."""
    length, batch, _ = run.xs.shape
    features, has_c = run.start.h.shape[-1], run.start.c is not None
    carries = (length, batch, features)
    cs_shape = (carries if save else carries[1:]) if has_c else (0,)
    saved_shape = (length, batch, cell.saved, features) if save else (0,)
    arrays = [run.xs, *run.weights, *run.start, *run.initial]
    hs, cs, saved = _call(
        "rnnlab_forward",
        arrays,
        run.marks,
        [carries, cs_shape, saved_shape],
        **_options(cell, reverse),
        save=save,
    )
    end = 0 if reverse else -1
    last = State(hs[end], (cs[end] if save else cs) if has_c else None)
    return last, hs, Kept(State(hs, cs if has_c else None), saved) if save else None


def backward(
    cell: Listed,
    run: Run,
    kept: Kept,
    wanted_hs: Array,
    wanted_last: State,
    *,
    reverse: bool,
    with_inputs: bool,
) -> tuple[Weights, State, State, Any]:
    """The gradients of weights, of what the run starts from, and of the inputs or None.

    Args:
      cell: the kernel's entry.
      run: as `forward` had it.
      kept: what `forward` kept.
      wanted_hs: the cotangent of h of every step, `[T, B, H]`, zero where it is masked.
      wanted_last: that of the last carry, `[B, H]`.
      reverse: as in `forward`.
      with_inputs: whether the gradient of xs is wanted.
    """
    weights, has_c = run.weights, run.start.c is not None
    row = run.start.h.shape
    arrays = [run.xs, *weights, kept.saved, *kept.carries]
    arrays += [*run.start, *run.initial, wanted_hs, *wanted_last]
    shapes = [
        run.xs.shape if with_inputs else (0,),
        *((0,) if a is None else a.shape for a in weights),
    ]
    shapes += 2 * [row, row if has_c else (0,)]
    results = _call("rnnlab_backward", arrays, run.marks, shapes, **_options(cell, reverse))
    dxs, *gradients = results[:5]
    pairs = zip(weights, gradients, strict=True)
    given: list[Any] = [None if a is None else gradient for a, gradient in pairs]
    start, initial = (State(h, c if has_c else None) for h, c in (results[5:7], results[7:9]))
    return Weights(*given), start, initial, dxs if with_inputs else None


def _options(cell: Listed, reverse: bool) -> dict[str, Any]:
    h, c = map(np.float64, cell.rates)
    return {"cell": cell.name, "reverse": reverse, "share_h": h, "share_c": c}


def _call(
    target: str,
    arrays: Sequence[Any],
    marks: Marks,
    shapes: Sequence[tuple[int, ...]],
    **attributes: Any,
) -> list[Array]:
    """The library reads an array without entries as one that is not there."""
    dtype = arrays[0].dtype
    arguments = [jnp.zeros((0,), dtype) if a is None else a for a in arrays]
    keep = (None, None) if marks.keep is None else marks.keep
    flags = [marks.mask, marks.reset, *keep]
    arguments += [jnp.zeros((0,), bool) if a is None else a for a in flags]
    types = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return varying_alike(jax.ffi.ffi_call(target, types)(*arguments, **attributes), arguments)
