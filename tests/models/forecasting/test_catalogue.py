import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.models.forecasting import FORECASTERS, ForecasterOptions, InstanceNorm, Naive
from rnnlab.models.forecasting.around import ChannelShared
from tests.models.forecasting.windows import everything, filled, random_window

SIZES = ForecasterOptions(
    context=12, horizon=4, channels=2, covariates=3, num_series=3, season=4, features=4, segment=3
)
CHOSEN = {
    "tcn": {"layers": 2, "patch": 2},
    "transformer": {"heads": 2, "patch": 5},
    "direct": {"instance_norm": True, "cell": "lstm"},
    "autoregressive": {"layers": 2, "shared_channels": True},
    "encoder_decoder": {"instance_norm": True, "shared_channels": True},
    "deep_ar": {"embedding": 2, "scaling": "standard"},
    "es_rnn": {"channels": 1, "layers": 2, "stride": 2},
}


def options_of(name):
    return dataclasses.replace(SIZES, **CHOSEN.get(name, {}))


@pytest.mark.parametrize("name", FORECASTERS)
def test_missing_values_and_the_future_change_nothing(name):
    model = FORECASTERS[name](options_of(name))
    window = random_window(model, positive=name == "es_rnn")
    compute = everything(model)
    forecast, (loss, gradients) = compute(window)
    assert forecast.shape == (3, 4, model.channels)
    assert np.isfinite(forecast).all()
    assert np.isfinite(loss)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
    for value in (np.nan, 1e30):
        jax.tree.map(
            np.testing.assert_array_equal,
            compute(filled(window, value)),
            (forecast, (loss, gradients)),
        )
    unknown = window._replace(future=jnp.full_like(window.future, np.nan))
    np.testing.assert_array_equal(compute(unknown)[0], forecast)


@pytest.mark.parametrize("name", sorted({*FORECASTERS} - {"naive", "seasonal_naive", "drift"}))
def test_every_parameter_is_learnt(name):
    options = options_of(name)
    model = FORECASTERS[name](options)
    window = random_window(model, positive=name == "es_rnn", missing=0)
    params = model.init(jax.random.key(0))

    def loss(params):
        losses, weights = model.losses(params, window, jax.random.key(1))
        return jnp.sum(losses * weights)

    gradients = jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(params))
    still = {jax.tree_util.keystr(path) for path, leaf in gradients if not np.any(leaf)}
    assert not still


@pytest.mark.parametrize("name", FORECASTERS)
def test_parameters_keep_their_type_when_they_are_updated(name):
    params = jax.eval_shape(FORECASTERS[name](options_of(name)).init, jax.random.key(0))
    for leaf in jax.tree.leaves(params):
        assert leaf.dtype == jnp.float32 and not leaf.weak_type  # the optimizer refuses weak ones


def test_options_reach_the_model():
    chosen = dataclasses.replace(SIZES, loss="huber", instance_norm=True, shared_channels=True)
    model = FORECASTERS["mlp"](chosen)
    assert isinstance(model, InstanceNorm)
    assert isinstance(model.inner, ChannelShared)
    assert model.inner.inner.channels == 1
    assert (model.channels, model.loss) == (2, "huber")
    assert FORECASTERS["naive"](SIZES) == Naive(12, 4, 2, 3)


def test_lags_are_those_of_the_season_that_fit():
    long = dataclasses.replace(SIZES, context=200, season=24)
    assert long.chosen_lags == (1, 2, 3, 23, 24, 25)
    assert dataclasses.replace(long, lags=(1, 7)).chosen_lags == (1, 7)
    assert dataclasses.replace(long, season=1).chosen_lags == (1, 2, 3)


@pytest.mark.parametrize("name", FORECASTERS)
def test_data_without_a_season_have_every_model(name):
    model = FORECASTERS[name](dataclasses.replace(options_of(name), season=1))
    window = random_window(model, positive=True)
    params = model.init(jax.random.key(0))
    assert jax.eval_shape(model.forecast, params, window).shape == (3, 4, model.channels)
