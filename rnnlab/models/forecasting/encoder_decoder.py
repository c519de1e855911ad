"""One recurrent network reads the past, another writes the future."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.cells.stack import Stack
from rnnlab.core.cell import Cell
from rnnlab.core.ops import linear
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.dropout import check_rate
from rnnlab.models.forecasting.base import Window
from rnnlab.models.forecasting.head import DenseParams, dense
from rnnlab.models.forecasting.point import Pairs, PointForecaster, started, step_features
from rnnlab.sequences import stack
from rnnlab.strategies import Auto
from rnnlab.strategies.base import Strategy


class EncoderDecoderParams(NamedTuple):
    """The parameters of an `EncoderDecoder`."""

    encoder: tuple[PyTree, ...]
    decoder: tuple[PyTree, ...]
    output: DenseParams  # [F, C]


@dataclasses.dataclass(frozen=True)
class EncoderDecoder(PointForecaster):
    """The encoder's carry after the past is where the decoder starts.

        c = encoder(x_1, ..., x_L),    y_{t+1} = decoder([y_t, known_t, covariates_{t+1}]) @ A + a

    y_L is the last step of the past. Both have the same cells with parameters of their own.

    Attributes:
      cells: the layers, the one that reads the input first.
      teacher_forcing: in training the decoder reads the truth, in which missing values are 0 and
        not known; without, it learns from its own forecasts, which it has to read in the end.
      dropout: rate between layers, in training.
      strategy: how the cells run over a sequence.
      others: see `PointForecaster`.

    Example:
        >>> import jax
        >>> from rnnlab.cells import GRU
        >>> from rnnlab.models.forecasting import EncoderDecoder
        >>> model = EncoderDecoder(96, 24, cells=(GRU(16),))
        >>> model.init(jax.random.key(0)).output.kernel.shape
        (16, 1)

    References: Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder";
    Sutskever et al. 2014, "Sequence to sequence learning with neural networks".
    """

    cells: tuple[Cell, ...] = dataclasses.field(kw_only=True)
    teacher_forcing: bool = False
    dropout: float = 0.0
    strategy: Strategy = dataclasses.field(default_factory=Auto)

    def __post_init__(self):
        super().__post_init__()
        check_rate(self.dropout)

    def init(self, key: Key) -> EncoderDecoderParams:
        """Draws float32 parameters."""
        keys = jax.random.split(key, 3)
        in_features = 2 * self.channels + self.covariates
        encoder, decoder = (Stack(self.cells).init(k, in_features) for k in keys[:2])
        features = Stack(self.cells).out_features(decoder, in_features)
        return EncoderDecoderParams(encoder, decoder, dense(keys[2], features, self.channels))

    def predict(
        self, params: EncoderDecoderParams, window: Window, key: Key | None = None
    ) -> Array:
        def step(carry: Any, covariates: Array):
            carry, values, known = carry
            x = jnp.concatenate([values, known, covariates], axis=-1)
            carry, y = Stack(self.cells).step(params.decoder, carry, x)
            values = linear(y, *params.output)
            return (carry, values, jnp.ones_like(known)), values

        values, known = window.past[:, -1], window.past_mask[:, -1].astype(window.past.dtype)
        start = self._encode(params, window, key), values, known
        _, ys = jax.lax.scan(step, start, jnp.swapaxes(window.future_covariates, 0, 1))
        return jnp.swapaxes(ys, 0, 1)

    def pairs(self, params: EncoderDecoderParams, window: Window, key: Key | None = None) -> Pairs:
        if not self.teacher_forcing or key is None:
            return super().pairs(params, window, key)
        encoder_key, decoder_key = jax.random.split(key)
        values, known = (
            jnp.concatenate([past[:, -1:], future[:, :-1]], axis=1)
            for past, future in (
                (window.past, window.future),
                (window.past_mask, window.future_mask),
            )
        )
        known = known.astype(values.dtype)
        xs = jnp.concatenate([values, known, window.future_covariates], axis=-1)
        _, ys = stack(
            self.cells,
            params.decoder,
            jnp.swapaxes(xs, 0, 1),
            self._encode(params, window, encoder_key),
            strategy=self.strategy,
            dropout=self.dropout,
            key=decoder_key,
        )
        predictions = jnp.swapaxes(linear(ys, *params.output), 0, 1)
        return Pairs(predictions, window.future, window.future_mask)

    def _encode(
        self, params: EncoderDecoderParams, window: Window, key: Key | None
    ) -> tuple[PyTree, ...]:
        carry, _ = stack(
            self.cells,
            params.encoder,
            jnp.swapaxes(step_features(window), 0, 1),
            mask=started(window.past_mask).T,
            strategy=self.strategy,
            dropout=self.dropout,
            key=key,
        )
        return carry
