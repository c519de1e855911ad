"""How much faster is an LSTM with `Deferred` than `flax.linen.RNN(OptimizedLSTMCell)`?

    python -m benchmarks.deferred_vs_flax

Forward and backward, with gradients of parameters and inputs through all outputs, float32. The
weights are the same and the gradients are compared before anything is timed. The plain `Scan`
is timed beside them.
"""

import pathlib

import flax
import flax.linen
import jax
import jax.numpy as jnp
from absl import app, flags

import rnnlab
from benchmarks import timing
from rnnlab.cells.lstm import LSTMParams

SHAPES = (  # (H, B, T)
    (256, 1, 128),
    (256, 8, 128),
    (1024, 16, 25),
    (128, 16, 100),
    (256, 64, 150),
    (650, 20, 35),
)

_BLOCKS = flags.DEFINE_integer("blocks", 9, "Interleaved blocks.", lower_bound=1)
_SHAPES = flags.DEFINE_integer("shapes", len(SHAPES), "How many of the shapes.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "JSON file to write; empty writes none.")


def flax_params(params: LSTMParams) -> dict:
    """rnnlab's LSTM parameters under the names of flax's `OptimizedLSTMCell`."""
    tree = {}
    for gate, w, u, b in zip("ifgo", *(jnp.split(a, 4, axis=-1) for a in params[:3]), strict=True):
        tree["i" + gate] = {"kernel": w}
        tree["h" + gate] = {"kernel": u, "bias": b}
    return {"params": {"cell": tree}}


def from_flax(tree: dict) -> LSTMParams:
    """The inverse of `flax_params`, for gradients."""
    cell = tree["params"]["cell"]
    return LSTMParams(
        jnp.concatenate([cell["i" + g]["kernel"] for g in "ifgo"], axis=-1),
        jnp.concatenate([cell["h" + g]["kernel"] for g in "ifgo"], axis=-1),
        jnp.concatenate([cell["h" + g]["bias"] for g in "ifgo"], axis=-1),
    )


def compare(features: int, batch: int, length: int, blocks: int) -> dict:
    """Times one shape after checking that all arms agree."""
    cell = rnnlab.cells.LSTM(features)
    params = cell.init(jax.random.key(0), features)
    xs = jax.random.normal(jax.random.key(1), (length, batch, features))
    weights = jax.random.normal(jax.random.key(2), (length, batch, features))
    module = flax.linen.RNN(flax.linen.OptimizedLSTMCell(features), time_major=True)

    def ours(strategy):
        def loss(params, xs):
            return jnp.vdot(weights, rnnlab.unroll(cell, params, xs, strategy=strategy)[1])

        return jax.jit(jax.grad(loss, (0, 1)))

    theirs = jax.jit(
        jax.grad(
            lambda params, xs: jnp.vdot(weights, jnp.asarray(module.apply(params, xs))), (0, 1)
        )
    )
    their_params = flax_params(params)
    grads, dxs = theirs(their_params, xs)
    arms = {"flax": lambda: theirs(their_params, xs)}
    for strategy in (rnnlab.strategies.Scan(), rnnlab.strategies.Deferred()):
        step, name = ours(strategy), type(strategy).__name__
        deviation = timing.largest_deviation(step(params, xs), (from_flax(grads), dxs))
        timing.require_parity(f"{name} at {features, batch, length}", deviation, 1e-5)
        arms[name] = lambda step=step: step(params, xs)
    times = timing.measure(arms, blocks)
    return {
        "shape": {"features": features, "batch": batch, "length": length},
        "milliseconds": {name: 1e3 * t.median for name, t in times.items()},
        "flax_over": {n: times["flax"].ratio_to(t) for n, t in times.items() if n != "flax"},
    }


def main(argv: list[str]) -> None:
    """Measures the shapes and prints a table."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    print(timing.machine() | {"flax": flax.__version__})
    print("  H    B    T |  flax ms  scan ms  deferred ms |  flax / deferred (min .. max)")
    rows = []
    for shape in SHAPES[: _SHAPES.value]:
        row = compare(*shape, blocks=_BLOCKS.value)
        rows.append(row)
        ms, ratio = row["milliseconds"], row["flax_over"]["Deferred"]
        print(
            "{:4d} {:4d} {:4d} |".format(*shape),
            f"{ms['flax']:8.2f} {ms['Scan']:8.2f} {ms['Deferred']:12.2f} |"
            f"  {ratio[0]:.2f} ({ratio[1]:.2f} .. {ratio[2]:.2f})",
            flush=True,
        )
    if _OUT.value:
        timing.save(pathlib.Path(_OUT.value), {"flax": flax.__version__, "rows": rows})


if __name__ == "__main__":
    app.run(main)
