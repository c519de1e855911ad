"""Classification of whole series of unequal length: which pattern does a control chart show?

    python -m experiments.classifier --workdir=runs/classifier

It trains on series made from a seed (about ten seconds on two cores), prints loss and accuracy on
held-out ones, and draws a table of what was taken for what. The same command again resumes.
"""

import functools
import hashlib
import sys
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import common
from rnnlab import plot
from rnnlab.data import Batches, Normaliser, control_charts, pad
from rnnlab.data.synthetic import CONTROL_CHART_CLASSES, Series
from rnnlab.models import Classifier
from rnnlab.strategies import STRATEGIES
from rnnlab.training import Evaluation, Ratio, Task, fit

FLAGS = common.define_shared_flags(
    {
        "workdir": "runs/classifier",
        "steps": 300,
        "batch_size": 32,
        "learning_rate": 1e-2,
        "features": 32,
        "cell": "gru",
        "decay_steps": 300,
        "eval_every": 50,
    }
)
LENGTH = 60
SPLITS = {"train": 600, "valid": 300, "test": 300}  # series, each split from a seed of its own

flags.DEFINE_enum("dataset", "synthetic", ["synthetic"], "Series.", flag_values=FLAGS)
flags.DEFINE_float("dropout", 0.0, "Rate between layers and on the mean.", flag_values=FLAGS)
flags.DEFINE_integer("eval_batch_size", 64, "Rows of a held-out batch.", 1, flag_values=FLAGS)


def collate(normaliser: Normaliser, series: Sequence[Series]) -> dict[str, np.ndarray]:
    """Normalises series and pads them to one length."""
    values, lengths = pad([normaliser.apply(one.values) for one in series], LENGTH)
    return {"xs": values, "lengths": lengths, "labels": np.stack([one.label for one in series])}


def load_data() -> tuple[dict[str, list[Series]], dict[str, str]]:
    """Split -> series, and split -> SHA-256."""
    splits = {name: control_charts(n, seed) for seed, (name, n) in enumerate(SPLITS.items())}
    values = {name: np.concatenate([one.values for one in splits[name]]) for name in splits}
    return splits, {name: hashlib.sha256(values[name].tobytes()).hexdigest() for name in splits}


def build_task(splits: dict[str, list[Series]]) -> Task:
    """Cross entropy of the class; `select` looks at the accuracy."""
    normaliser = Normaliser.fit(np.concatenate([one.values for one in splits["train"]]))
    prepare = functools.partial(collate, normaliser)
    model = Classifier(
        in_features=1,
        classes=len(CONTROL_CHART_CLASSES),
        cells=common.build_cells(FLAGS),
        dropout=FLAGS.dropout,
        strategy=STRATEGIES[FLAGS.strategy](),
    )

    def logits_of(params, batch, key=None):
        xs = jnp.swapaxes(batch.examples["xs"], 0, 1)  # time first
        return model.apply(params, xs, batch.examples["lengths"], key=key).astype(jnp.float32)

    def loss(params, state, batch, key):
        logits, labels = logits_of(params, batch, key), batch.examples["labels"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        accuracy = Ratio.mean(jnp.argmax(logits, -1) == labels, batch.weights)
        return Ratio.mean(losses, batch.weights), (state, {"accuracy": accuracy})

    def evaluate(params, batches, key):
        table = np.zeros((model.classes,) * 2, int)
        for batch in batches:
            guesses = np.argmax(logits_of(params, batch), -1)
            real = batch.weights > 0
            np.add.at(table, (batch.examples["labels"][real], guesses[real]), 1)
        picture = functools.partial(plot.confusion, table, CONTROL_CHART_CLASSES)
        return Evaluation({}, {"confusion.png": picture})

    train = Batches(splits["train"], FLAGS.batch_size, FLAGS.seed, collate=prepare)
    held_out = {
        name: Batches(splits[name], FLAGS.eval_batch_size, collate=prepare).epoch
        for name in ("valid", "test")
    }
    return Task(
        init=model.init,
        loss=loss,
        optimizer=common.build_optimizer(FLAGS),
        train_batches=train.batches,
        eval_batches=held_out,
        evaluate=evaluate,
        select=("accuracy", "max"),
        assets={"normaliser.json": normaliser.to_json()},
    )


def main(arguments: Sequence[str]) -> None:
    """Parses flags, trains, prints the scores."""
    common.parse(FLAGS, arguments)
    splits, fingerprint = load_data()
    config = common.fit_config(FLAGS, common.run_flags(FLAGS), fingerprint)
    result = fit(build_task(splits), config)
    for split, scores in result.metrics.items() if result else ():
        print(f"{split}: loss {scores['loss']:.4f}, accuracy {scores['accuracy']:.4f}")


if __name__ == "__main__":
    main(sys.argv)
