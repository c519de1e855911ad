"""What a run of a language model is looked at by: samples, and scores by other streams."""

import json

import pytest

from experiments import language_model as experiment
from tests.experiments.test_language_model import CORPUS, arguments, look
from tests.experiments.test_language_model import short_corpus as short_corpus
from tests.experiments.test_language_model import trained as trained
from tests.experiments.test_language_recipe import dynamic_scores, scores

ONE_LINE = "the cat sat on the mat and the dog sat on the log " * 12


@pytest.mark.parametrize(
    ("tokenizer", "start"), [("character", " "), ("word", "\n"), ("sentencepiece", "\n")]
)
def test_a_text_of_one_line_has_a_start_for_its_sample(tmp_path, tokenizer, start):
    if tokenizer == "sentencepiece":
        pytest.importorskip("sentencepiece")
    (tmp_path / "line.txt").write_text(ONE_LINE)
    options = [f"--text={tmp_path / 'line.txt'}", f"--tokenizer={tokenizer}", "--eval_streams=1"]
    if tokenizer == "sentencepiece":
        options.append("--vocabulary_size=275")
    experiment.main(arguments(tmp_path / "run", *options, "--length=5"))
    assert (tmp_path / "run" / "samples.txt").read_text().startswith(start)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--prompt=aX", "character 'X' at position 1"),
        ("--prompt=", "prompt: expected at least one token"),
        ("--top_k=99", "top_k: expected 0 to 16"),
    ],
)
def test_a_sample_that_cannot_be_drawn_is_refused_before_training(tmp_path, option, message):
    with pytest.raises(ValueError, match=message):
        experiment.main(arguments(tmp_path / "run", option))
    assert not (tmp_path / "run").exists()


def test_a_run_is_scored_again_as_other_streams(trained, capsys):
    one, two = (scores(trained, capsys, f"--eval_streams={streams}") for streams in (1, 2))
    one_stream = dynamic_scores(trained, capsys, "--dynamic_learning_rate=0")
    assert one == pytest.approx(one_stream, abs=2e-4) and one != two
    with pytest.raises(ValueError, match="--eval_streams: 2 there, 1 here"):
        experiment.main(arguments(trained, "--eval_streams=1"))


def test_streams_shorter_than_a_window_are_noted(tmp_path, capsys):
    experiment.main(arguments(tmp_path / "run", "--steps=1", "--eval_streams=30", "--dry_run"))
    length = len(CORPUS.splits["valid"]) // 30
    note = f"note: valid is read as --eval_streams=30 of {length} tokens"
    assert note in capsys.readouterr().out


def test_loss_by_position_of_a_run_that_has_ended(tmp_path, capsys):
    experiment.main(arguments(tmp_path))
    experiment.main(arguments(tmp_path, "--by_position"))
    assert "--mode=eval --by_position is one" in capsys.readouterr().out
    look(tmp_path, "eval", "--by_position")
    (found,) = tmp_path.glob("eval/*/valid/loss_by_position.json")
    assert len(json.loads(found.read_text())) == 8
    assert found.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
