import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU, LSTM, SLSTM, MinGRU, ResetBeforeGRU, Stack
from rnnlab.models.forecasting import SegRNN
from rnnlab.models.forecasting.seg_rnn import step_each
from rnnlab.strategies import Unrolled
from tests.models.forecasting.windows import random_window


def test_forecast_is_the_formula():
    model = SegRNN(7, 5, channels=2, cell=GRU(6), segment=3, strategy=Unrolled())
    params, window = model.init(jax.random.key(0)), random_window(model, missing=0)
    got = model.forecast(params, window)
    kernel, bias = np.asarray(params.kernel), np.asarray(params.bias)
    for row in (1, 2):  # row 0 is padded
        for channel in (0, 1):
            x = np.asarray(window.past[row, :, channel])
            segments = np.concatenate([np.zeros(2), x - x[-1]]).reshape(3, 3)
            h = model.cell.initial_carry(params.cell)
            for segment in segments:
                h, _ = model.cell.step(params.cell, h, np.maximum(segment @ kernel + bias, 0))
            ys = []
            for position in params.positions:
                read = jnp.concatenate([position, params.channels[channel]])
                ys.append(np.asarray(model.cell.step(params.cell, h, read)[1]))
            expected = np.stack(ys) @ params.output_kernel + params.output_bias + x[-1]
            expected = expected.ravel()[:5]  # the last segment is cut
            np.testing.assert_allclose(got[row, :, channel], expected, atol=2e-6)


@pytest.mark.parametrize(
    "cell", [GRU(8), LSTM(8), SLSTM(8), MinGRU(8), ResetBeforeGRU(8), Stack((GRU(4), LSTM(8)))]
)
def test_one_step_for_each_input_is_that_many_steps(cell):
    rng = np.random.default_rng(0)
    params = cell.init(jax.random.key(0), 3)
    x = jnp.asarray(rng.normal(size=(2, 5, 3)), jnp.float32)  # [C, M, F]
    carry = cell.initial_carry(params, (4, 2))
    carry, _ = cell.step(params, carry, jnp.asarray(rng.normal(size=(4, 2, 3)), jnp.float32))
    got = step_each(cell, params, carry, x)
    for m in range(5):
        read = jnp.broadcast_to(x[:, m], (4, 2, 3))
        np.testing.assert_allclose(got[:, :, m], cell.step(params, carry, read)[1], atol=1e-6)


def test_the_carry_meets_the_recurrent_kernel_once():
    cell = GRU(8)
    params = cell.init(jax.random.key(0), 3)
    carry, x = cell.initial_carry(params, (4, 2)), jnp.ones((2, 5, 3))
    jaxpr = jax.make_jaxpr(lambda carry: step_each(cell, params, carry, x))(carry)
    products = [e for e in jaxpr.jaxpr.eqns if e.primitive.name == "dot_general"]
    assert sorted(e.outvars[0].aval.shape for e in products) == [(2, 5, 24), (4, 2, 24)]


def test_dropout_acts_with_a_key_only():
    model = SegRNN(6, 4, cell=GRU(6), segment=3)
    params, window = model.init(jax.random.key(0)), random_window(model)
    draws = [model.predict(params, window, key=jax.random.key(seed)) for seed in range(2)]
    assert not np.allclose(draws[0], draws[1])
    np.testing.assert_array_equal(model.predict(params, window), model.forecast(params, window))
