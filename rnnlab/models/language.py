"""Recurrent language models.

Like a cell, a model is a frozen dataclass of static configuration with pure methods, its
parameters outside it: `fit` needs nothing but functions of params, and equal models are equal.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from rnnlab.cells.stack import Stack
from rnnlab.core.cell import Cell
from rnnlab.core.initializers import input_kernel
from rnnlab.core.ops import linear
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.dropout import dropout
from rnnlab.models.partition import split_over_model
from rnnlab.sequences import stack
from rnnlab.strategies import Auto
from rnnlab.strategies.base import Strategy, restart


class LanguageModelParams(NamedTuple):
    """The parameters of a `LanguageModel`."""

    embedding: Array  # [V, E]
    cells: tuple[PyTree, ...]  # one entry a layer
    kernel: Array | None  # [H, V]; None where it is the transposed embedding
    bias: Array  # [V]


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Predicts the next token from all tokens so far.

        x_t = embedding[token_t],    y = stack(cells)(x),    logits_t = y_t @ kernel + bias

    Attributes:
      vocabulary_size: V.
      embedding_features: E.
      cells: the layers, the one that reads the embedding first.
      tied: the output kernel is the transposed embedding (Press & Wolf 2017).
      dropout: rate on the embedding, between layers and on the output of the last.
      strategy: how the layers run over a window.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.models import LanguageModel
        >>> model = LanguageModel(100, 32, cells=(rnnlab.cells.LSTM(64),))
        >>> params = model.init(jax.random.key(0))
        >>> tokens = jnp.zeros((20, 4), jnp.int32)
        >>> carry, logits = model.apply(params, tokens, model.initial_carry(params, 4))
        >>> logits.shape
        (20, 4, 100)

    References: Mikolov et al. 2010, "Recurrent neural network based language model"; Zaremba et
    al. 2014, "Recurrent neural network regularization", for where dropout goes.
    """

    vocabulary_size: int
    embedding_features: int
    cells: tuple[Cell, ...]
    tied: bool = False
    dropout: float = 0.0
    strategy: Strategy = dataclasses.field(default_factory=Auto)

    def init(self, key: Key) -> LanguageModelParams:
        """Draws float32 parameters; a ValueError where `tied` does not fit the sizes."""
        embedding_key, cells_key, kernel_key = jax.random.split(key, 3)
        cells = Stack(self.cells).init(cells_key, self.embedding_features)
        features = Stack(self.cells).out_features(cells, self.embedding_features)
        if self.tied and features != self.embedding_features:
            raise ValueError(
                "tied: expected as many embedding features as the last layer has outputs,"
                f" {features}, got {self.embedding_features}. Make them equal, or use tied=False."
            )
        shape = (self.vocabulary_size, self.embedding_features)
        scale = features**-0.5 if self.tied else 1.0  # logits start near 0 either way
        return LanguageModelParams(
            embedding=scale * jax.random.normal(embedding_key, shape),
            cells=cells,
            kernel=None if self.tied else input_kernel(kernel_key, features, shape[0]),
            bias=jnp.zeros(self.vocabulary_size),
        )

    def partition(self, params: LanguageModelParams, count: int) -> PyTree:
        """Which parameters `count` devices share: embedding and output, by words where they divide.

        A vocabulary that does not divide is split by features instead, at the price of sums over
        the devices for every word. Cells are copied: their kernels are needed at each time step.
        """
        specs: Any = jax.tree.map(lambda leaf: PartitionSpec(), params)
        specs = specs._replace(embedding=split_over_model(params.embedding.shape, (0, 1), count))
        if params.kernel is not None:
            specs = specs._replace(kernel=split_over_model(params.kernel.shape, (1, 0), count))
        return specs._replace(bias=split_over_model(params.bias.shape, (0,), count))

    def initial_carry(self, params: LanguageModelParams, batch_size: int) -> tuple[PyTree, ...]:
        """The carry before the first token of `batch_size` texts."""
        return Stack(self.cells).initial_carry(params.cells, (batch_size,))

    def apply(
        self,
        params: LanguageModelParams,
        tokens: Array,
        carry: tuple[PyTree, ...],
        *,
        start: Array | None = None,
        reset: Array | None = None,
        key: Key | None = None,
    ) -> tuple[tuple[PyTree, ...], Array]:
        """Reads a window of tokens.

        Args:
          params: what `init` returned.
          tokens: int `[T, B]`.
          carry: what `initial_carry` or the window before returned.
          start: bool `[B]`, True where a new text starts, so the carry starts anew.
          reset: bool `[T, B]`, True where one starts within the window, as in packed rows.
          key: consumed by dropout; None evaluates, without dropout.

        Returns:
          The carry after the window, and the logits of each next token, `[T, B, V]`.
        """
        carry = restart(start, self.initial_carry(params, tokens.shape[1]), carry)
        keys = [None] * 3 if key is None else jax.random.split(key, 3)
        xs = self._drop(keys[0], params.embedding[tokens])
        carry, ys = stack(
            self.cells,
            params.cells,
            xs,
            carry,
            reset=reset,
            strategy=self.strategy,
            dropout=self.dropout,
            key=keys[1],
        )
        return carry, self._logits(params, self._drop(keys[2], ys))

    def step(
        self, params: LanguageModelParams, carry: tuple[PyTree, ...], token: Array
    ) -> tuple[tuple[PyTree, ...], Array]:
        """Reads one token `[B]`: the carry after it and the logits `[B, V]`, as `apply` gives."""
        x = params.embedding[token]
        carry, y = Stack(self.cells).step(params.cells, carry, x)
        return carry, self._logits(params, y)

    def _drop(self, key: Key | None, xs: Array) -> Array:
        return xs if key is None else dropout(key, xs, self.dropout)

    def _logits(self, params: LanguageModelParams, ys: Array) -> Array:
        kernel = params.embedding.T if params.kernel is None else params.kernel
        return linear(ys, kernel, params.bias)
