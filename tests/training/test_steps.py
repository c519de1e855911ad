import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnlab.data import BucketBatches
from rnnlab.training import FitConfig, Ratio, Task, fit
from rnnlab.training.mesh import make_mesh
from rnnlab.training.steps import (
    initial_train_state,
    make_gradients,
    make_train_step,
    updates_per_batch,
)


def quiet_loss(loss):
    """A loss without noise, so that parts and the whole see the same."""
    return lambda params, state, batch, key: loss(params, state, batch, None)


@pytest.mark.parametrize("microbatches", [2, 4])
def test_microbatches_give_the_gradients_and_metrics_of_the_batch(make_task, microbatches):
    """Also where the weights of the parts differ: the division comes last."""
    task = make_task()
    task = dataclasses.replace(task, loss=quiet_loss(task.loss))
    params = task.init(jax.random.key(0))
    state = jax.random.normal(jax.random.key(1), (4, 8))
    batch = next(task.train_batches(3))
    weights = np.array(batch.weights)
    weights[0], weights[1, 2:] = 0, 0.5
    batch = batch._replace(weights=weights)
    key = jax.random.key(2)
    whole = make_gradients(task, "float32", 1)(params, state, batch, key)
    parts = make_gradients(task, "float32", microbatches)(params, state, batch, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), parts, whole)
    expected = jax.grad(lambda params: task.loss(params, state, batch, key)[0].value)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole[0], expected)


def test_microbatches_draw_different_noise(make_task):
    task = make_task()
    params, key = task.init(jax.random.key(0)), jax.random.key(2)
    batch = jax.tree.map(lambda leaf: np.concatenate([leaf[:1]] * 2), next(task.train_batches(0)))
    gradients, state, _ = make_gradients(task, "float32", 2)(params, jnp.zeros((2, 8)), batch, key)
    del gradients
    np.testing.assert_array_equal(state[0], state[1])  # the carry has no noise in this task

    def noise(params, state, batch, key):
        return Ratio(params.bias.sum() * jax.random.normal(key), 1.0), (state, {})

    noisy = dataclasses.replace(task, loss=noise)
    both, _, _ = make_gradients(noisy, "float32", 2)(params, jnp.zeros((2, 8)), batch, key)
    draws = [jax.random.normal(jax.random.fold_in(key, part)) for part in range(2)]
    assert draws[0] != draws[1]
    np.testing.assert_allclose(both.bias, sum(draws) / 2, rtol=1e-6)


def test_a_batch_without_weight_changes_nothing(make_task):
    task = make_task()
    batch = next(task.train_batches(0))
    batch = batch._replace(weights=np.zeros_like(batch.weights))
    gradients, _, _ = make_gradients(task, "float32", 1)(
        task.init(jax.random.key(0)), jnp.zeros((4, 8)), batch, None
    )
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_a_run_in_microbatches_ends_like_one_in_batches(make_task, make_config):
    task = make_task()
    task = dataclasses.replace(task, loss=quiet_loss(task.loss))
    whole = fit(task, make_config("whole"))
    parts = fit(task, make_config("parts", microbatches=2))
    assert parts.metrics["valid"]["loss"] == pytest.approx(whole.metrics["valid"]["loss"], abs=1e-5)


def test_microbatches_have_to_divide_the_batch():
    with pytest.raises(ValueError, match="batch_size: expected a multiple of the 3 microbatches"):
        FitConfig("unused", steps=1, batch_size=4, microbatches=3)


def test_the_optimizer_gets_the_loss_and_the_last_score(make_task):
    seen = []

    def update(updates, state, params=None, *, value, weight, score, evaluations):
        seen.append((value, weight, score, evaluations))
        return updates, state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: (), update)
    task = make_task(optimizer=optimizer)
    train, _ = initial_train_state(task, jax.random.key(0), 4, make_mesh("", 4))
    train = train._replace(score=jnp.float32(1.5), evaluations=jnp.int32(3))
    batch = next(task.train_batches(0))
    _, metrics = make_train_step(task, "float32", jax.random.key(1))(train, batch)
    ((value, weight, score, evaluations),) = seen
    assert (value, score, evaluations) == (metrics["loss"].value, 1.5, 3)
    assert weight == metrics["loss"].weight


def collecting_task(make_task, minibatches):
    """Every batch gives updates from its rows, one row at a time."""

    def collect(params, state, batch, key):
        rows = jax.tree.map(lambda leaf: leaf[:minibatches, None], batch)
        return state + 1, rows

    def loss(params, state, row, key):
        inputs = row.inputs[0].astype(jnp.float32)
        total = jnp.sum((inputs - params) ** 2)
        return Ratio(total, jnp.float32(inputs.size)), (state, {"state": Ratio(state[0, 0], 1.0)})

    return make_task(
        init=lambda key: jnp.zeros(()),
        loss=loss,
        collect=collect,
        optimizer=optax.sgd(0.1),
        eval_batches={},
    )


def test_collect_makes_several_updates_of_one_batch(make_task):
    task = collecting_task(make_task, 3)
    train, _ = initial_train_state(task, jax.random.key(0), 4, make_mesh("", 4))
    batch = next(task.train_batches(0))
    assert updates_per_batch(task, train, batch) == 3
    after, metrics = make_train_step(task, "float32", jax.random.key(1))(train, batch)
    expected = 0.0
    for row in batch.inputs[:3].astype(np.float64):
        expected -= 0.1 * np.mean(2 * (expected - row))
    assert float(after.params) == pytest.approx(expected, rel=1e-5)
    assert int(after.step) == 3
    assert float(metrics["gnorm"].weight) == 3
    assert metrics["state"].value == 1  # collected once, carried to every minibatch
    np.testing.assert_array_equal(after.state, np.ones((4, 8)))


def test_collected_steps_are_logged_saved_and_resumed(make_task, make_config, saved_bytes):
    straight = make_config("straight", steps=12, log_every=4)
    fit(collecting_task(make_task, 3), straight)
    assert fit(collecting_task(make_task, 3), straight).step == 12  # the same command again
    stopped = make_config("stopped", steps=6, log_every=4)
    assert fit(collecting_task(make_task, 3), stopped).step == 6
    result = fit(collecting_task(make_task, 3), dataclasses.replace(stopped, steps=12))
    assert result.step == 12
    task = collecting_task(make_task, 3)
    assert saved_bytes(task, straight) == saved_bytes(task, dataclasses.replace(stopped, steps=12))


def test_minibatches_without_a_common_first_axis_are_refused(make_task):
    task = dataclasses.replace(
        collecting_task(make_task, 3),
        collect=lambda params, state, batch, key: (state, batch.start[0]),
    )
    train, _ = initial_train_state(task, jax.random.key(0), 4, make_mesh("", 4))
    with pytest.raises(ValueError, match="collect: expected minibatches whose leaves"):
        updates_per_batch(task, train, next(task.train_batches(0)))


def test_collect_needs_an_evaluation_of_its_own(make_task):
    with pytest.raises(ValueError, match="evaluate: expected a function"):
        make_task(collect=lambda params, state, batch, key: (state, batch))


def test_steps_have_to_be_a_multiple_of_what_collect_makes(make_task, make_config):
    with pytest.raises(ValueError, match="steps: expected 0 and a multiple of 3, the updates"):
        fit(collecting_task(make_task, 3), make_config(steps=10))


@pytest.mark.parametrize("name", ["loss", "gnorm", "learning_rate", "step", "split"])
def test_names_of_the_log_are_taken(make_task, make_config, name):
    task = make_task()

    def loss(params, state, batch, key):
        value, (state, _) = task.loss(params, state, batch, key)
        return value, (state, {name: value})

    with pytest.raises(ValueError, match=f"metrics: expected other names than {name}"):
        fit(dataclasses.replace(task, loss=loss), make_config(steps=1))


def test_batches_of_several_shapes_are_compiled_once_each(make_config, capsys):
    """Buckets: each length has a program of its own."""
    sequences = [np.ones(n, np.float32) * n for n in (1, 2, 2, 4, 5, 5)]
    batches = BucketBatches(sequences, batch_size=2, boundaries=(2, 5))

    def loss(params, state, batch, key):
        values, lengths = batch.examples
        errors = (values - params) ** 2 * (jnp.arange(values.shape[1]) < lengths[:, None])
        return Ratio.mean(errors.sum(1), batch.weights), (state, {})

    task = Task(
        init=lambda key: jnp.zeros(()),
        loss=loss,
        optimizer=optax.sgd(0.01),
        train_batches=batches.batches,
        eval_batches={"valid": batches.epoch},
    )
    result = fit(task, make_config(batch_size=2, steps=12))
    assert capsys.readouterr().out.count("compiled in") == 2
    expected = np.concatenate(sequences).mean()
    assert abs(float(result.params) - expected) < expected  # it moved towards the mean


def test_a_typed_key_in_the_state_is_refused(make_task):
    task = make_task(
        initial_state=lambda params, batch_size: jax.random.split(jax.random.key(0), 4)
    )
    with pytest.raises(TypeError, match="initial_state: expected arrays of numbers, got a typed"):
        initial_train_state(task, jax.random.key(0), 4, make_mesh("", 4))


def test_a_batch_of_filling_gives_the_optimizer_a_number(make_task):
    seen = []

    def update(updates, state, params=None, *, value, **extra):
        seen.append(value)
        return updates, state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: (), update)
    task = make_task(optimizer=optimizer)
    train, _ = initial_train_state(task, jax.random.key(0), 4, make_mesh("", 4))
    batch = next(task.train_batches(0))
    batch = batch._replace(weights=np.zeros_like(batch.weights))
    make_train_step(task, "float32", jax.random.key(1))(train, batch)
    assert seen == [0.0]
