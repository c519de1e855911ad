"""Any sequence model that forecasts one step and reads its own forecast for the next."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.ops import linear
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.dropout import check_rate
from rnnlab.models.body import Body
from rnnlab.models.forecasting.base import Window
from rnnlab.models.forecasting.head import DenseParams, dense
from rnnlab.models.forecasting.point import Pairs, PointForecaster, started


class AutoregressiveParams(NamedTuple):
    """The parameters of an `Autoregressive` forecaster."""

    body: PyTree
    output: DenseParams  # [F, C]


@dataclasses.dataclass(frozen=True)
class Autoregressive(PointForecaster):
    """Forecasts the next step from all before it; beyond the past it reads its own forecasts.

        y_{t+1} = body([x_t, observed_t, covariates_{t+1}]) @ kernel + bias,    x_t = y_t beyond L

    In training it reads the truth in the future too (teacher forcing), and every observed step
    after the first one counts.

    Attributes:
      body: `Recurrent(cells)` of any cells, or any other causal one.
      dropout: rate inside the body.
      others: see `PointForecaster`.

    Raises:
      ValueError: a body that looks ahead, or a context below 2.

    Example:
        >>> import jax
        >>> from rnnlab.cells import GRU
        >>> from rnnlab.models.body import Recurrent
        >>> from rnnlab.models.forecasting import Autoregressive
        >>> model = Autoregressive(96, 24, body=Recurrent((GRU(16),)))
        >>> model.init(jax.random.key(0)).output.kernel.shape
        (16, 1)

    References: Williams & Zipser 1989, "A learning algorithm for continually running fully
    recurrent neural networks", for teacher forcing.
    """

    body: Body = dataclasses.field(kw_only=True)
    dropout: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_rate(self.dropout)
        if not getattr(self.body, "causal", True):
            raise ValueError(f"Autoregressive: expected a causal body, got {self.body}.")
        if self.context < 2:
            raise ValueError(f"Autoregressive: expected a context >= 2, got {self.context}.")

    def init(self, key: Key) -> AutoregressiveParams:
        """Draws float32 parameters."""
        body_key, output_key = jax.random.split(key)
        in_features = 2 * self.channels + self.covariates
        body = self.body.init(body_key, in_features)
        features = self.body.out_features(body, in_features)
        return AutoregressiveParams(body, dense(output_key, features, self.channels))

    def pairs(self, params: AutoregressiveParams, window: Window, key: Key | None = None) -> Pairs:
        values = jnp.concatenate([window.past, window.future], axis=1)
        mask = jnp.concatenate([window.past_mask, window.future_mask], axis=1)
        _, ys = self._read(params, values[:, :-1], mask[:, :-1], _covariates(window), key)
        begun = started(mask)[:, :-1, None]
        return Pairs(linear(ys, *params.output), values[:, 1:], mask[:, 1:] & begun)

    def predict(
        self, params: AutoregressiveParams, window: Window, key: Key | None = None
    ) -> Array:
        past, mask = window.past, window.past_mask
        covariates = _covariates(window)[:, : self.context - 1]
        carry, _ = self._read(params, past[:, :-1], mask[:, :-1], covariates, key)

        def step(carry: Any, covariates: Array):
            carry, values, observed = carry
            x = jnp.concatenate([values, observed, covariates], axis=-1)
            carry, y = self.body.step(params.body, carry, x)
            values = linear(y, *params.output)
            return (carry, values, jnp.ones_like(observed)), values

        start = carry, past[:, -1], mask[:, -1].astype(past.dtype)
        _, ys = jax.lax.scan(step, start, jnp.swapaxes(window.future_covariates, 0, 1))
        return jnp.swapaxes(ys, 0, 1)

    def _read(
        self,
        params: AutoregressiveParams,
        values: Array,
        mask: Array,
        covariates: Array,
        key: Key | None,
    ) -> tuple[PyTree, Array]:
        """The carry after values `[B, T, C]`, read with covariates of the next steps; outputs."""
        xs = jnp.concatenate([values, mask.astype(values.dtype), covariates], axis=-1)
        carry, ys = self.body.apply(
            params.body,
            jnp.swapaxes(xs, 0, 1),
            mask=started(mask).T,
            dropout=self.dropout,
            key=key,
        )
        return carry, jnp.swapaxes(ys, 0, 1)


def _covariates(window: Window) -> Array:
    """Those of steps 2 to L + H."""
    return jnp.concatenate([window.past_covariates, window.future_covariates], axis=1)[:, 1:]
