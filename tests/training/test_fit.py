import dataclasses
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import plot
from rnnlab.training import Ratio, fit, load_best


def metrics_of(config):
    lines = (pathlib.Path(config.workdir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("interrupt_at", [10, 13, 15])  # at a save, inside a log window, at both
def test_interrupted_and_resumed_is_bitwise_equal_to_uninterrupted(
    make_task, make_config, saved_bytes, interrupt_at
):
    straight, stopped = make_config("straight"), make_config("stopped")
    result = fit(make_task(), straight)
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(interrupt_at=interrupt_at), stopped)
    resumed = fit(make_task(), stopped)
    assert saved_bytes(make_task(), stopped) == saved_bytes(make_task(), straight)
    assert metrics_of(stopped) == metrics_of(straight)
    assert resumed.metrics == result.metrics


def test_more_steps_are_bitwise_equal_to_as_many_at_once(make_task, make_config, saved_bytes):
    straight, longer = make_config("straight"), make_config("longer", steps=10)
    fit(make_task(), straight)
    fit(make_task(), longer)  # ends off the schedule of logging and evaluating
    longer = dataclasses.replace(longer, steps=20)
    fit(make_task(), longer)
    assert saved_bytes(make_task(), longer) == saved_bytes(make_task(), straight)
    assert metrics_of(longer) == metrics_of(straight)


def test_the_command_of_a_finished_run_changes_nothing(make_task, make_config, saved_bytes):
    config = make_config(steps=9)
    first = fit(make_task(), config)
    before = saved_bytes(make_task(), config), metrics_of(config)
    again = fit(make_task(), config)
    assert (saved_bytes(make_task(), config), metrics_of(config)) == before
    assert again.metrics == first.metrics


def test_each_step_and_split_is_logged_once(make_task, make_config):
    config = make_config()
    fit(make_task(), config)
    logged = [(line["split"], line["step"]) for line in metrics_of(config)]
    assert [step for split, step in logged if split == "train"] == [4, 8, 12, 16, 20]
    assert [step for split, step in logged if split == "valid"] == [7, 14, 20]
    assert sum(split == "test" for split, _ in logged) == 1


def test_carried_state_is_what_one_long_window_computes(make_task, make_config):
    """Truncation changes gradients, never values: the loss of a pass is that of the whole text."""
    config = make_config(steps=1)
    task = make_task()
    fit(task, config)
    windows = list(task.eval_batches["valid"]())
    whole = type(windows[0])(
        *(np.concatenate([window[i] for window in windows], axis=1) for i in range(3)),
        windows[0].start,
    )
    params, _ = load_best(task.init, config.workdir, {})
    loss, _ = task.loss(params, task.initial_state(params, 2), whole, None)
    (logged,) = [line["loss"] for line in metrics_of(config) if line["split"] == "valid"]
    assert logged == pytest.approx(float(loss.value), abs=1e-6)


def test_early_stopping_returns_the_best_and_scores_the_test_set_once(constant_task, make_config):
    losses = [9, 5, 3, 4, 3, 6, 1, 0]
    config = make_config(eval_every=1, log_every=1, patience=3)
    result = fit(constant_task(losses), config)
    assert (result.step, result.best_step) == (5, 2)
    assert result.stop_reason == "no improvement in 3 evaluations"
    assert float(result.params) == 2
    assert result.metrics == {"valid": {"loss": 3.0}, "test": {"loss": 3.0}}
    test_lines = [line for line in metrics_of(config) if line["split"] == "test"]
    assert test_lines == [{"step": 2, "split": "test", "loss": 3.0}]
    assert fit(constant_task(losses), config).step == 5  # and stays stopped


def test_select_may_be_a_maximum(constant_task, make_config):
    task = constant_task([0, 5, 9, 4], select=("loss", "max"))
    assert fit(task, make_config(eval_every=1, steps=3)).best_step == 2


def test_a_task_without_valid_keeps_its_last_params(constant_task, make_config):
    result = fit(constant_task([0, 1, 2, 3], eval_batches={}), make_config(steps=3))
    assert (result.best_step, float(result.params), result.metrics) == (3, 3.0, {})


def test_the_best_and_the_newest_checkpoints_are_kept(constant_task, make_config):
    config = make_config(eval_every=1, save_every=1, steps=7, keep=2)
    fit(constant_task([9, 5, 3, 4, 3, 6, 4, 4]), config)
    names = {path.name for path in (pathlib.Path(config.workdir) / "checkpoints").iterdir()}
    assert names == {"2", "6", "7"}
    assert load_best(constant_task([0]).init, config.workdir, {})[1] == 2


def test_resume_is_refused_with_the_differences(make_task, make_config):
    fit(make_task(), make_config(steps=2))
    other = make_config(
        steps=4,
        flags={"features": "16", "steps": "4", "cell": "gru"},
        data={"train": "abd"},
    )
    with pytest.raises(ValueError, match="cannot go on with this run") as error:
        fit(make_task(assets={"vocabulary.json": "{}\n"}), other)
    message = str(error.value)
    for part in (
        "--features: 8 there, 16 here",
        "--cell: (unset) there, gru here",
        "data train: abc there, abd here",
        "asset vocabulary.json",
    ):
        assert part in message
    assert "steps" not in message


def test_resume_never_must_and_fewer_steps(make_task, make_config):
    with pytest.raises(FileNotFoundError, match="--resume=must"):
        fit(make_task(), make_config(resume="must"))
    fit(make_task(), make_config(steps=6))
    with pytest.raises(ValueError, match="--resume=never will not write over it"):
        fit(make_task(), make_config(resume="never"))
    with pytest.raises(ValueError, match="steps: expected at least the 6"):
        fit(make_task(), make_config(steps=3))
    assert fit(make_task(), make_config(steps=7, resume="must")).step == 7


def test_a_metric_that_is_not_finite_stops_before_it_is_saved(make_task, make_config):
    def loss(params, state, batch, key):
        ratio, (state, _) = make_task().loss(params, state, batch, key)
        return ratio, (state, {"odd": Ratio(jnp.float32(np.nan), 1.0)})

    config = make_config(save_every=1)
    with pytest.raises(FloatingPointError, match="step 1: odd not finite, though the loss is"):
        fit(make_task(loss=loss), config)
    assert list((pathlib.Path(config.workdir) / "checkpoints").iterdir()) == []


def test_a_state_that_changes_its_shape_is_refused(make_task, make_config):
    task = make_task(
        loss=lambda params, state, batch, key: (Ratio(params.bias[0], 1.0), (state[:2], {}))
    )
    with pytest.raises(ValueError, match="loss: expected new state of the structure"):
        fit(task, make_config())


def test_dry_run_compiles_and_writes_nothing(make_task, make_config, capsys):
    config = make_config(dry_run=True)
    assert fit(make_task(), config) is None
    assert not pathlib.Path(config.workdir).exists()
    printed = capsys.readouterr().out
    assert "compiled in" in printed
    assert "embedding" in printed


def test_a_failing_plot_costs_one_warning(make_task, make_config, monkeypatch):
    def fail(*args):
        raise OSError("no ink")

    monkeypatch.setattr(plot, "loss_curve", fail)
    with pytest.warns(UserWarning, match=r"loss\.png failed: OSError: no ink") as warned:
        assert fit(make_task(), make_config(steps=2)).step == 2
    assert len(warned) == 1


def test_metrics_file_that_lost_lines_is_refused(make_task, make_config):
    config = make_config()
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(interrupt_at=11), config)
    (pathlib.Path(config.workdir) / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: expected the \d+ bytes"):
        fit(make_task(), config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"dtype": "float16"}, "dtype: expected one of float32, bfloat16, got 'float16'"),
        ({"resume": "maybe"}, "resume: expected one of auto, never, must"),
    ],
)
def test_config_errors(make_config, fields, message):
    with pytest.raises(ValueError, match=message):
        make_config(**fields)


def test_bfloat16_trains_with_float32_master_weights(make_task, make_config):
    seen = []

    def loss(params, state, batch, key):
        seen.append(params.embedding.dtype)
        return make_task().loss(params, state, batch, key)

    config = make_config(dtype="bfloat16", steps=40, eval_every=40, log_every=40)
    result = fit(make_task(loss=loss), config)
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    assert result.params.embedding.dtype == jnp.float32
    whole = fit(make_task(), make_config("float32", steps=40, eval_every=40, log_every=40))
    assert result.metrics["valid"]["loss"] == pytest.approx(
        whole.metrics["valid"]["loss"], rel=0.01
    )
