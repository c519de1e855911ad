"""A scan whose weight gradient is computed after the reverse loop, not inside it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.cell import Cell, GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import kernel_product, separate_pass, wide_dtype, zero_unless
from rnnlab.core.types import Array, PyTree
from rnnlab.strategies.base import Inputs, Strategy, hold, readout, restart, sound
from rnnlab.strategies.implicit import (
    Loop,
    Problem,
    Run,
    System,
    Unknowns,
    recomputed_gate,
    run_implicit,
)
from rnnlab.strategies.scan import scan_projected


@dataclasses.dataclass(frozen=True)
class Deferred(Strategy[GatedCell]):
    """The loop of `Scan` forward; differentiated as a linear system instead of step by step.

    The reverse loop carries a cotangent of the carry alone, and the gradient of the recurrent
    kernel is one matmul over T * B rows after it (`rnnlab.strategies.implicit` says why, and that
    every transform works). Kept for the reverse pass are z, u and the carries: gates are
    recomputed.

    Attributes:
      unroll: steps per iteration of the compiled loops.

    Raises:
      ValueError: when run on a carry with a leaf that is not floating point.

    References: Appleyard et al. 2016, "Optimizing performance of recurrent neural networks on
    GPUs" (weight gradients after the loop).
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
        return run_implicit(ScannedLoop(cell, reverse, self.unroll), inputs)


@dataclasses.dataclass(frozen=True)
class ScannedLoop(Loop):
    """`lax.scan` both ways; kept is u, and the gates are recomputed."""

    unroll: int = 1

    def scan(self, body, carry, xs, backwards: bool = False):
        return lax.scan(body, carry, xs, reverse=self.reverse != backwards, unroll=self.unroll)

    def outputs(self, problem: Problem):
        params, carry, initial, _, zs, marks = problem
        inputs = Inputs(params, carry, initial, zs, marks)
        return scan_projected(self.cell, inputs, self.reverse, self.unroll)

    def run(self, problem: Problem) -> Run:
        cell, (params, carry, initial, _, zs, marks) = self.cell, problem
        kernel = cell.recurrent_kernel(params)

        def body(carry, now):
            z, marks = now
            before = restart(marks.reset, initial, carry)
            start = sound(marks.mask, before, initial)
            u = kernel_product(cell.hidden(start), kernel)
            carry = hold(marks.mask, cell.gate(params, start, z, u), before)
            return carry, (readout(cell, params, initial, carry, z, marks), carry, u)

        last, (ys, carries, us) = self.scan(body, carry, (zs, marks))
        return Run(last, ys, carries, us)

    def saved(self, params: PyTree, before: PyTree, zs: PyTree, us: Array) -> Array:
        return us

    def products(self, problem: Problem, before: PyTree, run: Run, kernel: Array) -> Array:
        return run.saved

    def change(self, system: System, dparams: PyTree, dzs: PyTree, dus: Array) -> PyTree:
        gate = recomputed_gate(self.cell)
        return jax.jvp(
            lambda params, z, u: gate(params, system.before, z, u),
            (system.problem.params, system.problem.zs, system.us),
            (dparams, dzs, dus),
        )[1]

    def transposed_solution(self, system: System, g: Unknowns) -> Unknowns:
        cell, (params, _, _, _, zs, marks) = self.cell, system.problem
        # Laid out for the reverse loop once, not at every step.
        transposed = _transposed(system.kernel)

        def body(state, now):
            v, initial = state
            g_t, before, z, u, (mask, reset) = now
            total = jax.tree.map(jnp.add, g_t, v)
            gate_vjp = jax.vjp(lambda h, u: cell.gate(params, h, z, u), before, u)[1]
            direct, du = gate_vjp(zero_unless(mask, total))
            through = _through_kernel(cell, before, du, transposed)
            v = hold(mask, jax.tree.map(jnp.add, direct, through), total)
            if reset is not None:
                initial = jax.tree.map(jnp.add, initial, zero_unless(reset, v))
                v = zero_unless(~reset, v)
            return (v, initial), total

        zero = jax.tree.map(jnp.zeros_like, g.carry)
        steps = (g.carries, system.before, zs, system.us, marks)
        (v, initial), carries = self.scan(body, (zero, g.initial), steps, backwards=True)
        return Unknowns(jax.tree.map(jnp.add, g.carry, v), initial, carries)


def _transposed(kernel: Array) -> Array:
    """The kernel with rows and columns exchanged, in the wide dtype; a diagonal one as it is."""
    transposed = kernel.swapaxes(-1, -2) if kernel.ndim > 1 else kernel
    return separate_pass(transposed.astype(wide_dtype(kernel)))


def _through_kernel(cell: GatedCell, before: PyTree, du: Array, transposed: Array) -> PyTree:
    """What a change of u is worth to the carry that the step started from."""
    hidden, hidden_vjp = jax.vjp(cell.hidden, before)
    dhidden = kernel_product(lax.collapse(du, hidden.ndim - 1), transposed)
    dhidden = lax.collapse(dhidden, hidden.ndim - 1)
    # A diagonal kernel hands back one part a gate, the others one part in all.
    parts = jnp.split(dhidden, dhidden.shape[-1] // hidden.shape[-1], axis=-1)
    return hidden_vjp(functools.reduce(jnp.add, parts))[0]
