"""Cells of `flax.linen`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rnnlab.core.types import Array, Key, PyTree
from rnnlab.interop.foreign import Adapter, Foreign, wrap


def from_linen(cell: Any, in_features: int) -> Foreign:
    """A `flax.linen` cell, an `nn.RNNCellBase`, as an rnnlab cell.

    A first carry that is random comes from key 0: pass one of your own, as a `ForeignCarry`.

    Args:
      cell: the module, unbound; its parameters are those under "params".
      in_features: F.

    Raises:
      TypeError: no module, or a class instead of one.
      ValueError: a cell with spatial axes, with other variables than params, that draws random
        numbers in its step, without parameters, or not of `in_features`.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.interop.cells import from_linen
        >>> cell = from_linen(nn.GRUCell(8), in_features=3)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """
    from flax import linen

    if not isinstance(cell, linen.Module):
        name = getattr(cell, "__name__", type(cell).__name__)
        hint = f": call it, {name}(...)" if isinstance(cell, type) else ""
        raise TypeError(f"from_linen: expected a flax.linen module, got {name}{hint}.")
    if getattr(cell, "num_feature_axes", 1) != 1:
        raise ValueError(
            f"from_linen: expected a cell whose inputs have one feature axis, got"
            f" {type(cell).__name__} with {cell.num_feature_axes}. rnnlab has its own:"
            f" rnnlab.cells.ConvLSTM."
        )
    fits = (
        f"an nn.RNNCellBase of params alone that reads inputs [{in_features}] and draws no random"
        f" numbers"
    )
    return wrap("from_linen", _Linen(cell), in_features, fits)


@dataclasses.dataclass(frozen=True)
class _Linen(Adapter):
    module: Any

    def draw(self, key: Key, in_features: int) -> PyTree:
        variables = self.module.init(key, self.start({}, in_features), jnp.zeros(in_features))
        others = sorted(set(variables) - {"params"})
        if others:
            raise ValueError(f"expected params alone, got {others} as well.")
        return variables.get("params", {})

    def start(self, params: PyTree, in_features: int) -> PyTree:
        return self.module.initialize_carry(jax.random.key(0), (in_features,))

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        return self.module.apply({"params": params}, carry, x)
