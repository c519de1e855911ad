from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.models.forecasting import ChannelShared, InstanceNorm, Naive, NLinear
from tests.models.forecasting.windows import random_window

MODEL = InstanceNorm(NLinear(6, 4, channels=2))


def moved():
    params = MODEL.init(jax.random.key(0))
    return params._replace(scale=jnp.array([2.0, 0.5]), bias=jnp.array([1.0, -3.0]))


def test_statistics_are_those_of_what_was_observed():
    window = random_window(MODEL)
    mean, deviation = MODEL.statistics(window)
    for row in range(3):
        for channel in range(2):
            x = np.asarray(window.past)[row, :, channel][window.past_mask[row, :, channel]]
            np.testing.assert_allclose(mean[row, 0, channel], x.mean(), rtol=1e-5)
            expected = np.sqrt(x.var() + MODEL.epsilon)
            np.testing.assert_allclose(deviation[row, 0, channel], expected, rtol=1e-5)


def test_undo_is_the_inverse():
    params, window = moved(), random_window(MODEL)
    statistics = MODEL.statistics(window)
    there = MODEL.apply(params, window.past, statistics)
    np.testing.assert_allclose(MODEL.undo(params, there, statistics), window.past, atol=1e-5)


def test_the_forecast_follows_shift_and_scale_of_the_past():
    params, window = moved(), random_window(MODEL)
    plain = MODEL.forecast(params, window)
    there = jnp.where(window.past_mask, 1000 * window.past + 70, 0)
    other = MODEL.forecast(params, window._replace(past=there))
    np.testing.assert_allclose(other, 1000 * plain + 70, rtol=1e-3)


def test_losses_are_on_the_scale_of_the_series():
    params, window = moved(), random_window(MODEL)
    losses, weights = MODEL.losses(params, window)
    expected = (MODEL.forecast(params, window) - window.future) ** 2
    np.testing.assert_allclose(losses * weights, expected * weights, rtol=1e-3, atol=1e-5)


def test_shared_channels_are_each_as_if_alone():
    inner = NLinear(6, 4)
    model, params = ChannelShared(inner, 3), inner.init(jax.random.key(0))
    window = random_window(model)
    got = model.forecast(params, window)
    losses, weights = model.losses(params, window)
    for channel in range(3):
        one = [channel]
        alone = window._replace(
            past=window.past[..., one],
            past_mask=window.past_mask[..., one],
            future=window.future[..., one],
            future_mask=window.future_mask[..., one],
        )
        np.testing.assert_allclose(got[..., one], inner.forecast(params, alone), atol=1e-6)
        expected = inner.losses(params, alone)
        np.testing.assert_allclose(losses[..., one], expected[0], atol=1e-5)
        np.testing.assert_array_equal(weights[..., one], expected[1])


def test_what_cannot_be_wrapped_is_refused():
    no_point_forecaster: Any = Naive(6, 4)
    with pytest.raises(TypeError, match="one number a step, got Naive"):
        InstanceNorm(no_point_forecaster)
    with pytest.raises(ValueError, match=r"of 1 channel, got one of 2. Make it with channels=1"):
        ChannelShared(NLinear(6, 4, channels=2), 2)
