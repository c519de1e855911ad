"""What models without recurrence remember: the last steps of each of their layers.

A layer keeps its last P inputs, or what it made of them, in a ring `[B, P, ...]`: the step at
position p is in slot p mod P, so one more step writes one slot and moves nothing.
"""

import abc
import dataclasses
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.ops import select, zero_unless
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.dropout import dropout as plain_dropout
from rnnlab.dropout import variational_dropout
from rnnlab.models.body import Body


class HistoryCarry(NamedTuple):
    """The carry of a `HistoryBody`."""

    position: Array  # int32 [B], steps read so far
    length: Array  # int32 [B], those of the text that is being read
    rings: PyTree  # [B, P, ...] of every layer, in the wide dtype


@dataclasses.dataclass(frozen=True)
class Window:
    """Where the steps of a window stand; those that a mask leaves out are moved behind the rest.

    Attributes:
      position: int32 `[B]`, of the first step.
      seen: int32 `[B, T]`, how many steps of the same text come before each.
      count: int32 `[B]`, steps that are there.
      length: int32 `[B]`, of the text that is being read, after the window.
      mask: bool `[B, T]` in the order in which steps came, or None.
      fresh: whether nothing was read before.
    """

    position: Array
    seen: Array
    count: Array
    length: Array
    mask: Array | None
    fresh: bool

    def enter(self, xs: Array) -> Array:
        """`[T, B, F]` as `[B, T, F]`, what is not there zero and behind the rest."""
        xs = jnp.swapaxes(xs, 0, 1)
        return xs if self.mask is None else behind(self.mask, zero_unless(self.mask, xs))

    def leave(self, ys: Array) -> Array:
        """`[B, T, F]` as `[T, B, F]`, every step back in its place and zero where there is none."""
        if self.mask is not None:
            place = jnp.cumsum(self.mask, axis=1) - 1
            ys = zero_unless(self.mask, _rows(ys, jnp.maximum(place, 0)))
        return jnp.swapaxes(ys, 0, 1)

    def positions(self) -> Array:
        """Of every step, int32 `[B, T]`."""
        return self.position[:, None] + jnp.arange(self.seen.shape[1], dtype=jnp.int32)

    def back(self, ring: Array, xs: Array, offset: int) -> Array:
        """What stands `offset` steps before each step of `xs`, zero before the text starts.

        Args:
          ring: what was read before, `[B, P, F]`, P >= offset.
          xs: `[B, T, F]`.
          offset: at least 0.

        Returns:
          `[B, T, F]`.
        """
        if offset == 0:
            return xs
        number = min(offset, xs.shape[1])  # of steps that look back beyond the window
        first = self.position[:, None] - offset
        slots = (first + jnp.arange(number, dtype=jnp.int32)) % ring.shape[1]
        older = _rows(ring, slots).astype(xs.dtype)
        shifted = jnp.concatenate([older, xs[:, : xs.shape[1] - number]], axis=1)
        return zero_unless(self.seen >= offset, shifted)

    def write(self, ring: Array, xs: Array) -> Array:
        """The ring `[B, P, ...]` after the steps `[B, T, ...]`."""
        return jax.vmap(_write)(ring, xs, self.position, self.count)


def window_of(
    carry: HistoryCarry, steps: int, mask: Array | None, reset: Array | None, fresh: bool
) -> Window:
    """The window of `steps` steps after `carry`, with `mask` and `reset` bool `[T, B]` or None."""
    shape = carry.position.shape[0], steps
    present = jnp.ones(shape, bool) if mask is None else mask.T
    read = jnp.cumsum(present, axis=1, dtype=jnp.int32)
    before = read - present.astype(jnp.int32)
    start = -carry.length[:, None]  # of the text, counted from the start of the window
    if reset is not None:
        start = lax.cummax(jnp.where(reset.T, before, start), axis=1)
    seen = before - start
    length = read[:, -1] - start[:, -1]
    if mask is not None:
        seen = behind(present, seen)
    mask = None if mask is None else present
    return Window(carry.position, seen, read[:, -1], length, mask, fresh)


def behind(mask: Array, xs: Array) -> Array:
    """`xs` `[B, T, ...]` with the steps that `mask` leaves out behind the others of their row."""
    return _rows(xs, jnp.argsort(~mask, axis=1, stable=True))


def _rows(xs: Array, places: Array) -> Array:
    return jax.vmap(lambda row, places: row[places])(xs, places)


def _write(ring: Array, xs: Array, position: Array, count: Array) -> Array:
    """The ring `[P, ...]` of one row after the first `count` of the steps `[T, ...]`."""
    size, xs = len(ring), xs.astype(ring.dtype)
    if len(xs) == 1:  # one slot, in place where the carry is donated
        slot = position % size
        return ring.at[slot].set(jnp.where(count > 0, xs[0], ring[slot]))
    slots = jnp.arange(size, dtype=jnp.int32)
    # Of the steps that fall into a slot the last one counts; below 0 there is none.
    step = count - 1 - (position + count - 1 - slots) % size
    return select(step >= 0, xs[jnp.maximum(step, 0)], ring)


@dataclasses.dataclass(frozen=True)
class Dropout:
    """What a body drops: nothing without a key."""

    key: Key | None
    rate: float
    variational: bool

    def __call__(self, number: int, xs: Array) -> Array:
        """`xs` `[B, T, F]` with a share dropped; every place has a number of its own."""
        if self.key is None or not self.rate:
            return xs
        key = jax.random.fold_in(self.key, number)
        if not self.variational:
            return plain_dropout(key, xs, self.rate)
        return jnp.swapaxes(variational_dropout(key, jnp.swapaxes(xs, 0, 1), self.rate), 0, 1)


@dataclasses.dataclass(frozen=True)
class HistoryBody(Body):
    """A body whose layers look at steps before, which they remember in rings."""

    @abc.abstractmethod
    def rings(self, params: Any, batch_size: int) -> PyTree:
        """What the layers remember before the first step: zeros."""

    @abc.abstractmethod
    def run(
        self, params: Any, xs: Array, rings: Any, window: Window, drop: Dropout
    ) -> tuple[PyTree, Array]:
        """Runs the layers over `[B, T, F]`: what they remember afterwards, and `[B, T, H]`."""

    @final
    def initial_carry(self, params: Any, batch_size: int) -> HistoryCarry:
        position, length = jnp.zeros((2, batch_size), jnp.int32)
        return HistoryCarry(position, length, self.rings(params, batch_size))

    @final
    def apply(
        self,
        params: Any,
        xs: Array,
        carry: HistoryCarry | None = None,
        *,
        mask: Array | None = None,
        reset: Array | None = None,
        dropout: float = 0.0,
        variational: bool = False,
        key: Key | None = None,
    ) -> tuple[HistoryCarry, Array]:
        fresh = carry is None
        if carry is None:
            carry = self.initial_carry(params, xs.shape[1])
        window = window_of(carry, len(xs), mask, reset, fresh)
        drop = Dropout(key, dropout, variational)
        rings, ys = self.run(params, window.enter(xs), carry.rings, window, drop)
        after = HistoryCarry(window.position + window.count, window.length, rings)
        return after, window.leave(ys)
