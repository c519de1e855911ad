import json
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import common
from experiments import language_model as experiment
from rnnlab.data import Corpus, Streams, encode_text, text
from rnnlab.training import load_best
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.mesh import make_mesh
from rnnlab.training.steps import initial_train_state
from rnnlab.training.trainer import Trainer

TEXT = "the cat sat on the mat; the dog sat on the log.\n"
CORPUS = Corpus("python_docs", {"train": TEXT * 12, "valid": TEXT * 2, "test": TEXT[::-1]})
SMALL = (
    "--cell=gru --features=8 --embedding_features=4 --seq_length=8 --batch_size=4 --steps=12"
    " --log_every=3 --eval_every=4 --save_every=5 --eval_streams=2 --warmup_steps=2 --length=30"
    " --strategy=scan"
)


@pytest.fixture(scope="module", autouse=True)
def short_corpus():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(text.CORPORA, "python_docs", lambda data_dir: CORPUS)
        yield


def arguments(workdir, *more):
    return ["language_model", *SMALL.split(), f"--workdir={workdir}", *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a finished run."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    experiment.main(arguments(workdir))
    return workdir


def look(workdir, mode, *more):
    experiment.main(["language_model", f"--workdir={workdir}", f"--mode={mode}", *more])


def setup(workdir, *options):
    """The task and the configuration of a command line."""
    common.parse(experiment.FLAGS, arguments(workdir, *options))
    _, _, task, config = experiment.setup()
    return task, config


def everything(workdir, *options):
    """The newest checkpoint, bit for bit, and the metrics."""
    task, config = setup(workdir, *options)
    mesh = make_mesh("", config.batch_size)
    train, _ = initial_train_state(task, jax.random.key(0), config.batch_size, mesh)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        rest = train._replace(params=())
        tree = checkpoints.restore(checkpoints.latest(), train.params, rest)
    leaves = [(leaf.shape, leaf.tobytes()) for leaf in jax.tree.leaves(jax.device_get(tree))]
    return leaves, (workdir / "metrics.jsonl").read_text()


def test_run_directory(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "checkpoints",
        "flags.txt",
        "lock",
        "loss.png",
        "metrics.jsonl",
        "run.json",
        "samples.txt",
        "timing.jsonl",
        "vocabulary.json",
    }
    assert (trained / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert len((trained / "samples.txt").read_text()) == 1 + 30 + 1  # prompt, sample, newline
    summary = json.loads((trained / "run.json").read_text())
    assert summary["stop_reason"] == "all steps done"
    assert summary["data"] == CORPUS.fingerprint()
    assert set(summary["metrics"]) == {"valid", "test"}
    vocabulary = json.loads((trained / "vocabulary.json").read_text())
    assert vocabulary["characters"] == "".join(sorted(set(TEXT)))


def test_metrics_hold_nats_bits_and_perplexity_of_the_whole_split(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    valid = [line for line in lines if line["split"] == "valid"]
    assert [line["step"] for line in valid] == [4, 8, 12]
    assert valid[-1]["loss"] < valid[0]["loss"]
    for line in valid:
        assert line["bpc"] == pytest.approx(line["loss"] / np.log(2), rel=1e-6)
        assert line["perplexity"] == pytest.approx(np.exp(line["loss"]))
    assert sum(line["split"] == "test" for line in lines) == 1


@pytest.mark.parametrize("options", ["word", "sentencepiece --vocabulary_size=276"])
def test_scores_per_word_and_per_character_whatever_the_tokens(tmp_path, capsys, options):
    """From the losses of every prediction, added up here."""
    options = f"--tokenizer={options} --steps=4".split()
    experiment.main(arguments(tmp_path, *options))
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "run.json").read_text())["metrics"]["valid"]
    model, tokenizer, task, _ = experiment.setup()
    params, _ = load_best(task.init, tmp_path, {})
    valid = CORPUS.splits["valid"]
    tokens = encode_text(tokenizer, valid)
    task, config = setup(tmp_path, *options, "--eval_streams=1")
    score = Trainer(task, config).evaluate(params, "valid", 0).metrics
    _, logits = model.apply(params, tokens[:-1, None], model.initial_carry(params, 1))
    losses = -jax.nn.log_softmax(logits[:, 0])[np.arange(len(tokens) - 1), tokens[1:]]
    nats = float(losses.mean()) * len(tokens)
    words = 2 * (12 + 1)  # twelve and an end, in each of two lines
    assert score["word_perplexity"] == pytest.approx(np.exp(nats / words), rel=1e-5)
    assert score["bpc"] == pytest.approx(nats / np.log(2) / len(valid), rel=1e-5)
    assert score["perplexity"] == pytest.approx(np.exp(losses.mean()), rel=1e-5)
    assert f"{len(tokens)} tokens, 26 words, {len(valid)} characters" in printed
    capsys.readouterr()
    look(tmp_path, "eval")
    assert f"valid: loss {metrics['loss']:.4f} nats" in capsys.readouterr().out
    look(tmp_path, "generate", "--prompt=the cat", "--length=5")
    assert capsys.readouterr().out.startswith("the cat")


def test_a_text_of_ones_own(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text(TEXT * 50)
    options = (f"--text={tmp_path / 'mine.txt'}", "--steps=2")
    experiment.main(arguments(tmp_path / "run", *options))
    data = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert data == text.read_text(tmp_path / "mine.txt").fingerprint()
    (tmp_path / "mine.txt").write_text(TEXT * 60)
    with pytest.raises(ValueError, match=r"data train: \w+ there, \w+ here"):
        experiment.main(arguments(tmp_path / "run", *options))


def test_eval_mode_repeats_the_scores_with_the_flags_of_the_run(trained, capsys):
    look(trained, "eval")
    printed = capsys.readouterr().out
    metrics = json.loads((trained / "run.json").read_text())["metrics"]
    for split in ("valid", "test"):
        assert f"{split}: loss {metrics[split]['loss']:.4f} nats" in printed


def test_eval_mode_refuses_other_flags(trained):
    with pytest.raises(ValueError, match="--features: 8 there, 16 here"):
        look(trained, "eval", "--features=16")


def test_generate_mode(trained, capsys):
    options = ("--prompt=the ", "--length=25", "--temperature=0.5", "--top_k=3")
    look(trained, "generate", *options)
    first = capsys.readouterr().out
    assert first.startswith("the ")
    assert len(first) == 4 + 25 + 1
    look(trained, "generate", *options)
    assert capsys.readouterr().out == first
    for others in (("--top_k=0", "--temperature=5"), ("--sample_seed=1",)):
        look(trained, "generate", *options, *others)
        assert capsys.readouterr().out != first


def test_several_samples_are_those_of_their_keys(trained, capsys):
    look(trained, "generate", "--prompt=the ", "--length=20", "--top_p=0.9")
    alone, said = capsys.readouterr()
    assert said.strip().endswith(" tokens/s")
    look(trained, "generate", "--prompt=the ", "--length=20", "--top_p=0.9", "--samples=3")
    first, *others = re.split(r"sample \d:\n", capsys.readouterr().out)[1:]
    assert first == alone
    assert len({first, *others}) == 3
    assert all(len(part) == 4 + 20 + 1 for part in others)


def test_generate_mode_needs_the_run_directory_alone(trained, capsys, monkeypatch):
    monkeypatch.setitem(text.CORPORA, "python_docs", lambda data_dir: pytest.fail("read the data"))
    look(trained, "generate", "--length=3")
    assert len(capsys.readouterr().out) == 1 + 3 + 1
    with pytest.raises(ValueError, match="--cell: gru there, lstm here"):
        look(trained, "generate", "--cell=lstm")


def test_loss_by_position_is_drawn_from_all_evaluations(tmp_path):
    experiment.main(arguments(tmp_path, "--steps=8", "--by_position"))
    experiment.main(arguments(tmp_path, "--steps=12", "--by_position"))
    found = {path.parts[-3]: path for path in tmp_path.glob("eval/*/valid/loss_by_position.json")}
    assert set(found) == {"4", "8", "12"}
    assert all(len(json.loads(path.read_text())) == 8 for path in found.values())
    picture = tmp_path / "eval" / "12" / "valid" / "loss_by_position.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "--by_position" not in (tmp_path / "flags.txt").read_text()


def test_pretrained_embeddings_and_neighbours(tmp_path, capsys):
    """Nothing is learned, so that the embeddings are those of the file."""
    path = tmp_path / "vectors.txt"
    path.write_text("cat 1 0 0\ndog 9 1 0\nmat; 0 5 5\nthe -1 0 0\nbird 7 7 7\n")
    options = ("--tokenizer=word", f"--embeddings={path}", "--learning_rate=0", "--steps=1")
    command = [a for a in arguments(tmp_path / "run", *options) if "embedding_f" not in a]
    experiment.main(command)
    assert f"4 of 9 embeddings start as in {path}" in capsys.readouterr().out
    flags = (tmp_path / "run" / "flags.txt").read_text()
    assert "--embedding_features=3\n" in flags
    path.rename(tmp_path / "elsewhere.txt")  # only training and scoring need it
    look(tmp_path / "run", "neighbours", "--word=cat", "--neighbours=9")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == [f"{9 / np.sqrt(82):.3f}", "dog"]
    assert lines[-1] == ["-1.000", "the"]
    assert len(lines) == 8
    look(tmp_path / "run", "generate", "--prompt=cat", "--length=2")
    (tmp_path / "elsewhere.txt").rename(path)
    path.write_text(path.read_text() + "fish 1 2 3\n")
    with pytest.raises(ValueError, match=r"data embeddings: \w+ there, \w+ here"):
        experiment.main(command)
    with pytest.raises(ValueError, match=r"embedding_features: expected 3, as in .*, got 4"):
        experiment.main(arguments(tmp_path / "run", *options))
    with pytest.raises(ValueError, match="embeddings: expected --tokenizer=word, got character"):
        experiment.main(arguments(tmp_path / "run", f"--embeddings={path}"))
    with pytest.raises(ValueError, match="'bird' is not among the 9 words"):
        look(tmp_path / "run", "neighbours", "--word=bird")


def test_neighbours_of_what_is_not_one_token(trained, capsys):
    look(trained, "neighbours", "--word=t", "--neighbours=2")
    assert len(capsys.readouterr().out.splitlines()) == 2
    for word, count in (("cat", 3), ("", 0)):
        with pytest.raises(ValueError, match=f"word: expected one token, got '{word}', of {count}"):
            look(trained, "neighbours", f"--word={word}")


def test_generate_errors(trained, tmp_path):
    with pytest.raises(ValueError, match="character 'X' at position 1"):
        look(trained, "generate", "--prompt=aX")
    with pytest.raises(ValueError, match="prompt: expected at least one token"):
        look(trained, "generate", "--prompt=")
    with pytest.raises(FileNotFoundError, match=r"expected the directory of a run.*--workdir"):
        look(tmp_path / "nowhere", "generate")


@pytest.mark.slow
@pytest.mark.parametrize("stateful", ["--stateful", "--nostateful"])
def test_stopped_and_resumed_is_bitwise_equal(tmp_path, monkeypatch, stateful):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    options = (stateful, "--dropout=0.1", "--layers=2")

    def interrupt(self, step, window=Streams.window):
        if self.num_streams == 4 and step == 10:
            raise KeyboardInterrupt
        return window(self, step)

    experiment.main(arguments(straight, *options))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Streams, "window", interrupt)
        experiment.main(arguments(stopped, *options))
    experiment.main(arguments(stopped, *options))
    assert everything(stopped, *options) == everything(straight, *options)


def test_more_steps_equal_as_many_at_once(trained, tmp_path):
    experiment.main(arguments(tmp_path, "--steps=7"))
    experiment.main(arguments(tmp_path, "--steps=12"))
    assert everything(tmp_path) == everything(trained)


def test_the_flags_of_a_run_repeat_it(trained, tmp_path, capsys):
    before = everything(trained)
    experiment.main(["language_model", f"--flagfile={trained / 'flags.txt'}"])
    assert "resumed at step 12" in capsys.readouterr().out
    experiment.main(
        ["language_model", f"--flagfile={trained / 'flags.txt'}", f"--workdir={tmp_path}"]
    )
    assert everything(trained) == everything(tmp_path) == before


def test_resume_with_other_flags_is_refused_by_name(trained):
    options = ("--cell=lstm", "--seed=1", "--learning_rate=0.1", "--keep=5", "--log_every=9")
    with pytest.raises(ValueError, match="cannot go on with this run") as error:
        experiment.main(arguments(trained, *options))
    message = str(error.value)
    assert "--cell: gru there, lstm here" in message
    assert "--seed: 0 there, 1 here" in message
    assert "--learning_rate" in message
    assert "--keep" not in message
    assert "--log_every" not in message


def test_resume_with_other_text_is_refused(trained, monkeypatch):
    other = Corpus("python_docs", {**CORPUS.splits, "valid": TEXT})
    monkeypatch.setitem(text.CORPORA, "python_docs", lambda data_dir: other)
    with pytest.raises(ValueError, match=r"data valid: \w+ there, \w+ here"):
        experiment.main(arguments(trained))


def test_evaluation_does_not_depend_on_the_batch_size(trained):
    task, config = setup(trained)
    params, _ = load_best(task.init, trained, {})
    scores = []
    for batch_size in (1, 4, 7):
        task, config = setup(trained, f"--batch_size={batch_size}")
        scores.append(Trainer(task, config).evaluate(params, "valid", 0).metrics)
    assert scores[0] == scores[1] == scores[2]


def test_evaluation_reads_the_whole_split_with_carried_state(trained):
    task, config = setup(trained, "--eval_streams=1")
    params, _ = load_best(task.init, trained, {})
    got = Trainer(task, config).evaluate(params, "valid", 0).metrics
    common.parse(experiment.FLAGS, arguments(trained))
    model, vocabulary, _, _ = experiment.setup()
    tokens = vocabulary.encode(CORPUS.splits["valid"])
    _, logits = model.apply(params, tokens[:-1, None], model.initial_carry(params, 1))
    losses = -jax.nn.log_softmax(logits[:, 0])[np.arange(len(tokens) - 1), tokens[1:]]
    assert got["loss"] == pytest.approx(float(losses.mean()), abs=1e-6)


def test_stateless_training_differs_and_starts_every_window_at_zero():
    task, config = setup("unused", "--nostateful")
    params = task.init(jax.random.key(0))
    window = next(task.train_batches(1))
    zero = task.initial_state(params, config.batch_size)
    used = jax.tree.map(lambda leaf: leaf + 1, zero)
    key = jax.random.key(0)
    losses = [float(task.loss(params, carry, window, key)[0].value) for carry in (zero, used)]
    assert losses[0] == losses[1]
    task, _ = setup("unused")
    window = next(task.train_batches(1))
    losses = [float(task.loss(params, carry, window, key)[0].value) for carry in (zero, used)]
    assert losses[0] != losses[1]


def test_a_tied_bfloat16_run_learns_and_generates(tmp_path, capsys):
    options = ("--tied", "--embedding_features=8", "--dtype=bfloat16", "--eval_every=6")
    experiment.main(arguments(tmp_path, *options))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    valid = [line["loss"] for line in lines if line["split"] == "valid"]
    assert valid[-1] < valid[0] < np.log(len(set(TEXT))) + 0.2
    look(tmp_path, "eval")
    assert f"valid: loss {min(valid):.4f} nats" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"tied: expected .* 8, got 4"):
        experiment.main(arguments(tmp_path / "other", "--tied"))


def test_early_stopping(tmp_path, capsys):
    options = ("--learning_rate=0", "--eval_every=2", "--patience=2")
    experiment.main(arguments(tmp_path, *options))
    assert "stopped at step 6: no improvement in 2 evaluations" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run.json").read_text())
    assert (summary["step"], summary["best_step"]) == (6, 2)


def test_dry_run_writes_nothing(tmp_path, capsys):
    experiment.main(arguments(tmp_path / "run", "--dry_run"))
    assert not (tmp_path / "run").exists()
    printed = capsys.readouterr().out
    assert "total" in printed
    assert "compiled in" in printed


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--feature=8", "Unknown command line flag 'feature'"),
        ("stray", "expected flags only .* got 'stray'"),
        ("--cell=lsmt", "should be one of"),
        ("--features=0", "--features=0"),
        ("--dropout=1", "--dropout=1"),
        ("--steps=many", "--steps=many"),
        ("--dataset=novel", "python_docs"),
        ("--text=nowhere.txt", "text: expected a file of text, found none at nowhere.txt"),
        ("--tokenizer=letter", "should be one of"),
        ("--vocabulary_size=9", "vocabulary_size: expected 0"),
        ("--min_count=2", "min_count: expected 1, for it chooses words"),
        ("--mesh=data:99", "mesh: expected at most"),
    ],
)
def test_flag_errors(tmp_path, option, message):
    with pytest.raises((SystemExit, ValueError, FileNotFoundError), match=message):
        experiment.main(arguments(tmp_path / "run", option))
    assert not (tmp_path / "run").exists()


def test_command_line():
    def run(*options):
        command = [sys.executable, "-m", "experiments.language_model", *options]
        root = pathlib.Path(__file__).parents[2]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)

    helped, failed = run("--help"), run("--bogus")
    assert helped.returncode == 0
    for flag in ("workdir", "strategy", "seq_length", "prompt"):
        assert f"--{flag}" in helped.stdout.replace("[no]", "")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: Unknown command line flag 'bogus'")
    assert "Traceback" not in failed.stderr
