"""A whole sequence in one call of a compiled CPU kernel, each way."""

import dataclasses
import math

import jax

from rnnlab.cells.zoneout import Zoneout, check_keep
from rnnlab.core.cell import Cell, LinearCell
from rnnlab.core.checks import sequence_shape
from rnnlab.core.types import Array, PyTree
from rnnlab.kernels import build, calls
from rnnlab.kernels.listed import check_params, listed
from rnnlab.kernels.recurrence import Primals, Recurrence, outputs
from rnnlab.strategies.base import Inputs, Marks, Strategy
from rnnlab.strategies.fused_linear import run_linear
from rnnlab.strategies.scan import Scan


@dataclasses.dataclass(frozen=True)
class Fused(Strategy[Cell]):
    """One call for the whole sequence: weights laid out for the cache once, gates in registers.

    For `LSTM` (also with layer norm), `GRU`, `ResetBeforeGRU`, `Elman`, `MinGRU` and `Zoneout` of
    the LSTM and of `GRU`, on a CPU, on the threads that XLA has. It projects the inputs in blocks
    of steps that stay in cache, so z is not written to memory, and keeps the gates; with layer norm
    it keeps both products instead. Its reverse loop gives the gradients of inputs and weights too,
    block by block. Weights in bfloat16 are computed with in float32. Of any other `LinearCell`,
    yours too, the kernel runs the loop h_t = a_t h_{t-1} + b_t, between matmuls of many steps.

    Every transform works. Of listed cells forward mode and second derivatives run a scan,
    `vmap(grad)` runs the reverse loop one example after another and `grad(vmap)` runs it once; a
    `vmap` over weights runs one set of them after another, and its gradient a scan. Of linear ones
    everything is one call.

    It has to be built (`make native` or `python -m rnnlab.kernels.build`, with a C++ compiler), and
    is refused where it is not. A batch that jit alone shares among devices is gathered first: under
    a mesh use `jax.shard_map`, or `Deferred`.

    References: Appleyard et al. 2016, "Optimizing performance of recurrent neural networks on
    GPUs"; Diamos et al. 2016, "Persistent RNNs" (weights that stay in each core's cache).
    """

    def refusal(self, cell: Cell) -> str | None:
        entry = listed(cell)
        if isinstance(entry, str) and not isinstance(cell, LinearCell):
            return entry
        if jax.default_backend() != "cpu":
            return f"its kernel is for CPUs, not for a {jax.default_backend()}. Use Deferred()"
        return build.load()

    def run(self, cell: Cell, inputs: Inputs, reverse: bool):
        entry = listed(cell)
        self._check_sharding(inputs.xs)
        if isinstance(entry, str):
            if isinstance(cell, LinearCell):
                return run_linear(cell, inputs, reverse)
            raise ValueError(f"strategy: {self} cannot run {cell}: {entry}.")
        features = entry.state(inputs.carry).h.shape[-1]
        check_params(cell, entry, features, inputs.params)
        xs, keep = _with_keep(cell, inputs)
        batch = sequence_shape(cell, inputs.xs)[1]
        size = math.prod(batch)

        def fold(tree: PyTree, lead: int) -> PyTree:
            """The batch axes, after `lead` others, as one."""
            return jax.tree.map(
                lambda a: a.reshape(*a.shape[:lead], size, *a.shape[lead + len(batch) :]), tree
            )

        def unfold(tree: PyTree, lead: int) -> PyTree:
            return jax.tree.map(
                lambda a: a.reshape(*a.shape[:lead], *batch, *a.shape[lead + 1 :]), tree
            )

        carry, initial = fold((inputs.carry, inputs.initial), 0)
        primals = Primals(inputs.params, carry, initial, fold(xs, 1))
        marks = calls.Marks(*inputs.marks, None if keep is None else entry.state(keep))
        recurrence = Recurrence(cell, entry, reverse, _scan)
        last, ys = outputs(recurrence, primals, fold(marks, 1))
        return unfold(last, 0), unfold(ys, 1)

    def _check_sharding(self, xs: PyTree) -> None:
        for x in jax.tree.leaves(xs):
            if any(jax.typeof(x).sharding.spec):
                raise ValueError(
                    f"strategy: {self} expected inputs of one device, got"
                    f" {jax.typeof(x).sharding}. Use Deferred(), or jax.shard_map around it."
                )


def _with_keep(cell: Cell, inputs: Inputs) -> tuple[Array, PyTree]:
    """The inputs, and what zoneout keeps or None."""
    if not (isinstance(cell, Zoneout) and isinstance(inputs.xs, tuple)):
        return inputs.xs, None
    xs, keep = inputs.xs
    check_keep(jax.tree.map(lambda a: a[0], keep), inputs.carry)
    return xs, keep


def _scan(cell: Cell, primals: Primals, marks: calls.Marks, reverse: bool):
    xs, (mask, reset, keep), entry = primals.xs, marks, listed(cell)
    if keep is not None and not isinstance(entry, str):
        xs = (xs, entry.carry(keep))
    return Scan().run(cell, Inputs(*primals[:3], xs, Marks(mask, reset)), reverse)
