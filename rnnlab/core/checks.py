"""Errors that teach: what was expected, what came, and how to mend it.

Everything here looks at types, structures, shapes and dtypes only, so it can run on tracers and
before anything is compiled.
"""

import dataclasses
import math
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.core.cell import Cell
from rnnlab.core.types import PyTree


def check_cell_type(cell: Any) -> None:
    """Refuses what is not a hashable `Cell`."""
    if not isinstance(cell, Cell):
        hint = " (call it: a cell is an instance)" if isinstance(cell, type) else ""
        raise TypeError(
            f"cell: expected an rnnlab.Cell such as rnnlab.cells.LSTM(128), got {cell!r}{hint}. A"
            f" Flax, Haiku or Equinox cell has to be wrapped first."
        )
    hidden = set(vars(cell)) - {field.name for field in dataclasses.fields(cell) if field.compare}
    hidden -= {n for n in hidden if isinstance(getattr(type(cell), n, None), cached_property)}
    if hidden:
        raise TypeError(
            f"cell: {type(cell).__name__} keeps {sorted(hidden)} outside of its fields, so unequal"
            f" cells would compare equal and share a compiled program. Declare them as fields and"
            f" decorate the class with @dataclasses.dataclass(frozen=True)."
        )
    try:
        hash(cell)
    except TypeError as error:
        raise TypeError(
            f"cell: {type(cell).__name__} cannot be hashed ({error}). Its fields must be static"
            f" and hashable: tuples instead of lists, no arrays (those belong in params)."
        ) from error


def check_size(owner: str, **sizes: Any) -> None:
    """Refuses sizes that are not whole numbers of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise TypeError(f"{owner}: expected {name} to be a whole number, got {size!r}.")
        if size < 1:
            raise ValueError(f"{owner}: expected {name} >= 1, got {name}={size}.")


def check_positive(owner: str, **numbers: Any) -> None:
    """Refuses numbers that are not finite and greater than 0."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{owner}: expected {name} > 0, got {number!r}.")


def check_forget_gate(owner: str, forget_gate: str) -> None:
    """Refuses a kind of forget gate that xLSTM has not."""
    if forget_gate not in ("sigmoid", "exp"):
        raise ValueError(f'{owner}: expected forget_gate "sigmoid" or "exp", got {forget_gate!r}.')


def check_names(owner: str, names: tuple[str, ...]) -> None:
    """Refuses one string in the place of several names: every part of it would be one of them."""
    if isinstance(names, str):
        raise TypeError(f"{owner}: expected a tuple of names, got {names!r}. Write ({names!r},).")


def check_heads(owner: str, features: int, heads: int) -> None:
    """Refuses features that cannot be dealt out to the heads."""
    check_size(owner, features=features, heads=heads)
    if features % heads:
        raise ValueError(
            f"{owner}: expected features to be a multiple of heads, got features={features} and"
            f" heads={heads}."
        )


def check_arrays(**trees: PyTree) -> None:
    """Refuses a tree with a leaf that is not an array, naming the leaf."""
    for name, tree in trees.items():
        for path, leaf in jax.tree.leaves_with_path(tree):
            if not hasattr(leaf, "dtype"):
                raise TypeError(
                    f"{name}{jax.tree_util.keystr(path)}: expected an array,"
                    f" got {type(leaf).__name__}. Convert {name} with jnp.asarray first."
                )


def sequence_shape(cell: Cell, xs: PyTree) -> tuple[int, tuple[int, ...]]:
    """The length T and the batch shape of `xs`, a tree of arrays `[T, *batch, *features]`.

    Raises:
      ValueError: no array, too few axes, or leaves that disagree.
    """
    leaves = jax.tree.leaves_with_path(xs)
    if not leaves:
        raise ValueError("xs: expected an array [T, *batch, F], got a tree with no arrays.")
    leads = {}
    for path, leaf in leaves:
        name = "xs" + jax.tree_util.keystr(path)
        if leaf.ndim < 1 + cell.feature_ndim:
            raise ValueError(
                f"{name}: expected [T, *batch, *features] with {cell.feature_ndim} feature axis"
                f" for {type(cell).__name__}, got shape {leaf.shape}. Add the missing axes,"
                f" for example xs[:, None]."
            )
        leads[name] = leaf.shape[: leaf.ndim - cell.feature_ndim]
    if len(set(leads.values())) > 1:
        raise ValueError(f"xs: expected leaves that share their leading [T, *batch], got {leads}.")
    length, *batch = next(iter(leads.values()))
    return length, tuple(batch)


def check_flags(name: str, flags: Any, length: int, batch: tuple[int, ...]) -> None:
    """Refuses a mask or a reset that is not a bool array `[T, *batch]`."""
    if flags is None:
        return
    expected = (length, *batch)
    got = f"{getattr(flags, 'dtype', type(flags).__name__)} {getattr(flags, 'shape', '')}"
    if getattr(flags, "dtype", None) != jnp.bool_:
        fix = (
            "Turn lengths into a mask with rnnlab.lengths_to_mask(lengths, T)"
            if name == "mask"
            else "Compare to get booleans"
        )
        raise TypeError(f"{name}: expected bool {expected}, got {got}. {fix}.")
    if flags.shape != expected:
        fix = (
            "Transpose it: time comes first."
            if flags.shape == (*batch, length)
            else "Broadcast it to the leading axes of xs."
        )
        raise ValueError(f"{name}: expected shape {expected} = [T, *batch], got {got}. {fix}")


def check_carry(cell: Cell, carry: PyTree, expected: PyTree, given: str = "carry") -> None:
    """Refuses a carry whose structure, shapes or dtypes are not those of `initial_carry`.

    Args:
      cell: named in the message.
      carry: what came.
      expected: what `cell.initial_carry(params, batch_shape)` gives, as shapes.
      given: how the message calls what came.
    """
    fix = f"Start from {type(cell).__name__}.initial_carry(params, batch_shape)"
    got_tree, expected_tree = jax.tree.structure(carry), jax.tree.structure(expected)
    if got_tree != expected_tree:
        raise TypeError(f"{given}: expected {expected_tree}, got {got_tree}. {fix}.")
    pairs = zip(jax.tree.leaves_with_path(carry), jax.tree.leaves(expected), strict=True)
    for (path, got), want in pairs:
        name = given + jax.tree_util.keystr(path)
        if got.shape != want.shape:
            raise ValueError(f"{name}: expected shape {want.shape}, got {got.shape}. {fix}.")
        if got.dtype != want.dtype:
            raise TypeError(
                f"{name}: expected dtype {want.dtype}, got {got.dtype}. {fix}, or cast it with"
                f" .astype({str(want.dtype)!r}). (A carry has the wider of float32 and the dtype of"
                f" the params.)"
            )


def check_leading(what: str, tree: PyTree, lead: tuple[int, ...]) -> None:
    """Refuses a tree with a leaf that is not led by the axes `lead`, `[T, *batch]`."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if leaf.shape[: len(lead)] != lead:
            raise ValueError(
                f"{what}: expected every leaf to be led by the axes of time and batch, {lead}, got"
                f" shape {leaf.shape} at {jax.tree_util.keystr(path) or 'its only leaf'}. Broadcast"
                f" what is the same at every step, or leave it in the params."
            )


def check_projection(cell: Cell, params: PyTree, xs: PyTree, batch: tuple[int, ...]) -> None:
    """Refuses a z that has not one entry a step, which a loop over time would take apart.

    Asked of another length than that of `xs`, which a constant of the same size cannot have.
    """
    length = jax.tree.leaves(xs)[0].shape[0] + 1
    longer = jax.tree.map(lambda a: jax.ShapeDtypeStruct((length, *a.shape[1:]), a.dtype), xs)
    z = jax.eval_shape(cell.project, params, longer)
    check_leading(f"{type(cell).__name__}.project", z, (length, *batch))


def check_step(cell: Cell, params: PyTree, x: PyTree, carry: PyTree) -> PyTree:
    """The output of one step, as shapes; refuses a step that would change the carry's type."""
    after, y = jax.eval_shape(cell.step, params, carry, x)
    check_carry(cell, after, carry, given=f"the carry after one step of {type(cell).__name__}")
    return y
