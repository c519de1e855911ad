"""Cells of Equinox."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnnlab.core.checks import check_size
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.interop.foreign import (
    Adapter,
    Foreign,
    check_maker,
    import_library,
    path_name,
    wrap,
)


def from_equinox(
    make: Callable[[Key], Any], in_features: int, carry_features: int | tuple[int, ...]
) -> Foreign:
    """An Equinox cell, called as `cell(x, carry) -> carry`, as an rnnlab cell.

    To start from a carry of your own, pass a `ForeignCarry`.

    Args:
      make: takes a key and returns the module. The parameters of a module that is there already
        are `eqx.filter(module, eqx.is_inexact_array)`; an array of another dtype is refused. A
        function at the top of a file: every lambda and every partial makes another cell, which is
        traced anew.
      in_features: F.
      carry_features: the size of the carry, as of `GRUCell`, or of each part of it, as of
        `LSTMCell`; the carry starts at zero, and its first part is the output.

    Raises:
      ModuleNotFoundError: Equinox is not installed.
      TypeError: a module instead of a function that makes one, or sizes that are no whole numbers.
      ValueError: a module with arrays of whole numbers, booleans or keys, that draws random numbers
        in its step, without parameters, or not of `in_features` and `carry_features`.

    Example:
        >>> import equinox as eqx, jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.interop.cells import from_equinox
        >>> def make(key):
        ...     return eqx.nn.LSTMCell(3, 8, key=key)
        >>> cell = from_equinox(make, in_features=3, carry_features=(8, 8))
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """
    eqx = import_library("equinox", "equinox")
    check_maker("from_equinox", make, "key", eqx.Module)
    sizes = carry_features if isinstance(carry_features, tuple) else (carry_features,)
    for size in sizes:
        check_size("from_equinox", carry_features=size)
    adapter = _Equinox(make, carry_features)
    _refuse_arrays(adapter.static)
    fits = (
        f"cell(x, carry) -> carry that reads inputs [{in_features}], draws no random numbers and"
        f" has a carry of carry_features={carry_features} (one size, or a tuple of one a part, such"
        f" as (8, 8) for eqx.nn.LSTMCell)"
    )
    return wrap("from_equinox", adapter, in_features, fits)


@dataclasses.dataclass(frozen=True)
class _Equinox(Adapter):
    make: Callable[[Key], Any]
    carry_features: int | tuple[int, ...]

    @functools.cached_property
    def static(self) -> Any:
        """The module without its parameters, which no step builds again."""
        import equinox as eqx

        return eqx.filter_eval_shape(lambda key: self._parts(key)[1], jax.random.key(0))

    def _parts(self, key: Key) -> tuple[Any, Any]:
        import equinox as eqx

        return eqx.partition(self.make(key), eqx.is_inexact_array)

    def draw(self, key: Key, in_features: int) -> PyTree:
        return self._parts(key)[0]

    def start(self, params: PyTree, in_features: int) -> PyTree:
        return jax.tree.map(lambda size: jnp.zeros(size), self.carry_features)

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        import equinox as eqx

        carry = eqx.combine(params, self.static)(x, carry)
        return carry, jax.tree.leaves(carry)[0]


def _refuse_arrays(static: Any) -> None:
    arrays = [
        f"{path_name(path)} ({leaf.dtype})"
        for path, leaf in jax.tree.leaves_with_path(static)
        if isinstance(leaf, jax.ShapeDtypeStruct)
    ]
    if arrays:
        raise ValueError(
            f"from_equinox: expected a module whose arrays are all parameters, of floats, got"
            f" {', '.join(arrays)}. What make draws would not be that of your module: keep a"
            f" constant outside of it, or as a tuple in a static field."
        )
