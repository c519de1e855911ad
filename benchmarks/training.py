"""How many tokens a second does a language model train on, here, in flax and in torch?

    python -m benchmarks.training --out=benchmarks/results/training.json

The whole update: embedding, two recurrent layers, softmax over the vocabulary, loss, clipping and
Adam, in float32, with the carry going on from window to window. rnnlab under several strategies,
the same model of flax linen (`RNN(OptimizedLSTMCell)` or `RNN(GRUCell)`) with optax, and of torch
(`LSTM` or `GRU`) with its own Adam; torch is left out where it is missing. All start from the same
weights, and their losses are compared before anything is timed.

The sizes are V:E:H:B:T, by default a model of characters and the medium one of Zaremba et al. 2014.
About four minutes on two cores; --out writes the rows after each size, then a report beside them.
"""

import functools
import importlib
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from benchmarks import command, markdown, timing
from benchmarks.language_arms import Arm, Size, draw_params, flax_arm, rnnlab_arm, torch_arm
from rnnlab.cells import CELLS
from rnnlab.strategies import STRATEGIES

TOLERANCE = 1e-4  # of a loss
TORCH_AGAIN = 3e-3  # after updates: torch has a second bias for every gate, which moves too
WINDOWS = 4  # that are trained on in turn

_CELLS = command.names_list("cells", "lstm,gru", ["lstm", "gru"])
_STRATEGIES = command.names_list(
    "strategies", "scan,deferred,fused,auto", sorted({*STRATEGIES, "fused"})
)
_LAYERS = flags.DEFINE_integer("layers", 2, "Recurrent layers.", lower_bound=1)
_SIZES = flags.DEFINE_list("sizes", "96:64:256:32:64,10000:650:650:20:35", "Sizes V:E:H:B:T.")
flags.register_validator(
    _SIZES,
    lambda sizes: all(re.fullmatch(r"\d+(:\d+){4}", size) for size in sizes),
    "expected five numbers V:E:H:B:T",
)


def load_torch() -> Any:
    """The library, with as many threads as the others have; None where it is missing."""
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(command.THREADS.value)
    return torch


def draw_windows(size: Size) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random tokens, and those that follow them."""
    shape = (WINDOWS, size.length + 1, size.batch)
    tokens = np.random.default_rng(0).integers(0, size.vocabulary, shape)
    return [(window[:-1], window[1:]) for window in tokens]


def build_arms(cell: str, size: Size, torch: Any) -> dict[str, Arm]:
    """Every arm that can run: rnnlab's strategies, flax, torch."""
    params = draw_params(cell, size, _LAYERS.value)
    arms = {"flax": flax_arm(cell, size, params)}
    for name in _STRATEGIES.value:
        strategy = STRATEGIES[name]() if name in STRATEGIES else None
        if strategy is not None and strategy.refusal(CELLS[cell](size.features)) is None:
            arms[f"rnnlab {name}"] = rnnlab_arm(cell, size, params, strategy)
    if torch is not None:
        arms["torch"] = torch_arm(torch, cell, size, params)
    return arms


def bind_windows(arms: Mapping[str, Arm], size: Size, torch: Any) -> dict[str, Any]:
    """Arms as functions of no arguments, each going round the same windows on its own."""

    def turns(name: str) -> Iterator[Any]:
        as_array = (
            torch.tensor if name == "torch" else functools.partial(jnp.asarray, dtype="int32")
        )
        return itertools.cycle([(as_array(x), as_array(y)) for x, y in draw_windows(size)])

    def bind(arm: Arm, windows: Iterator[Any]) -> Any:
        return lambda: arm(next(windows))

    return {name: bind(arm, turns(name)) for name, arm in arms.items()}


def require_same_losses(steps: Mapping[str, Any], what: str) -> dict[str, tuple[float, float]]:
    """The losses of the first window, before and after all were trained on; they must be flax's."""
    losses = {}
    for name, step in steps.items():
        first, *_, again = (float(step()) for _ in range(WINDOWS + 1))
        losses[name] = first, again
    for name, values in losses.items():
        tolerances = TOLERANCE, TORCH_AGAIN if name == "torch" else TOLERANCE
        for loss, expected, tolerance in zip(values, losses["flax"], tolerances, strict=True):
            deviation = timing.largest_deviation(loss, expected)
            timing.require_parity(f"loss of {name}, {what}", deviation, tolerance)
    return losses


def measure(cell: str, size: Size, torch: Any) -> list[dict[str, Any]]:
    """A row for each arm."""
    steps = bind_windows(build_arms(cell, size, torch), size, torch)
    losses = require_same_losses(steps, f"{cell}, {size}")
    times = timing.measure(steps, command.BLOCKS.value, command.BLOCK_SECONDS.value)
    return [
        {
            "cell": cell,
            **size._asdict(),
            "layers": _LAYERS.value,
            "arm": name,
            "losses": losses[name],
            "seconds": times[name].median,
            "tokens_per_second": size.batch * size.length / times[name].median,
            "speed_over": {other: times[other].ratio_to(times[name]) for other in times},
        }
        for name in steps
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each arm, with its speed as a multiple of flax's and torch's."""
    peers = [name for name in ("flax", "torch") if any(row["arm"] == name for row in rows)]
    lines = [["arm", "tokens per second", "ms", *(f"times as fast as {name}" for name in peers)]]
    for row in rows:
        speeds = ["{:.2f} ({:.2f} .. {:.2f})".format(*row["speed_over"][name]) for name in peers]
        milliseconds = f"{1e3 * row['seconds']:.3g}"
        lines.append([row["arm"], f"{row['tokens_per_second']:,.0f}", milliseconds, *speeds])
    return markdown.table(lines)


def main(argv: list[str]) -> None:
    command.start(argv)
    torch, rows, sections = load_torch(), [], []
    versions = {"flax": flax.__version__, "optax": optax.__version__}
    if torch is not None:
        versions["torch"] = torch.__version__
    sizes = [Size(*map(int, text.split(":"))) for text in _SIZES.value]
    for cell in _CELLS.value:
        for size in sizes:
            of_size = measure(cell, size, torch)
            jax.clear_caches()
            rows += of_size
            name = f"{_LAYERS.value} layers of {type(CELLS[cell](1)).__name__}, {size}"
            sections += [f"## {name}", table(of_size)]
            command.log(f"{name}\n\n{table(of_size)}\n")
            command.save_rows(rows, versions=versions)
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    protocol = f"medians of {command.BLOCKS.value} interleaved blocks (least .. most)"
    text = markdown.document(
        "How many tokens a second does a language model train on?",
        "python -m benchmarks.training --out=benchmarks/results/training.json",
        [f"{known}; float32, {protocol}.", *sections],
    )
    command.save_report(text)


if __name__ == "__main__":
    app.run(main)
