import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnlab.training.optimizers import (
    AVERAGES,
    OPTIMIZERS,
    SCHEDULES,
    learning_rate_of,
    make_optimizer,
    make_schedule,
)

EXTRA = {"value": jnp.ones(()), "score": jnp.ones(()), "evaluations": jnp.ones((), jnp.int32)}


@pytest.mark.parametrize(("name", "halfway"), [("cosine", 0.505), ("linear", 0.505)])
def test_schedule_rises_falls_and_stays(name, halfway):
    schedule = make_schedule(name, 2.0, warmup_steps=4, decay_steps=24)
    rates = [float(schedule(step)) for step in range(40)]
    np.testing.assert_allclose(rates[:5], [0.4, 0.8, 1.2, 1.6, 2.0], rtol=1e-6)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:25]))
    assert rates[14] == pytest.approx(2.0 * halfway)
    np.testing.assert_allclose(rates[24:], 0.02, rtol=1e-5)


def test_schedules_differ_on_the_way():
    quarter = {name: float(make_schedule(name, 1.0, 0, 100)(25)) for name in SCHEDULES}
    assert quarter["constant"] == 1.0
    assert quarter["linear"] == pytest.approx(0.01 + 0.99 * 0.75)
    assert quarter["cosine"] == pytest.approx(0.01 + 0.99 * (1 + 2**-0.5) / 2)


def test_schedule_without_warmup_or_decay():
    assert float(make_schedule("cosine", 2.0, 0, 10)(0)) == 2.0
    assert float(make_schedule("cosine", 2.0, 0, 0)(1000)) == 2.0
    assert float(make_schedule("cosine", 2.0, 3, 0)(0)) == 0.5
    assert float(make_schedule("cosine", 2.0, 9, 5)(4)) == pytest.approx(1.0)  # still rising


def update(optimizer, gradients, params):
    state = optimizer.init(params)
    return optimizer.update(gradients, state, params, **EXTRA)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_steps_downhill_and_decays_kernels_alone(name):
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    gradients = jax.tree.map(lambda leaf: 0.1 * leaf, params)
    plain, state = update(make_optimizer(name, 0.1), gradients, params)
    assert all(float(leaf.max()) < 0 for leaf in jax.tree.leaves(plain))
    assert float(learning_rate_of(state)) == pytest.approx(0.1)
    decayed, _ = update(make_optimizer(name, 0.1, weight_decay=0.5), gradients, params)
    np.testing.assert_array_equal(decayed["bias"], plain["bias"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw", -0.05),  # its own decay: learning rate times decay times weight
        ("lion", -0.05),
        ("sgd", -0.05),  # L2: the gradient is decay times weight
        ("adam", -0.1),  # L2 before the normalisation, so the size of the decay is lost
    ],
)
def test_weight_decay_is_decoupled_where_the_optimizer_has_one(name, expected):
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = update(make_optimizer(name, 0.1, weight_decay=0.5), zeros, params)
    np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-4)
    np.testing.assert_array_equal(updates["bias"], 0)


@pytest.mark.parametrize(("clip_norm", "scale"), [(1.0, 1 / 5), (0.0, 1.0), (10.0, 1.0)])
def test_gradients_are_clipped_by_their_global_norm(clip_norm, scale):
    gradients = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = update(make_optimizer("sgd", 1.0, clip_norm=clip_norm), gradients, gradients)
    np.testing.assert_allclose(updates["a"], -3 * scale, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], -4 * scale, rtol=1e-6)


def test_gradients_are_clipped_by_value_before_their_norm():
    gradients = jnp.array([3.0, -40.0, 0.5])
    updates, _ = update(make_optimizer("sgd", 1.0, clip_value=3.0), gradients, gradients)
    np.testing.assert_array_equal(updates, [-3.0, 3.0, -0.5])
    both = make_optimizer("sgd", 1.0, clip_value=3.0, clip_norm=1.0)
    updates, _ = update(both, gradients, gradients)
    np.testing.assert_allclose(updates, np.array([-3.0, 3.0, -0.5]) / 18.25**0.5, rtol=1e-6)


def test_options_reach_the_optimizer():
    optimizer, params = make_optimizer("sgd", 1.0, options={"momentum": 0.5}), jnp.ones(1)
    state = optimizer.init(params)
    for expected in (-1.0, -1.5):
        updates, state = optimizer.update(params, state, params)
        assert float(updates[0]) == expected


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("average", ["none", "nt_asgd"])
def test_an_update_is_in_proportion_to_the_weight_of_its_batch(name, average):
    params, options = jnp.ones((2, 2)), {"weight_decay": 0.1, "clip_norm": 1.0, "average": average}
    whole, scaled = (make_optimizer(name, 0.1, full_weight=w, **options) for w in (0.0, 40.0))
    expected, state = whole.update(params, whole.init(params), params, **EXTRA)
    for weight in (40.0, 10.0):
        got, other = scaled.update(
            params, scaled.init(params), params, **EXTRA, weight=jnp.float32(weight)
        )
        np.testing.assert_allclose(got, expected * weight / 40, rtol=1e-6)
        assert jax.tree.structure(other) == jax.tree.structure(state)
        assert learning_rate_of(other) == learning_rate_of(state)


@pytest.mark.parametrize("average", AVERAGES)
def test_learning_rate_is_that_of_the_last_update(average):
    params = jnp.ones(2)
    schedule = make_schedule("cosine", 1.0, 1, 10)
    _, state = update(make_optimizer("adamw", schedule, average=average), params, params)
    assert float(learning_rate_of(state)) == 0.5
    assert learning_rate_of(optax.sgd(0.1).init(params)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "adamm"}, "optimizer: expected one of .*adamw.*, got 'adamm'"),
        ({"average": "swa"}, "average: expected one of none, ema, nt_asgd, got 'swa'"),
        ({"clip_norm": -1.0}, "clip_norm: expected at least 0, got -1.0"),
        ({"full_weight": -1.0}, "full_weight: expected at least 0, got -1.0"),
        ({"clip_value": float("nan")}, "clip_value: expected at least 0, got nan"),
        ({"options": {"momentun": 0.9}}, "an option of adam: expected one of b1.*, got 'momentun'"),
        ({"options": {"learning_rate": 0.9}}, "an option of adam: expected one of"),
        ({"average": "ema", "average_decay": 1.0}, "decay: expected 0 <= decay < 1, got 1.0"),
        ({"average": "nt_asgd", "average_patience": 0}, "patience: expected at least 1"),
    ],
)
def test_what_does_not_exist_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(**{"name": "adam", "learning_rate": 0.1, **arguments})


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="schedule: expected one of constant, linear, cosine"):
        make_schedule("step", 0.1)
