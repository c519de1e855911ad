"""A recurrence that the CPU kernel runs, with its rules of differentiation and of `jax.vmap`.

Its outputs come from the kernel. A change of them is the primitive `tangent`, a linear function
of the changes of params, carries and inputs whose transpose, `transposed`, is the kernel's reverse
loop. Both can be differentiated again, and `tangent` can be evaluated, as what they are of a plain
scan: so every transform works, and the kernel runs where speed is wanted.

A primitive rather than jax.custom_vjp, because the batching rule of `tangent` makes a mapped axis
part of the batch before it is transposed: under `grad(vmap)` the kernel sums the gradient of the
weights over the batch, where a custom VJP would give one for every example.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rnnlab.core.cell import Cell
from rnnlab.core.ops import wide_dtype, zero_unless
from rnnlab.core.types import Array, PyTree
from rnnlab.core.varying import varying_alike
from rnnlab.kernels import calls
from rnnlab.kernels.listed import Listed

Plain = Any  # (cell, primals, marks, reverse) -> (last, ys): the same recurrence as a scan


class Primals(NamedTuple):
    """What a recurrence can be differentiated by."""

    params: PyTree
    carry: PyTree  # [B, ...]
    initial: PyTree  # [B, ...]
    xs: Array  # [T, B, F]


class Residuals(NamedTuple):
    """What the derivative of a recurrence reads."""

    primals: Primals
    marks: calls.Marks
    kept: calls.Kept  # read by the kernel alone


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """What is static about a run."""

    cell: Cell
    entry: Listed
    reverse: bool
    plain: Plain

    def scan(self, primals: Primals, marks: calls.Marks) -> tuple[Any, Any]:
        """The last carry and the outputs, by a plain scan."""
        return self.plain(self.cell, primals, marks, self.reverse)

    def kernel_run(self, primals: Primals, marks: calls.Marks) -> calls.Run:
        """The arguments of the kernel: everything in the wide dtype."""
        weights = self.entry.weights(primals.params)
        dtype = wide_dtype(weights.kernel)
        # As `project` does: inputs rounded to the compute dtype.
        arrays = weights, primals.xs.astype(weights.kernel.dtype)
        weights, xs = jax.tree.map(lambda a: a.astype(dtype), arrays)
        start, initial = map(self.entry.state, (primals.carry, primals.initial))
        return calls.Run(weights, start, initial, xs, marks)

    def run(self, primals: Primals, marks: calls.Marks, save: bool) -> tuple[Any, Any, Any]:
        """The last carry, the outputs, and with `save` what the reverse loop needs."""

        def call(params: PyTree, rows: Any, steps: Any) -> tuple[Any, Any]:
            (carry, initial), (xs, marks) = rows, steps
            run = self.kernel_run(Primals(params, carry, initial, xs), marks)
            last, hs, kept = calls.forward(self.entry, run, reverse=self.reverse, save=save)
            ys = zero_unless(marks.mask, hs).astype(self.entry.weights(params).kernel.dtype)
            return self.entry.carry(last), (ys, kept)

        params, carry, initial, xs = primals
        last, (ys, kept) = _folding_vmap(call)(params, (carry, initial), (xs, marks))
        return last, ys, kept


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def outputs(recurrence: Recurrence, primals: Primals, marks: calls.Marks) -> tuple[Any, Any]:
    """The last carry and the outputs of a recurrence over `[T, B, F]`."""
    return recurrence.run(primals, marks, save=False)[:2]


@outputs.defjvp
def _outputs_jvp(recurrence: Recurrence, primals, tangents):
    (last, ys, _), (dlast, dys, _) = jax.jvp(
        functools.partial(_saving, recurrence), primals, tangents
    )
    return (last, ys), (dlast, dys)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _saving(recurrence: Recurrence, primals: Primals, marks: calls.Marks):
    return recurrence.run(primals, marks, save=True)


@_saving.defjvp
def _saving_jvp(recurrence: Recurrence, primals, tangents):
    (primals, marks), (changes, _) = primals, tangents
    last, ys, kept = _saving(recurrence, primals, marks)
    residuals, changes = _all_varying((Residuals(primals, marks, kept), changes))
    leaves, tree = jax.tree.flatten((residuals, changes))
    leaves = tangent.bind(*leaves, recurrence=recurrence, tree=tree)
    dlast, dys = jax.tree.unflatten(jax.tree.structure((last, ys)), leaves)
    # What is kept is no function of its own: only the reverse loop reads it.
    return (last, ys, kept), (dlast, dys, jax.tree.map(jnp.zeros_like, kept))


def _tangent(*leaves: Array, recurrence: Recurrence, tree: Any) -> list[Array]:
    """The change of the last carry and of the outputs, of a plain scan."""
    residuals, changes = jax.tree.unflatten(tree, leaves)
    scan = functools.partial(recurrence.scan, marks=residuals.marks)
    return jax.tree.leaves(jax.jvp(scan, (residuals.primals,), (changes,))[1])


def _scan_transposed(*leaves: Array, recurrence: Recurrence, tree: Any, with_inputs: bool):
    """The gradients of a plain scan."""
    residuals, wanted = jax.tree.unflatten(tree, leaves)
    scan = functools.partial(recurrence.scan, marks=residuals.marks)
    (gradients,) = jax.vjp(scan, residuals.primals)[1](wanted)
    return jax.tree.leaves(_without_inputs(gradients) if not with_inputs else gradients)


def _transposed(*leaves: Array, recurrence: Recurrence, tree: Any, with_inputs: bool):
    """The gradients, from the kernel's reverse loop."""
    residuals, (last, ys) = jax.tree.unflatten(tree, leaves)
    entry, primals = recurrence.entry, residuals.primals
    run = recurrence.kernel_run(primals, residuals.marks)
    wanted_hs = zero_unless(residuals.marks.mask, ys.astype(run.xs.dtype))
    weights, start, initial, dxs = calls.backward(
        entry,
        run,
        residuals.kept,
        wanted_hs,
        entry.state(last),
        reverse=recurrence.reverse,
        with_inputs=with_inputs,
    )
    gradients = Primals(entry.params(weights), entry.carry(start), entry.carry(initial), dxs)
    if not with_inputs:
        primals = _without_inputs(primals)
    return jax.tree.leaves(jax.tree.map(lambda g, p: g.astype(p.dtype), gradients, primals))


def _without_inputs(primals: Primals) -> Primals:
    return primals._replace(xs=None)


tangent = Primitive("recurrence_tangent")
tangent.multiple_results = True
tangent.def_impl(_tangent)
transposed = Primitive("recurrence_transposed")
transposed.multiple_results = True
transposed.def_impl(_transposed)


@tangent.def_abstract_eval
def _(*avals, recurrence, tree):
    residuals, changes = jax.tree.unflatten(tree, avals)
    ys = residuals.kept.carries.h.update(dtype=changes.params.kernel.dtype)
    return jax.tree.leaves((changes.carry, ys))


@transposed.def_abstract_eval
def _(*avals, recurrence, tree, with_inputs):
    primals = jax.tree.unflatten(tree, avals)[0].primals
    return jax.tree.leaves(primals if with_inputs else _without_inputs(primals))


def _transpose_rule(cotangents, *leaves, recurrence, tree):
    wished = jax.tree.unflatten(tree, map(ad.is_undefined_primal, leaves))[1]
    read = leaves[: len(leaves) - len(jax.tree.leaves(wished))]
    wanted = [ad.instantiate_zeros(c) for c in cotangents]
    # The tree of the residuals beside that of (last, ys).
    pair = (tree.children()[0], jax.tree.structure((wished.carry, 0)))
    results = transposed.bind(
        *read,
        *wanted,
        recurrence=recurrence,
        tree=jax.tree_util.treedef_tuple(pair),
        with_inputs=wished.xs,
    )
    gradients = [*results, *[None] * (not wished.xs)]
    flags = jax.tree.leaves(wished)
    return [None] * len(read) + [g if f else None for g, f in zip(gradients, flags, strict=True)]


def _differentiated(function: Any, primals, tangents, **options):
    """Differentiated once more, both are what they are of a plain scan."""
    tangents = [ad.instantiate_zeros(t) for t in tangents]
    return jax.jvp(functools.partial(function, **options), tuple(primals), tuple(tangents))


def _transposed_jvp(primals, tangents, **options):
    changes = _differentiated(_scan_transposed, primals, tangents, **options)[1]
    return transposed.bind(*primals, **options), changes


ad.primitive_transposes[tangent] = _transpose_rule
ad.primitive_jvps[tangent] = functools.partial(_differentiated, _tangent)
ad.primitive_jvps[transposed] = _transposed_jvp
mlir.register_lowering(tangent, mlir.lower_fun(_tangent, multiple_results=True))
mlir.register_lowering(transposed, mlir.lower_fun(_transposed, multiple_results=True))


def _batch_tangent(leaves, dims, *, recurrence, tree):
    leaves, mapped, size = _mapped_first(leaves, dims)
    residuals, changes = jax.tree.unflatten(tree, leaves)
    flags = jax.tree.unflatten(tree, mapped)
    if any(jax.tree.leaves((flags[0].primals.params, flags[1].params))):
        function = functools.partial(_tangent, recurrence=recurrence, tree=tree)
        results = jax.vmap(function, in_axes=tuple(0 if m else None for m in mapped))(*leaves)
        return results, [0] * len(results)

    def fold(params, rows, steps):
        (carry, initial), (dcarry, dinitial) = rows
        (xs, marks, kept), dxs = steps
        primals = Primals(residuals.primals.params, carry, initial, xs)
        changed = Primals(params, dcarry, dinitial, dxs)
        folded, folded_tree = jax.tree.flatten((Residuals(primals, marks, kept), changed))
        results = tangent.bind(*folded, recurrence=recurrence, tree=folded_tree)
        return results[:-1], results[-1]

    def rows_of(r, c):
        return (r.primals.carry, r.primals.initial), (c.carry, c.initial)

    def steps_of(r, c):
        return (r.primals.xs, r.marks, r.kept), c.xs

    rows = _everywhere(size, rows_of(residuals, changes), rows_of(*flags))
    steps = _everywhere(size, steps_of(residuals, changes), steps_of(*flags))
    last, ys = _folded(size, fold, changes.params, rows, steps)
    return [*last, ys], [0] * (len(last) + 1)


def _batch_transposed(leaves, dims, **options):
    """One example after another, for each has a gradient of the weights of its own."""
    leaves, mapped, _ = _mapped_first(leaves, dims)
    results = _one_after_another(lambda *one: transposed.bind(*one, **options), leaves, mapped)
    return results, [0] * len(results)


batching.primitive_batchers[tangent] = _batch_tangent
batching.primitive_batchers[transposed] = _batch_transposed


def _mapped_first(leaves, dims):
    """The leaves with their mapped axis first, which of them have one, and its size."""
    mapped = [d is not None for d in dims]
    size = next(a.shape[d] for a, d, m in zip(leaves, dims, mapped, strict=True) if m)
    pairs = zip(leaves, dims, mapped, strict=True)
    return [jnp.moveaxis(a, d, 0) if m else a for a, d, m in pairs], mapped, size


def _all_varying(arguments: PyTree) -> PyTree:
    """Under `jax.shard_map`, `arguments` as types that no call has to change."""
    return varying_alike(arguments, arguments)


def _one_after_another(call: Any, arguments: Any, mapped: Any) -> Any:
    """`call` for each place on the mapped axis, which not all arguments have."""
    leaves, tree = jax.tree.flatten(tuple(arguments))
    flags = jax.tree.leaves(mapped)

    def one(slices):
        rest = iter(slices)
        chosen = [next(rest) if m else a for a, m in zip(leaves, flags, strict=True)]
        return call(*jax.tree.unflatten(tree, chosen))

    return lax.map(one, [a for a, m in zip(leaves, flags, strict=True) if m])


def _everywhere(size: int, tree: PyTree, mapped: PyTree) -> PyTree:
    """Every leaf with a mapped axis in front."""
    return jax.tree.map(
        lambda a, m: a if m else jnp.broadcast_to(a, (size, *a.shape)), tree, mapped
    )


def _folded(size: int, call: Any, shared: PyTree, rows: PyTree, steps: PyTree) -> Any:
    """`call`, the mapped axis in front of rows `[B, ...]` and steps `[T, B, ...]` part of B."""
    batch = jax.tree.leaves(rows)[0].shape[1]
    rows = jax.tree.map(lambda a: a.reshape(size * batch, *a.shape[2:]), rows)
    steps = jax.tree.map(
        lambda a: jnp.moveaxis(a, 0, 1).reshape(a.shape[1], size * batch, *a.shape[3:]), steps
    )
    rows, steps = call(shared, rows, steps)
    rows = jax.tree.map(lambda a: a.reshape(size, batch, *a.shape[1:]), rows)
    steps = jax.tree.map(lambda a: a.reshape(a.shape[0], size, batch, *a.shape[2:]), steps)
    return rows, jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), steps)


def _folding_vmap(call: Any) -> Any:
    """`call(shared, rows, steps) -> (rows, steps)`, a mapped axis made part of the batch.

    Only where what is shared is mapped too, there is one call after another.
    """
    folding = custom_vmap(call)

    @folding.def_vmap
    def _(size: int, mapped: Any, shared: PyTree, rows: PyTree, steps: PyTree):
        if any(jax.tree.leaves(mapped[0])):
            arguments = (shared, rows, steps)
            results = _one_after_another(_folding_vmap(call), arguments, tuple(mapped))
        else:
            rows, steps = _everywhere(size, (rows, steps), tuple(mapped[1:]))
            results = _folded(size, _folding_vmap(call), shared, rows, steps)
        return results, jax.tree.map(lambda _: True, results)

    return lambda *arguments: folding(*_all_varying(arguments))
