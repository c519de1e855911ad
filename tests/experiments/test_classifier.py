import json
import pathlib

import jax
import pytest

from experiments import classifier as experiment
from experiments import common
from rnnlab.training import load_best
from rnnlab.training.trainer import Trainer

FLAGS = "--features=8 --steps=40 --eval_every=20 --decay_steps=40 --strategy=scan --log_every=20"


def arguments(workdir, extra=""):
    return ["classifier", f"--workdir={workdir}", *FLAGS.split(), *extra.split()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    experiment.main(arguments(workdir))
    return workdir


def test_it_learns_and_draws(trained):
    run = json.loads((trained / "run.json").read_text())
    assert run["finished"] and run["step"] == 40
    valid = run["metrics"]["valid"]
    assert valid["accuracy"] > 0.4  # six classes: 0.17 is a guess
    picture = trained / "eval" / str(run["best_step"]) / "test" / "confusion.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "mean" in json.loads((trained / "normaliser.json").read_text())


def test_scores_do_not_depend_on_the_batch_size(trained):
    """300 series: a ragged last batch at 7 and at 64."""
    scores = []
    for size in (1, 7, 64):
        common.parse(experiment.FLAGS, arguments(trained, f"--eval_batch_size={size}"))
        task = experiment.build_task(experiment.load_data()[0])
        config = common.fit_config(experiment.FLAGS, {}, {})
        params, step = load_best(task.init, trained, {})
        scores.append(Trainer(task, config).evaluate(params, "valid", step).metrics)
    for score in scores[1:]:
        assert score == pytest.approx(scores[0], abs=1e-6, rel=0)
    run = json.loads((trained / "run.json").read_text())
    assert scores[2] == pytest.approx(run["metrics"]["valid"], abs=1e-6, rel=0)


def test_the_same_command_again_changes_nothing(trained, capsys):
    before = pathlib.Path(trained, "metrics.jsonl").read_bytes()
    experiment.main(arguments(trained))
    assert "resumed at step 40" in capsys.readouterr().out
    assert pathlib.Path(trained, "metrics.jsonl").read_bytes() == before


def test_dropout_reaches_the_model():
    for rate, same in ((0.0, True), (0.5, False)):
        common.parse(experiment.FLAGS, arguments("unused", f"--dropout={rate}"))
        task = experiment.build_task(experiment.load_data()[0])
        params, batch = task.init(jax.random.key(0)), next(task.train_batches(0))
        losses = [task.loss(params, (), batch, jax.random.key(seed))[0].value for seed in (0, 1)]
        assert (losses[0] == losses[1]) == same
