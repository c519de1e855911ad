"""No forecast reads the future: it is the same where the future is NaN, for all models and data."""

import functools

import jax
import numpy as np
import pytest

from experiments.forecast_baselines import fit_linear
from experiments.forecast_scoring import LEVELS
from rnnlab.data.forecast_windows import Scales, Windows
from rnnlab.data.forecasting import FORECAST_DATASETS
from rnnlab.models.forecasting import FORECASTERS, ForecasterOptions
from tests.data.forecasting import poisoned, public, small


def options_of(windows):
    return ForecasterOptions(
        context=windows.context,
        horizon=windows.horizon,
        channels=windows.data.channels,
        covariates=windows.covariates,
        num_series=windows.num_series,
        season=min(windows.data.season, 4),
        features=4,
        segment=4,
        heads=2,
        layers=1,
    )


def build(name, windows):
    try:
        return FORECASTERS[name](options_of(windows))
    except ValueError as error:
        if "expected 1 channel" in str(error):
            pytest.skip(f"{name} forecasts single channels, and there are {windows.data.channels}")
        raise


def answering(model):
    """A function of windows: all that a model says of them."""
    levels = np.asarray(LEVELS[::6], np.float32)

    @jax.jit
    def run(window):
        params = model.init(jax.random.key(0))
        forecast = model.forecast(params, window)
        if not model.probabilistic:
            return (forecast,)
        return forecast, model.quantiles(params, window, levels, jax.random.key(1), 5)

    return lambda window: [np.asarray(answer) for answer in run(window)]


def both(data, context=16, horizon=4):
    """Windows at three test origins, and again with all that came after them poisoned."""
    windows = Windows(data, context, horizon)
    numbers = np.arange(min(3, len(data.series)))
    rows = [data.bounds[number].test - horizon - int(number) for number in numbers]
    origins = np.stack([numbers, np.maximum(rows, 1)], axis=1)
    window = windows.window(origins)
    blind = Windows(poisoned(data, origins), context, horizon).window(origins)
    nothing = np.full_like(window.future, np.nan)
    return windows, window, blind._replace(future=nothing, future_mask=np.zeros_like(nothing, bool))


def check(name, windows, window, blind):
    """The answers, which are the same for both windows."""
    answers = answering(build(name, windows))
    expected = answers(window)
    for one, other in zip(expected, answers(blind), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)
    return expected, answers


@pytest.mark.parametrize("name", FORECASTERS)
def test_no_model_reads_the_future(name):
    windows, window, blind = both(small((60, 50, 70), covariates=2, scaling="mean"))
    expected, answers = check(name, windows, window, blind)
    # The test would see a leak: what is read changes the forecast.
    past = np.where(window.past_mask, window.past + np.float32(1), 0)
    assert not np.array_equal(answers(window._replace(past=past))[0], expected[0])


QUICK = ("sunspots", "airline", "exchange_rate", "m3_yearly")  # to read
EVERY_DAY = {("nlinear", data) for data in QUICK}
PRODUCT = [(name, data) for name in FORECASTERS for data in FORECAST_DATASETS]


@functools.cache
def both_of(name):
    return both(public(name))


@pytest.mark.parametrize(
    ("name", "data"),
    [pytest.param(*p, marks=[] if p in EVERY_DAY else [pytest.mark.full]) for p in PRODUCT],
)
def test_no_model_reads_the_future_of_public_data(name, data):
    check(name, *both_of(data))


def test_neither_scales_nor_the_linear_baseline_read_the_future():
    data = small((60, 50, 70))
    origins = [(number, bounds.valid) for number, bounds in enumerate(data.bounds)]
    blind = poisoned(data, origins)
    assert Scales.fit(blind) == Scales.fit(data)
    one, other = (fit_linear(Windows(part, 10, 4), 16) for part in (data, blind))
    jax.tree.map(np.testing.assert_array_equal, one, other)
