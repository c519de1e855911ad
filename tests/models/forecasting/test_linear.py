import jax
import numpy as np
import pytest

from rnnlab.models.forecasting import DLinear, NLinear
from tests.models.forecasting.windows import random_window


def numpy_moving_average(x, width):
    """The authors' form: both ends repeated, then the mean of `width` values."""
    half = width // 2
    padded = np.concatenate([np.repeat(x[:1], half), x, np.repeat(x[-1:], half)])
    return np.array([padded[t : t + width].mean() for t in range(len(x))])


def test_nlinear_is_the_formula():
    model = NLinear(6, 4, channels=2)
    params, window = model.init(jax.random.key(0)), random_window(model, missing=0)
    got = model.forecast(params, window)
    kernel, bias = map(np.asarray, params)
    for row in (1, 2):  # row 0 is padded
        for channel in (0, 1):
            x = np.asarray(window.past[row, :, channel])
            expected = (x - x[-1]) @ kernel + bias + x[-1]
            np.testing.assert_allclose(got[row, :, channel], expected, atol=1e-6)


def test_dlinear_is_the_formula():
    model = DLinear(9, 4, channels=2, width=5)
    params, window = model.init(jax.random.key(0)), random_window(model, missing=0)
    got = model.forecast(params, window)
    for row in (1, 2):
        for channel in (0, 1):
            x = np.asarray(window.past[row, :, channel])
            trend = numpy_moving_average(x, 5)
            expected = trend @ params.trend.kernel + params.trend.bias
            expected += (x - trend) @ params.rest.kernel + params.rest.bias
            np.testing.assert_allclose(got[row, :, channel], expected, atol=1e-5)


def test_missing_values_enter_no_average():
    model = DLinear(3, 2, width=3)
    window = random_window(model, batch=1, missing=0)
    window = window._replace(
        past=np.array([[[4.0], [99.0], [8.0]]]), past_mask=np.array([[[True], [False], [True]]])
    )
    params = model.init(jax.random.key(0))
    trend, rest = np.array([4.0, 6.0, 8.0]), np.zeros(3)  # the ends are repeated
    expected = trend @ params.trend.kernel + rest @ params.rest.kernel
    expected += params.trend.bias + params.rest.bias
    np.testing.assert_allclose(model.forecast(params, window)[0, :, 0], expected, rtol=1e-5)


def test_an_even_width_is_refused():
    with pytest.raises(ValueError, match="odd width, got 24"):
        DLinear(48, 24, width=24)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"loss of \['squared'.*got 'mse'"):
        NLinear(48, 24, loss="mse")
