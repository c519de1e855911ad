import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU
from rnnlab.models.forecasting import ESRNN
from rnnlab.models.forecasting.es_rnn import dilated
from rnnlab.models.forecasting.smoothing import first_seasons, smooth
from rnnlab.strategies import Scan, Unrolled
from tests.models.forecasting.windows import random_window

RNG = np.random.default_rng(0)


def numpy_smoothing(y, observed, a, rates, starts):
    """The recursion as the paper writes it, one number at a time."""
    seasons, level, levels = [list(start) for start in starts], None, []
    for t, value in enumerate(y):
        factors = [season[t] for season in seasons]
        product = np.prod(factors)
        if observed[t]:
            plain = value / product
            level = plain if level is None else a * plain + (1 - a) * level
        for season, rate, factor in zip(seasons, rates, factors, strict=True):
            others = product / factor
            new = rate * value / (level * others) + (1 - rate) * factor if observed[t] else factor
            season.append(new)
        levels.append(1.0 if level is None else level)
    return levels, seasons


@pytest.mark.parametrize("lengths", [(), (3,), (2, 5)])
def test_smoothing_is_the_recursion(lengths):
    values = np.exp(RNG.normal(size=(4, 11)))
    mask = RNG.random((4, 11)) < 0.8
    mask[0, :4] = False
    a, rates = RNG.uniform(0.1, 0.9, 4), [RNG.uniform(0.1, 0.9, 4) for _ in lengths]
    starts = [np.exp(RNG.normal(size=(4, length)) / 3) for length in lengths]
    level, seasons = smooth(
        jnp.asarray(values, jnp.float32),
        jnp.asarray(mask),
        jnp.asarray(a, jnp.float32),
        tuple(jnp.asarray(rate, jnp.float32) for rate in rates),
        tuple(jnp.log(jnp.asarray(start, jnp.float32)) for start in starts),
    )
    for row in range(4):
        expected = numpy_smoothing(
            values[row], mask[row], a[row], [r[row] for r in rates], [s[row] for s in starts]
        )
        np.testing.assert_allclose(np.exp(level[row]), expected[0], rtol=1e-4)
        for got, want in zip(seasons, expected[1], strict=True):
            np.testing.assert_allclose(np.exp(got[row]), want, rtol=1e-4)


def test_first_seasons_are_those_of_a_periodic_series():
    short, long = np.array([0.3, -0.3]), np.array([0.1, 0.2, -0.4, 0.5, -0.1, -0.3])
    long -= np.tile([long[::2].mean(), long[1::2].mean()], 3)  # nothing of the short one
    t = np.arange(20)
    logs = 2 + short[(t - 5) % 2] + long[(t - 5) % 6]
    mask = jnp.asarray(t >= 5)[None]  # padded on the left
    logs = jnp.where(mask, jnp.asarray(logs, jnp.float32)[None], 0)
    got = first_seasons(logs, mask, (2, 6))
    for factors, expected in zip(got, (short, long), strict=True):
        phases = (np.arange(len(expected)) - 5) % len(expected)
        np.testing.assert_allclose(factors[0], expected[phases], atol=1e-6)


MODEL = ESRNN(
    context=14,
    horizon=5,
    series=3,
    seasons=(2, 4),
    cells=(GRU(6), GRU(6)),
    dilations=(1, 2),
    width=3,
    stride=2,
    hidden=4,
    strategy=Unrolled(),
)


def silent(params):
    """A network that always says nothing: the forecast is level times seasons."""
    return params._replace(output=jax.tree.map(jnp.zeros_like, params.output))


def test_without_the_network_it_is_exponential_smoothing():
    window = random_window(MODEL, missing=0, positive=True)
    params = silent(MODEL.init(jax.random.key(0)))
    forecast = MODEL.forecast(params, window)
    y = np.asarray(window.past[..., 0], np.float64)
    mask = window.past_mask[..., 0]
    logs = jnp.log(jnp.where(mask, window.past[..., 0], 1))
    starts = first_seasons(logs, mask, (2, 4))
    for row in (1, 2):
        levels, seasons = numpy_smoothing(
            y[row], np.ones(14, bool), 0.5, [0.2, 0.2], [np.exp(s[row]) for s in starts]
        )
        for h in range(5):
            factors = [s[14 + h % length] for s, length in zip(seasons, (2, 4), strict=True)]
            np.testing.assert_allclose(
                forecast[row, h, 0], levels[-1] * np.prod(factors), rtol=1e-4
            )


def test_a_periodic_series_is_forecast_as_it_is():
    pattern = np.array([1.0, 3.0, 2.0, 6.0])
    y = jnp.asarray(np.tile(pattern, 5)[None, :19, None], jnp.float32)
    window = random_window(MODEL, batch=1, missing=0, positive=True)
    mask = jnp.ones((1, 14, 1), bool)
    window = window._replace(past=y[:, :14], past_mask=mask, future=y[:, 14:])
    params = silent(MODEL.init(jax.random.key(0)))
    np.testing.assert_allclose(MODEL.forecast(params, window), y[:, 14:], rtol=1e-4)
    for key in (None, jax.random.key(0)):
        losses, weights = MODEL.losses(params, window, key)
        assert weights.sum() > 0
        np.testing.assert_allclose(losses * weights, 0, atol=1e-5)


def test_evaluation_counts_the_forecast_alone():
    window = random_window(MODEL, missing=0, positive=True)
    params = MODEL.init(jax.random.key(0))
    losses, weights = MODEL.losses(params, window)
    assert losses.shape == weights.shape == (3, 1, 5)
    errors = jnp.log(window.future) - jnp.log(MODEL.forecast(params, window))
    logs = np.log(np.where(window.past_mask, window.past, np.nan)[..., 0])
    changes = np.nanmean(np.abs(logs[:, 2:] - logs[:, :-2]), axis=1)[:, None]
    expected = np.abs(errors[..., 0]) / 2 / np.sqrt(changes)
    np.testing.assert_allclose(losses[:, 0], expected, rtol=1e-3, atol=1e-5)
    training, counted = MODEL.losses(params, window, jax.random.key(0))
    assert training.shape == (3, 7, 5)
    np.testing.assert_allclose(training[:, -1:], losses, rtol=1e-5)
    # Windows end at steps 1, 3, ..., 13; the first season is steps 0 to 3, in row 0 steps 4 to 7.
    assert (
        counted.any(axis=-1).tolist() == [[False] * 4 + [True] * 3] + [[False] * 2 + [True] * 5] * 2
    )


def test_values_that_are_not_positive_are_missing():
    window = random_window(MODEL, missing=0, positive=True)
    params = MODEL.init(jax.random.key(0))
    hole = jnp.zeros_like(window.past_mask).at[:, 9].set(True)
    missing = window._replace(past_mask=window.past_mask & ~hole)
    zero = window._replace(past=jnp.where(hole, -1.0, window.past))
    np.testing.assert_array_equal(MODEL.forecast(params, missing), MODEL.forecast(params, zero))


def test_series_have_their_own_rates():
    window = random_window(MODEL, missing=0, positive=True)
    params = MODEL.init(jax.random.key(0))
    rates = params.smoothing
    moved = params._replace(smoothing=rates._replace(level=rates.level.at[2].add(1.0)))
    changed = np.any(MODEL.forecast(moved, window) != MODEL.forecast(params, window), axis=(1, 2))
    assert changed.tolist() == [False, False, True]


def test_a_dilated_layer_is_several_interleaved_ones():
    cell, length = GRU(3), 7
    params = cell.init(jax.random.key(0), 2)
    xs = jnp.asarray(RNG.normal(size=(length, 2, 2)), jnp.float32)
    got = dilated(cell, params, xs, 3, jnp.ones((length, 2), bool), Scan())
    for start in range(3):
        carry = cell.initial_carry(params, (2,))
        for t in range(start, length, 3):
            carry, y = cell.step(params, carry, xs[t])
            np.testing.assert_allclose(got[t], y, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "Make every channel a series"),
        ({"seasons": (24, 7)}, "seasons that rise"),
        ({"dilations": (1,)}, "2 cells and dilations"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"balance": 2.0}, "balance from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ESRNN(14, 5, **options)
