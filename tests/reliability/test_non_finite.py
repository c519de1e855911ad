"""R11: NaN or Inf in a batch or a gradient: the update is skipped, counted, and never saved."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnlab.training import fit
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.mesh import make_mesh
from rnnlab.training.steps import initial_train_state, make_train_step

pytestmark = pytest.mark.promise("R11")


def poisoned(make_task, steps, value=np.nan, **fields):
    """A task whose batches of some steps hold a value that is not finite."""

    def train_batches(first_step):
        for step, batch in enumerate(make_task().train_batches(first_step), first_step):
            if step in steps:
                weights = np.array(batch.weights)
                weights[0, 0] = value
                batch = batch._replace(weights=weights)
            yield batch

    return make_task(train_batches=train_batches, **fields)


def lines(config):
    content = pathlib.Path(config.workdir, "metrics.jsonl").read_text()
    return [json.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_skipped_update_changes_nothing_but_the_step(make_task, value):
    task = poisoned(make_task, {2}, value)
    train, _ = initial_train_state(task, jax.random.key(0), 4, make_mesh("", 4))
    update = jax.jit(make_train_step(task, "float32", jax.random.key(1)))
    batches = task.train_batches(0)
    for _ in range(2):
        train, metrics = update(train, next(batches))
        assert float(metrics["skipped"].total) == 0
    after, metrics = update(train, next(batches))
    assert int(after.step) == int(train.step) + 1
    for before, now in zip(jax.tree.leaves(train[1:]), jax.tree.leaves(after[1:]), strict=True):
        np.testing.assert_array_equal(before, now)
    assert float(metrics["skipped"].total) == 1
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(metrics))


def test_skips_are_counted_and_the_means_are_those_of_the_rest(make_task, make_config):
    config = make_config()
    result = fit(poisoned(make_task, {5, 6, 11}), config)
    train = [line for line in lines(config) if line["split"] == "train"]
    assert [line["skipped"] for line in train] == [0, 2, 1, 0, 0]
    assert all(np.isfinite(line["loss"]) for line in train)
    assert result.step == 20


def test_a_window_of_skips_alone_has_no_loss(make_task, make_config, capsys):
    config = make_config(steps=12)
    fit(poisoned(make_task, {4, 5, 6, 7}), config)
    (line,) = [line for line in lines(config) if line["split"] == "train" and line["step"] == 8]
    assert "loss" not in line and line["skipped"] == 4
    assert "skipped 4" in capsys.readouterr().out


@pytest.mark.parametrize("average", ["none", "ema"])
def test_too_many_in_a_row_end_the_run_with_finite_checkpoints(make_task, make_config, average):
    config = make_config(max_skips=3, save_every=1, keep=3)
    with pytest.raises(SystemExit) as exit_:
        fit(poisoned(make_task, set(range(8, 100))), config)
    assert exit_.value.code == 3
    run = json.loads(pathlib.Path(config.workdir, "run.json").read_text())
    assert (run["finished"], run["stop_reason"]) == (False, "3 updates in a row were not finite")
    with Checkpoints(pathlib.Path(config.workdir, "checkpoints")) as checkpoints:
        assert checkpoints.latest() >= 8
        assert all(checkpoints.verify(step) == [] for step in checkpoints.steps())


def test_a_row_of_skips_goes_on_over_a_restart(make_task, make_config):
    config, bad = make_config(max_skips=4, save_every=1), set(range(8, 100))
    with pytest.raises(KeyboardInterrupt):
        fit(poisoned(make_task_interrupted(make_task, 10), bad), config)
    with pytest.raises(SystemExit) as exit_:
        fit(poisoned(make_task, bad), config)
    assert exit_.value.code == 3
    run = json.loads(pathlib.Path(config.workdir, "run.json").read_text())
    assert run["step"] <= 14  # 8 and 9 before the restart, 10 and 11 after it, 2 under way


def make_task_interrupted(make_task, at):
    return lambda **fields: make_task(**{"interrupt_at": at, **fields})


def test_a_run_with_skips_resumes_bit_for_bit(make_task, make_config, saved_bytes):
    bad = {3, 9, 10}
    straight, stopped = make_config("straight"), make_config("stopped")
    fit(poisoned(make_task, bad), straight)
    with pytest.raises(KeyboardInterrupt):
        fit(poisoned(make_task_interrupted(make_task, 11), bad), stopped)
    fit(poisoned(make_task, bad), stopped)
    assert saved_bytes(make_task(), stopped) == saved_bytes(make_task(), straight)
    assert lines(stopped) == lines(straight)


def test_parameters_that_overflow_are_not_saved(make_task, make_config):
    """The gradient is finite, the step is not."""
    config = make_config(save_every=1, steps=6)
    with pytest.raises(SystemExit) as exit_:
        fit(make_task(optimizer=optax.sgd(lambda step: jnp.where(step < 3, 0.1, 1e39))), config)
    assert exit_.value.code == 3
    run = json.loads(pathlib.Path(config.workdir, "run.json").read_text())
    assert run["stop_reason"] == "the parameters are not finite"
    with Checkpoints(pathlib.Path(config.workdir, "checkpoints")) as checkpoints:
        assert checkpoints.latest() == 3 and checkpoints.verify(3) == []
