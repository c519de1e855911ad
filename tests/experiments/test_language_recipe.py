"""The recipe of a language model: regularisation, output layer, windows, averages, size."""

import itertools
import json
import re

import jax
import numpy as np
import pytest

from experiments import common
from experiments import language_model as experiment
from rnnlab.cells import SLSTM
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.mesh import make_mesh
from rnnlab.training.steps import initial_train_state
from rnnlab.training.trainer import Trainer
from tests.experiments.test_language_model import arguments, everything, look, setup
from tests.experiments.test_language_model import short_corpus as short_corpus
from tests.experiments.test_language_model import trained as trained

NOT_RECURRENT = ("--cell=lstm", "--strategy=auto")  # defaults, for a model without cells


def scores(trained, capsys, *options):
    """The losses that mode eval prints."""
    look(trained, "eval", *options)
    printed = capsys.readouterr().out
    return [float(loss) for loss in re.findall(r": loss (\d\.\d+) nats", printed)]


def dynamic_scores(trained, capsys, *options):
    return scores(trained, capsys, "--dynamic_evaluation", *options)


def test_dynamic_evaluation_learns_from_what_it_has_scored(trained, capsys):
    metrics = json.loads((trained / "run.json").read_text())["metrics"]
    static = dynamic_scores(trained, capsys, "--dynamic_learning_rate=0")
    assert len(static) == 2
    # One stream instead of two: what differs is where the carry starts.
    assert static == pytest.approx([metrics[s]["loss"] for s in ("valid", "test")], abs=0.02)
    by_rms = ("--dynamic_learning_rate=0.01",)
    plain = ("--nodynamic_rms", "--dynamic_learning_rate=0.5", "--dynamic_decay=0")
    for options in (by_rms, plain):
        adapted = dynamic_scores(trained, capsys, "--dynamic_length=4", *options)
        assert all(a < s - 0.01 for a, s in zip(adapted, static, strict=True))
    look(trained, "eval", "--dynamic_evaluation", "--dynamic_learning_rate=2")
    loss = metrics["valid"]["loss"]
    assert f"note: valid was {loss:.4f} nats without learning" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="goes with --mode=eval, got --mode=generate"):
        look(trained, "generate", "--dynamic_evaluation")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model=tcn",), "--cell: expected --model=recurrent beside it"),
        ((*NOT_RECURRENT, "--model=tcn", "--residual"), "--residual: expected --model=recurrent"),
        ((*NOT_RECURRENT, "--model=mlp", "--heads=2"), "--heads: expected --model=transformer"),
        (("--context=6",), "--context: expected --model=mlp or transformer"),
        (("--kernel_width=2",), "--kernel_width: expected --model=tcn"),
        (("--output_features=4",), "--output_features: expected --layers=2 or more"),
        (("--dynamic_decay=0.02",), "--dynamic_decay: expected --dynamic_evaluation"),
        (
            ("--mode=eval", "--dynamic_evaluation", "--by_position"),
            "--by_position: expected no --dynamic_evaluation",
        ),
        (
            ("--average=nt_asgd", "--average_patience=2", "--patience=3"),
            "--patience: expected 4 or more beside --average=nt_asgd",
        ),
    ],
)
def test_a_flag_that_has_nothing_to_act_on_ends_the_program(tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        experiment.main(arguments(tmp_path / "run", *options))
    assert not (tmp_path / "run").exists()


def test_the_flagfile_of_a_run_is_that_run(trained, capsys):
    experiment.main(["language_model", f"--flagfile={trained / 'flags.txt'}"])
    assert "stopped at step 12" in capsys.readouterr().out


def test_dropout_is_for_all_places_that_have_no_rate_of_their_own():
    def rates(*options):
        common.parse(experiment.FLAGS, arguments("unused", *options))
        model = experiment.build_model(9).regularisation
        return model.inputs, model.layers, model.outputs

    assert rates() == (0, 0, 0)
    assert rates("--dropout=0.5") == (0.5, 0.5, 0.5)
    assert rates("--dropout=0.5", "--input_dropout=0", "--output_dropout=0.3") == (0, 0.5, 0.3)


def test_a_cell_gets_its_options():
    options = ("--cell=slstm", "--features=4", '--cell_options={"heads": 2}')
    common.parse(experiment.FLAGS, arguments("unused", *options))
    assert set(experiment.build_model(9).cells) == {SLSTM(4, heads=2)}
    for wrong in ('{"legs": 2}', '{"heads": 3}'):
        common.parse(experiment.FLAGS, arguments("unused", *options, f"--cell_options={wrong}"))
        with pytest.raises(SystemExit, match="--cell_options: expected what slstm takes"):
            experiment.build_model(9)


def test_a_regularised_run_pays_for_its_outputs_in_training_alone():
    task, config = setup(
        *("unused", "--embedding_dropout=0.1", "--dropout=0.3", "--variational", "--layers=3"),
        *("--weight_drop=0.5", "--activation_penalty=2", "--temporal_penalty=1"),
        *("--residual", "--output_features=4", "--softmax_chunk=5", "--tied"),
    )
    params, window = task.init(jax.random.key(0)), next(task.train_batches(0))
    carry = task.initial_state(params, config.batch_size)
    _, (_, metrics) = task.loss(params, carry, window, None)
    assert not metrics
    trained, (_, metrics) = task.loss(params, carry, window, jax.random.key(0))
    assert trained.value > metrics["nats"].value + 0.001
    scores = {"loss": float(trained.value), "nats": float(metrics["nats"].value)}
    assert task.derive("train", scores)["perplexity"] == pytest.approx(np.exp(scores["nats"]))


def test_a_run_with_an_adaptive_softmax_learns_and_generates(tmp_path, capsys):
    experiment.main(arguments(tmp_path, "--cutoffs=8,12", "--softmax_chunk=8"))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    valid = [line["loss"] for line in lines if line["split"] == "valid"]
    assert valid[-1] < valid[0]
    look(tmp_path, "eval")
    assert f"valid: loss {min(valid):.4f} nats" in capsys.readouterr().out
    look(tmp_path, "generate", "--length=5")
    assert len(capsys.readouterr().out) == 1 + 5 + 1
    with pytest.raises(SystemExit, match="expected whole numbers with commas"):
        experiment.main(arguments(tmp_path / "other", "--cutoffs=8;12"))


def test_windows_of_random_length_go_on_with_the_carry_of_their_last_real_step():
    task, config = setup("unused", "--length_deviation=2", "--clip_norm=0")
    model = experiment.build_model(16)
    params = task.init(jax.random.key(0))
    carry = start = task.initial_state(params, config.batch_size)
    windows, real = [], []
    for window in itertools.islice(task.train_batches(0), 3):
        ratio, (carry, _) = task.loss(params, carry, window, None)
        windows.append(window)
        real.append(float(ratio.weight))
    lengths = [int(window.weights[0].sum()) for window in windows]
    assert len(set(lengths)) > 1 and max(lengths) < windows[0].inputs.shape[1]
    assert real == [4 * length for length in lengths]
    tokens = np.concatenate([w.inputs[:, :n] for w, n in zip(windows, lengths, strict=True)], 1)
    expected, _ = model.apply(params, tokens.T, start)
    for got, want in zip(jax.tree.leaves(carry), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_more_steps_of_random_length_equal_as_many_at_once(tmp_path):
    options = ("--length_deviation=2", "--embedding_dropout=0.2", "--weight_drop=0.2")
    experiment.main(arguments(tmp_path / "parts", "--steps=7", *options))
    experiment.main(arguments(tmp_path / "parts", *options))
    experiment.main(arguments(tmp_path / "whole", *options))
    assert everything(tmp_path / "parts", *options) == everything(tmp_path / "whole", *options)


def test_a_budget_of_parameters_decides_about_the_features(tmp_path, capsys):
    options = ("--num_params=2000", "--layers=2", "--output_features=4", "--tied", "--cell=lstm")
    task, _ = setup("unused", *options)
    sizes = [leaf.size for leaf in jax.tree.leaves(task.init(jax.random.key(0)))]
    assert 1800 < sum(sizes) <= 2000
    experiment.main(arguments(tmp_path, *options))
    look(tmp_path, "generate", "--length=3")
    with pytest.raises(ValueError, match="num_params: expected at least"):
        setup("unused", "--num_params=9")
    with pytest.raises(SystemExit, match="expected --output_features"):
        setup("unused", "--num_params=2000", "--tied")
    with pytest.raises(SystemExit, match="expected --layers=3 or more beside --residual"):
        setup("unused", "--num_params=2000", "--output_features=8", "--residual", "--layers=2")


@pytest.mark.parametrize("model", ["mlp", "tcn", "transformer"])
def test_a_model_without_recurrence_fills_the_same_budget(model):
    options = (*NOT_RECURRENT, f"--model={model}", "--num_params=9000", "--layers=2")
    task, _ = setup("unused", *options)
    sizes = [leaf.size for leaf in jax.tree.leaves(task.init(jax.random.key(0)))]
    assert 8500 < sum(sizes) <= 9000
    with pytest.raises(SystemExit, match=f"expected no --tied beside --model={model}"):
        setup("unused", *options, "--tied")


def test_a_transformer_is_trained_resumed_and_sampled(tmp_path, capsys):
    options = (*NOT_RECURRENT, "--model=transformer", "--heads=2", "--context=6", "--dropout=0.1")
    experiment.main(arguments(tmp_path / "parts", "--steps=7", *options))
    experiment.main(arguments(tmp_path / "parts", *options))
    experiment.main(arguments(tmp_path / "whole", *options))
    assert everything(tmp_path / "parts", *options) == everything(tmp_path / "whole", *options)
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    valid = [entry["loss"] for entry in map(json.loads, lines) if entry["split"] == "valid"]
    assert valid[-1] < valid[0]
    look(tmp_path / "whole", "generate", "--length=5")
    assert len(capsys.readouterr().out) > 5


def test_nt_asgd_averages_from_where_the_score_stops_falling(tmp_path):
    """A learning rate that is too high for the last steps: the average is better than they are."""
    options = ("--optimizer=sgd", "--average=nt_asgd", "--average_patience=1", "--steps=60")
    rate = ("--learning_rate=8", "--schedule=constant", "--clip_norm=1", "--eval_every=3")
    experiment.main(arguments(tmp_path, *options, *rate))
    task, config = setup(tmp_path, *options, *rate)
    mesh = make_mesh("", config.batch_size)
    train, _ = initial_train_state(task, jax.random.key(0), config.batch_size, mesh)
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        average, train = checkpoints.restore(60, train.params, train)
    assert 0 < int(train.opt_state.rule.averaged) < 60
    assert int(train.opt_state.rule.evaluations) == 19
    trainer = Trainer(task, config)
    averaged, last = (
        trainer.evaluate(params, "valid", 60).metrics["loss"] for params in (average, train.params)
    )
    assert averaged < last
