"""Any sequence model that answers for the whole horizon at once from its last output."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.checks import check_size
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.dropout import check_rate, dropout
from rnnlab.models.body import Body
from rnnlab.models.forecasting.base import Window
from rnnlab.models.forecasting.head import Head, HeadParams
from rnnlab.models.forecasting.point import PointForecaster, started, step_features


class DirectParams(NamedTuple):
    """The parameters of a `Direct` forecaster."""

    body: PyTree
    head: HeadParams


@dataclasses.dataclass(frozen=True)
class Direct(PointForecaster):
    """Reads the past with a recurrent network, a TCN or a Transformer, and forecasts all steps.

        f = the last output of body(x_1, ..., x_L),    y = head(f, covariates to come)

    A step is its values, whether they were observed, and its covariates. Steps before the first
    observation are left out.

    Attributes:
      body: `Recurrent(cells)` of any cells, `TCN`, `Transformer(causal=False)`, ...
      patch: P, steps that the body reads as one; where it does not divide L the first is filled up.
      dropout: rate inside the body and on its last output.
      others: see `PointForecaster`.

    Example:
        >>> import jax
        >>> from rnnlab.cells import GRU
        >>> from rnnlab.models.body import Recurrent
        >>> from rnnlab.models.forecasting import Direct
        >>> model = Direct(96, 24, channels=7, body=Recurrent((GRU(16),)))
        >>> model.init(jax.random.key(0)).head.direct.kernel.shape
        (16, 168)

    References: Nie et al. 2023, "A time series is worth 64 words", for steps read in patches.
    """

    body: Body = dataclasses.field(kw_only=True)
    patch: int = 1
    dropout: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_size("Direct", patch=self.patch)
        check_rate(self.dropout)

    @property
    def head(self) -> Head:
        """The output layer."""
        return Head(self.horizon, self.channels, self.covariates)

    def init(self, key: Key) -> DirectParams:
        """Draws float32 parameters."""
        body_key, head_key = jax.random.split(key)
        in_features = self.patch * (2 * self.channels + self.covariates)
        body = self.body.init(body_key, in_features)
        features = self.body.out_features(body, in_features)
        return DirectParams(body, self.head.init(head_key, features))

    def predict(self, params: DirectParams, window: Window, key: Key | None = None) -> Array:
        body_key, head_key = (None, None) if key is None else jax.random.split(key)
        xs = in_patches(step_features(window), self.patch)
        mask = jnp.any(in_patches(started(window.past_mask)[..., None], self.patch), axis=-1)
        options = {"dropout": self.dropout, "key": body_key}
        _, ys = self.body.apply(params.body, xs, mask=mask, **options)
        state = ys[-1] if head_key is None else dropout(head_key, ys[-1], self.dropout)
        return self.head.apply(params.head, state, window.future_covariates)


def in_patches(values: Array, patch: int) -> Array:
    """Steps side by side, with zeros before them: `[B, L, F]` as `[ceil(L / P), B, P * F]`."""
    filled = jnp.pad(values, ((0, 0), (-values.shape[1] % patch, 0), (0, 0)))
    patches = filled.reshape(len(values), -1, patch * values.shape[2])
    return jnp.swapaxes(patches, 0, 1)
