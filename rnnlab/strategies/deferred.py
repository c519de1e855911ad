"""A scan whose weight gradient is computed after the reverse loop, not inside it."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.cell import Cell, GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import kernel_product, separate_pass, wide_dtype, zero_unless
from rnnlab.core.types import Array, PyTree
from rnnlab.strategies.base import Inputs, Marks, Strategy, hold, readout, restart, sound
from rnnlab.strategies.chunks import cached_steps, run_chunks
from rnnlab.strategies.scan import scan_projected


@dataclasses.dataclass(frozen=True)
class Deferred(Strategy[GatedCell]):
    """The loop of `Scan` forward; differentiated as a linear system instead of step by step.

    The carries solve h_t = step(h_{t-1}, z_t), so by the implicit function theorem a change of the
    parameters moves them by the solution of the linear recurrence

        v_t = J_t v_{t-1} + b_t,    J_t = d step / d h_{t-1},    b_t = change at fixed h_{t-1}

    Its transpose is the reverse loop, and it carries a cotangent of the carry alone. All b_t are
    one parallel pass over time, so the gradient of the recurrent kernel is one matmul over T * B
    rows, after the loop. Kept for the reverse pass are z, u and the carries: gates are recomputed.

    This is `jax.custom_jvp` over `lax.custom_linear_solve`, so forward mode, higher derivatives,
    `vmap(grad)` and `grad(vmap)` work and agree with `Scan`, and under `vmap` the weight gradient
    is still one matmul that sums over the batch.

    Attributes:
      unroll: steps per iteration of the compiled loops.

    Raises:
      ValueError: when run on a carry with a leaf that is not floating point.

    References: Appleyard et al. 2016, "Optimizing performance of recurrent neural networks on
    GPUs" (weight gradients after the loop); Blondel et al. 2022, "Efficient and modular implicit
    differentiation".
    """

    unroll: int = 1

    def __post_init__(self):
        check_size("Deferred", unroll=self.unroll)

    def refusal(self, cell: Cell) -> str | None:
        if isinstance(cell, GatedCell):
            return None
        return (
            f"it needs the one declared matmul of an rnnlab.GatedCell, which"
            f" {type(cell).__name__} is not. Use Scan() or Remat()"
        )

    def run(self, cell: GatedCell, inputs: Inputs, reverse: bool):
        for path, leaf in jax.tree.leaves_with_path(inputs.carry):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                raise ValueError(
                    f"strategy: {self} differentiates the carry of a GatedCell, expected floating"
                    f" point, got {leaf.dtype} in carry{jax.tree_util.keystr(path)}. Use Scan(), or"
                    f" keep a count in floating point."
                )

        def run(inputs):
            inputs = inputs._replace(xs=cell.project(inputs.params, inputs.xs))
            inputs = inputs._replace(carry=_batched_alike(inputs.carry, inputs))
            return _outputs(_Loop(cell, self.unroll, reverse), inputs)

        chunk = cached_steps(cell, inputs)
        return run_chunks(run, inputs, chunk, reverse) if chunk else run(inputs)


@dataclasses.dataclass(frozen=True)
class _Loop:
    """What is static about a run."""

    cell: GatedCell
    unroll: int
    reverse: bool

    @property
    def gate(self):
        """The gate as the parallel passes differentiate it: recomputed, so nothing is kept."""
        return jax.checkpoint(self.cell.gate, prevent_cse=False)

    def scan(self, body, carry, xs, backwards: bool = False):
        return lax.scan(body, carry, xs, reverse=self.reverse != backwards, unroll=self.unroll)


class _Unknowns(NamedTuple):
    """The unknowns of the linear system: changes of the carries and of what they start from."""

    carry: PyTree  # [*batch, ...]
    initial: PyTree | None  # [*batch, ...], None where there are no resets
    carries: PyTree  # [T, *batch, ...]


class _Run(NamedTuple):
    """All that a run yields: what the caller sees, and what its derivative needs."""

    last: PyTree  # [*batch, ...]
    ys: PyTree  # [T, *batch, ...]
    carries: PyTree  # [T, *batch, ...]
    us: Array  # [T, *batch, K]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _outputs(loop: _Loop, inputs: Inputs):
    """The last carry and all outputs: undifferentiated, this is `Scan` itself."""
    return scan_projected(loop.cell, inputs, loop.reverse, loop.unroll)


@_outputs.defjvp
def _outputs_jvp(loop: _Loop, primals, tangents):
    run, change = jax.jvp(functools.partial(_run, loop), primals, tangents)
    return (run.last, run.ys), (change.last, change.ys)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run(loop: _Loop, inputs: Inputs) -> _Run:
    """The same loop, keeping every carry and every u."""
    # The outputs come out of this loop too, as those of `_outputs` do, so that jax.vmap batches
    # both alike: it does not reconcile a custom_jvp function with its rule.
    cell, (params, carry, initial, zs, marks) = loop.cell, inputs
    kernel = cell.recurrent_kernel(params)

    def body(carry, now):
        z, marks = now
        before = restart(marks.reset, initial, carry)
        start = sound(marks.mask, before, initial)
        u = kernel_product(cell.hidden(start), kernel)
        carry = hold(marks.mask, cell.gate(params, start, z, u), before)
        return carry, (readout(cell, params, initial, carry, z, marks), carry, u)

    last, (ys, carries, us) = loop.scan(body, carry, (zs, marks))
    return _Run(last, ys, carries, us)


@_run.defjvp
def _run_jvp(loop: _Loop, primals, tangents):
    (inputs,), (dinputs,) = primals, tangents
    cell, marks = loop.cell, inputs.marks
    run = _run(loop, inputs)
    before = _shifted(loop, marks, _Unknowns(inputs.carry, inputs.initial, run.carries))
    before = sound(marks.mask, before, inputs.initial)
    kernel, dkernel = jax.jvp(cell.recurrent_kernel, (inputs.params,), (dinputs.params,))

    # b: how each step moves with the parameters and its z, from where it started. The product is
    # linear in the kernel, so its change is the product with the kernel's change.
    dus = kernel_product(cell.hidden(before), dkernel)
    _, changes = jax.jvp(
        lambda params, z, u: loop.gate(params, before, z, u),
        (inputs.params, inputs.xs, run.us),
        (dinputs.params, dinputs.xs, dus),
    )
    initial = None if marks.reset is None else dinputs.initial
    b = _tied(_Unknowns(dinputs.carry, initial, zero_unless(marks.mask, changes)))
    v = _solve(loop, inputs.params, kernel, before, inputs.xs, run.us, marks, b)

    dbefore = _shifted(loop, marks, v)
    dhidden = jax.jvp(cell.hidden, (before,), (dbefore,))[1]
    _, dys = jax.jvp(
        lambda params, carries, zs: readout(cell, params, inputs.initial, carries, zs, marks),
        (inputs.params, run.carries, inputs.xs),
        (dinputs.params, v.carries, dinputs.xs),
    )
    dlast = jax.tree.map(lambda c: c[0 if loop.reverse else -1], v.carries)
    return run, _Run(dlast, dys, v.carries, dus + kernel_product(dhidden, kernel))


def _tied(b: _Unknowns) -> _Unknowns:
    """`b`, every leaf formally a function of all of them.

    jax transposes a linear solve only if all of b depends on what is differentiated, and a part
    may not, such as a constant initial carry. The link is a zero that XLA removes.
    """
    never = jnp.zeros((), bool)
    links = [jnp.where(never, jnp.sum(a), jnp.zeros((), a.dtype)) for a in jax.tree.leaves(b)]
    link = functools.reduce(jnp.add, [a.real.astype(jnp.float32) for a in links])
    return jax.tree.map(lambda a: a + link.astype(a.dtype), b)


def _batched_alike(carry: PyTree, inputs: Inputs) -> PyTree:
    """`carry`, every leaf formally a function of all inputs.

    Under `jax.vmap` a leaf that reads nothing that is mapped, such as a clock, would have no batch
    axis while its tangent has one, for `_tied` links it with the others; jax does not reconcile
    the two (a gradient too large by a factor of B). The link is a False that XLA removes.
    """
    leaves = jax.tree.leaves(inputs)
    never = functools.reduce(jnp.logical_or, [jnp.any(a != a) for a in leaves]) & False
    return jax.tree.map(lambda c: jnp.where(never, jnp.zeros((), c.dtype), c), carry)


def _shifted(loop: _Loop, marks: Marks, v: _Unknowns) -> PyTree:
    """`[T, *batch, ...]`: what each step started from."""

    def shift(first, rest):
        parts = [rest[1:], first[None]] if loop.reverse else [first[None], rest[:-1]]
        return jnp.concatenate(parts)

    return restart(marks.reset, v.initial, jax.tree.map(shift, v.carry, v.carries))


def _solve(loop: _Loop, params, kernel, before, zs, us, marks: Marks, b: _Unknowns) -> _Unknowns:
    """Solves v_t = J_t v_{t-1} + b_t forward in time, and its transpose backward."""
    cell = loop.cell
    # Laid out for the reverse loop once, not at every step.
    transposed = kernel.swapaxes(-1, -2) if kernel.ndim > 1 else kernel
    transposed = separate_pass(transposed.astype(wide_dtype(kernel)))

    def jacobian(v, before, z, u, mask):
        """J v for one step or for all of them."""
        dhidden = jax.jvp(cell.hidden, (before,), (v,))[1]
        du = kernel_product(dhidden, kernel)
        change = jax.jvp(lambda h, u: loop.gate(params, h, z, u), (before, u), (v, du))[1]
        return hold(mask, change, v)

    def jacobian_transposed(v, before, z, u, mask):
        """J^T v for one step; a masked step passes v on."""
        _, gate_vjp = jax.vjp(lambda h, u: cell.gate(params, h, z, u), before, u)
        direct, du = gate_vjp(zero_unless(mask, v))
        hidden, hidden_vjp = jax.vjp(cell.hidden, before)
        dhidden = kernel_product(lax.collapse(du, hidden.ndim - 1), transposed)
        dhidden = lax.collapse(dhidden, hidden.ndim - 1)
        # A diagonal kernel hands back one part a gate, the others one part in all.
        parts = jnp.split(dhidden, dhidden.shape[-1] // hidden.shape[-1], axis=-1)
        through = hidden_vjp(functools.reduce(jnp.add, parts))[0]
        return hold(mask, jax.tree.map(jnp.add, direct, through), v)

    def residual(v: _Unknowns) -> _Unknowns:
        moved = jacobian(_shifted(loop, marks, v), before, zs, us, marks.mask)
        return v._replace(carries=jax.tree.map(jnp.subtract, v.carries, moved))

    def solve(_, b: _Unknowns) -> _Unknowns:
        def body(v, now):
            b_t, before, z, u, (mask, reset) = now
            v = restart(reset, b.initial, v)
            v = jax.tree.map(jnp.add, b_t, jacobian(v, before, z, u, mask))
            return v, v

        _, carries = loop.scan(body, b.carry, (b.carries, before, zs, us, marks))
        return b._replace(carries=carries)

    def solve_transposed(_, g: _Unknowns) -> _Unknowns:
        def body(state, now):
            v, initial = state
            g_t, before, z, u, (mask, reset) = now
            total = jax.tree.map(jnp.add, g_t, v)
            v = jacobian_transposed(total, before, z, u, mask)
            if reset is not None:
                initial = jax.tree.map(jnp.add, initial, zero_unless(reset, v))
                v = zero_unless(~reset, v)
            return (v, initial), total

        zero = jax.tree.map(jnp.zeros_like, g.carry)
        (v, initial), carries = loop.scan(
            body, (zero, g.initial), (g.carries, before, zs, us, marks), backwards=True
        )
        return _Unknowns(jax.tree.map(jnp.add, g.carry, v), initial, carries)

    return lax.custom_linear_solve(residual, b, solve, solve_transposed)
