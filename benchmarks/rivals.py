"""What do recurrent models give beside an MLP, a TCN and a Transformer of as many parameters?

    python -m benchmarks.rivals --data_dir=DIR --out=benchmarks/results/rivals.json

Character language models with a budget of parameters that each fills up, trained by the same
trainer on the same tokens in the same batches of windows, each at the learning rate that did best
in a short run of its own. Two layers of a cell, or two blocks of a Transformer that attends to as
many characters as a window has; a TCN of four blocks, which sees 61; an MLP over 16. All carry
what they remember from window to window, also over the whole held-out text. Of training, the loss,
the time (compilation and evaluations left out), and the memory of an update: what it is given and
what it needs on top. Of generation, the time of a token once the context has been read: of a
Transformer it grows with the context, whose keys and values it keeps; the others keep a state of
one size. Models are trained one after another, tokens are timed interleaved.

About 10 minutes on two cores; --out writes the rows after each model, then a report and a picture.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from benchmarks import command, language_task, markdown, rival_report, short_runs, timing
from rnnlab.cells import CELLS
from rnnlab.data import CORPORA, CharacterVocabulary, load_corpus
from rnnlab.models import TCN, LanguageModel, Transformer, WindowMLP
from rnnlab.models.history import HistoryCarry
from rnnlab.models.sizes import count_params, largest_features, largest_transformer
from rnnlab.training import Task
from rnnlab.training.mesh import make_mesh
from rnnlab.training.steps import initial_train_state, lower_train_step, make_train_step

EMBEDDING, LAYERS, HEADS, MLP_CONTEXT, BLOCKS = 64, 2, 4, 16, 4
WITHOUT_RECURRENCE = ("mlp", "tcn", "transformer")
EVALUATIONS = 8  # in a run

_MODELS = command.names_list(
    "models", "lstm,gru,min_gru,mlp,tcn,transformer", [*CELLS, *WITHOUT_RECURRENCE]
)
_DATASET = flags.DEFINE_enum("dataset", "tiny_shakespeare", list(CORPORA), "Text.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets lie, before $RNNLAB_DATA.")
_CHARACTERS = flags.DEFINE_integer("characters", 0, "Of each split, the first; 0: all.", 0)
_PARAMS = flags.DEFINE_integer("num_params", 400_000, "Most parameters of a model.", 1)
_STEPS = flags.DEFINE_integer("steps", 800, "Updates.", lower_bound=EVALUATIONS)
_TRIAL_STEPS = flags.DEFINE_integer("trial_steps", 100, "Updates to try a learning rate.", 1)
_RATES = command.rates_list("rates", "1e-3,2e-3,4e-3,8e-3")
_BATCH = flags.DEFINE_integer("batch", 32, "Rows of a batch.", lower_bound=1)
_WINDOW = flags.DEFINE_integer("window", 64, "Characters of a window.", lower_bound=2)
_CONTEXTS = command.positive_list(
    "contexts", "64,256,1024,4096", "Characters read before those that are timed."
)


def build_model(name: str, vocabulary_size: int) -> LanguageModel:
    """The model that fills the budget."""

    def model_of(**layers: Any) -> LanguageModel:
        return LanguageModel(vocabulary_size, EMBEDDING, **layers)

    def sized(features: int) -> LanguageModel:
        if name == "mlp":
            return model_of(body=WindowMLP(features, MLP_CONTEXT))
        if name == "tcn":
            return model_of(body=TCN(features, BLOCKS))
        return model_of(cells=(CELLS[name](features),) * LAYERS)

    budget = _PARAMS.value
    if name == "transformer":
        smallest = Transformer(2 * HEADS, LAYERS, HEADS, context=_WINDOW.value)
        body = largest_transformer(
            lambda body: count_params(model_of(body=body).init), budget, smallest
        )
        return model_of(body=body)
    return sized(largest_features(lambda n: count_params(sized(n).init), budget))


def update_bytes(task: Task) -> int:
    """What an update is given (weights, moments, carry, batch) and its temporary peak on top."""
    mesh = make_mesh("", _BATCH.value)
    state, shardings = initial_train_state(task, jax.random.key(0), _BATCH.value, mesh)
    step = make_train_step(task, "float32", jax.random.key(0))
    batch = next(iter(task.train_batches(0)))
    memory: Any = lower_train_step(step, state, batch, shardings, mesh).compile().memory_analysis()
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes


def token_arm(model: LanguageModel, params: Any, context: int) -> Callable[[], Any]:
    """Generates the likeliest next token with a context that has been read."""
    if isinstance(model.body, Transformer):
        body = dataclasses.replace(model.body, context=context)
        model = dataclasses.replace(model, body=body)
    carry = model.initial_carry(params, 1)
    if isinstance(carry, HistoryCarry):
        read = jnp.full(1, context, jnp.int32)
        carry = carry._replace(position=read, length=read + 0)  # two buffers, to be donated
    token = jnp.zeros(1, jnp.int32)

    def step(params, carry, token):
        carry, logits = model.step(params, carry, token)
        return carry, jnp.argmax(logits, axis=-1).astype(jnp.int32)

    step = jax.jit(step, donate_argnums=1)

    def arm():
        nonlocal carry, token
        carry, token = step(params, carry, token)
        return token

    return arm


def measure_tokens(models: Mapping[str, LanguageModel]) -> dict[str, dict[str, float]]:
    """Model -> context -> milliseconds for one token; weights do not matter for them."""
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    params = {name: model.init(jax.random.key(0)) for name, model in models.items()}
    for context in command.numbers(_CONTEXTS):
        arms = {name: token_arm(models[name], params[name], context) for name in models}
        times = timing.measure(arms, command.BLOCKS.value, command.BLOCK_SECONDS.value)
        for name, time in times.items():
            found[name][str(context)] = 1e3 * time.median
    return found


def measure(name: str, model: LanguageModel, tokens: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A row of the table, but for generation."""

    def task_of(steps: int, rate: float) -> Task:
        shape = _BATCH.value, _WINDOW.value
        return language_task.build_task(model, tokens, *shape, steps, rate)

    rates = [float(rate) for rate in _RATES.value]
    steps, batch = _TRIAL_STEPS.value, _BATCH.value
    rate, trials = short_runs.best_rate(lambda rate: task_of(steps, rate), rates, steps, batch)
    task = task_of(_STEPS.value, rate)
    found = short_runs.train(task, _STEPS.value, batch, EVALUATIONS)
    if found is None:
        raise SystemExit(f"{name}: training did not stay finite at {rate}. Give lower --rates.")
    jax.clear_caches()
    layers = model.body or model.cells[0]
    return {
        "model": name,
        "parameters": count_params(model.init),
        "layers": str(layers) if model.body else f"{len(model.cells)} x {layers}",
        "rate": rate,
        "trials": trials,
        "loss": found.loss,
        "bits_per_character": found.loss / math.log(2),
        "seconds": found.seconds,
        "tokens_per_second": batch * _WINDOW.value / found.seconds_per_step,
        "course": [(seconds, loss) for _, seconds, loss in found.course],
        "update_bytes": update_bytes(task),
    }


def report(rows: list[dict[str, Any]]) -> str:
    """The Markdown file."""
    tokens = _STEPS.value * _BATCH.value * _WINDOW.value
    about = (
        f"{_DATASET.value}: {tokens:,} characters in {_STEPS.value} updates of {_BATCH.value} x"
        f" {_WINDOW.value}, AdamW under a cosine, the best of the learning rates"
        f" {', '.join(_RATES.value)} after {_TRIAL_STEPS.value} updates; no dropout, one seed."
    )
    sizes = "\n".join(f"- {row['model']}: `{row['layers']}`" for row in rows)
    return markdown.document(
        "What do recurrent models give beside an MLP, a TCN and a Transformer of their size?",
        "python -m benchmarks.rivals --data_dir=DIR --out=benchmarks/results/rivals.json",
        [about, rival_report.tables(rows), sizes],
    )


def main(argv: list[str]) -> None:
    command.start(argv)
    logging.set_verbosity(logging.WARNING)  # orbax tells of every save
    splits = load_corpus(_DATASET.value, _DATA_DIR.value).splits
    splits = {name: text[: _CHARACTERS.value or None] for name, text in splits.items()}
    vocabulary = CharacterVocabulary.from_text(*splits.values())
    tokens = {name: vocabulary.encode(text) for name, text in splits.items()}
    models = {name: build_model(name, len(vocabulary)) for name in _MODELS.value}
    of_tokens, rows = measure_tokens(models), []
    for name, model in models.items():
        rows.append(measure(name, model, tokens) | {"token_milliseconds": of_tokens[name]})
        command.log(rival_report.describe(rows[-1]))
        command.save_rows(rows, dataset=_DATASET.value, steps=_STEPS.value)
    print("\n" + rival_report.tables(rows))
    command.save_report(report(rows), lambda path: rival_report.draw(rows, path))


if __name__ == "__main__":
    app.run(main)
