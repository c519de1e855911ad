import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import plot
from rnnlab.training import Evaluation, Ratio, fit, load_best
from rnnlab.training.evaluation import make_evaluate
from rnnlab.training.mesh import make_mesh
from rnnlab.training.optimizers import make_optimizer
from rnnlab.training.run import RunDirectory


def draw():
    figure = plot.new_figure()
    figure.subplots().plot([1, 2])
    return figure


def fail():
    raise ZeroDivisionError("no data to draw")


def test_artifacts_land_beside_the_run_and_a_failing_plot_is_one_warning(make_task, make_config):
    def evaluate(params, batches, key):
        artifacts = {"text.txt": "ä", "bytes.bin": b"\0", "plot.png": draw, "bad.png": fail}
        return Evaluation({"batches": len(list(batches)), "ratio": Ratio(3.0, 2.0)}, artifacts)

    config = make_config(steps=7)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = fit(make_task(evaluate=evaluate, eval_batches=valid_of(make_task)), config)
    assert [str(warning.message) for warning in caught] == [
        "artifact bad.png failed: ZeroDivisionError: no data to draw"
    ]
    assert result.step == 7
    assert (result.metrics["valid"]["batches"], result.metrics["valid"]["ratio"]) == (9, 1.5)
    folder = pathlib.Path(config.workdir) / "eval" / "7" / "valid"
    assert (folder / "text.txt").read_text(encoding="utf-8") == "ä"
    assert (folder / "bytes.bin").read_bytes() == b"\0"
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "bad.png").exists()


def valid_of(make_task):
    return {"valid": make_task().eval_batches["valid"]}


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/b.txt", ".."])
def test_artifacts_have_plain_names(make_task, make_config, name):
    task = make_task(evaluate=lambda *_: Evaluation({}, {name: "text"}))
    with pytest.raises(ValueError, match="artifacts: expected a plain file name"):
        fit(task, make_config(steps=1))


def test_select_on_a_metric_of_evaluate_keeps_the_right_checkpoint(constant_task, make_config):
    scored = []

    def evaluate(params, batches, key):
        scored.append(float(params))
        accuracy = {1: 0.2, 2: 0.9, 3: 0.4, 4: 0.8}[int(params)]
        return Evaluation({"accuracy": accuracy})

    task = constant_task([9, 8, 7, 6, 5], evaluate=evaluate, select=("accuracy", "max"))
    result = fit(task, make_config(eval_every=1, save_every=1, keep=1, steps=4))
    assert (result.best_step, float(result.params)) == (2, 2.0)
    assert result.metrics["test"] == {"loss": 7.0, "accuracy": 0.9}
    assert scored == [1, 2, 3, 4, 2]  # the test set once, on the checkpoint chosen


def test_evaluate_gets_a_key_of_the_step_alone(make_task):
    keys = []

    def evaluate(params, batches, key):
        keys.append(key)
        return Evaluation({})

    task = make_task(evaluate=evaluate)
    score = make_evaluate(task, "float32", jax.random.key(5), make_mesh("", 1))
    params = task.init(jax.random.key(0))
    for step in (3, 4, 3):
        score(params, "valid", step)
    first, other, again = map(jax.random.key_data, keys)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        ({"loss": 1.0}, ValueError, "evaluate: expected names that the loss has not"),
        ({"bleu": float("nan")}, FloatingPointError, "valid metrics are not finite"),
    ],
)
def test_metrics_that_cannot_be(make_task, found, error, message):
    task = make_task(evaluate=lambda *_: Evaluation(found))
    score = make_evaluate(task, "float32", jax.random.key(0), make_mesh("", 1))
    with pytest.raises(error, match=message):
        score(task.init(jax.random.key(0)), "valid", 1)


def test_derived_metrics_know_their_set(make_task, make_config):
    def derive(split, metrics):
        return {**metrics, f"{split}_doubled": 2 * metrics["loss"]}

    config = make_config(steps=4, eval_every=4, log_every=2)
    fit(make_task(derive=derive), config)
    lines = RunDirectory(config.workdir).read_metrics()
    assert {"train", "valid"} <= {line["split"] for line in lines}
    for line in lines:
        assert line[f"{line['split']}_doubled"] == 2 * line["loss"]
        assert sum(name.endswith("_doubled") for name in line) == 1


def test_an_unknown_select_is_named(make_task, make_config):
    with pytest.raises(ValueError, match="select: expected one of the metrics of valid, loss, got"):
        fit(make_task(select=("bleu", "max")), make_config(steps=1))


@pytest.mark.parametrize("average", ["ema", "nt_asgd"])
def test_averaged_weights_are_evaluated_kept_and_resumed(
    make_task, make_config, saved_bytes, average
):
    def task(**fields):
        optimizer = make_optimizer("sgd", 0.3, average=average, average_patience=1)
        return make_task(optimizer=optimizer, **fields)

    straight, stopped = make_config("straight", eval_every=2), make_config("stopped", eval_every=2)
    result = fit(task(), straight)
    with pytest.raises(KeyboardInterrupt):
        fit(task(interrupt_at=13), stopped)
    fit(task(), stopped)
    read = pathlib.Path(stopped.workdir, "metrics.jsonl").read_bytes()
    assert read == pathlib.Path(straight.workdir, "metrics.jsonl").read_bytes()
    params, _ = load_best(task().init, straight.workdir, {})
    jax.tree.map(np.testing.assert_array_equal, params, result.params)
    plain = fit(make_task(optimizer=make_optimizer("sgd", 0.3)), make_config("plain", eval_every=2))
    differs = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), result.params, plain.params)
    assert any(jax.tree.leaves(differs))
