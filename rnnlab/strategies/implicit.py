"""The derivative of a recurrence as a linear system, for strategies that run one loop each way.

The carries solve h_t = step(h_{t-1}, z_t), so by the implicit function theorem a change of the
parameters moves them by the solution of the linear recurrence

    v_t = J_t v_{t-1} + b_t,    J_t = d step / d h_{t-1},    b_t = change at fixed h_{t-1}

Its transpose is the reverse loop, and it carries a cotangent of the carry alone. All b_t are
one parallel pass over time, so the gradient of the recurrent kernel is one matmul over T * B
rows, after the loop.

This is `jax.custom_jvp` over `lax.custom_linear_solve`, so forward mode, higher derivatives,
`vmap(grad)` and `grad(vmap)` work and agree with `Scan`, and under `vmap` the weight gradient
is still one matmul that sums over the batch. A `Loop` says how the loops are run.

References: Blondel et al. 2022, "Efficient and modular implicit differentiation".
"""

import abc
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.cell import GatedCell
from rnnlab.core.ops import kernel_product, zero_unless
from rnnlab.core.types import Array, PyTree
from rnnlab.core.varying import varying_alike
from rnnlab.strategies.base import Inputs, Marks, hold, readout, restart, sound


class Problem(NamedTuple):
    """A sequence, with its projection."""

    params: PyTree
    carry: PyTree  # [*batch, ...], what the first step starts from
    initial: PyTree  # [*batch, ...], what a reset restarts from
    xs: PyTree  # [T, *batch, ...]; its change is that of zs
    zs: PyTree  # [T, *batch, ...], the projection of xs
    marks: Marks


class Unknowns(NamedTuple):
    """The unknowns of the linear system: changes of the carries and of what they start from."""

    carry: PyTree  # [*batch, ...]
    initial: PyTree | None  # [*batch, ...], None where there are no resets
    carries: PyTree  # [T, *batch, ...]


class Run(NamedTuple):
    """All that a run yields: what the caller sees, and what its derivative needs."""

    last: PyTree  # [*batch, ...]
    ys: PyTree  # [T, *batch, ...]
    carries: PyTree  # [T, *batch, ...]
    saved: PyTree  # [T, *batch, ...], what the loop chose to keep


class System(NamedTuple):
    """What the linear system of a run is made of."""

    problem: Problem
    kernel: Array
    before: PyTree  # [T, *batch, ...], what each step computed from
    us: Array  # [T, *batch, K]
    run: Run


@dataclasses.dataclass(frozen=True)
class Loop(abc.ABC):
    """How the loops over time are run, and what the forward one keeps for the reverse one.

    `saved` and `change` are differentiated, the others are not.
    """

    cell: GatedCell
    reverse: bool

    @abc.abstractmethod
    def outputs(self, problem: Problem) -> tuple[Any, Any]:
        """The last carry and all outputs, where nothing is differentiated."""

    @abc.abstractmethod
    def run(self, problem: Problem) -> Run:
        """The same, keeping every carry and what `saved` says."""

    @abc.abstractmethod
    def saved(self, params: PyTree, before: PyTree, zs: PyTree, us: Array) -> PyTree:
        """What `run` keeps besides the carries, of all steps at once."""

    @abc.abstractmethod
    def products(self, problem: Problem, before: PyTree, run: Run, kernel: Array) -> Array:
        """u of all steps: kept, or computed again."""

    @abc.abstractmethod
    def change(self, system: System, dparams: PyTree, dzs: PyTree, dus: Array) -> PyTree:
        """How each new carry moves with params, z and u, from where it started; linear in them."""

    @abc.abstractmethod
    def transposed_solution(self, system: System, g: Unknowns) -> Unknowns:
        """Solves the transposed system backward in time."""


def run_implicit(loop: Loop, inputs: Inputs) -> tuple[Any, Any]:
    """The last carry and the outputs of a sequence, with the derivative of the linear system."""
    for path, leaf in jax.tree.leaves_with_path(inputs.carry):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(
                f"strategy: expected the carry of a GatedCell to be floating point, for its"
                f" derivative, got {leaf.dtype} in carry{jax.tree_util.keystr(path)}. Use Scan(),"
                f" or keep a count in floating point."
            )
    params, carry, initial, xs, marks = inputs
    zs = loop.cell.project(params, xs)
    carry = _batched_alike(carry, inputs._replace(xs=zs))
    return _outputs(loop, Problem(params, carry, initial, xs, zs, marks))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _outputs(loop: Loop, problem: Problem):
    return loop.outputs(problem)


@_outputs.defjvp
def _outputs_jvp(loop: Loop, primals, tangents):
    run, change = jax.jvp(functools.partial(_run, loop), primals, tangents)
    return (run.last, run.ys), (change.last, change.ys)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run(loop: Loop, problem: Problem) -> Run:
    # The outputs come out of this loop too, as those of `_outputs` do, so that jax.vmap batches
    # both alike: it does not reconcile a custom_jvp function with its rule.
    return loop.run(problem)


@_run.defjvp
def _run_jvp(loop: Loop, primals, tangents):
    (problem,), (change,) = primals, tangents
    cell, (params, _, initial, _, zs, marks) = loop.cell, problem
    run = _run(loop, problem)
    before = _shifted(loop, marks, Unknowns(problem.carry, initial, run.carries))
    before = sound(marks.mask, before, initial)
    kernel, dkernel = jax.jvp(cell.recurrent_kernel, (params,), (change.params,))
    # Under jax.shard_map the solver makes all that it reads vary, before its loops see it.
    kernel = varying_alike(kernel, before)
    us = loop.products(problem, before, run, kernel)
    system = System(problem, kernel, before, us, run)

    # The product is linear in the kernel, so its change is the product with the kernel's change.
    dus = kernel_product(cell.hidden(before), dkernel)
    changes = zero_unless(marks.mask, loop.change(system, change.params, change.zs, dus))
    dinitial = None if marks.reset is None else change.initial
    v = _solve(loop, system, _tied(Unknowns(change.carry, dinitial, changes)))

    dbefore = _shifted(loop, marks, v)
    dus = dus + kernel_product(jax.jvp(cell.hidden, (before,), (dbefore,))[1], kernel)
    _, dsaved = jax.jvp(
        loop.saved, (params, before, zs, us), (change.params, dbefore, change.zs, dus)
    )
    _, dys = jax.jvp(
        lambda params, carries, zs: readout(cell, params, initial, carries, zs, marks),
        (params, run.carries, zs),
        (change.params, v.carries, change.zs),
    )
    dlast = jax.tree.map(lambda c: c[0 if loop.reverse else -1], v.carries)
    return run, Run(dlast, dys, v.carries, dsaved)


def _tied(b: Unknowns) -> Unknowns:
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


def _shifted(loop: Loop, marks: Marks, v: Unknowns) -> PyTree:
    """`[T, *batch, ...]`: what each step started from."""

    def shift(first, rest):
        parts = [rest[1:], first[None]] if loop.reverse else [first[None], rest[:-1]]
        return jnp.concatenate(parts)

    return restart(marks.reset, v.initial, jax.tree.map(shift, v.carry, v.carries))


def _solve(loop: Loop, system: System, b: Unknowns) -> Unknowns:
    """v_t = J_t v_{t-1} + b_t as a linear solve, which jax differentiates and transposes."""
    marks = system.problem.marks

    def residual(v: Unknowns) -> Unknowns:
        moved = _jacobian(loop.cell, system, _shifted(loop, marks, v))
        return v._replace(carries=jax.tree.map(jnp.subtract, v.carries, moved))

    def solve(_, b: Unknowns) -> Unknowns:
        def body(v, now):
            b_t, before, z, u, marks = now
            v = restart(marks.reset, b.initial, v)
            problem = system.problem._replace(zs=z, marks=marks)
            step = system._replace(problem=problem, before=before, us=u)
            v = jax.tree.map(jnp.add, b_t, _jacobian(loop.cell, step, v))
            return v, v

        steps = (b.carries, system.before, system.problem.zs, system.us, marks)
        return b._replace(carries=lax.scan(body, b.carry, steps, reverse=loop.reverse)[1])

    def solve_transposed(_, g: Unknowns) -> Unknowns:
        return loop.transposed_solution(system, g)

    return lax.custom_linear_solve(residual, b, solve, solve_transposed)


def _jacobian(cell: GatedCell, system: System, v: PyTree) -> PyTree:
    """J v, for one step or for all of them; a masked step passes v on."""
    params, before = system.problem.params, system.before
    dhidden = jax.jvp(cell.hidden, (before,), (v,))[1]
    du = kernel_product(dhidden, system.kernel)
    gate = recomputed_gate(cell)
    change = jax.jvp(
        lambda h, u: gate(params, h, system.problem.zs, u), (before, system.us), (v, du)
    )[1]
    return hold(system.problem.marks.mask, change, v)


def recomputed_gate(cell: GatedCell):
    """The gate as parallel passes differentiate it: computed again, so that nothing is kept."""
    return jax.checkpoint(cell.gate, prevent_cse=False)
