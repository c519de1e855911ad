"""What keeps a recurrent language model from learning its text by heart."""

import dataclasses
import math

import jax.numpy as jnp

from rnnlab.core.ops import zero_unless
from rnnlab.core.types import Array, Key
from rnnlab.dropout import dropout, variational_dropout

RATES = ("embedding", "inputs", "layers", "outputs", "weights")
PENALTIES = ("activation", "temporal")


@dataclasses.dataclass(frozen=True)
class Regularisation:
    """Where a `LanguageModel` drops what, and what it pays for the size of its outputs.

    All of it acts in training alone, and all of it is off unless asked for.

    Args:
      embedding: rate at which a word is dropped, wherever it stands in the window.
      inputs: rate on what the first layer reads.
      layers: rate between layers.
      outputs: rate on what the softmax reads.
      weights: rate on the recurrent kernels, one mask a window.
      variational: whether inputs, layers and outputs have one mask for all steps.
      activation: alpha, times the mean square of the dropped outputs of the last layer.
      temporal: beta, times the mean square of how far the outputs of the last layer, not dropped,
        are from those of the step before.

    Raises:
      ValueError: a rate outside [0, 1), or a penalty that is negative or not finite.

    Example:
        >>> from rnnlab.models import LanguageModel, Regularisation
        >>> from rnnlab.cells import LSTM
        >>> model = LanguageModel(100, 32, (LSTM(64), LSTM(32)), regularisation=Regularisation(
        ...     embedding=0.1, inputs=0.65, layers=0.25, outputs=0.4, weights=0.5, variational=True,
        ...     activation=2.0, temporal=1.0))

    References: Gal & Ghahramani 2016, "A theoretically grounded application of dropout in
    recurrent neural networks", for dropped words and one mask over time; Merity et al. 2018,
    "Regularizing and optimizing LSTM language models", for the rest. There a penalty is the mean
    over the window, here each step has its own and the loss takes their weighted mean; the first
    step of a window has none before it and counts as 0: `temporal` is theirs times (T - 1) / T.
    """

    embedding: float = 0.0
    inputs: float = 0.0
    layers: float = 0.0
    outputs: float = 0.0
    weights: float = 0.0
    variational: bool = False
    activation: float = 0.0
    temporal: float = 0.0

    def __post_init__(self):
        for name in RATES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected a rate, a probability in [0, 1), got {getattr(self, name)}."
                )
        for name in PENALTIES:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}.")

    def drop(self, key: Key | None, xs: Array, rate: float) -> Array:
        """`xs` `[T, B, F]` with a share dropped, in the way of `variational`; as it is without key.

        Args:
          key: consumed; None in evaluation.
          xs: `[T, B, F]`.
          rate: one of the rates.

        Returns:
          Like `xs`.
        """
        if key is None:
            return xs
        return (variational_dropout if self.variational else dropout)(key, xs, rate)

    def penalised(
        self, losses: Array, ys: Array, dropped: Array, reset: Array | None = None
    ) -> Array:
        """The loss of each step with what its outputs cost.

            loss_t + alpha mean(dropped_t^2) + beta mean((y_t - y_{t-1})^2)

        Args:
          losses: `[T, B]`.
          ys: outputs of the last layer, `[T, B, H]`.
          dropped: the same, as the softmax reads them.
          reset: bool `[T, B]`, True where a text starts, which is compared with nothing.

        Returns:
          `[T, B]`; `losses` itself where nothing is to be paid.

        Example:
            >>> import jax.numpy as jnp
            >>> from rnnlab.models import Regularisation
            >>> ys = jnp.array([[[1.0]], [[3.0]]])
            >>> cost = Regularisation(activation=2.0, temporal=1.0)
            >>> cost.penalised(jnp.zeros((2, 1)), ys, ys).tolist()
            [[2.0], [22.0]]
        """
        if self.activation:
            losses = losses + self.activation * _mean_square(dropped)
        if self.temporal:
            before = jnp.concatenate([ys[:1], ys[:-1]])
            same_text = None if reset is None else ~reset
            losses = losses + self.temporal * zero_unless(same_text, _mean_square(ys - before))
        return losses


def _mean_square(ys: Array) -> Array:
    return jnp.mean(jnp.square(ys.astype(jnp.promote_types(ys.dtype, jnp.float32))), axis=-1)
