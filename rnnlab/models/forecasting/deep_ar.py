"""An autoregressive recurrent network that puts out distributions, and draws paths from them."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.cells.gru import GRU
from rnnlab.cells.stack import Stack
from rnnlab.core.cell import Cell
from rnnlab.core.ops import linear
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.dropout import check_rate
from rnnlab.models.forecasting.base import Forecaster, Window
from rnnlab.models.forecasting.distributions import Distribution, StudentT
from rnnlab.models.forecasting.head import DenseParams, dense
from rnnlab.models.forecasting.point import clean_past, started
from rnnlab.sequences import stack
from rnnlab.strategies import Auto
from rnnlab.strategies.base import Strategy

SCALINGS = ("mean", "standard")


class DeepARParams(NamedTuple):
    """The parameters of a `DeepAR`."""

    cells: tuple[PyTree, ...]
    output: DenseParams  # [F, C * P]
    embedding: Array | None  # [N, E], of the series


class Scale(NamedTuple):
    """What 0 and 1 are on the scale of each channel of a window, `[B, 1, C]`."""

    loc: Array
    scale: Array


class Sequences(NamedTuple):
    """A window from its first step to the last that is known, `[B, T, ...]`."""

    values: Array  # scaled, 0 where missing
    mask: Array
    covariates: Array
    static: Array  # [B, E]: the same at every step


@dataclasses.dataclass(frozen=True)
class DeepAR(Forecaster):
    """A distribution of the next value from all before it; sampled values are read in turn.

        u = (y - loc) / scale,    h_t = cells([u_{t-k} for k in lags, observed_{t-1}, x_t, static])
        y_t ~ distribution(h_t @ kernel + bias, loc, scale)

    x_t are the covariates, static is the logarithm of the scale and an embedding of the series. The
    steps read are those after the largest lag; each observed one counts in training, the future
    with the truth before it (teacher forcing). A forecast is made of paths: every value is drawn
    from its distribution and read in the next step. What was missing is read as loc.

    Attributes:
      cells: the layers, the one that reads the inputs first.
      distribution: of one value; channels are independent, given all values before.
      lags: how many steps back are read, 1 among them; smaller than the context.
      scaling: of a window, by its past: "mean" has loc 0 and the mean absolute value as scale,
        "standard" mean and deviation. Counts take "mean".
      series: N, how many series have an embedding.
      embedding: E, its size; 0: none.
      dropout: rate between layers.
      samples: paths of which `forecast` is the median.
      strategy: how the cells run over the past.
      others: see `Forecaster`.

    Raises:
      ValueError: lags without 1 or not below the context, an unknown scaling, or one that counts
        cannot have.

    Example:
        >>> import jax
        >>> from rnnlab.cells import LSTM
        >>> from rnnlab.models.forecasting import DeepAR
        >>> from rnnlab.models.forecasting.naive import window_of
        >>> model = DeepAR(6, 2, cells=(LSTM(4),), lags=(1, 3))
        >>> params, window = model.init(jax.random.key(0)), window_of([1, 2, 3, 1, 2, 3], 2)
        >>> model.sample_paths(params, window, jax.random.key(1), samples=50).shape
        (50, 1, 2, 1)

    References: Salinas et al. 2020, "DeepAR: probabilistic forecasting with autoregressive
    recurrent networks"; lags as in GluonTS (Alexandrov et al. 2020). There the scale is 1 + mean,
    here the mean absolute value, so that a series may be measured in any unit; windows are drawn
    as the trainer draws them, not in proportion to their scale.
    """

    cells: tuple[Cell, ...] = dataclasses.field(default_factory=lambda: (GRU(64),))
    distribution: Distribution = dataclasses.field(default_factory=StudentT)
    lags: tuple[int, ...] = (1,)
    scaling: str = "mean"
    series: int = 1
    embedding: int = 0
    dropout: float = 0.0
    samples: int = 100
    strategy: Strategy = dataclasses.field(default_factory=Auto)

    probabilistic: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        check_rate(self.dropout)
        if 1 not in self.lags or not 0 < min(self.lags) <= max(self.lags) < self.context:
            raise ValueError(
                f"DeepAR: expected lags from 1 on, 1 among them and all below the context of"
                f" {self.context}, got {self.lags}."
            )
        if self.scaling not in SCALINGS:
            raise ValueError(f"DeepAR: expected scaling of {SCALINGS}, got {self.scaling!r}.")
        if self.distribution.counts and self.scaling != "mean":
            raise ValueError(f'DeepAR: expected scaling="mean" for counts, got {self.scaling!r}.')

    def init(self, key: Key) -> DeepARParams:
        """Draws float32 parameters."""
        keys = jax.random.split(key, 3)
        in_features = self.channels * (len(self.lags) + 2) + self.covariates + self.embedding
        cells = Stack(self.cells).init(keys[0], in_features)
        features = Stack(self.cells).out_features(cells, in_features)
        size = self.channels * self.distribution.size
        embedding = jax.random.normal(keys[2], (self.series, self.embedding))
        output = dense(keys[1], features, size)
        return DeepARParams(cells, output, embedding if self.embedding else None)

    def losses(
        self, params: DeepARParams, window: Window, key: Key | None = None
    ) -> tuple[Array, Array]:
        first = max(self.lags)
        window = clean_past(window)
        values = jnp.concatenate([window.past, window.future], axis=1)
        mask = jnp.concatenate([window.past_mask, window.future_mask], axis=1)
        scale = self.scale(window)
        sequences = self._sequences(params, values, mask, window, scale)
        xs = self._inputs(sequences, first)
        begun = started(mask)[:, first - 1 : -1]
        _, ys = self._read(params, xs, begun, key)
        weights = mask[:, first:] & begun[..., None]
        # A value that is not there is replaced before its density: it might be NaN or no count.
        safe = jnp.where(weights, values[:, first:], scale.loc)
        losses = self.distribution.losses(self._bind(params, ys, scale), safe)
        return losses, weights.astype(losses.dtype)

    def forecast(self, params: DeepARParams, window: Window) -> Array:
        """The median of `samples` paths, always the same ones."""
        paths = self.sample_paths(params, window, jax.random.key(0), self.samples)
        return jnp.median(paths, axis=0)

    def quantiles(
        self, params: DeepARParams, window: Window, levels: Array, key: Key, samples: int
    ) -> Array:
        return jnp.quantile(self.sample_paths(params, window, key, samples), levels, axis=0)

    def sample_paths(self, params: DeepARParams, window: Window, key: Key, samples: int) -> Array:
        """Draws futures.

        Args:
          params: what `init` returned.
          window: `future` and `future_mask` are not read.
          key: consumed.
          samples: S.

        Returns:
          `[S, B, H, C]`.
        """
        window = clean_past(window)
        first, batch = max(self.lags), len(window.past)
        scale = self.scale(window)
        carry, _ = self.last_state(params, window)
        past = self._sequences(params, window.past, window.past_mask, window, scale)

        def repeated(leaf: Array) -> Array:
            return jnp.repeat(leaf, samples, axis=0)

        carry, scale, static = jax.tree.map(repeated, (carry, scale, past.static))
        covariates = jax.tree.map(repeated, window.future_covariates)
        room = jnp.zeros((samples * batch, self.horizon, self.channels), past.values.dtype)
        values = jnp.concatenate([repeated(past.values[:, -first:]), room], axis=1)
        observed = repeated(past.mask[:, -1]).astype(values.dtype)

        def step(carry: Any, xs: tuple[Array, Array, Key]):
            carry, values, observed = carry
            number, covariates, key = xs
            lagged = [
                jax.lax.dynamic_index_in_dim(values, first + number - lag, 1, keepdims=False)
                for lag in self.lags
            ]
            x = jnp.concatenate([*lagged, observed, covariates, static], axis=-1)
            carry, y = Stack(self.cells).step(params.cells, carry, x)
            drawn = self.distribution.sample(key, self._bind(params, y[:, None], scale))
            scaled = (drawn - scale.loc) / scale.scale
            values = jax.lax.dynamic_update_slice_in_dim(values, scaled, first + number, 1)
            return (carry, values, jnp.ones_like(observed)), drawn[:, 0]

        xs = (
            jnp.arange(self.horizon),
            jnp.swapaxes(covariates, 0, 1),
            jax.random.split(key, self.horizon),
        )
        _, paths = jax.lax.scan(step, (carry, values, observed), xs)  # [H, B * S, C]
        paths = paths.reshape(self.horizon, batch, samples, self.channels)
        return jnp.transpose(paths, (2, 1, 0, 3))

    def last_state(self, params: DeepARParams, window: Window) -> tuple[tuple[PyTree, ...], Array]:
        """What the network knows at the end of the past.

        Returns:
          The carry of every layer before it reads the first step of the future, and the output of
          the last layer at the last step of the past, `[B, F]`.
        """
        window = clean_past(window)
        first = max(self.lags)
        scale = self.scale(window)
        past = self._sequences(params, window.past, window.past_mask, window, scale)
        begun = started(window.past_mask)[:, first - 1 : -1]
        carry, ys = self._read(params, self._inputs(past, first), begun, None)
        return carry, ys[:, -1]

    def scale(self, window: Window) -> Scale:
        """That of every window; 0 and 1 where nothing was observed, or nothing but 0."""
        mask = window.past_mask
        count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
        if self.scaling == "mean":
            size = jnp.sum(jnp.abs(window.past), axis=1, keepdims=True) / count
            return Scale(jnp.zeros_like(size), jnp.where(size > 0, size, 1))
        loc = jnp.sum(window.past, axis=1, keepdims=True) / count
        squares = jnp.square(jnp.where(mask, window.past - loc, 0))
        variance = jnp.sum(squares, axis=1, keepdims=True) / count
        return Scale(loc, jnp.sqrt(jnp.where(variance > 0, variance, 1)))

    def _sequences(
        self, params: DeepARParams, values: Array, mask: Array, window: Window, scale: Scale
    ) -> Sequences:
        covariates = jnp.concatenate([window.past_covariates, window.future_covariates], axis=1)
        static = jnp.log(scale.scale[:, 0])
        if params.embedding is not None:
            static = jnp.concatenate([static, params.embedding[window.series]], axis=-1)
        values = jnp.where(mask, (values - scale.loc) / scale.scale, 0)
        return Sequences(values, mask, covariates[:, : values.shape[1]], static)

    def _inputs(self, sequences: Sequences, first: int) -> Array:
        """What is read at each step from `first` on: `[B, T - first, F]`."""
        values, mask, covariates, static = sequences
        length = values.shape[1]
        lagged = [values[:, first - lag : length - lag] for lag in self.lags]
        observed = mask[:, first - 1 : -1].astype(values.dtype)
        static = jnp.broadcast_to(static[:, None], (*observed.shape[:2], static.shape[-1]))
        return jnp.concatenate([*lagged, observed, covariates[:, first:], static], axis=-1)

    def _read(
        self, params: DeepARParams, xs: Array, mask: Array, key: Key | None
    ) -> tuple[tuple[PyTree, ...], Array]:
        """The carries after `[B, T, F]`, and the outputs of the last layer `[B, T, H]`."""
        carry, ys = stack(
            self.cells,
            params.cells,
            jnp.swapaxes(xs, 0, 1),
            mask=mask.T,
            strategy=self.strategy,
            dropout=self.dropout,
            key=key,
        )
        return carry, jnp.swapaxes(ys, 0, 1)

    def _bind(self, params: DeepARParams, ys: Array, scale: Scale) -> Any:
        """The distributions of `[B, T, C]` values from outputs `[B, T, H]`."""
        raw = linear(ys, *params.output)
        raw = raw.reshape(*raw.shape[:2], self.channels, self.distribution.size)
        return self.distribution.bind(raw, scale.loc, scale.scale)
