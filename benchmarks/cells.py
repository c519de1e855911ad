"""A character language model with every cell: loss, speed and size in one table.

    python -m benchmarks.cells
    python -m benchmarks.cells --cells=lstm,gru --steps=20

Every cell is trained on Python's own documentation with the same settings: batches of 32 windows of
64 characters, AdamW at one learning rate. Nothing is tuned for a cell, so the losses say that each
of them learns, not which is best. The speed is the median over log windows, evaluations left out;
cells run one after another, so it compares them roughly.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import app, flags, logging

from benchmarks import language_task, short_runs, timing
from rnnlab.cells import CELLS, Stack
from rnnlab.core.wrapper import Wrapper
from rnnlab.data import CharacterVocabulary, load_corpus
from rnnlab.models import LanguageModel
from rnnlab.select import select_strategy
from rnnlab.strategies import Auto
from rnnlab.training import Task

FEATURES, BATCH, WINDOW, EMBEDDING, RATE = 128, 32, 64, 64, 4e-3
COLUMNS = ("cell", "valid loss, nats", "tokens per second", "parameters", "strategy")

_CELLS = flags.DEFINE_list("cells", ["all"], "Names of CELLS, or all.")
_STEPS = flags.DEFINE_integer("steps", 300, "Updates for each.", lower_bound=3)
_THREADS = flags.DEFINE_integer("threads", 2, "Cores to use.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "Markdown file to write; empty writes none.")


def build_task(name: str, splits: Mapping[str, str], steps: int) -> tuple[LanguageModel, Task]:
    """Predicting the next character with one layer of a cell."""
    vocabulary = CharacterVocabulary.from_text(*splits.values())
    cells = (CELLS[name](FEATURES),)
    model = LanguageModel(len(vocabulary), EMBEDDING, cells=cells, strategy=Auto())
    tokens = {split: vocabulary.encode(text) for split, text in splits.items()}
    return model, language_task.build_task(model, tokens, BATCH, WINDOW, steps, RATE)


def train(name: str, splits: Mapping[str, str], steps: int) -> dict[str, Any]:
    """A row of the table."""
    model, task = build_task(name, splits, steps)
    params = jax.eval_shape(model.init, jax.random.key(0))
    cell = model.cells[0]
    chosen = type(select_strategy(cell, WINDOW, BATCH, jax.default_backend())).__name__
    if isinstance(cell, (Stack, Wrapper)):
        chosen = "each part its own"
    row: dict[str, Any] = {
        "cell": name,
        "loss": None,
        "speed": None,
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)),
        "strategy": chosen,
    }
    run = short_runs.train(task, steps, BATCH, evaluations=1, logs=6)
    if run is None:
        print(f"{name}: training did not stay finite", flush=True)
        return row
    return row | {"loss": run.loss, "speed": BATCH * WINDOW / run.seconds_per_step}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as Markdown, those that learned best first."""
    lines = [COLUMNS, ["-"] + ["-:"] * 3 + ["-"]]
    for row in sorted(rows, key=lambda row: math.inf if row["loss"] is None else row["loss"]):
        loss = "not finite" if row["loss"] is None else f"{row['loss']:.3f}"
        speed = "" if row["speed"] is None else f"{row['speed']:,.0f}"
        lines.append([row["cell"], loss, speed, f"{row['parameters']:,}", row["strategy"]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    names = list(CELLS) if _CELLS.value == ["all"] else _CELLS.value
    unknown = sorted(set(names) - set(CELLS))
    if unknown:
        raise app.UsageError(f"--cells: expected names of {', '.join(CELLS)}, got {unknown}")
    timing.prepare(_THREADS.value)
    logging.set_verbosity(logging.WARNING)  # orbax tells of every save
    corpus = load_corpus("python_docs")
    rows = []
    for name in names:
        print(f"\n{name}", flush=True)
        rows.append(train(name, corpus.splits, _STEPS.value))
        jax.clear_caches()
    machine = ", ".join(f"{name} {value}" for name, value in timing.machine().items())
    text = (
        f"Character language models, {_STEPS.value} steps, {FEATURES} features, batch {BATCH},"
        f" window {WINDOW}, learning rate {RATE}, not tuned for any cell.\n\n{table(rows)}\n\n"
        f"Machine: {machine}.\n"
    )
    print("\n" + text)
    if _OUT.value:
        path = pathlib.Path(_OUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# Every cell as a language model\n\n" + text)


if __name__ == "__main__":
    app.run(main)
