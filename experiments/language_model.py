"""Language models of characters, words or pieces, with truncated backpropagation through time.

    python -m experiments.language_model --dataset=python_docs --workdir=runs/demo
    python -m experiments.language_model --workdir=runs/demo --mode=eval
    python -m experiments.language_model --workdir=runs/demo --mode=eval --dynamic_evaluation
    python -m experiments.language_model --workdir=runs/demo --mode=generate --prompt="The "

The first command trains (about a minute on two cores), prints the loss in nats, bits per
character and perplexity of the held-out text, and a sample. The same command again resumes where
the run stopped. The others look at the run, with its own flags; so does `--mode=neighbours
--word=king`, which prints what the embedding takes for alike.

Per word, perplexity is that of the whole split, exp(nats / words), whatever the tokens are; where
words are hidden behind `<unk>` it is, like bits per character, that of the text with `<unk>` in it.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments import common, language_recipe
from experiments.language_samples import check_sampling, sample, show_neighbours
from rnnlab import plot
from rnnlab.data import (
    CORPORA,
    Corpus,
    Extent,
    Streams,
    Tokenizer,
    Vectors,
    WordVocabulary,
    build_tokenizer,
    encode_text,
    load_corpus,
    measure,
    read_glove,
    read_text,
    tokenizer_from_json,
)
from rnnlab.data.language import KINDS
from rnnlab.models import LanguageModel
from rnnlab.models.context import loss_by_position
from rnnlab.training import Evaluation, FitConfig, Ratio, Task, fit, load_best, score_best
from rnnlab.training.run import RunDirectory, identity

FLAGS = common.define_shared_flags(
    {
        "workdir": "runs/language_model",
        "steps": 1000,
        "batch_size": 32,
        "learning_rate": 4e-3,
        "features": 256,
        "eval_every": 250,
        "warmup_steps": 100,
        "decay_steps": 1000,
    }
)
SAMPLING = (  # a look at a run, not part of what it is
    *("mode", "prompt", "length", "samples", "sample_seed", "temperature", "top_k", "top_p"),
    *("word", "neighbours", "by_position"),
    *language_recipe.DYNAMIC,
)
POSITIONS = "loss_by_position.json"


def _define_flags() -> None:
    def enum(name, default, known, text):
        flags.DEFINE_enum(name, default, list(known), text, flag_values=FLAGS)

    def integer(name, default, text, low, high=None):
        flags.DEFINE_integer(name, default, text, low, high, flag_values=FLAGS)

    def number(name, default, text, low, high=None):
        flags.DEFINE_float(name, default, text, low, high, flag_values=FLAGS)

    def text(name, default, help_text):
        flags.DEFINE_string(name, default, help_text, flag_values=FLAGS)

    def boolean(name, default, text):
        flags.DEFINE_bool(name, default, text, flag_values=FLAGS)

    enum("mode", "train", ("train", "eval", "generate", "neighbours"), "What to do.")
    enum("dataset", "python_docs", CORPORA, "Text.")
    text("text", "", "A UTF-8 file, instead of --dataset.")
    enum("tokenizer", "character", KINDS, "What the text is cut into.")
    integer("vocabulary_size", 0, "Words at most (0: all), or pieces of sentencepiece.", 0)
    integer("min_count", 1, "Words that are less frequent are <unk>.", 1)
    integer("seq_length", 64, "Steps per window, through which gradients go.", 1)
    boolean("stateful", True, "Whether the carry goes on from window to window in training.")
    integer("eval_streams", 32, "Streams the held-out text is read as, whatever the batch size.", 1)
    text("embeddings", "", "Vectors of words in GloVe's format to start from.")
    boolean("by_position", False, "Whether evaluations find the loss by tokens read, and draw it.")
    text("prompt", None, "What a sample starts from; default: a new line, if the text has one.")
    integer("samples", 1, "How many; one is shown while it is drawn.", 1)
    integer("length", 500, "Tokens of a sample.", 1)
    integer("sample_seed", 0, "Of samples.", 0)
    number("temperature", 0.8, "Of sampling; 0 takes the likeliest token.", 0.0)
    integer("top_k", 0, "Samples among the k likeliest tokens; 0: among all.", 0)
    number("top_p", 1.0, "Samples among the fewest tokens that have this probability.", 1e-9, 1.0)
    text("word", "", "Whose neighbours --mode=neighbours prints.")
    integer("neighbours", 10, "How many.", 1)


_define_flags()
language_recipe.define_flags(FLAGS)
language_recipe.define_dynamic_flags(FLAGS)


def build_model(vocabulary_size: int) -> LanguageModel:
    """The model of the flags."""
    return language_recipe.build_model(FLAGS, vocabulary_size)


def load() -> Corpus:
    """The text of the flags."""
    return read_text(FLAGS.text) if FLAGS.text else load_corpus(FLAGS.dataset, FLAGS.data_dir)


def saved_tokenizer() -> Tokenizer:
    """The tokenizer of the run."""
    return tokenizer_from_json(RunDirectory(FLAGS.workdir).read("vocabulary.json"))


def setup() -> tuple[LanguageModel, Tokenizer, Task, FitConfig]:
    """Everything that the flags say; prints how long the splits are."""
    corpus = load()
    data = corpus.fingerprint()
    if FLAGS.mode == "train":
        size, least = FLAGS.vocabulary_size, FLAGS.min_count
        tokenizer = build_tokenizer(FLAGS.tokenizer, corpus.splits, size=size, min_count=least)
    else:
        tokenizer = saved_tokenizer()
    tokens = {split: encode_text(tokenizer, text) for split, text in corpus.splits.items()}
    extents = measure(tokenizer, corpus.splits, tokens)
    print(f"{len(tokenizer):,} kinds of tokens")
    for split, extent in extents.items():
        print(f"{split}: {extent}")
    note_short_streams(tokens)
    vectors = load_vectors(tokenizer) if FLAGS.embeddings else None
    model = build_model(len(tokenizer))
    task = build_task(model, tokenizer, tokens, extents)
    if vectors:
        data["embeddings"] = vectors.sha256
        task = dataclasses.replace(task, init=start_from(vectors, task.init))
    return model, tokenizer, task, common.fit_config(FLAGS, recorded(), data)


def note_short_streams(tokens: Mapping[str, np.ndarray]) -> None:
    """Says where a held-out text is read as streams that begin more often than they go on."""
    for split, text in tokens.items():
        length = len(text) // FLAGS.eval_streams
        if split != "train" and length < FLAGS.seq_length:
            print(
                f"note: {split} is read as --eval_streams={FLAGS.eval_streams} of {length} tokens,"
                " each from its own beginning; one stream carries the state through all of it"
            )


def load_vectors(tokenizer: Tokenizer) -> Vectors:
    """The pretrained vectors of the tokens; they say how many features the embedding has."""
    if not isinstance(tokenizer, WordVocabulary):
        raise ValueError(f"embeddings: expected --tokenizer=word, got {FLAGS.tokenizer}.")
    vectors = read_glove(FLAGS.embeddings, tokenizer.specials + tokenizer.words)
    places, features = vectors.values.shape
    if FLAGS["embedding_features"].present and FLAGS.embedding_features != features:
        raise ValueError(
            f"embedding_features: expected {features}, as in {FLAGS.embeddings}, got"
            f" {FLAGS.embedding_features}. Leave the flag out."
        )
    FLAGS.embedding_features = features  # what the run is recorded with
    print(f"{places:,} of {len(tokenizer):,} embeddings start as in {FLAGS.embeddings}")
    return vectors


def start_from(vectors: Vectors, init: Callable) -> Callable:
    """`key -> params` drawn as `init` does, but for the tokens that have a vector."""

    def start(key):
        params = init(key)
        return params._replace(embedding=params.embedding.at[vectors.tokens].set(vectors.values))

    return start


def recorded() -> dict[str, str]:
    """The flags that define the run."""
    chosen = common.run_flags(FLAGS, unrecorded=SAMPLING)
    if FLAGS.mode == "eval":  # it may read the text as other streams than training did
        saved = RunDirectory(FLAGS.workdir).read_flags()
        chosen["eval_streams"] = saved.get("eval_streams", chosen["eval_streams"])
    return chosen


def build_task(
    model: LanguageModel,
    tokenizer: Tokenizer,
    splits: Mapping[str, np.ndarray],
    extents: Mapping[str, Extent],
) -> Task:
    """Predicting the next token: the loss is the mean over all of them, in nats.

    Args:
      model: of the tokens.
      tokenizer: saved with the run.
      splits: split -> tokens.
      extents: split -> how long it is.
    """

    def loss(params, carry, window, key):
        tokens = window.inputs.T  # time first
        targets, weights = window.targets.T, window.weights.T
        # The next window begins where a short one ends, so its carry is the one from there.
        mask = weights > 0 if FLAGS.length_deviation else None
        carry, losses, nats = model.losses(
            params, tokens, targets, carry, start=window.start, mask=mask, key=key
        )
        loss = Ratio.mean(losses, weights)
        # Scores are of the text, so what is paid for outputs in training is no part of them.
        return loss, (carry, {} if losses is nats else {"nats": Ratio.mean(nats, weights)})

    def held_out(split):
        shape = FLAGS.eval_streams, FLAGS.seq_length
        if FLAGS.dynamic_evaluation:
            shape = 1, FLAGS.dynamic_length
        return Streams(splits[split], *shape).epoch

    def derive(split, metrics):
        return metrics | extents[split].scores(metrics.get("nats", metrics["loss"]))

    def evaluate(params, windows, key):
        losses = loss_by_position(model, params, windows).round(4).tolist()
        return Evaluation({}, {POSITIONS: json.dumps(losses) + "\n"})

    streams = language_recipe.build_streams(FLAGS, splits["train"])
    return Task(
        init=model.init,
        loss=loss,
        optimizer=language_recipe.build_optimizer(FLAGS),
        train_batches=streams.windows,
        eval_batches={split: held_out(split) for split in splits if split != "train"},
        evaluate=evaluate if FLAGS.by_position else None,
        initial_state=model.initial_carry,
        assets={"vocabulary.json": tokenizer.to_json()},
        derive=derive,
        unit="tok",
        partition=model.partition,
    )


def report(metrics: dict[str, dict[str, float]], step: int) -> None:
    """Prints the scores of every held-out split."""
    for split, scores in metrics.items():
        print(
            f"{split}: loss {scores['loss']:.4f} nats, {scores['bpc']:.4f} bits per character,"
            f" perplexity {scores['perplexity']:.3f}, {scores['word_perplexity']:.5g} per word"
            f" (checkpoint of step {step})"
        )


def draw_positions(run: RunDirectory, step: int) -> None:
    """A heat map of what the evaluations found, also those before the run was resumed."""
    found = run.path.glob(f"eval/*/valid/{POSITIONS}")
    rows = {int(path.parts[-3]): json.loads(path.read_text()) for path in found}
    if not rows:
        print("note: no evaluation was made with --by_position; --mode=eval --by_position is one")
        return
    picture = functools.partial(plot.losses_by_position, rows)
    run.write_artifacts(step, "valid", {"loss_by_position.png": picture})


def train() -> None:
    """Trains or resumes, then scores and samples the best checkpoint."""
    model, tokenizer, task, config = setup()
    check_sampling(FLAGS, model, tokenizer)
    result = fit(task, config)
    if result is None:  # a dry run
        return
    with common.stoppable():
        print(f"\nstopped at step {result.step}: {result.stop_reason}")
        report(result.metrics, result.best_step)
        print(f"sample at temperature {FLAGS.temperature}:")
        text = sample(FLAGS, model, tokenizer, result.params)
        run = RunDirectory(config.workdir)
        run.write("samples.txt", text + "\n")
        if FLAGS.by_position:
            draw_positions(run, result.step)
        print(f"run directory: {config.workdir}")


def best() -> tuple[LanguageModel, Tokenizer, Any]:
    """The model of a run, its tokenizer and best parameters, from the run directory alone."""
    tokenizer = saved_tokenizer()
    model = build_model(len(tokenizer))
    params, _ = load_best(model.init, FLAGS.workdir, {"flags": recorded()})
    return model, tokenizer, params


def evaluate() -> None:
    """Scores the best checkpoint of a run again."""
    _, _, task, config = setup()
    if FLAGS.dynamic_evaluation:
        evaluate_dynamically(task, config)
        return
    found, step = score_best(task, config)
    report({split: dict(evaluation.metrics) for split, evaluation in found.items()}, step)
    if FLAGS.by_position:
        run = RunDirectory(config.workdir)
        run.write_artifacts(step, "valid", found["valid"].artifacts)
        draw_positions(run, step)


def evaluate_dynamically(task: Task, config: FitConfig) -> None:
    """Scores it while it learns."""
    expected = identity(config.flags, config.data, task.assets)
    params, step = load_best(task.init, config.workdir, expected)
    scores = language_recipe.evaluate_dynamically(FLAGS, task, params)
    report(scores, step)
    static = RunDirectory(config.workdir).read_summary().get("metrics") or {}
    for split in scores:
        if FLAGS.dynamic_learning_rate and split in static:
            note_worse(split, scores[split]["loss"], static[split]["loss"])


def note_worse(split: str, dynamic: float, static: float) -> None:
    """Says where dynamic evaluation has lost more than the run's own evaluation."""
    if dynamic > static:
        print(
            f"note: {split} was {static:.4f} nats without learning; a lower"
            f" --dynamic_learning_rate than {FLAGS.dynamic_learning_rate:g} moves less"
        )


def generate_text() -> None:
    """Prints a sample of the best checkpoint."""
    sample(FLAGS, *best())


def neighbours() -> None:
    """Prints the neighbours of a word in the best checkpoint."""
    _, tokenizer, params = best()
    show_neighbours(FLAGS, tokenizer, params.embedding)


MODES = {"train": train, "eval": evaluate, "generate": generate_text, "neighbours": neighbours}


def main(arguments: Sequence[str]) -> None:
    """Parses flags, and does what `--mode` says."""
    common.parse(FLAGS, arguments)
    language_recipe.check_dynamic_flags(FLAGS)
    if FLAGS.mode != "train":
        common.parse_with_run(FLAGS, arguments)
    MODES[FLAGS.mode]()


if __name__ == "__main__":
    main(sys.argv)
