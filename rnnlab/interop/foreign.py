"""What another library's cell is to rnnlab: how it is drawn, started and stepped."""

import abc
import dataclasses
import functools
import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import wide_dtype
from rnnlab.core.types import Array, Key, PyTree


class ForeignCarry(NamedTuple):
    """Carry of a foreign cell.

    To start from one of your own, put it in the place of what the cell starts from; `y` is what
    the cell gave out last, zero before the first step, and no step reads it.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.interop.cells import ForeignCarry, from_linen
        >>> cell = from_linen(nn.GRUCell(8), in_features=3)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> start = ForeignCarry(inner=jnp.ones((2, 8)), y=jnp.zeros((2, 8)))
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 3)), start)
        >>> carry.inner.shape
        (2, 8)
    """

    inner: Any  # the cell's own, led by [*batch]
    y: Array  # [*batch, ...], its last output


@dataclasses.dataclass(frozen=True)
class Adapter(abc.ABC):
    """How one library draws, starts and steps one example of a cell."""

    @abc.abstractmethod
    def draw(self, key: Key, in_features: int) -> PyTree:
        """Parameters, which are arrays alone."""

    @abc.abstractmethod
    def start(self, params: PyTree, in_features: int) -> PyTree:
        """The first carry of one example."""

    @abc.abstractmethod
    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        """One step of one example."""

    def refuse_step(self, params: PyTree, carry: PyTree, x: Array) -> None:
        """Raises a ValueError where a step does what a pure function of these does not."""
        return


@dataclasses.dataclass(frozen=True)
class Foreign(Cell[Any, ForeignCarry]):
    """Another library's cell. Made by `from_linen`, `from_nnx`, `from_haiku`, `from_equinox`."""

    adapter: Adapter
    in_features: int

    def __post_init__(self):
        check_size("in_features", in_features=self.in_features)

    def init(self, key: Key, in_features: int) -> Any:
        if in_features != self.in_features:
            raise ValueError(
                f"init: expected in_features={self.in_features}, for which this cell was wrapped,"
                f" got {in_features}."
            )
        return self.adapter.draw(key, in_features)

    def initial_carry(self, params: Any, batch_shape: tuple[int, ...] = ()) -> ForeignCarry:
        start, wide = self.adapter.start(params, self.in_features), wide_dtype(_like(params))
        x = jax.ShapeDtypeStruct((self.in_features,), wide)
        _, y = jax.eval_shape(self.adapter.step, params, start, x)

        def spread(a: Array) -> Array:
            a = jnp.asarray(a)
            inexact = jnp.issubdtype(a.dtype, jnp.inexact)
            whole = jnp.broadcast_to(a, (*batch_shape, *a.shape))
            return jnp.array(whole, wide if inexact else a.dtype)

        return ForeignCarry(jax.tree.map(spread, start), jnp.zeros((*batch_shape, *y.shape), wide))

    def project(self, params: Any, x: Array) -> Array:
        if not hasattr(x, "shape"):
            raise TypeError(
                f"x: expected one array [*batch, {self.in_features}], got {type(x).__name__}. A"
                f" foreign cell reads one input: concatenate its parts along the last axis."
            )
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"x: expected {self.in_features} features on its last axis, for which this cell was"
                f" wrapped, got {x.shape[-1] if x.shape else 'no'} features, shape {x.shape}."
            )
        return x.astype(_like(params).dtype)

    def recur(self, params: Any, carry: ForeignCarry, z: Array) -> ForeignCarry:
        step = functools.partial(self.adapter.step, params)
        for _ in range(z.ndim - 1):  # the module sees one example
            step = jax.vmap(step)
        after = ForeignCarry(*step(carry.inner, z))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), after, carry)

    def readout(self, params: Any, carry: ForeignCarry, z: Array) -> Array:
        return carry.y.astype(_like(params).dtype)


def wrap(name: str, adapter: Adapter, in_features: int, fits: str) -> Foreign:
    """The cell, once a start and a step on shapes alone have shown that it is one.

    Args:
      name: of the public function, for the messages.
      adapter: the cell.
      in_features: F.
      fits: what the function takes, as a noun.

    Raises:
      ValueError: a cell that does not start or step, or whose step does not give back a carry like
        the one it takes and one output.
    """
    cell = Foreign(adapter, in_features)

    def first_step(key: Key) -> tuple[PyTree, PyTree, PyTree]:
        params = cell.init(key, in_features)
        x = jnp.zeros(in_features, _like(params).dtype)
        start = adapter.start(params, in_features)
        adapter.refuse_step(params, start, x)
        return start, *adapter.step(params, start, x)

    try:
        start, after, y = jax.eval_shape(first_step, jax.random.key(0))
    except Exception as error:
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(f"{name}: expected {fits}, but its first step raised {what}") from error
    if _form(after) != _form(start):
        raise ValueError(
            f"{name}: expected {fits}, but its step takes the carry {start} and returns {after}."
        )
    if not isinstance(y, jax.ShapeDtypeStruct):
        raise ValueError(f"{name}: expected {fits}, but its output is {y}, not one array.")
    return cell


def check_maker(name: str, make: Any, takes: str, module: type) -> None:
    """Refuses a module, or what cannot be called, where a function that makes one belongs."""
    if isinstance(make, module) or not callable(make):
        raise TypeError(
            f"{name}: expected a function make({takes}) that returns the module, got"
            f" {type(make).__name__}. Write `def make({takes}): return ...` at the top of a file."
        )


def import_library(name: str, package: str) -> Any:
    """Another library, or an error that names its package."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"from_{name} needs {package}: pip install {package}", name=name
        ) from error


def path_name(path: tuple[Any, ...]) -> str:
    """The path of a leaf as one writes it: cell.drop.rngs."""
    return ".".join(jax.tree_util.keystr((part,), simple=True) for part in path)


def _form(tree: PyTree) -> tuple[Any, list[tuple[int, ...]]]:
    return jax.tree.structure(tree), [a.shape for a in jax.tree.leaves(tree)]


def _like(params: PyTree) -> Array:
    """The first parameter of floats, whose dtype is the compute dtype."""
    for leaf in jax.tree.leaves(params):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
    raise ValueError(
        "params: expected at least one array of floats, whose dtype is the compute dtype, got none."
    )
