"""Language models, recurrent or not.

Like a cell, a model is a frozen dataclass of static configuration with pure methods, its
parameters outside it: `fit` needs nothing but functions of params, and equal models are equal.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec

from rnnlab.core.cell import Cell
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.dropout import embedding_dropout, weight_drop
from rnnlab.models.adaptive_softmax import AdaptiveSoftmax
from rnnlab.models.body import Body, Recurrent
from rnnlab.models.partition import split_over_model
from rnnlab.models.regularisation import Regularisation
from rnnlab.models.softmax import Softmax, SoftmaxParams
from rnnlab.strategies import Auto
from rnnlab.strategies.base import Strategy, restart


class LanguageModelParams(NamedTuple):
    """The parameters of a `LanguageModel`."""

    embedding: Array  # [V, E]
    cells: PyTree  # one entry a layer; those of the body, if there is one
    kernel: Array | None  # [H, V] of a `Softmax`; None where it is the transposed embedding
    bias: Array  # [V] of a `Softmax`
    tails: tuple[PyTree, ...] = ()  # of an `AdaptiveSoftmax`, whose kernel and bias are its head's


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Predicts the next token from all tokens so far.

        x_t = embedding[token_t],    y = body(x),    logits_t = y_t @ kernel + bias

    Attributes:
      vocabulary_size: V.
      embedding_features: E.
      cells: recurrent layers, the one that reads the embedding first.
      tied: the output kernel is the transposed embedding (Press & Wolf 2017).
      softmax: the output layer.
      regularisation: what is dropped in training, and what outputs cost there; nothing at first.
      strategy: how the cells run over a window.
      body: what stands in the place of `cells`, such as a `Transformer`.

    Raises:
      ValueError: neither cells nor a body, or both.

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
    al. 2014, "Recurrent neural network regularization", for dropout at inputs, layers and outputs.
    """

    vocabulary_size: int
    embedding_features: int
    cells: tuple[Cell, ...] = ()
    tied: bool = False
    softmax: Softmax | AdaptiveSoftmax = dataclasses.field(default_factory=Softmax)
    regularisation: Regularisation = dataclasses.field(default_factory=Regularisation)
    strategy: Strategy = dataclasses.field(default_factory=Auto)
    body: Body | None = None

    def __post_init__(self):
        if bool(self.cells) == (self.body is not None):
            given = "both" if self.cells else "neither"
            raise ValueError(f"LanguageModel: expected cells or a body, got {given}.")

    @property
    def layers(self) -> Body:
        """What stands between embedding and output."""
        return self.body or Recurrent(self.cells, self.strategy)

    def init(self, key: Key) -> LanguageModelParams:
        """Draws float32 parameters; a ValueError where `tied` does not fit the rest."""
        embedding_key, cells_key, kernel_key = jax.random.split(key, 3)
        cells = self.layers.init(cells_key, self.embedding_features)
        features = self.layers.out_features(cells, self.embedding_features)
        if self.tied and features != self.embedding_features:
            raise ValueError(
                "tied: expected as many embedding features as the last layer has outputs,"
                f" {features}, got {self.embedding_features}. Make them equal, or use tied=False."
            )
        scale = features**-0.5 if self.tied else 1.0  # logits start near 0 either way
        shape = (self.vocabulary_size, self.embedding_features)
        init = self.softmax.init_tied if self.tied else self.softmax.init
        softmax = init(kernel_key, features, self.vocabulary_size)
        return LanguageModelParams(
            embedding=scale * jax.random.normal(embedding_key, shape),
            cells=cells,
            kernel=softmax.kernel,
            bias=softmax.bias,
            tails=softmax.tails,
        )

    def partition(self, params: LanguageModelParams, count: int) -> PyTree:
        """Which parameters `count` devices share: embedding and output, by words where they divide.

        A vocabulary that does not divide is split by features instead, at the price of sums over
        the devices for every word. Cells are copied: their kernels are needed at each time step.
        """
        specs: Any = jax.tree.map(lambda leaf: PartitionSpec(), params)
        specs = specs._replace(embedding=split_over_model(params.embedding.shape, (0, 1), count))
        specs = specs._replace(bias=split_over_model(params.bias.shape, (0,), count))
        if self.tied:
            return specs
        softmax = self._softmax_params(params)
        tails = tuple(
            spec._replace(kernel=split_over_model(tail.kernel.shape, (1, 0), count))
            for spec, tail in zip(specs.tails, softmax.tails, strict=True)
        )
        kernel = split_over_model(softmax.kernel.shape, (1, 0), count)
        return specs._replace(kernel=kernel, tails=tails)

    def initial_carry(self, params: LanguageModelParams, batch_size: int) -> PyTree:
        """The carry before the first token of `batch_size` texts."""
        return self.layers.initial_carry(params.cells, batch_size)

    def features(
        self,
        params: LanguageModelParams,
        tokens: Array,
        carry: PyTree,
        *,
        start: Array | None = None,
        reset: Array | None = None,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[PyTree, Array, Array]:
        """Reads a window of tokens, as far as the last layer.

        Args:
          params: what `init` returned.
          tokens: int `[T, B]`.
          carry: what `initial_carry` or the window before returned.
          start: bool `[B]`, True where a new text starts, so the carry starts anew.
          reset: bool `[T, B]`, True where one starts within the window, as in packed rows.
          mask: bool `[T, B]`, False where there is no token, so that the carry stays as it was.
          key: consumed by the regularisation; None evaluates, without any.

        Returns:
          The carry after the window; the outputs of the last layer, `[T, B, H]`; and the same as
          the softmax reads them, with some dropped.
        """
        carry = restart(start, self.initial_carry(params, tokens.shape[1]), carry)
        rates, cells, xs = self.regularisation, params.cells, params.embedding
        # All None in evaluation: nothing is drawn, nothing dropped.
        inputs, layers, outputs, words, weights = (
            [None] * 5 if key is None else jax.random.split(key, 5)
        )
        xs = xs[tokens] if words is None else embedding_dropout(words, xs, tokens, rates.embedding)
        if weights is not None and rates.weights:
            cells = weight_drop(weights, cells, rates.weights)
        carry, ys = self.layers.apply(
            cells,
            rates.drop(inputs, xs, rates.inputs),
            carry,
            mask=mask,
            reset=reset,
            dropout=rates.layers,
            variational=rates.variational,
            key=layers,
        )
        return carry, ys, rates.drop(outputs, ys, rates.outputs)

    def apply(
        self, params: LanguageModelParams, tokens: Array, carry: PyTree, **options: Any
    ) -> tuple[PyTree, Array]:
        """Reads a window of tokens.

        Args:
          params: what `init` returned.
          tokens: int `[T, B]`.
          carry: what `initial_carry` or the window before returned.
          **options: `start`, `reset`, `mask` and `key`, as in `features`.

        Returns:
          The carry after the window, and the logits of each next token, `[T, B, V]`.
        """
        carry, _, dropped = self.features(params, tokens, carry, **options)
        return carry, self.softmax.logits(self._softmax_params(params), dropped)

    def losses(
        self,
        params: LanguageModelParams,
        tokens: Array,
        targets: Array,
        carry: PyTree,
        **options: Any,
    ) -> tuple[PyTree, Array, Array]:
        """Reads a window of tokens: how badly it was predicted, and what is to be minimised.

        Args:
          params: what `init` returned.
          tokens: int `[T, B]`.
          targets: int `[T, B]`, the token after each.
          carry: what `initial_carry` or the window before returned.
          **options: `start`, `reset`, `mask` and `key`, as in `features`.

        Returns:
          The carry after the window; the loss of each step, `[T, B]`; and its part that is
          -log p(target), in nats, which is all of it where the outputs cost nothing.
        """
        carry, ys, dropped = self.features(params, tokens, carry, **options)
        nats = self.softmax.losses(self._softmax_params(params), dropped, targets)
        if options.get("key") is None:
            return carry, nats, nats
        reset = options.get("reset")
        return carry, self.regularisation.penalised(nats, ys, dropped, reset), nats

    def step(
        self, params: LanguageModelParams, carry: PyTree, token: Array
    ) -> tuple[PyTree, Array]:
        """Reads one token `[B]`: the carry after it and the logits `[B, V]`, as `apply` gives."""
        x = params.embedding[token]
        carry, y = self.layers.step(params.cells, carry, x)
        return carry, self.softmax.logits(self._softmax_params(params), y)

    def _softmax_params(self, params: LanguageModelParams) -> SoftmaxParams:
        own = SoftmaxParams(params.kernel, params.bias, params.tails)
        return self.softmax.tie(own, params.embedding) if self.tied else own
