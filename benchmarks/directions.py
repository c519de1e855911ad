"""Do both directions of a bidirectional layer pay as one batched recurrence?

    python -m benchmarks.directions --out=benchmarks/results/directions.json

Two recurrences, one after another, against one over stacked weights, whose every step is a batched
matmul. Layers as a wavefront would have the same batched matmul, over layers in place of
directions. Forward and forward+backward (gradients of parameters and inputs), float32, the same
results. About a minute and a half.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import app

import rnnlab
from benchmarks import command, markdown, timing
from benchmarks.cases import CPU_SHAPES, Shape
from rnnlab.cells import LSTM
from rnnlab.strategies import Deferred, Fused, Scan, Strategy

TOLERANCE = 1e-4  # between two float32 programs

_SHAPES = command.positive_list("shapes", "1,4,6,8", "Which of benchmarks.cases.CPU_SHAPES.")


def in_turn(cell: LSTM, params: Any, xs: jax.Array, strategy: Strategy) -> jax.Array:
    """Forward, then backward."""
    return rnnlab.bidirectional(cell, cell, params, xs, strategy=strategy)[1]


def batched(cell: LSTM, params: Any, xs: jax.Array, strategy: Strategy) -> jax.Array:
    """One recurrence over both, mapped over the weights of the directions."""
    stacked = jax.tree.map(lambda *pair: jnp.stack(pair), *params)

    def run(params, xs):
        return rnnlab.unroll(cell, params, xs, strategy=strategy)[1]

    forward, backward = jax.vmap(run)(stacked, jnp.stack([xs, xs[::-1]]))
    return jnp.concatenate([forward, backward[::-1]], axis=-1)


ARMS: dict[str, tuple[Callable[..., jax.Array], Strategy]] = {
    "Scan, in turn": (in_turn, Scan()),
    "Scan, batched": (batched, Scan()),
    "Deferred, in turn": (in_turn, Deferred()),
    "Deferred, batched": (batched, Deferred()),
    "Fused, in turn": (in_turn, Fused()),
}


def measure(shape: Shape, backward: bool) -> list[dict[str, Any]]:
    """Compares the arms, then times them against one another; a row each."""
    cell = LSTM(shape.features)
    keys = jax.random.split(jax.random.key(0), 3)
    params = tuple(cell.init(key, shape.features) for key in keys[:2])
    xs = jax.random.normal(keys[2], (shape.length, shape.batch, shape.features))

    def program(run, strategy):
        run = functools.partial(run, cell, strategy=strategy)
        loss = jax.grad(lambda params, xs: jnp.sum(jnp.sin(run(params, xs))), (0, 1))
        return functools.partial(jax.jit(loss if backward else run), params, xs)

    able = {name: arm for name, arm in ARMS.items() if arm[1].refusal(cell) is None}
    programs = {name: program(*arm) for name, arm in able.items()}
    expected = programs["Scan, in turn"]()
    for name, call in programs.items():
        deviation = timing.largest_deviation(call(), expected)
        timing.require_parity(f"{name} at {shape}", deviation, TOLERANCE)
    times = timing.measure(programs, command.BLOCKS.value, command.BLOCK_SECONDS.value)
    base = {"shape": str(shape), "backward": backward}
    return [base | {"arm": name, "milliseconds": 1e3 * t.median} for name, t in times.items()]


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds, a line for each shape and pass."""
    lines = [["H, B, T", "pass", *dict.fromkeys(row["arm"] for row in rows)]]
    for shape, backward in dict.fromkeys((row["shape"], row["backward"]) for row in rows):
        here = [r for r in rows if (r["shape"], r["backward"]) == (shape, backward)]
        times = [f"{row['milliseconds']:.3g}" for row in here]
        lines.append([shape, "forward+backward" if backward else "forward", *times])
    text = "Milliseconds of an LSTM in both directions, float32:"
    return markdown.document(
        "Both directions: in turn, or as one batched recurrence",
        "python -m benchmarks.directions --out=benchmarks/results/directions.json",
        [text, markdown.table(lines)],
    )


def main(argv: Sequence[str]) -> None:
    """Measures the shapes, prints the table and writes it."""
    command.start(argv)
    rows: list[dict[str, Any]] = []
    for number in command.numbers(_SHAPES):
        for backward in (False, True):
            rows += measure(CPU_SHAPES[number - 1], backward)
            command.save_rows(rows)
        command.log(str(CPU_SHAPES[number - 1]))
    print(report(rows))
    command.save_report(report(rows))


if __name__ == "__main__":
    app.run(main)
