"""Every forecaster by name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rnnlab.cells import CELLS
from rnnlab.cells.residual import Residual
from rnnlab.core.cell import Cell
from rnnlab.models.body import Body, Recurrent
from rnnlab.models.forecasting.around import ChannelShared
from rnnlab.models.forecasting.autoregressive import Autoregressive
from rnnlab.models.forecasting.base import Forecaster
from rnnlab.models.forecasting.deep_ar import DeepAR
from rnnlab.models.forecasting.direct import Direct
from rnnlab.models.forecasting.distributions import DISTRIBUTIONS
from rnnlab.models.forecasting.encoder_decoder import EncoderDecoder
from rnnlab.models.forecasting.es_rnn import ESRNN
from rnnlab.models.forecasting.instance_norm import InstanceNorm
from rnnlab.models.forecasting.linear import DLinear, NLinear
from rnnlab.models.forecasting.mlp import MLP
from rnnlab.models.forecasting.naive import Drift, Naive, SeasonalNaive
from rnnlab.models.forecasting.point import PointForecaster
from rnnlab.models.forecasting.seg_rnn import SegRNN
from rnnlab.models.tcn import TCN
from rnnlab.models.transformer import Transformer
from rnnlab.strategies import Auto
from rnnlab.strategies.base import Strategy


@dataclasses.dataclass(frozen=True)
class ForecasterOptions:
    """What flags say of a forecaster; each model reads those that it has a use for.

    Attributes:
      context: L.
      horizon: H.
      channels: C.
      covariates: K, the columns of `Window.past_covariates`.
      num_series: N, for parameters of each series.
      season: of the data set; 1 for none.
      cell: a name of `CELLS`.
      cell_options: what it takes besides its features.
      features: of every layer.
      layers: how many, or blocks.
      dropout: rate.
      loss: of point forecasts, "squared", "absolute" or "huber"; "" takes the model's own.
      segment: of SegRNN.
      patch: steps read as one by the direct, TCN and Transformer models.
      heads: of the Transformer.
      width: steps of a kernel of the TCN.
      instance_norm: puts `InstanceNorm` around a point model.
      shared_channels: puts `ChannelShared` around a point model that reads all channels.
      teacher_forcing: of the encoder-decoder.
      distribution: a name of `DISTRIBUTIONS`.
      scaling: of DeepAR, "mean" or "standard".
      lags: of DeepAR; () takes 1, 2, 3 and those around one season and seven.
      embedding: features of the embedding of a series in DeepAR.
      seasons: of ES-RNN; () takes the season of the data set, if it has one.
      stride: of ES-RNN; 0 takes the shortest season, or 1.
      input_width: of ES-RNN; 0 takes the horizon, or the shortest season if that is longer.
      strategy: how cells run over time.
    """

    context: int
    horizon: int
    channels: int = 1
    covariates: int = 0
    num_series: int = 1
    season: int = 1
    cell: str = "gru"
    cell_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    features: int = 64
    layers: int = 1
    dropout: float = 0.0
    loss: str = ""
    segment: int = 48
    patch: int = 1
    heads: int = 4
    width: int = 3
    instance_norm: bool = False
    shared_channels: bool = False
    teacher_forcing: bool = False
    distribution: str = "student_t"
    scaling: str = "mean"
    lags: tuple[int, ...] = ()
    embedding: int = 0
    seasons: tuple[int, ...] = ()
    stride: int = 0
    input_width: int = 0
    strategy: Strategy = dataclasses.field(default_factory=Auto)

    @property
    def sizes(self) -> dict[str, int]:
        """The fields that every forecaster has."""
        names = ("context", "horizon", "channels", "covariates")
        return {name: getattr(self, name) for name in names}

    @property
    def point_sizes(self) -> dict:
        """Those of a point forecaster, inside the wrappers."""
        sizes: dict = self.sizes | ({"loss": self.loss} if self.loss else {})
        return sizes | ({"channels": 1} if self.shared_channels else {})

    @property
    def layer(self) -> Cell:
        """One recurrent layer."""
        return CELLS[self.cell](self.features, **self.cell_options)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Layers of one cell, each but the first with a skip connection."""
        return (self.layer, *(Residual(self.layer),) * (self.layers - 1))

    @property
    def body(self) -> Recurrent:
        """Recurrent layers."""
        return Recurrent(self.cells, self.strategy)

    @property
    def chosen_lags(self) -> tuple[int, ...]:
        """Of DeepAR: given, or those of the season that fit into half of the context."""
        if self.lags:
            return self.lags
        seasons = [] if self.season == 1 else [self.season, 7 * self.season]
        around = [season + step for season in seasons for step in (-1, 0, 1)]
        return tuple(sorted({1} | {lag for lag in (2, 3, *around) if 2 * lag <= self.context}))


def wrapped(options: ForecasterOptions, model: PointForecaster) -> PointForecaster:
    """A model of `options.point_sizes` inside the wrappers that the options ask for."""
    if options.shared_channels:
        model = ChannelShared(model, options.channels)
    return InstanceNorm(model) if options.instance_norm else model


def _direct(options: ForecasterOptions, body: Body) -> PointForecaster:
    sizes = options.point_sizes
    model = Direct(**sizes, body=body, patch=options.patch, dropout=options.dropout)
    return wrapped(options, model)


def _tcn(options: ForecasterOptions) -> PointForecaster:
    return _direct(options, TCN(options.features, options.layers, options.width))


def _transformer(options: ForecasterOptions) -> PointForecaster:
    steps = -(-options.context // options.patch)
    body = Transformer(options.features, options.layers, options.heads, context=steps, causal=False)
    return _direct(options, body)


def _autoregressive(options: ForecasterOptions) -> PointForecaster:
    sizes = options.point_sizes
    model = Autoregressive(**sizes, body=options.body, dropout=options.dropout)
    return wrapped(options, model)


def _encoder_decoder(options: ForecasterOptions) -> PointForecaster:
    model = EncoderDecoder(
        **options.point_sizes,
        cells=options.cells,
        teacher_forcing=options.teacher_forcing,
        dropout=options.dropout,
        strategy=options.strategy,
    )
    return wrapped(options, model)


def _mlp(options: ForecasterOptions) -> PointForecaster:
    layers = (options.features,) * options.layers
    return wrapped(options, MLP(**options.point_sizes, features=layers, dropout=options.dropout))


def _seg_rnn(options: ForecasterOptions) -> PointForecaster:
    # It shares its channels by itself, with an embedding of each.
    options = dataclasses.replace(options, shared_channels=False)
    model = SegRNN(
        **options.point_sizes,
        cell=options.layer,
        segment=options.segment,
        dropout=options.dropout,
        strategy=options.strategy,
    )
    return wrapped(options, model)


def _linear(kind: Callable[..., PointForecaster]) -> Callable:
    def build(options: ForecasterOptions) -> PointForecaster:
        options = dataclasses.replace(options, shared_channels=False)  # they do so by themselves
        return wrapped(options, kind(**options.point_sizes))

    return build


def _deep_ar(options: ForecasterOptions) -> DeepAR:
    return DeepAR(
        **options.sizes,
        cells=options.cells,
        distribution=DISTRIBUTIONS[options.distribution](),
        lags=options.chosen_lags,
        scaling=options.scaling,
        series=options.num_series,
        embedding=options.embedding,
        dropout=options.dropout,
        strategy=options.strategy,
    )


def _es_rnn(options: ForecasterOptions) -> ESRNN:
    seasons = options.seasons or ((options.season,) if options.season > 1 else ())
    return ESRNN(
        **options.sizes,
        series=options.num_series,
        seasons=seasons,
        cells=(options.layer,) * options.layers,
        dilations=tuple(2**layer for layer in range(options.layers)),
        width=options.input_width or max((options.horizon, *seasons[:1])),
        stride=options.stride or min(seasons, default=1),
        hidden=options.features,
        strategy=options.strategy,
    )


FORECASTERS: dict[str, Callable[[ForecasterOptions], Forecaster]] = {
    "naive": lambda options: Naive(**options.sizes),
    "seasonal_naive": lambda options: SeasonalNaive(**options.sizes, season=options.season),
    "drift": lambda options: Drift(**options.sizes),
    "nlinear": _linear(NLinear),
    "dlinear": _linear(DLinear),
    "mlp": _mlp,
    "tcn": _tcn,
    "transformer": _transformer,
    "direct": lambda options: _direct(options, options.body),
    "autoregressive": _autoregressive,
    "encoder_decoder": _encoder_decoder,
    "seg_rnn": _seg_rnn,
    "deep_ar": _deep_ar,
    "es_rnn": _es_rnn,
}
"""A forecaster by the name that `--model` takes, from the options."""
