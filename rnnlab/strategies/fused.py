"""A whole sequence in one call of a compiled CPU kernel, each way."""

import dataclasses

import jax
import jax.numpy as jnp

from rnnlab.core.cell import Cell, GatedCell
from rnnlab.core.checks import sequence_shape
from rnnlab.core.ops import kernel_product, wide_dtype
from rnnlab.core.types import Array, PyTree
from rnnlab.kernels import build, calls
from rnnlab.kernels.listed import Listed, State, listed
from rnnlab.strategies.base import Inputs, Strategy, readout, sound
from rnnlab.strategies.implicit import Loop, Problem, Run, System, Unknowns, run_implicit


@dataclasses.dataclass(frozen=True)
class Fused(Strategy[GatedCell]):
    """One call for the whole sequence: weights laid out for the cache once, gates in registers.

    For `LSTM`, `GRU` and `Elman` on a CPU, on two threads or more of XLA's own. It projects the
    inputs in blocks of steps that stay in cache, so z is never written to memory, and keeps the
    gates for the reverse loop. Differentiated as `Deferred` is, so every transform works; forward
    mode runs that one's loop. Weights in bfloat16 are computed with in float32.

    It has to be built once (`make native` or `python -m rnnlab.kernels.build`, with a C++
    compiler), and is refused where it is not. A batch that is shared among devices by jit alone is
    gathered first: under a mesh use `jax.shard_map`, or `Deferred`.

    References: Appleyard et al. 2016, "Optimizing performance of recurrent neural networks on
    GPUs"; Diamos et al. 2016, "Persistent RNNs" (weights that stay in each core's cache).
    """

    def refusal(self, cell: Cell) -> str | None:
        entry = listed(cell)
        if isinstance(entry, str):
            return entry
        if jax.default_backend() != "cpu":
            return f"its kernel is for CPUs, not for a {jax.default_backend()}. Use Deferred()"
        return build.load()

    def run(self, cell: GatedCell, inputs: Inputs, reverse: bool):
        return run_implicit(_KernelLoop(cell, reverse), inputs)


@dataclasses.dataclass(frozen=True)
class _KernelLoop(Loop):
    """The kernel's loops; kept are the gates."""

    @property
    def entry(self) -> Listed:
        entry = listed(self.cell)
        if isinstance(entry, str):
            raise ValueError(f"strategy: Fused() cannot run {self.cell}: {entry}.")
        return entry

    def outputs(self, problem: Problem):
        run = self._forward(problem, save=False)
        return run.last, run.ys

    def run(self, problem: Problem) -> Run:
        return self._forward(problem, save=True)

    def _forward(self, problem: Problem, save: bool) -> Run:
        cell, entry, (params, _, _, xs, _, marks) = self.cell, self.entry, problem
        batch = sequence_shape(cell, xs)[1]
        weights = entry.weights(params)
        # As `project` does: inputs rounded to the compute dtype.
        xs = calls.flattened(xs, 1, batch).astype(weights.kernel.dtype)
        result = calls.forward(
            entry,
            weights,
            self._rows(problem, batch),
            xs.astype(wide_dtype(weights.kernel)),
            *calls.flattened(marks, 1, batch),
            reverse=self.reverse,
            save=save,
        )
        hs, cs, saved = calls.unflattened((result.hs, result.cs, result.saved), 1, batch)
        last = entry.carry(calls.unflattened(result.last, 0, batch))
        # The output is h alone; where c is not kept, h stands in for it.
        carries = entry.carry(State(hs, hs if cs is None and result.last.c is not None else cs))
        ys = readout(cell, params, problem.initial, carries, problem.zs, marks)
        return Run(last, ys, carries, saved)

    def _rows(self, problem: Problem, batch: tuple[int, ...]) -> calls.Rows:
        starts = calls.Rows(*map(self.entry.state, (problem.carry, problem.initial)))
        return calls.flattened(starts, 0, batch)

    def saved(self, params: PyTree, before: PyTree, zs: PyTree, us: Array) -> Array:
        return self.entry.saved(params, zs, us)

    def products(self, problem: Problem, before: PyTree, run: Run, kernel: Array) -> Array:
        return kernel_product(self.cell.hidden(before), kernel)

    def change(self, system: System, dparams: PyTree, dzs: PyTree, dus: Array) -> PyTree:
        entry, problem = self.entry, system.problem
        # A carry that only waits at a masked step may be a NaN.
        after = sound(problem.marks.mask, system.run.carries, problem.initial)
        before, after = entry.state(system.before), entry.state(after)
        return entry.carry(entry.change(system.run.saved, before, after, dparams, dzs, dus))

    def transposed_solution(self, system: System, g: Unknowns) -> Unknowns:
        entry, problem, run = self.entry, system.problem, system.run
        batch = sequence_shape(self.cell, problem.xs)[1]
        steps = (entry.state(run.carries), run.saved, entry.state(g.carries), *problem.marks)
        carries, saved, wanted, mask, reset = calls.flattened(steps, 1, batch)
        total, start, initial = calls.backward(
            entry,
            system.kernel.astype(wide_dtype(system.kernel)),
            self._rows(problem, batch),
            carries,
            saved,
            wanted,
            mask,
            reset,
            reverse=self.reverse,
        )
        start, initial = (entry.carry(calls.unflattened(s, 0, batch)) for s in (start, initial))
        add = jax.tree_util.Partial(jax.tree.map, jnp.add)
        return Unknowns(
            add(g.carry, start),
            None if g.initial is None else add(g.initial, initial),
            entry.carry(calls.unflattened(total, 1, batch)),
        )
