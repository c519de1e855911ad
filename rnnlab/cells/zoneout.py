"""A gated cell that keeps parts of its carry at random."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_cell_type
from rnnlab.core.types import Array, Key, PyTree


class ZoneoutInput(NamedTuple):
    """z of `Zoneout`."""

    inner: Any  # z of the cell inside
    keep: PyTree | None  # bool, like the carry: True keeps the old value; None evaluates


@dataclasses.dataclass(frozen=True)
class Zoneout(GatedCell):
    """Zoneout: every element of the carry keeps its old value with some probability.

        training     h_t = where(keep_t, h_{t-1}, gate(h_{t-1}, z_t, u_t))
        evaluation   h_t = rate * h_{t-1} + (1 - rate) * gate(h_{t-1}, z_t, u_t)

    In training it reads pairs `(x, keep)`, of which `draw` gives the second before the loop; a
    plain x means evaluation. Parameters, carry and strategies are those of the cell inside.

    Args:
      cell: what to wrap, a gated cell.
      rate: probability of keeping; one for all leaves of the carry, or one for each in their order,
        such as (0.5, 0.05) for c and h of an LSTM.

    Raises:
      TypeError: the cell is not gated; `keep` is not like the carry.
      ValueError: a rate is outside [0, 1], or their number is not that of the leaves.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.Zoneout(rnnlab.cells.LSTM(16), rate=(0.5, 0.05))
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> xs = jnp.ones((10, 4, 3))
        >>> keep = cell.draw(jax.random.key(1), params, lead=(10, 4))
        >>> carry, ys = rnnlab.unroll(cell, params, (xs, keep))  # training
        >>> carry, ys = rnnlab.unroll(cell, params, xs)  # evaluation

    References: Krueger et al. 2016, "Zoneout: regularizing RNNs by randomly preserving hidden
    activations", eq. 3-6: h reads the new c as it was before its own zoneout.
    """

    cell: GatedCell
    rate: float | tuple[float, ...] = 0.1

    def __post_init__(self):
        check_cell_type(self.cell)
        if not isinstance(self.cell, GatedCell):
            raise TypeError(
                f"Zoneout: expected an rnnlab.GatedCell such as rnnlab.cells.LSTM(128), got"
                f" {self.cell!r}. Around another cell use variational dropout."
            )
        object.__setattr__(
            self, "rate", self.rate if isinstance(self.rate, int | float) else tuple(self.rate)
        )
        for rate in self.rate if isinstance(self.rate, tuple) else (self.rate,):
            if not 0 <= rate <= 1 or math.isnan(rate):
                raise ValueError(f"Zoneout: expected rates from 0 to 1, got {self.rate}.")

    def _rates(self, carry: PyTree) -> PyTree:
        """The rate of each leaf of a carry."""
        leaves, tree = jax.tree.flatten(carry)
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,) * len(leaves)
        if len(rates) != len(leaves):
            raise ValueError(
                f"Zoneout: expected one rate or {len(leaves)}, one for each leaf of the carry of"
                f" {self.cell}, got {self.rate}."
            )
        return jax.tree.unflatten(tree, rates)

    def draw(self, key: Key, params: Any, lead: tuple[int, ...]) -> PyTree:
        """What to keep, bool `[*lead, ...]` for each leaf of the carry; consumes `key`.

        Args:
          key: a typed key.
          params: the cell's parameters.
          lead: `(T, *batch)` for a whole sequence.
        """
        shapes = jax.eval_shape(lambda params: self.cell.initial_carry(params), params)
        leaves, tree = jax.tree.flatten(shapes)
        keys = jax.random.split(key, len(leaves))
        rates = jax.tree.leaves(self._rates(shapes))
        keep = [
            jax.random.bernoulli(k, rate, (*lead, *leaf.shape))
            for k, rate, leaf in zip(keys, rates, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, keep)

    def init(self, key: Key, in_features: int) -> Any:
        return self.cell.init(key, in_features)

    def initial_carry(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        return self.cell.initial_carry(params, batch_shape)

    def project(self, params: Any, x: Any) -> ZoneoutInput:
        x, keep = x if isinstance(x, tuple) else (x, None)
        return ZoneoutInput(self.cell.project(params, x), keep)

    def recurrent_kernel(self, params: Any) -> Array:
        return self.cell.recurrent_kernel(params)

    def hidden(self, carry: Any) -> Array:
        return self.cell.hidden(carry)

    def gate(self, params: Any, carry: Any, z: ZoneoutInput, u: Array) -> Any:
        new = self.cell.gate(params, carry, z.inner, u)
        if z.keep is None:
            blend = lambda rate, old, new: rate * old + (1 - rate) * new  # noqa: E731
            return jax.tree.map(blend, self._rates(carry), carry, new)
        if jax.tree.structure(z.keep) != jax.tree.structure(carry):
            raise TypeError(
                f"Zoneout: expected x to be (x, keep) with keep like the carry,"
                f" {jax.tree.structure(carry)}, got {jax.tree.structure(z.keep)}. Draw it with"
                f" cell.draw(key, params, lead=(T, *batch))."
            )
        return jax.tree.map(jnp.where, z.keep, carry, new)

    def readout(self, params: Any, carry: Any, z: ZoneoutInput) -> Array:
        return self.cell.readout(params, carry, z.inner)
