import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU
from rnnlab.models.forecasting import DeepAR, Gaussian, NegativeBinomial
from rnnlab.strategies import Unrolled
from tests.models.forecasting.windows import random_window

MODEL = DeepAR(
    context=6,
    horizon=3,
    channels=2,
    covariates=1,
    cells=(GRU(4),),
    distribution=Gaussian(),
    lags=(1, 3),
    series=3,
    embedding=2,
    strategy=Unrolled(),
)
PARAMS = MODEL.init(jax.random.key(0))
WINDOW = random_window(MODEL, missing=0)


def loop(row):
    """(mean, deviation) `[T, C]` and the carry after each step, as the paper writes them."""
    values = np.concatenate([WINDOW.past[row], WINDOW.future[row]])
    scale = np.abs(np.asarray(WINDOW.past[row])).mean(axis=0)
    covariates = np.concatenate([WINDOW.past_covariates[row], WINDOW.future_covariates[row]])
    embedding: Any = PARAMS.embedding
    cell, h, results, carries = GRU(4), jnp.zeros(4), [], []
    for t in range(3, 9):
        lagged = [values[t - 1] / scale, values[t - 3] / scale]
        static = [np.log(scale), embedding[WINDOW.series[row]]]
        x = np.concatenate([*lagged, [1, 1], covariates[t], *static])
        h, y = cell.step(PARAMS.cells[0], h, jnp.asarray(x, jnp.float32))
        raw = np.asarray(y @ PARAMS.output.kernel + PARAMS.output.bias).reshape(2, 2)
        deviation = np.log1p(np.exp(raw[:, 1])) + 1e-3
        results.append((raw[:, 0] * scale, deviation * scale))
        carries.append(h)
    return results, carries, values[3:]


@pytest.mark.parametrize("row", [1, 2])  # row 0 is padded
def test_losses_are_the_likelihood_of_every_step_given_those_before(row):
    losses, weights = MODEL.losses(PARAMS, WINDOW)
    results, _, values = loop(row)
    for t, (mean, deviation) in enumerate(results):
        distance = (values[t] - mean) / deviation
        expected = 0.5 * distance**2 + np.log(deviation) + 0.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(losses[row, t], expected, rtol=1e-4, atol=1e-5)
    assert weights[row].all()


def test_the_last_state_is_that_before_the_future():
    carry, ys = MODEL.last_state(PARAMS, WINDOW)
    _, carries, _ = loop(1)
    np.testing.assert_allclose(carry[0][1], carries[2], atol=1e-6)
    np.testing.assert_allclose(ys[1], carries[2], atol=1e-6)


def test_paths_start_with_the_distribution_of_the_first_step():
    paths = MODEL.sample_paths(PARAMS, WINDOW, jax.random.key(0), samples=3000)
    assert paths.shape == (3000, 3, 3, 2)
    mean, deviation = loop(1)[0][3]
    np.testing.assert_allclose(paths[:, 1, 0].mean(axis=0), mean, atol=0.08)
    np.testing.assert_allclose(paths[:, 1, 0].std(axis=0), deviation, rtol=0.08)


def test_paths_read_what_they_drew():
    """Without noise a path is the forecast that reads itself: teacher forcing with it agrees."""
    params = PARAMS._replace(output=PARAMS.output._replace(bias=jnp.array([0.3, -50, -0.2, -50])))
    kernel = params.output.kernel.at[:, 1::2].set(0)
    params = params._replace(output=params.output._replace(kernel=kernel))
    path = MODEL.sample_paths(params, WINDOW, jax.random.key(0), samples=1)[0]
    losses, _ = MODEL.losses(params, WINDOW._replace(future=path))
    scale = np.abs(np.asarray(WINDOW.past)).mean(axis=1, keepdims=True) * 1e-3
    floor = np.log(scale) + 0.5 * np.log(2 * np.pi)
    assert (losses[:, 3:] > floor - 1e-4).all()  # the density at its highest
    assert (losses[1:, 3:] < floor[1:] + 8).all()  # within four deviations of the mean


def test_quantiles_rise_and_the_forecast_is_the_median():
    levels = jnp.array([0.1, 0.5, 0.9])
    got = MODEL.quantiles(PARAMS, WINDOW, levels, jax.random.key(0), MODEL.samples)
    assert got.shape == (3, 3, 3, 2)
    assert (np.diff(got, axis=0) > 0).all()
    np.testing.assert_allclose(got[1], MODEL.forecast(PARAMS, WINDOW), rtol=1e-5)


def test_forecasts_follow_the_unit_of_the_series():
    """The scale is the only thing that tells the unit; the network is told its logarithm."""
    kernel = PARAMS.cells[0].kernel.at[-4:-2].set(0)  # so that it does not listen
    params = PARAMS._replace(cells=(PARAMS.cells[0]._replace(kernel=kernel),))
    plain = MODEL.forecast(params, WINDOW)
    other = MODEL.forecast(params, WINDOW._replace(past=1000 * WINDOW.past))
    np.testing.assert_allclose(other, 1000 * plain, rtol=1e-3, atol=1e-2)


def test_counts_stay_counts():
    model = dataclasses.replace(MODEL, distribution=NegativeBinomial())
    window = WINDOW._replace(past=jnp.round(10 * jnp.abs(WINDOW.past)))
    paths = model.sample_paths(model.init(jax.random.key(0)), window, jax.random.key(1), 5)
    np.testing.assert_array_equal(paths, np.round(paths))
    assert paths.min() >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lags": (2, 3)}, "1 among them"),
        ({"lags": (1, 6)}, "below the context of 6"),
        ({"scaling": "none"}, r"scaling of \('mean', 'standard'\), got 'none'"),
        ({"distribution": NegativeBinomial(), "scaling": "standard"}, "for counts"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(MODEL, **options)
