"""A cell of Flax, Haiku or Equinox as an `rnnlab.Cell`, so that `unroll` runs it.

Masks, resets, lengths, either direction and the strategies for every cell then work. Nothing of
such a cell leaves the loop: the module makes a whole step at once. So its step is `recur`, and it
does not keep the rule of `rnnlab.testing.check_cell` that an input's own matmul is hoisted.
"""

import abc
import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import wide_dtype
from rnnlab.core.types import Array, Key, PyTree


class ForeignCarry(NamedTuple):
    """Carry of a foreign cell."""

    inner: Any  # its own
    y: Array  # its last output


@dataclasses.dataclass(frozen=True)
class Adapter(abc.ABC):
    """How one library draws, starts and steps one example of a cell."""

    @abc.abstractmethod
    def draw(self, key: Key, in_features: int) -> PyTree:
        """Parameters, which are arrays alone."""

    @abc.abstractmethod
    def start(self, in_features: int) -> PyTree:
        """The first carry of one example."""

    @abc.abstractmethod
    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        """One step of one example."""


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
        start, wide = self.adapter.start(self.in_features), wide_dtype(_like(params))
        x = jax.ShapeDtypeStruct((self.in_features,), wide)
        _, y = jax.eval_shape(self.adapter.step, params, start, x)

        def spread(a: Array) -> Array:
            a = jnp.asarray(a)
            inexact = jnp.issubdtype(a.dtype, jnp.inexact)
            whole = jnp.broadcast_to(a, (*batch_shape, *a.shape))
            return jnp.array(whole, wide if inexact else a.dtype)

        return ForeignCarry(jax.tree.map(spread, start), jnp.zeros((*batch_shape, *y.shape), wide))

    def project(self, params: Any, x: Array) -> Array:
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"x: expected {self.in_features} features on its last axis, for which this cell was"
                f" wrapped, got {x.shape[-1]} features, shape {x.shape}."
            )
        return x.astype(_like(params).dtype)

    def recur(self, params: Any, carry: ForeignCarry, z: Array) -> ForeignCarry:
        step = lambda carry, x: self.adapter.step(params, carry, x)  # noqa: E731
        for _ in range(z.ndim - 1):  # the module sees one example
            step = jax.vmap(step)
        after = ForeignCarry(*step(carry.inner, z))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), after, carry)

    def readout(self, params: Any, carry: ForeignCarry, z: Array) -> Array:
        return carry.y.astype(_like(params).dtype)


def from_linen(cell: Any, in_features: int) -> Foreign:
    """A `flax.linen` cell, an `nn.RNNCellBase`, as an rnnlab cell.

    Args:
      cell: the module, unbound; its parameters are those under "params".
      in_features: F.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.interop.cells import from_linen
        >>> cell = from_linen(nn.GRUCell(8), in_features=3)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """
    return Foreign(_Linen(cell), in_features)


def from_nnx(make: Callable[[Any], Any], in_features: int) -> Foreign:
    """A `flax.nnx` cell, an `nnx.RNNCellBase`, as an rnnlab cell.

    Args:
      make: takes `nnx.Rngs` and returns the module. The parameters of a module that is there
        already are `nnx.to_pure_dict(nnx.state(module, nnx.Param))`. A function at the top of a
        module: every lambda makes another cell.
      in_features: F.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> from flax import nnx
        >>> from rnnlab.interop.cells import from_nnx
        >>> cell = from_nnx(lambda rngs: nnx.GRUCell(3, 8, rngs=rngs), in_features=3)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 3)))
    """
    return Foreign(_NNX(make), in_features)


def from_haiku(make: Callable[[], Any], in_features: int) -> Foreign:
    """A Haiku core, an `hk.RNNCore`, as an rnnlab cell.

    Args:
      make: returns the core; called inside of `hk.transform`.
      in_features: F.

    Raises:
      ModuleNotFoundError: Haiku is not installed.
    """
    _library("haiku", "dm-haiku")
    return Foreign(_Haiku(make), in_features)


def from_equinox(
    make: Callable[[Key], Any], in_features: int, carry_features: int | tuple[int, ...]
) -> Foreign:
    """An Equinox cell, called as `cell(x, carry) -> carry`, as an rnnlab cell.

    Args:
      make: takes a key and returns the module. The parameters of a module that is there already
        are `eqx.filter(module, eqx.is_inexact_array)`.
      in_features: F.
      carry_features: the size of the carry, as of `GRUCell`, or of each part of it, as of
        `LSTMCell`; the carry starts at zero, and its first part is the output.

    Raises:
      ModuleNotFoundError: Equinox is not installed.
    """
    _library("equinox", "equinox")
    return Foreign(_Equinox(make, carry_features), in_features)


@dataclasses.dataclass(frozen=True)
class _Linen(Adapter):
    module: Any

    def draw(self, key: Key, in_features: int) -> PyTree:
        variables = self.module.init(key, self.start(in_features), jnp.zeros(in_features))
        others = sorted(set(variables) - {"params"})
        if others:
            raise ValueError(f"from_linen: expected params alone, got {others} as well.")
        return variables["params"]

    def start(self, in_features: int) -> PyTree:
        return self.module.initialize_carry(jax.random.key(0), (in_features,))

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        return self.module.apply({"params": params}, carry, x)


@dataclasses.dataclass(frozen=True)
class _NNX(Adapter):
    make: Callable[[Any], Any]

    def _split(self, key: Key) -> tuple[Any, Any, Any]:
        from flax import nnx

        graph, state, rest = nnx.split(self.make(nnx.Rngs(key)), nnx.Param, ...)
        return graph, state, rest

    def draw(self, key: Key, in_features: int) -> PyTree:
        from flax import nnx

        return nnx.to_pure_dict(self._split(key)[1])

    def start(self, in_features: int) -> PyTree:
        from flax import nnx

        return self.make(nnx.Rngs(0)).initialize_carry((in_features,), nnx.Rngs(0))

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        from flax import nnx

        graph, state, rest = self._split(jax.random.key(0))
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state, rest)(carry, x)


@dataclasses.dataclass(frozen=True)
class _Haiku(Adapter):
    make: Callable[[], Any]

    def _transformed(self) -> Any:
        import haiku as hk

        return hk.without_apply_rng(hk.transform(lambda x, carry: self.make()(x, carry)))

    def draw(self, key: Key, in_features: int) -> PyTree:
        return self._transformed().init(key, jnp.zeros(in_features), self.start(in_features))

    def start(self, in_features: int) -> PyTree:
        import haiku as hk

        begin = hk.transform(lambda: self.make().initial_state(None))
        return begin.apply({}, None)

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        y, carry = self._transformed().apply(params, x, carry)
        return carry, y


@dataclasses.dataclass(frozen=True)
class _Equinox(Adapter):
    make: Callable[[Key], Any]
    carry_features: int | tuple[int, ...]

    def _parts(self, key: Key) -> tuple[Any, Any]:
        import equinox as eqx

        return eqx.partition(self.make(key), eqx.is_inexact_array)

    def draw(self, key: Key, in_features: int) -> PyTree:
        return self._parts(key)[0]

    def start(self, in_features: int) -> PyTree:
        return jax.tree.map(lambda size: jnp.zeros(size), self.carry_features)

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        import equinox as eqx

        carry = eqx.combine(params, self._parts(jax.random.key(0))[1])(x, carry)
        return carry, jax.tree.leaves(carry)[0]


def _library(name: str, package: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"from_{name} needs {package}: pip install {package}", name=name
        ) from error


def _like(params: PyTree) -> Array:
    """The first parameter, whose dtype is the compute dtype."""
    return jax.tree.leaves(params)[0]
