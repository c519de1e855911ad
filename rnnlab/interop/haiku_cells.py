"""Cells of Haiku."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from rnnlab.core.types import Array, Key, PyTree
from rnnlab.interop.foreign import Adapter, Foreign, check_maker, import_library, wrap


def from_haiku(make: Callable[[], Any], in_features: int) -> Foreign:
    """A Haiku core, an `hk.RNNCore`, as an rnnlab cell.

    An initial state that is learned is a parameter like the others. To start from a carry of your
    own, pass a `ForeignCarry`.

    Args:
      make: returns the core; called inside of `hk.transform`. A function at the top of a file:
        every lambda and every partial makes another cell, which is traced anew.
      in_features: F.

    Raises:
      ModuleNotFoundError: Haiku is not installed.
      TypeError: a core instead of a function that makes one.
      ValueError: a core with `hk.get_state`, that draws random numbers in its step, without
        parameters, or not of `in_features`.

    Example:
        >>> import haiku as hk, jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.interop.cells import from_haiku
        >>> def make():
        ...     return hk.GRU(8)
        >>> cell = from_haiku(make, in_features=3)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """
    hk = import_library("haiku", "dm-haiku")
    check_maker("from_haiku", make, "", hk.Module)
    fits = (
        f"an hk.RNNCore that reads inputs [{in_features}], keeps no hk.get_state and draws no"
        f" random numbers"
    )
    return wrap("from_haiku", _Haiku(make), in_features, fits)


@dataclasses.dataclass(frozen=True)
class _Haiku(Adapter):
    make: Callable[[], Any]

    def draw(self, key: Key, in_features: int) -> PyTree:
        import haiku as hk

        def first(x: Array) -> Any:
            core = self.make()
            return core(x, core.initial_state(None))

        return hk.transform(first).init(key, jnp.zeros(in_features))

    def start(self, params: PyTree, in_features: int) -> PyTree:
        return self._apply(lambda core: core.initial_state(None), params)

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        y, carry = self._apply(lambda core: core(x, carry), params)
        return carry, y

    def _apply(self, use: Callable[[Any], Any], params: PyTree) -> Any:
        import haiku as hk

        return hk.transform(lambda: use(self.make())).apply(params, None)
