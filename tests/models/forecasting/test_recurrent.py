"""Direct, autoregressive and encoder-decoder forecasters against plain loops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU, Stack
from rnnlab.models.body import Recurrent
from rnnlab.models.forecasting import Autoregressive, Direct, EncoderDecoder
from rnnlab.models.transformer import Transformer
from rnnlab.strategies import Unrolled
from tests.models.forecasting.windows import random_window

SIZES: dict[str, Any] = {"context": 5, "horizon": 3, "channels": 2, "covariates": 1}
BODY = Recurrent((GRU(4),), Unrolled())


def steps_of(window, row):
    """What is read of the past, from the first observation on."""
    mask = np.asarray(window.past_mask[row])
    xs = np.concatenate([window.past[row], mask, window.past_covariates[row]], axis=1)
    return xs[np.argmax(mask.any(axis=1)) :]


def run(params, xs, h=None):
    cell = GRU(4)
    h = cell.initial_carry(params) if h is None else h
    for x in xs:
        h, _ = cell.step(params, h, jnp.asarray(x, jnp.float32))
    return h


def test_direct_reads_the_past_and_the_covariates_to_come():
    model = Direct(**SIZES, body=BODY)
    params, window = model.init(jax.random.key(0)), random_window(model)
    got = model.forecast(params, window)
    direct, local = params.head.direct, params.head.local
    assert local is not None
    for row in range(3):
        h = np.asarray(run(params.body[0], steps_of(window, row)))
        expected = (h @ direct.kernel + direct.bias).reshape(3, 2)
        hidden = h @ local.state.kernel + local.state.bias
        hidden = hidden + np.asarray(window.future_covariates[row]) @ local.covariates
        expected = expected + np.maximum(hidden, 0) @ local.output.kernel + local.output.bias
        np.testing.assert_allclose(got[row], expected, atol=1e-5)


def test_patches_are_steps_side_by_side():
    model = Direct(**SIZES, body=BODY, patch=2)
    params, window = model.init(jax.random.key(0)), random_window(model, missing=0)
    got = model.forecast(params, window)
    xs = np.concatenate([np.zeros((1, 5)), steps_of(window, 1)]).reshape(3, 10)
    h = run(params.body[0], xs)[None]
    expected = model.head.apply(params.head, h, window.future_covariates[1:2])
    np.testing.assert_allclose(got[1:2], expected, atol=1e-6)


def test_an_autoregressive_forecast_reads_itself():
    model = Autoregressive(**SIZES, body=BODY)
    params, window = model.init(jax.random.key(0)), random_window(model, missing=0)
    got = model.forecast(params, window)
    covariates = np.concatenate([window.past_covariates, window.future_covariates], axis=1)
    for row in (1, 2):  # row 0 is padded
        h, known = None, [*np.asarray(window.past[row])]
        for t in range(7):
            x = np.concatenate([known[t], [1, 1], covariates[row, t + 1]])
            h = run(params.body[0], [x], h)
            if t >= 4:
                known.append(np.asarray(h @ params.output.kernel + params.output.bias))
        np.testing.assert_allclose(got[row], known[5:], atol=1e-5)


def test_teacher_forcing_is_the_forecast_where_the_future_is_as_forecast():
    model = Autoregressive(**SIZES, body=BODY)
    params, window = model.init(jax.random.key(0)), random_window(model, missing=0)
    forecast = model.forecast(params, window)
    window = window._replace(future=forecast)
    predictions, targets, mask = model.pairs(params, window)
    assert predictions.shape == (3, 7, 2)
    np.testing.assert_allclose(predictions[:, 4:], forecast, atol=1e-5)
    np.testing.assert_array_equal(targets[:, 4:], forecast)
    assert mask[1].all()
    assert mask[0].sum() == 2 * 6  # one step of padding, and the first value has none before it


@pytest.mark.parametrize("teacher_forcing", [False, True])
def test_the_decoder_starts_from_the_encoder(teacher_forcing):
    model = EncoderDecoder(
        **SIZES, cells=(GRU(4),), teacher_forcing=teacher_forcing, strategy=Unrolled()
    )
    params, window = model.init(jax.random.key(0)), random_window(model, missing=0)
    got, truth, _ = model.pairs(params, window, key=jax.random.key(1))
    for row in (1, 2):
        h = run(params.encoder[0], steps_of(window, row))
        value, expected = window.past[row, -1], []
        for t in range(3):
            x = np.concatenate([value, [1, 1], window.future_covariates[row, t]])
            h = run(params.decoder[0], [x], h)
            expected.append(np.asarray(h @ params.output.kernel + params.output.bias))
            value = truth[row, t] if teacher_forcing else expected[-1]
        np.testing.assert_allclose(got[row], expected, atol=1e-5)


def test_what_looks_ahead_cannot_be_autoregressive():
    body = Transformer(8, heads=2, causal=False)
    with pytest.raises(ValueError, match="expected a causal body"):
        Autoregressive(5, 3, body=body)


def test_layers_run_one_on_another():
    cells = (GRU(4), GRU(3))
    model = Direct(5, 3, body=Recurrent(cells, Unrolled()))
    params, window = model.init(jax.random.key(0)), random_window(model, missing=0)
    carry, y = Stack(cells).initial_carry(params.body), jnp.zeros(3)
    for x in steps_of(window, 1):
        carry, y = Stack(cells).step(params.body, carry, jnp.asarray(x, jnp.float32))
    expected = y @ params.head.direct.kernel + params.head.direct.bias
    np.testing.assert_allclose(model.forecast(params, window)[1, :, 0], expected, atol=1e-6)
