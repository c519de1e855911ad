"""What a sequence model is made of between its inputs and its outputs."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rnnlab.cells.stack import Stack
from rnnlab.core.cell import Cell
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.sequences import stack
from rnnlab.strategies import Auto
from rnnlab.strategies.base import Strategy


@dataclasses.dataclass(frozen=True)
class Body(abc.ABC):
    """Turns features of every step into others, looking at that step and those before it.

    A frozen dataclass with pure methods, as a cell is. Its carry is all that it remembers of what
    it has read, so windows read one after another give what one long window gives, and so do single
    steps.
    """

    @abc.abstractmethod
    def init(self, key: Key, in_features: int) -> PyTree:
        """Draws float32 parameters for inputs of `in_features`."""

    @abc.abstractmethod
    def initial_carry(self, params: PyTree, batch_size: int) -> PyTree:
        """What is remembered before the first step; every leaf is led by the batch."""

    @abc.abstractmethod
    def apply(
        self,
        params: PyTree,
        xs: Array,
        carry: PyTree | None = None,
        *,
        mask: Array | None = None,
        reset: Array | None = None,
        dropout: float = 0.0,
        variational: bool = False,
        key: Key | None = None,
    ) -> tuple[PyTree, Array]:
        """Reads a window.

        Args:
          params: what `init` returned.
          xs: `[T, B, F]`.
          carry: what `initial_carry` or the window before returned; None starts anew.
          mask: bool `[T, B]`, False where there is no step: it is as if it was not there, and its
            output is zero.
          reset: bool `[T, B]`, True where a new text starts, which sees nothing of the one before.
          dropout: rate of the dropout inside.
          variational: the same dropout mask at every step.
          key: consumed by dropout; None evaluates, without dropout.

        Returns:
          The carry after the window, and `[T, B, H]`.
        """

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        """Reads one step `[B, F]`: the carry after it and `[B, H]`, as `apply` gives."""
        carry, ys = self.apply(params, x[None], carry)
        return carry, ys[0]

    def out_features(self, params: PyTree, in_features: int) -> int:
        """H, the size of the outputs."""

        def last(params):
            xs = jnp.zeros((1, 1, in_features))
            return self.apply(params, xs)[1]

        return jax.eval_shape(last, params).shape[-1]


@dataclasses.dataclass(frozen=True)
class Recurrent(Body):
    """Recurrent layers, one on another.

    Args:
      cells: the layers, the one that reads the inputs first.
      strategy: how they run over a window.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.models.body import Recurrent
        >>> body = Recurrent((rnnlab.cells.GRU(8), rnnlab.cells.GRU(8)))
        >>> params = body.init(jax.random.key(0), in_features=3)
        >>> carry, ys = body.apply(params, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """

    cells: tuple[Cell, ...]
    strategy: Strategy = Auto()

    def init(self, key: Key, in_features: int) -> tuple:
        return Stack(self.cells).init(key, in_features)

    def initial_carry(self, params: tuple, batch_size: int) -> tuple:
        return Stack(self.cells).initial_carry(params, (batch_size,))

    def apply(
        self, params: tuple, xs: Array, carry: tuple | None = None, **options: Any
    ) -> tuple[tuple, Array]:
        return stack(self.cells, params, xs, carry, strategy=self.strategy, **options)

    def step(self, params: tuple, carry: tuple, x: Array) -> tuple[tuple, Array]:
        return Stack(self.cells).step(params, carry, x)

    def out_features(self, params: tuple, in_features: int) -> int:
        return Stack(self.cells).out_features(params, in_features)
