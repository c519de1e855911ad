from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rnnlab.models.forecasting import DISTRIBUTIONS, Gaussian, NegativeBinomial, Quantiles, StudentT

RAW = np.random.default_rng(0).normal(size=(6, 13)).astype(np.float32)
LOC, SCALE = np.float32(3), np.float32(20)


def bound(distribution):
    loc = jnp.zeros(6) if distribution.counts else jnp.full(6, LOC)
    raw = jnp.asarray(RAW[:, : distribution.size])
    return distribution.bind(raw, loc, jnp.full(6, SCALE))


def oracle(distribution, params) -> Any:
    params = jax.tree.map(np.float64, params)
    if isinstance(distribution, Gaussian):
        return stats.norm(params.mean, params.deviation)
    if isinstance(distribution, StudentT):
        return stats.t(params.freedom, params.loc, params.scale)
    number = 1 / params.shape
    return stats.nbinom(number, number / (number + params.mean))


@pytest.mark.parametrize("distribution", [Gaussian(), StudentT(), NegativeBinomial()])
def test_density_mean_and_quantiles_are_scipys(distribution):
    params = bound(distribution)
    expected = oracle(distribution, params)
    log_density = expected.logpmf if distribution.counts else expected.logpdf
    np.testing.assert_allclose(distribution.mean(params), expected.mean(), rtol=1e-4)
    for level in (0.02, 0.3, 0.5, 0.9, 0.99):
        got = distribution.quantile(params, jnp.full(6, level))
        np.testing.assert_allclose(got, expected.ppf(level), rtol=2e-3, atol=2e-2)
        values = np.float64(got)
        logs = distribution.log_prob(params, got)
        np.testing.assert_allclose(logs, log_density(values), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_samples_have_the_mean_and_the_quantiles(name):
    distribution = DISTRIBUTIONS[name]()
    params = bound(distribution)
    keys = jax.random.split(jax.random.key(0), 4000)
    samples = np.asarray(jax.vmap(lambda key: distribution.sample(key, params))(keys))
    deviation = samples.std(axis=0)
    assert (np.abs(samples.mean(axis=0) - distribution.mean(params)) < 0.1 * deviation).all()
    for level in (0.1, 0.5, 0.8):
        below = (samples <= distribution.quantile(params, jnp.full(6, level))).mean(axis=0)
        most = 1 if distribution.counts else level + 0.04  # counts have steps
        assert ((level - 0.04 < below) & (below <= most)).all()
    if distribution.counts:
        np.testing.assert_array_equal(samples, np.round(samples))
        assert samples.min() >= 0


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_raw_numbers_of_any_size_are_inside_the_domain(name):
    distribution = DISTRIBUTIONS[name]()
    raw = jnp.stack([jnp.full(distribution.size, size) for size in (-60.0, 0.0, 60.0)])

    def loss(raw):
        params = distribution.bind(raw, jnp.zeros(3), jnp.full(3, 2.0))
        return jnp.sum(distribution.losses(params, jnp.array([0.0, 3.0, 50.0])))

    value, gradient = jax.value_and_grad(loss)(raw)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_quantiles_never_cross_and_lie_on_lines():
    distribution = Quantiles((0.1, 0.5, 0.9))
    params = bound(distribution)
    assert (np.diff(params) > 0).all()
    for row in range(6):
        levels = np.array([0.05, 0.1, 0.3, 0.77, 0.95])
        expected = np.interp(levels, distribution.levels, params[row])
        got = jax.vmap(lambda level: distribution.quantile(params, jnp.full(6, level)))(levels)
        np.testing.assert_allclose(got[:, row], expected, rtol=1e-5)


def test_the_loss_of_quantiles_is_twice_the_mean_pinball_loss():
    distribution = Quantiles((0.1, 0.5, 0.9))
    params = jnp.array([[1.0, 2.0, 4.0]])
    expected = 2 * np.mean([0.1 * 2, 0.5 * 1, 0.1 * 1])
    np.testing.assert_allclose(distribution.losses(params, jnp.array([3.0])), [expected], rtol=1e-6)


def test_the_density_between_quantiles_sums_to_what_they_span():
    distribution = Quantiles((0.1, 0.5, 0.9))
    values = jnp.linspace(0, 5, 5001)
    params = jnp.broadcast_to(jnp.array([1.0, 2.0, 4.0]), (5001, 3))
    density = np.exp(distribution.log_prob(params, values))
    np.testing.assert_allclose(density.sum() * 1e-3, 0.8, atol=1e-3)


def test_levels_have_to_rise():
    with pytest.raises(ValueError, match=r"rise inside 0 to 1, got \(0.5, 0.5\)"):
        Quantiles((0.5, 0.5))
