"""A multilayer perceptron over the whole past."""

import dataclasses
from typing import NamedTuple

import jax

from rnnlab.core.checks import check_size
from rnnlab.core.ops import linear
from rnnlab.core.types import Array, Key
from rnnlab.dropout import check_rate, dropout
from rnnlab.models.forecasting.base import Window
from rnnlab.models.forecasting.head import DenseParams, Head, HeadParams, dense
from rnnlab.models.forecasting.point import PointForecaster


class MLPParams(NamedTuple):
    """The parameters of an `MLP`."""

    layers: tuple[DenseParams, ...]
    head: HeadParams


@dataclasses.dataclass(frozen=True)
class MLP(PointForecaster):
    """Hidden layers over all values of the past side by side, then the head of `Direct`.

        f_0 = [x_1, ..., x_L],    f_i = relu(f_{i-1} @ W_i + b_i),    y = head(f_n, covariates)

    Missing values are 0. Covariates of the past are not read.

    Attributes:
      features: of each hidden layer.
      dropout: rate on each hidden layer.
      others: see `PointForecaster`.

    Example:
        >>> import jax
        >>> from rnnlab.models.forecasting import MLP
        >>> model = MLP(96, 24, features=(64, 32))
        >>> model.init(jax.random.key(0)).head.direct.kernel.shape
        (32, 24)
    """

    features: tuple[int, ...] = (64,)
    dropout: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        for features in self.features:
            check_size("MLP", features=features)
        check_rate(self.dropout)

    @property
    def head(self) -> Head:
        """The output layer."""
        return Head(self.horizon, self.channels, self.covariates)

    def init(self, key: Key) -> MLPParams:
        """Draws float32 parameters."""
        head_key, *keys = jax.random.split(key, 1 + len(self.features))
        sizes = (self.context * self.channels, *self.features)
        layers = tuple(map(dense, keys, sizes[:-1], sizes[1:]))
        return MLPParams(layers, self.head.init(head_key, sizes[-1]))

    def predict(self, params: MLPParams, window: Window, key: Key | None = None) -> Array:
        f = window.past.reshape(len(window.past), -1)
        for number, layer in enumerate(params.layers):
            f = jax.nn.relu(linear(f, *layer))
            if key is not None:
                f = dropout(jax.random.fold_in(key, number), f, self.dropout)
        return self.head.apply(params.head, f, window.future_covariates)
