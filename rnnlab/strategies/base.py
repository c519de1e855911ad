"""What a strategy is, and the masked step that all of them share."""

import abc
import dataclasses
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from rnnlab.core.cell import AffineCell, Cell
from rnnlab.core.checks import check_leading
from rnnlab.core.ops import select, zero_unless
from rnnlab.core.types import Array, PyTree

CellType = TypeVar("CellType", bound=Cell)


class Marks(NamedTuple):
    """What is known of each step besides its input."""

    mask: Array | None  # bool [T, *batch]: False leaves the carry as it was and zeroes the output
    reset: Array | None  # bool [T, *batch]: True restarts the carry before the step


class Inputs(NamedTuple):
    """A sequence as the engine hands it to a strategy: checked, with masked inputs zeroed."""

    params: PyTree
    carry: PyTree  # [*batch, ...], what the first step starts from
    initial: PyTree  # [*batch, ...], what a reset restarts from
    xs: PyTree  # [T, *batch, ...], T >= 1
    marks: Marks


@dataclasses.dataclass(frozen=True)
class Strategy(abc.ABC, Generic[CellType]):
    """A way of running a cell over a sequence. All give the same values and gradients."""

    def refusal(self, cell: Cell) -> str | None:
        """Why this strategy cannot run `cell`, as a sentence; None where it can."""
        return None

    @abc.abstractmethod
    def run(self, cell: CellType, inputs: Inputs, reverse: bool) -> tuple[Any, Any]:
        """The carry after the last step, and the outputs `[T, *batch, ...]` in input order."""


def restart(reset: Array | None, initial: PyTree, carry: PyTree) -> PyTree:
    """`initial` where `reset` is set and `carry` elsewhere, leaf by leaf."""
    if reset is None:
        return carry
    return jax.tree.map(lambda i, c: select(reset, i, c), initial, carry)


def hold(mask: Array | None, new: PyTree, old: PyTree) -> PyTree:
    """`new` where `mask` is set and `old` elsewhere, leaf by leaf."""
    if mask is None:
        return new
    return jax.tree.map(lambda n, o: select(mask, n, o), new, old)


def sound(mask: Array | None, carry: PyTree, initial: PyTree) -> PyTree:
    """What a step computes with: at a masked one, whose result is dropped, the initial carry.

    A NaN in a carry that only waits there would otherwise reach the gradient of the parameters.
    """
    return hold(
        mask, carry, jax.tree.map(lambda i, c: jnp.broadcast_to(i, c.shape), initial, carry)
    )


def recur(cell: Cell, params: PyTree, initial: PyTree, carry: PyTree, z: Any, marks: Marks) -> Any:
    """The carry after a step that may be masked or start with a reset."""
    before = restart(marks.reset, initial, carry)
    after = cell.recur(params, sound(marks.mask, before, initial), z)
    return hold(marks.mask, after, before)


def readout(
    cell: Cell, params: PyTree, initial: PyTree, carry: PyTree, z: Any, marks: Marks
) -> Any:
    """The output of a step, zero where it is masked."""
    return zero_unless(marks.mask, cell.readout(params, sound(marks.mask, carry, initial), z))


def coefficients(
    cell: AffineCell, inputs: Inputs, zs: PyTree, lead: tuple[int, ...]
) -> tuple[PyTree, PyTree]:
    """a and b of all steps, a with axes of size 1 where it is the same for all of `lead`.

    In a loop b takes the carry's shape and dtype as it is added to it; here it is given them.
    """
    a, b = cell.coefficients(inputs.params, zs)

    def spread(leaf: Array) -> Any:
        """What a leaf is with none of its leading axes of size 1."""
        first = (m if n == 1 else n for n, m in zip(leaf.shape, lead, strict=False))
        return jax.ShapeDtypeStruct((*first, *leaf.shape[len(lead) :]), leaf.dtype)

    what = f"{type(cell).__name__}.coefficients"
    check_leading(what, (jax.tree.map(spread, a), b), lead)

    def like_carry(b: Array, c: Array) -> Array:
        return jnp.broadcast_to(b.astype(c.dtype), (lead[0], *c.shape))

    return a, jax.tree.map(like_carry, b, inputs.carry)


def time_slice(tree: PyTree, start: int, stop: int) -> PyTree:
    """Steps `start` to `stop` of every leaf `[T, ...]`."""
    return jax.tree.map(lambda a: a[start:stop], tree)


def time_join(trees: list[PyTree]) -> PyTree:
    """Trees of leaves `[T_i, ...]`, one after another."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *trees)
