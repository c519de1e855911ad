import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnlab.training.optimizers import adamw, learning_rate_of, warmup_cosine


def test_schedule_rises_falls_and_stays():
    schedule = warmup_cosine(2.0, warmup_steps=4, decay_steps=24)
    rates = [float(schedule(step)) for step in range(40)]
    np.testing.assert_allclose(rates[:5], [0.4, 0.8, 1.2, 1.6, 2.0], rtol=1e-6)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:25]))
    assert rates[14] == pytest.approx(2.0 * (1 + 0.01) / 2)
    np.testing.assert_allclose(rates[24:], 0.02, rtol=1e-5)


def test_schedule_without_warmup_or_decay():
    assert float(warmup_cosine(2.0, 0, 10)(0)) == 2.0
    assert float(warmup_cosine(2.0, 0, 0)(1000)) == 2.0
    assert float(warmup_cosine(2.0, 3, 0)(0)) == 0.5
    assert float(warmup_cosine(2.0, 9, 5)(4)) == pytest.approx(1.0)  # still rising


def update(optimizer, gradients, params):
    state = optimizer.init(params)
    updates, state = optimizer.update(gradients, state, params)
    return updates, state


def test_weight_decay_spares_biases():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    gradients = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    updates, _ = update(adamw(0.1, weight_decay=0.5), gradients, params)
    np.testing.assert_allclose(updates["kernel"], -0.05)
    np.testing.assert_array_equal(updates["bias"], 0)


@pytest.mark.parametrize(("clip_norm", "scale"), [(1.0, 1 / 5), (0.0, 1.0), (10.0, 1.0)])
def test_gradients_are_clipped_by_their_global_norm(clip_norm, scale):
    gradients = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    _, state = update(adamw(0.1, clip_norm=clip_norm), gradients, gradients)
    first_moment = optax.tree.get(state, "mu")  # (1 - b1) times what came through
    np.testing.assert_allclose(first_moment["a"] / 0.1, 3 * scale, rtol=1e-5)
    np.testing.assert_allclose(first_moment["b"] / 0.1, 4 * scale, rtol=1e-5)


def test_learning_rate_is_that_of_the_last_update():
    params = jnp.ones(2)
    _, state = update(adamw(warmup_cosine(1.0, 1, 10)), params, params)
    assert float(learning_rate_of(state)) == 0.5
    assert learning_rate_of(optax.sgd(0.1).init(params)) is None
