"""A gated cell that keeps parts of its carry at random."""

import dataclasses
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_cell_type
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.core.wrapper import PairReader

_ZONED = ("", "c", "h")  # a carry that is one array, or made of c and h


class ZoneoutInput(NamedTuple):
    """z of `Zoneout`."""

    inner: Any  # z of the cell inside
    keep: PyTree | None  # bool, like the carry: True keeps the old value; None evaluates


@dataclasses.dataclass(frozen=True)
class Zoneout(PairReader):
    """Zoneout: every element of the carry keeps its old value with some probability.

        training     h_t = where(keep_t, h_{t-1}, gate(h_{t-1}, z_t, u_t))
        evaluation   h_t = rate * h_{t-1} + (1 - rate) * gate(h_{t-1}, z_t, u_t)

    In training it reads pairs `(x, keep)`, of which `draw` gives the second before the loop; a
    plain x means evaluation. Parameters, carry and strategies are those of the cell inside.

    The pair has to reach it: it trains under `unroll` and as the first layer of a `Stack` or of
    `rnnlab.sequences.stack`. A later layer there reads plain outputs, so it evaluates: to train
    several, `unroll` them one after another. `Residual` and other wrappers refuse it.

    Args:
      cell: what to wrap, a gated cell whose carry is one array or made of c and h. Other leaves
        belong together, such as a sum and its normaliser, and mean nothing once some are kept.
      rate: probability of keeping; one for all leaves of the carry, or one for each in their order,
        such as (0.5, 0.05) for c and h of an LSTM.

    Raises:
      TypeError: the cell is not gated; a rate is no number; `keep` is not bool or not of the
        structure of the carry.
      ValueError: a rate is outside [0, 1]; from `init` on, the number of rates is not that of the
        leaves, or the carry has others than c and h, as those of `SLSTM`, `CoRNN` and
        `RecurrentBatchNorm`; `keep` is not of the shapes of the carry.

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
        rates = tuple(self.rate) if isinstance(self.rate, tuple | list) else (self.rate,)
        if not all(isinstance(r, numbers.Real) and not isinstance(r, bool) for r in rates):
            raise TypeError(f"Zoneout: expected rate to be numbers, got {self.rate!r}.")
        if not all(0 <= r <= 1 for r in rates):
            raise ValueError(f"Zoneout: expected rates from 0 to 1, got {self.rate}.")
        rates = tuple(float(r) for r in rates)
        several = isinstance(self.rate, tuple | list)
        object.__setattr__(self, "rate", rates if several else rates[0])

    def _check_leaves(self, carry: PyTree) -> None:
        """Refuses a carry whose leaves cannot be kept one without another."""
        paths = [path for path, _ in jax.tree.leaves_with_path(carry)]
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
        others = [name for name in names if name not in _ZONED]
        if others:
            raise ValueError(
                f"Zoneout: expected a cell whose carry is one array or made of c and h, got"
                f" {self.cell}, whose carry has {others}: leaves that belong together, such as a"
                f" sum and its normaliser, mean nothing once some are kept. Take LSTM or GRU."
            )

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
        shapes = jax.eval_shape(lambda params: self.initial_carry(params), params)
        leaves, tree = jax.tree.flatten(shapes)
        keys = jax.random.split(key, len(leaves))
        rates = jax.tree.leaves(self._rates(shapes))
        keep = [
            jax.random.bernoulli(k, rate, (*lead, *leaf.shape))
            for k, rate, leaf in zip(keys, rates, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, keep)

    def init(self, key: Key, in_features: int) -> Any:
        params = self.cell.init(key, in_features)
        self.initial_carry(params)  # for its checks
        return params

    def initial_carry(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        carry = self.cell.initial_carry(params, batch_shape)
        self._check_leaves(carry)
        self._rates(carry)
        return carry

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
            return jax.tree.map(_blend, self._rates(carry), carry, new)
        check_keep(z.keep, carry)
        return jax.tree.map(jnp.where, z.keep, carry, new)

    def readout(self, params: Any, carry: Any, z: ZoneoutInput) -> Array:
        return self.cell.readout(params, carry, z.inner)


def _blend(rate: float, old: Array, new: Array) -> Array:
    return rate * old + (1 - rate) * new


def check_keep(keep: PyTree, carry: PyTree) -> None:
    """Refuses what is not bool and of the structure and the shapes of the carry."""
    fix = "Draw it with cell.draw(key, params, lead=(T, *batch))."
    expected, got = jax.tree.structure(carry), jax.tree.structure(keep)
    if got != expected:
        raise TypeError(
            f"Zoneout: expected x to be (x, keep) with keep like the carry, {expected}, got {got}."
            f" {fix}"
        )
    pairs = zip(jax.tree.leaves_with_path(keep), jax.tree.leaves(carry), strict=True)
    for (path, flags), old in pairs:
        name = "keep" + jax.tree_util.keystr(path)
        dtype = getattr(flags, "dtype", type(flags).__name__)
        if dtype != jnp.bool_:
            raise TypeError(f"Zoneout: expected {name} to be a bool array, got {dtype}. {fix}")
        if flags.shape != old.shape:
            raise ValueError(
                f"Zoneout: expected {name} to be {old.shape} at each step, as the carry is, got"
                f" {flags.shape}. {fix}"
            )
