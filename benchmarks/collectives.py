"""What do devices tell each other in one update of the language model?

    python -m benchmarks.collectives

The update is compiled for 1 to 8 virtual CPU devices, and the collective operations are read from
the program: how many run in an update, those in a loop as often as it turns, and how many bytes
each device hands in. Times of virtual devices, which share the same cores, would say nothing.
"""

import collections
import pathlib
from typing import Any

import jax
import numpy as np
import optax
from absl import app, flags

from benchmarks import timing
from benchmarks.programs import collectives
from rnnlab import strategies
from rnnlab.cells import GRU, LSTM, MinGRU
from rnnlab.data import Streams
from rnnlab.models import LanguageModel
from rnnlab.training import FitConfig, Ratio, Task
from rnnlab.training.log import parameter_count
from rnnlab.training.optimizers import make_optimizer, make_schedule
from rnnlab.training.trainer import Trainer

MESHES = ("data:1", "data:2", "data:4", "data:8", "data:4,model:2", "data:1,model:8")
CASES = {
    "lstm, auto": (LSTM, strategies.Auto),
    "gru, deferred": (GRU, strategies.Deferred),
    "mingru, associative": (MinGRU, strategies.Associative),
    "lstm, scan": (LSTM, strategies.Scan),
    "lstm, remat": (LSTM, strategies.Remat),
}
VOCABULARY, EMBEDDING, FEATURES, ROWS, LENGTH = 512, 64, 128, 32, 64

_OUT = flags.DEFINE_string("out", "", "Markdown file to write; empty writes none.")


def build(case: str, mesh: str) -> tuple[str, int]:
    """The compiled update of a case on a mesh, and the number of its parameters."""
    cell, strategy = CASES[case]
    model = LanguageModel(VOCABULARY, EMBEDDING, cells=(cell(FEATURES),), strategy=strategy())
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, 10_000).astype(np.int32)

    def loss(params, carry, window, key):
        carry, logits = model.apply(params, window.inputs.T, carry, start=window.start, key=key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets.T)
        return Ratio.mean(losses, window.weights.T), (carry, {})

    task = Task(
        init=model.init,
        loss=loss,
        optimizer=make_optimizer("adamw", make_schedule("cosine", 1e-3, 10, 100), clip_norm=1.0),
        train_batches=Streams(tokens, ROWS, LENGTH).windows,
        eval_batches={},
        initial_state=model.initial_carry,
        partition=model.partition,
    )
    trainer = Trainer(task, FitConfig(workdir="", steps=1, batch_size=ROWS, mesh=mesh))
    program, _ = trainer.program(next(iter(task.train_batches(0))))
    compiled: Any = program.call
    return compiled.as_text(), parameter_count(trainer.state.params)


def describe(case: str, mesh: str) -> str:
    """A row of the table."""
    text, parameters = build(case, mesh)
    found = list(collectives(text))
    runs = collections.Counter()
    for one in found:
        runs[one.kind] += one.times
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(runs.items())) or "none"
    total = sum(one.times * one.bytes for one in found)
    return f"| {case} | {mesh} | {kinds} | {total:,} | {total / (4 * parameters):.2f} |"


def main(arguments: list[str]) -> None:
    del arguments
    jax.config.update("jax_num_cpu_devices", 8)
    lines = [
        "# What devices tell each other in one update",
        "",
        "Written by `python -m benchmarks.collectives --out=FILE.md`, from compiled programs: a"
        f" language model of {VOCABULARY} words, {FEATURES} features, batches of {ROWS} rows and"
        f" {LENGTH} steps. Bytes are those that one device hands in.",
        "",
        *(f"- {name}: {value}" for name, value in timing.machine().items()),
        "",
        "| model, strategy | mesh | collectives an update | bytes | bytes / gradients |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for case in CASES:
        for mesh in MESHES:
            lines.append(describe(case, mesh))
            print(lines[-1], flush=True)
    if _OUT.value:
        pathlib.Path(_OUT.value).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
