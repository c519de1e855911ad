"""A whole sequence in one call of a compiled CPU kernel, each way."""

import dataclasses
import math

import jax

from rnnlab.core.cell import Cell, GatedCell
from rnnlab.core.checks import sequence_shape
from rnnlab.core.types import PyTree
from rnnlab.kernels import build
from rnnlab.kernels.listed import check_params, listed
from rnnlab.kernels.recurrence import Primals, Recurrence, outputs
from rnnlab.strategies.base import Inputs, Marks, Strategy
from rnnlab.strategies.scan import Scan


@dataclasses.dataclass(frozen=True)
class Fused(Strategy[GatedCell]):
    """One call for the whole sequence: weights laid out for the cache once, gates in registers.

    For `LSTM`, `GRU` and `Elman` on a CPU, on the threads that XLA has. It projects the inputs in
    blocks of steps that stay in cache, so z is never written to memory, and keeps the gates. Its
    reverse loop gives the gradients of inputs and weights too, block by block. Weights in bfloat16
    are computed with in float32.

    Every transform works: forward mode and second derivatives run a scan. `vmap(grad)` runs the
    reverse loop one example after another, `grad(vmap)` runs it once; a `vmap` over weights runs
    one set of them after another, and its gradient a scan.

    It has to be built (`make native` or `python -m rnnlab.kernels.build`, with a C++ compiler), and
    is refused where it is not. A batch that jit alone shares among devices is gathered first: under
    a mesh use `jax.shard_map`, or `Deferred`.

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
        entry = listed(cell)
        if isinstance(entry, str):
            raise ValueError(f"strategy: {self} cannot run {cell}: {entry}.")
        features = entry.state(inputs.carry).h.shape[-1]
        check_params(cell, entry, features, inputs.params)
        if any(jax.typeof(inputs.xs).sharding.spec):
            raise ValueError(
                f"strategy: {self} expected inputs of one device, got"
                f" {jax.typeof(inputs.xs).sharding}. Use Deferred(), or jax.shard_map around it."
            )
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
        primals = Primals(inputs.params, carry, initial, fold(inputs.xs, 1))
        recurrence = Recurrence(cell, entry, reverse, _scan)
        last, ys = outputs(recurrence, primals, fold(inputs.marks, 1))
        return unfold(last, 0), unfold(ys, 1)


def _scan(cell: GatedCell, primals: Primals, marks: Marks, reverse: bool):
    return Scan().run(cell, Inputs(*primals, marks), reverse)
