import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.models.forecasting import Drift, Naive, SeasonalNaive, Window
from rnnlab.models.forecasting.naive import window_of

NAN = float("nan")


def forecast(model, past):
    window = window_of(past, model.horizon)
    return np.asarray(model.forecast(model.init(jax.random.key(0)), window))[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("past", "expected"),
    [([1, 2, 7], 7), ([1, 2, NAN], 2), ([NAN, NAN, NAN], 0), ([4, NAN, NAN], 4)],
)
def test_naive_is_the_last_observed_value(past, expected):
    assert forecast(Naive(3, 2), past) == [expected] * 2


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], [4, 5, 6, 4]),
        ([9, 1, 2, 3, 4, 5, 6], [4, 5, 6, 4]),  # whole seasons end at the origin
        ([1, 2, 3, 4, NAN, 6], [4, 2, 6, 4]),  # the season before
        ([1, NAN, 3, 4, NAN, 6], [4, 6, 6, 4]),  # a phase that was never observed
        ([1, 2], [1, 2, 1, 2]),  # less than a season
    ],
)
def test_seasonal_naive_is_the_last_value_of_the_phase(past, expected):
    assert forecast(SeasonalNaive(len(past), 4, season=3), past) == expected


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([1, 9, 5], [7, 9]),
        ([NAN, 1, 2, NAN], [4, 5]),
        ([NAN, 3, NAN], [3, 3]),  # one value has no slope
        ([NAN, NAN], [0, 0]),
    ],
)
def test_drift_goes_on_along_the_line(past, expected):
    assert forecast(Drift(len(past), 2), past) == expected


def test_the_default_loss_is_the_squared_error_where_observed():
    window = window_of([1.0, 2.0], 3)._replace(
        future=jnp.array([[[2.0], [0.0], [5.0]]]),
        future_mask=jnp.array([[[True], [False], [True]]]),
    )
    losses, weights = Naive(2, 3).losses((), window)
    assert losses.shape == weights.shape == (1, 3, 1)
    assert float(jnp.sum(losses * weights)) == 9.0
    assert float(jnp.sum(weights)) == 2.0


def test_channels_and_rows_are_forecast_apart():
    values = jnp.arange(12.0).reshape(2, 3, 2)
    window = Window(values, values >= 0, *[jnp.zeros((2, n, 0)) for n in (3, 2)], *[None] * 3)
    expected = np.repeat(np.asarray(values)[:, -1:], 2, axis=1)
    np.testing.assert_array_equal(Naive(3, 2, channels=2).forecast((), window), expected)


def test_a_point_forecaster_has_no_quantiles():
    with pytest.raises(TypeError, match="Naive: expected a probabilistic forecaster"):
        Naive(3, 2).quantiles((), window_of([1, 2, 3], 2), jnp.array([0.5]), jax.random.key(0), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context": 0, "horizon": 1}, "expected context of 1 or more, got 0"),
        ({"context": 1, "horizon": 1, "covariates": -1}, "expected covariates of 0 or more"),
        ({"context": 1, "horizon": 1, "season": 0}, "expected season of 1 or more, got 0"),
    ],
)
def test_sizes_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        SeasonalNaive(**arguments)
