"""What does `fit` cost beside a bare loop over a jitted update?

    python -m benchmarks.trainer_overhead

A character language model is trained on the same batches by `fit`, with its log windows, signals
and checkpoint at the end, and by the dozen lines one would write by hand. Both ends are compared
before a time is printed. The small model shows the cost per step, that of the demo what it means.
"""

import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
import optax
from absl import app, flags, logging

from benchmarks import timing
from rnnlab.cells import LSTM
from rnnlab.data import Streams
from rnnlab.models import LanguageModel
from rnnlab.training import FitConfig, Ratio, Task, fit
from rnnlab.training.optimizers import make_optimizer, make_schedule

SHAPES = ((32, 4, 16), (128, 32, 64), (256, 32, 64))  # (H, B, T)
EVERY = 100  # steps between log windows; the clock runs from the first to the last of them

_BLOCKS = flags.DEFINE_integer("blocks", 7, "Interleaved blocks.", lower_bound=1)
_WINDOWS = flags.DEFINE_integer("windows", 2, "Log windows that are timed.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 2, "Cores to use.", lower_bound=1)
_SHAPES = flags.DEFINE_integer("shapes", len(SHAPES), "How many of the shapes.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "JSON file to write; empty writes none.")


class Clock:
    """Batches from the first step on, and when the first after each log window was asked for.

    By then the device has done all that was asked of it: `fit` has read the window's metrics.
    """

    def __init__(self, streams: Streams):
        self.streams, self.times = streams, []

    def batches(self, first_step: int):
        for step, batch in enumerate(self.streams.windows(first_step), first_step):
            if step and step % EVERY == 0:
                self.times.append(time.perf_counter())
            yield batch

    def seconds_per_step(self) -> float:
        return (self.times[-1] - self.times[0]) / (EVERY * (len(self.times) - 1))


def build(features: int, batch_size: int, length: int):
    """A model, its loss, its optimizer, its streams."""
    model = LanguageModel(100, 64, cells=(LSTM(features),))
    tokens = np.random.default_rng(0).integers(0, 100, 200_000).astype(np.int32)

    def loss(params, carry, window, key):
        carry, logits = model.apply(params, window.inputs.T, carry, start=window.start, key=key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets.T)
        return Ratio.mean(losses, window.weights.T), (carry, {})

    optimizer = make_optimizer("adamw", make_schedule("cosine", 1e-3, 10, 1000), clip_norm=1.0)
    return model, loss, optimizer, Streams(tokens, batch_size, length)


def by_fit(model, loss, optimizer, streams: Streams, steps: int):
    """`fit`, as an experiment calls it; parameters and seconds per step."""
    clock = Clock(streams)
    task = Task(
        init=model.init,
        loss=loss,
        optimizer=optimizer,
        train_batches=clock.batches,
        eval_batches={},
        initial_state=model.initial_carry,
    )
    with tempfile.TemporaryDirectory() as workdir:
        config = FitConfig(
            workdir, steps, streams.num_streams, log_every=EVERY, save_every=steps, eval_every=steps
        )
        result = fit(task, config)
    if result is None:
        raise SystemExit("fit: expected a result, got a dry run.")
    return result.params, clock.seconds_per_step()


def by_hand(model, loss, optimizer, streams: Streams, steps: int):
    """The loop one would write; parameters and seconds per step."""

    def update(params, opt_state, carry, batch):
        def objective(params):
            ratio, (after, _) = loss(params, carry, batch, None)
            return ratio.value, after

        gradients, carry_after = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, carry_after

    update = jax.jit(update, donate_argnums=(0, 1, 2))
    params = model.init(jax.random.split(jax.random.key(0), 3)[0])  # where `fit` begins
    opt_state, carry = optimizer.init(params), model.initial_carry(params, streams.num_streams)
    clock = Clock(streams)
    batches = clock.batches(0)
    for step in range(steps):
        if step % EVERY == 0:
            jax.block_until_ready(params)
        params, opt_state, carry = update(params, opt_state, carry, next(batches))
    jax.block_until_ready(params)
    return params, clock.seconds_per_step()


def compare(features: int, batch_size: int, length: int, steps: int, blocks: int) -> dict:
    """Times one shape."""
    parts = build(features, batch_size, length)
    seconds = {"fit": [], "bare": []}
    arms = {"fit": by_fit, "bare": by_hand}
    for block in range(blocks):
        ends = {}
        for name in arms if block % 2 == 0 else reversed(arms):
            ends[name], taken = arms[name](*parts, steps)
            seconds[name].append(taken)
        deviation = timing.largest_deviation(ends["fit"], ends["bare"])
        timing.require_parity(f"fit at {features, batch_size, length}", deviation, 1e-3)
    ratios = [bare / ours for bare, ours in zip(seconds["bare"], seconds["fit"], strict=True)]
    return {
        "shape": {"features": features, "batch": batch_size, "length": length},
        "milliseconds": {name: 1e3 * statistics.median(all_) for name, all_ in seconds.items()},
        "speed": [statistics.median(ratios), min(ratios), max(ratios)],
    }


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    timing.prepare(_THREADS.value)
    logging.set_verbosity(logging.WARNING)  # orbax tells of every save
    steps = EVERY * (_WINDOWS.value + 1) + 1
    rows = [compare(*s, steps, _BLOCKS.value) for s in SHAPES[: _SHAPES.value]]
    print(timing.machine())
    print("  H    B    T | bare ms   fit ms | speed of fit, bare = 1 (min .. max)")
    for row in rows:
        ms, (middle, low, high) = row["milliseconds"], row["speed"]
        print(
            "{features:4d} {batch:4d} {length:4d} |".format(**row["shape"]),
            f"{ms['bare']:7.2f} {ms['fit']:8.2f} | {middle:.3f} ({low:.3f} .. {high:.3f})",
        )
    if _OUT.value:
        timing.save(pathlib.Path(_OUT.value), {"windows": _WINDOWS.value, "rows": rows})


if __name__ == "__main__":
    app.run(main)
