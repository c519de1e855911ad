"""Character language models on real text, with truncated backpropagation through time.

    python -m experiments.language_model --dataset=python_docs --workdir=runs/demo
    python -m experiments.language_model --workdir=runs/demo --mode=eval
    python -m experiments.language_model --workdir=runs/demo --mode=eval --dynamic_evaluation
    python -m experiments.language_model --workdir=runs/demo --mode=generate --prompt="The "

The first command trains (about a minute on two cores), prints the loss in nats, bits per
character and perplexity of the held-out text, and a sample. The same command again resumes where
the run stopped. The others look at the run, with its own flags.
"""

import itertools
import math
import sys
from collections.abc import Mapping, Sequence

import jax
from absl import flags

from experiments import common, language_recipe
from rnnlab.data import CORPORA, CharacterVocabulary, Streams, load_corpus
from rnnlab.models import LanguageModel, generate
from rnnlab.training import FitConfig, Ratio, Task, fit, load_best, score_best
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
SAMPLING = ("mode", "prompt", "length", "temperature", "top_k", *language_recipe.DYNAMIC)
"""Flags of a look at a run, which are not part of what it is."""


def _define_flags() -> None:
    def enum(name, default, known, text):
        flags.DEFINE_enum(name, default, list(known), text, flag_values=FLAGS)

    def integer(name, default, text, low, high=None):
        flags.DEFINE_integer(name, default, text, low, high, flag_values=FLAGS)

    def number(name, default, text, low, high=None):
        flags.DEFINE_float(name, default, text, low, high, flag_values=FLAGS)

    def boolean(name, default, text):
        flags.DEFINE_bool(name, default, text, flag_values=FLAGS)

    enum("mode", "train", ("train", "eval", "generate"), "What to do.")
    enum("dataset", "python_docs", CORPORA, "Text.")
    integer("seq_length", 64, "Steps per window, through which gradients go.", 1)
    boolean("stateful", True, "Whether the carry goes on from window to window in training.")
    integer("eval_streams", 32, "Streams the held-out text is read as, whatever the batch size.", 1)
    flags.DEFINE_string("prompt", "\n", "What a sample starts from.", flag_values=FLAGS)
    integer("length", 500, "Characters of a sample.", 1)
    number("temperature", 0.8, "Of sampling; 0 takes the likeliest character.", 0.0)
    integer("top_k", 0, "Samples among the k likeliest characters; 0: among all.", 0)


_define_flags()
language_recipe.define_flags(FLAGS)
language_recipe.define_dynamic_flags(FLAGS)


def build_model(vocabulary_size: int) -> LanguageModel:
    """The model of the flags."""
    return language_recipe.build_model(FLAGS, vocabulary_size)


def setup() -> tuple[LanguageModel, CharacterVocabulary, Task, FitConfig]:
    """Everything that the flags say.

    The vocabulary knows the characters of every split, for there is none to stand for the others.
    """
    corpus = load_corpus(FLAGS.dataset, FLAGS.data_dir)
    vocabulary = CharacterVocabulary.from_text(*corpus.splits.values())
    model = build_model(len(vocabulary))
    task = build_task(model, vocabulary, corpus.splits)
    return model, vocabulary, task, common.fit_config(FLAGS, recorded(), corpus.fingerprint())


def recorded() -> dict[str, str]:
    """The flags that define the run."""
    return common.run_flags(FLAGS, unrecorded=SAMPLING)


def build_task(
    model: LanguageModel, vocabulary: CharacterVocabulary, splits: Mapping[str, str]
) -> Task:
    """Predicting the next character: the loss is the mean over all of them, in nats."""

    def loss(params, carry, window, key):
        tokens = window.inputs.T  # time first
        targets, weights = window.targets.T, window.weights.T
        # The next window begins where a short one ends, so its carry is the one from there.
        mask = weights > 0 if FLAGS.length_deviation else None
        carry, losses, nats = model.losses(
            params, tokens, targets, carry, start=window.start, mask=mask, key=key
        )
        nats = Ratio.mean(nats, weights)
        bits = Ratio(nats.total / math.log(2), nats.weight)
        return Ratio.mean(losses, weights), (carry, {"bpc": bits})

    def held_out(split):
        shape = FLAGS.eval_streams, FLAGS.seq_length
        if FLAGS.dynamic_evaluation:
            shape = 1, FLAGS.dynamic_length
        return Streams(vocabulary.encode(splits[split]), *shape).epoch

    train = vocabulary.encode(splits["train"])
    streams = language_recipe.build_streams(FLAGS, train)
    return Task(
        init=model.init,
        loss=loss,
        optimizer=language_recipe.build_optimizer(FLAGS),
        train_batches=streams.windows,
        eval_batches={split: held_out(split) for split in splits if split != "train"},
        initial_state=model.initial_carry,
        assets={"vocabulary.json": vocabulary.to_json()},
        derive=add_perplexity,
        unit="tok",
        partition=model.partition,
    )


def add_perplexity(metrics: dict[str, float]) -> dict[str, float]:
    """The exponential of the loss in nats, which is no mean of anything."""
    return {**metrics, "perplexity": math.exp(min(metrics["loss"], 700))}


def sample(model: LanguageModel, vocabulary: CharacterVocabulary, params) -> str:
    """Prints a sample while it is drawn, and returns it with its prompt."""
    tokens = generate(
        model,
        params,
        vocabulary.encode(FLAGS.prompt),
        jax.random.key(FLAGS.seed),
        temperature=FLAGS.temperature,
        top_k=FLAGS.top_k,
    )
    text = FLAGS.prompt
    sys.stdout.write(text)
    for token in itertools.islice(tokens, FLAGS.length):
        character = vocabulary.decode([token])
        sys.stdout.write(character)
        sys.stdout.flush()
        text += character
    print()
    return text


def report(metrics: dict[str, dict[str, float]], step: int) -> None:
    """Prints the scores of every held-out split."""
    for split, scores in metrics.items():
        print(
            f"{split}: loss {scores['loss']:.4f} nats, {scores['bpc']:.4f} bits per character,"
            f" perplexity {scores['perplexity']:.3f} (checkpoint of step {step})"
        )


def train() -> None:
    """Trains or resumes, then scores and samples the best checkpoint."""
    model, vocabulary, task, config = setup()
    result = fit(task, config)
    if result is None:  # a dry run
        return
    with common.stoppable():
        print(f"\nstopped at step {result.step}: {result.stop_reason}")
        report(result.metrics, result.best_step)
        print(f"sample at temperature {FLAGS.temperature}:")
        text = sample(model, vocabulary, result.params)
        RunDirectory(config.workdir).write("samples.txt", text + "\n")
        print(f"run directory: {config.workdir}")


def evaluate() -> None:
    """Scores the best checkpoint of a run again."""
    _, _, task, config = setup()
    if not FLAGS.dynamic_evaluation:
        report(*score_best(task, config))
        return
    expected = identity(config.flags, config.data, task.assets)
    params, step = load_best(task.init, config.workdir, expected)
    report(language_recipe.evaluate_dynamically(FLAGS, task, params), step)


def generate_text() -> None:
    """Prints a sample of the best checkpoint; needs the run directory alone, not the data."""
    vocabulary = CharacterVocabulary.from_json(RunDirectory(FLAGS.workdir).read("vocabulary.json"))
    model = build_model(len(vocabulary))
    params, _ = load_best(model.init, FLAGS.workdir, {"flags": recorded()})
    sample(model, vocabulary, params)


def main(arguments: Sequence[str]) -> None:
    """Parses flags, and does what `--mode` says."""
    common.parse(FLAGS, arguments)
    if FLAGS.dynamic_evaluation and FLAGS.mode != "eval":
        sys.exit(f"error: --dynamic_evaluation goes with --mode=eval, got --mode={FLAGS.mode}.")
    if FLAGS.mode != "train":
        common.parse_with_run(FLAGS, arguments)
    {"train": train, "eval": evaluate, "generate": generate_text}[FLAGS.mode]()


if __name__ == "__main__":
    main(sys.argv)
