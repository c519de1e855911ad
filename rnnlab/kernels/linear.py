"""The linear recurrence h_t = a_t h_{t-1} + b_t, element by element, in the CPU kernel's loops.

It is linear in b and in what it starts from, and its transpose is such a recurrence that runs the
other way. So it is two primitives that are each other's transpose, and derivatives of any order,
forward and reverse, are made of them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rnnlab.core.ops import zero_unless
from rnnlab.core.types import Array
from rnnlab.core.varying import varying_alike


def linear_scan(a: Array, b: Array, start: Array, restarts: Any, *, reverse: bool) -> Array:
    """h of every step, `[T, B, N]`, from arrays of one dtype, real or complex.

        h_t = a_t h_{t-1} + b_t,    h_t = b_t where a step restarts

    Args:
      a: `[T or 1, B or 1, N]`.
      b: `[T, B, N]`.
      start: `[B, N]`, h before the first step.
      restarts: bool `[T, B]`, or None.
      reverse: whether the last step in time comes first.
    """
    if restarts is None:
        restarts = jnp.zeros((0, b.shape[1]), bool)
    operands = (a, b, start, restarts)
    return forward.bind(*varying_alike(operands, operands), reverse=reverse)[0]


forward = Primitive("linear_scan")  # a, b, start, restarts -> h
backward = Primitive("linear_scan_transposed")  # a, wanted h, restarts -> those of b and start
forward.multiple_results = backward.multiple_results = True


def _call(target: str, results: list[Any], *operands: Array, reverse: bool) -> list[Array]:
    _check(*operands[:-1])
    types = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in results]
    made = jax.ffi.ffi_call(target, types)(*operands, reverse=reverse)
    return varying_alike(made, operands)


def _check(a: Array, b: Array, *start: Array) -> None:
    """The library reads memory by the dtype and shape of b alone."""
    (length, batch, features), (steps, rows, columns) = b.shape, a.shape
    fits = steps in (1, length) and rows in (1, batch) and columns == features
    if (
        not (fits and all(h.shape == b.shape[1:] for h in start))
        or len({x.dtype for x in (a, b, *start)}) > 1
    ):
        raise ValueError(
            "linear_scan: expected a [T or 1, B or 1, N], b [T, B, N] and a start [B, N] of one"
            f" dtype, got {', '.join(str(jax.typeof(x)) for x in (a, b, *start))}."
        )


def _forward(a, b, start, restarts, *, reverse):
    return _call("rnnlab_linear_forward", [b], a, b, start, restarts, reverse=reverse)


def _backward(a, wanted, restarts, *, reverse):
    results = [wanted, jax.eval_shape(lambda w: w[0], wanted)]
    return _call("rnnlab_linear_backward", results, a, wanted, restarts, reverse=reverse)


forward.def_impl(_forward)
backward.def_impl(_backward)
mlir.register_lowering(forward, mlir.lower_fun(_forward, multiple_results=True))
mlir.register_lowering(backward, mlir.lower_fun(_backward, multiple_results=True))


@forward.def_abstract_eval
def _(a, b, start, restarts, *, reverse):
    return [b]


@backward.def_abstract_eval
def _(a, wanted, restarts, *, reverse):
    return [wanted, wanted.update(shape=wanted.shape[1:])]


def _flows(restarts: Array, h: Array) -> Array:
    """h, or zero where a step restarts, even if it is NaN: that must not reach a gradient of a."""
    return zero_unless(~restarts, h) if restarts.size else h


def _earlier(h: Array, start: Array, reverse: bool) -> Array:
    """For each step, h before it."""
    if reverse:
        return jnp.concatenate([h[1:], start[None]])
    return jnp.concatenate([start[None], h[:-1]])


def _forward_jvp(primals, tangents, *, reverse):
    a, _, start, restarts = primals
    (h,) = forward.bind(*primals, reverse=reverse)
    da, db, dstart = map(ad.instantiate_zeros, tangents[:3])
    if not isinstance(tangents[0], ad.Zero):
        db = db + da * _flows(restarts, _earlier(h, start, reverse))
    return [h], forward.bind(a, db, dstart, restarts, reverse=reverse)


def _backward_jvp(primals, tangents, *, reverse):
    a, _, restarts = primals
    g, of_start = backward.bind(*primals, reverse=reverse)
    da, dwanted = map(ad.instantiate_zeros, tangents[:2])
    # What a step hands to the one before it, so it moves there.
    handed = da * _flows(restarts, g)
    first = handed[-1 if reverse else 0]
    moved = _earlier(handed, jnp.zeros_like(first), not reverse)
    dg, dstart = backward.bind(a, dwanted + moved, restarts, reverse=reverse)
    return [g, of_start], [dg, dstart + first]


def _forward_transpose(wanted, a, b, start, restarts, *, reverse):
    (wanted,) = map(ad.instantiate_zeros, wanted)
    of_b, of_start = backward.bind(a, wanted, restarts, reverse=reverse)
    known = not ad.is_undefined_primal(b), not ad.is_undefined_primal(start)
    return [None, None if known[0] else of_b, None if known[1] else of_start, None]


def _backward_transpose(wanted, a, _, restarts, *, reverse):
    of_h, of_start = map(ad.instantiate_zeros, wanted)
    return [None, *forward.bind(a, of_h, of_start, restarts, reverse=reverse), None]


ad.primitive_jvps[forward] = _forward_jvp
ad.primitive_jvps[backward] = _backward_jvp
ad.primitive_transposes[forward] = _forward_transpose
ad.primitive_transposes[backward] = _backward_transpose


def _batch(primitive: Primitive, axes: tuple[int, ...], made: tuple[int, ...]):
    """The rule of vmap: the mapped axis becomes part of the rows.

    Args:
      primitive: one of the two.
      axes: of its operands, which axis the rows are.
      made: the same of its results.
    """

    def rule(operands, dims, **options):
        size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None)
        shape = list(operands[1].shape)
        if dims[1] is not None:
            del shape[dims[1]]
        rows = shape[1]

        def fold(x, dim, axis):
            x = jnp.expand_dims(x, axis) if dim is None else jnp.moveaxis(x, dim, axis)
            x = jnp.broadcast_to(x, (*x.shape[:axis], size, rows, *x.shape[axis + 2 :]))
            return x.reshape(*x.shape[:axis], size * rows, *x.shape[axis + 2 :])

        folded = list(map(fold, operands, dims, axes))
        if dims[0] is None and operands[0].shape[1] == 1:
            folded[0] = operands[0]  # one row of a for all
        results = primitive.bind(*folded, **options)
        pairs = zip(results, made, strict=True)
        return [r.reshape(*r.shape[:i], size, rows, *r.shape[i + 1 :]) for r, i in pairs], made

    batching.primitive_batchers[primitive] = rule


_batch(forward, axes=(1, 1, 0, 1), made=(1,))
_batch(backward, axes=(1, 1, 1), made=(1, 0))
