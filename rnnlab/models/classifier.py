"""Recurrent classifiers of whole sequences."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.cells.stack import Stack
from rnnlab.core.cell import Cell
from rnnlab.core.initializers import input_kernel
from rnnlab.core.ops import linear
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.dropout import dropout
from rnnlab.sequences import lengths_to_mask, stack
from rnnlab.strategies import Auto
from rnnlab.strategies.base import Strategy


class ClassifierParams(NamedTuple):
    """The parameters of a `Classifier`."""

    cells: tuple[PyTree, ...]  # one entry a layer
    kernel: Array  # [H, C]
    bias: Array  # [C]


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Tells to which class a sequence belongs, from the mean of its outputs.

        y = stack(cells)(x),    logits = mean_t(y_t) @ kernel + bias

    Attributes:
      in_features: F.
      classes: C.
      cells: the layers, the one that reads the input first.
      dropout: rate between layers and on the mean.
      strategy: how the layers run over time.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.models import Classifier
        >>> model = Classifier(in_features=3, classes=6, cells=(rnnlab.cells.GRU(16),))
        >>> params = model.init(jax.random.key(0))
        >>> lengths = jnp.array([20, 7])
        >>> model.apply(params, jnp.zeros((20, 2, 3)), lengths).shape
        (2, 6)
    """

    in_features: int
    classes: int
    cells: tuple[Cell, ...]
    dropout: float = 0.0
    strategy: Strategy = dataclasses.field(default_factory=Auto)

    def init(self, key: Key) -> ClassifierParams:
        """Draws float32 parameters."""
        cells_key, kernel_key = jax.random.split(key)
        cells = Stack(self.cells).init(cells_key, self.in_features)
        features = Stack(self.cells).out_features(cells, self.in_features)
        kernel = input_kernel(kernel_key, features, self.classes)
        return ClassifierParams(cells, kernel, jnp.zeros(self.classes))

    def apply(
        self, params: ClassifierParams, xs: Array, seq_lengths: Array, *, key: Key | None = None
    ) -> Array:
        """Classifies sequences.

        Args:
          params: what `init` returned.
          xs: `[T, B, F]`; what lies past the end of a sequence changes nothing.
          seq_lengths: int `[B]`, 1 to T.
          key: consumed by dropout; None evaluates, without dropout.

        Returns:
          Logits `[B, C]`.
        """
        stack_key, mean_key = (None, None) if key is None else jax.random.split(key)
        _, ys = stack(
            self.cells,
            params.cells,
            xs,
            mask=lengths_to_mask(seq_lengths, xs.shape[0]),
            strategy=self.strategy,
            dropout=self.dropout,
            key=stack_key,
        )
        mean = jnp.sum(ys, axis=0) / seq_lengths[:, None].astype(ys.dtype)
        mean = mean if mean_key is None else dropout(mean_key, mean, self.dropout)
        return linear(mean, params.kernel, params.bias)
