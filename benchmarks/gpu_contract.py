"""Do the strategies agree on this device? Values and gradients against a plain loop.

The plain loop is `rnnlab.testing.oracle`, run on the CPU in float64. The strategies run on the
device in float32 with `jax_default_matmul_precision` "highest", with a random mask and resets,
forward and reversed.
"""

import concurrent.futures
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_measure import Session, noted
from benchmarks.gpu_plan import Row, not_yet
from rnnlab import testing
from rnnlab.cells import CELLS
from rnnlab.core.cell import Cell
from rnnlab.strategies import Associative, Chunkwise, Deferred, Remat, Scan, Strategy, Unrolled

CELL_NAMES = ("lstm", "gru", "elman", "min_gru", "mlstm")
CONTRACT: tuple[Strategy, ...] = (  # Remat, Chunkwise: 7 steps = 3 + 3 + 1
    Scan(),
    Deferred(),
    Remat(),
    Associative(),
    Chunkwise(3),
    Unrolled(),
)
FEATURES, IN_FEATURES, LENGTH = 16, 8, 7
TOLERANCE = 1e-5  # of the largest entry of a leaf, or of 1 if that is larger
RESULT = "deviation"


def contract_rows(names: Sequence[str]) -> list[Row]:
    """One for each cell and strategy that runs it."""
    return [
        {"section": "contract", "cell": name, "strategy": repr(strategy), **not_yet(RESULT)}
        for name in names
        for strategy in CONTRACT
        if strategy.refusal(CELLS[name](FEATURES)) is None
    ]


def check_contract(rows: list[Row], session: Session) -> None:
    """Fills in the rows, those of one cell after another but of all cells at once."""
    names = list(dict.fromkeys(row["cell"] for row in rows))
    with concurrent.futures.ThreadPoolExecutor() as pool:  # compiling is most of it
        parts = [[row for row in rows if row["cell"] == name] for name in names]
        done = [pool.submit(_check_cell, part, session) for part in parts]
        for future in concurrent.futures.as_completed(done):
            future.result()
            session.save()


def _check_cell(rows: list[Row], session: Session) -> None:
    cell = CELLS[rows[0]["cell"]](FEATURES)
    strategies = {repr(strategy): strategy for strategy in CONTRACT}
    reference = functools.cache(functools.partial(expected, cell))
    for row in rows:
        with noted(row, RESULT):
            session.left()
            strategy = strategies[row["strategy"]]
            gaps = [deviation(cell, strategy, way, reference(way)) for way in (False, True)]
            values, gradients = (max(gap) for gap in zip(*gaps, strict=True))
            row[RESULT] = {"values": values, "gradients": gradients}
            if not max(values, gradients) <= TOLERANCE:  # a NaN fails too
                row[RESULT] = {"error": f"values {values:.1e}, gradients {gradients:.1e}"}


def example(cell: Cell) -> testing.Example:
    """Float32 numbers made on the CPU, for the device and for the plain loop."""
    with jax.default_device(jax.devices("cpu")[0]):
        return jax.device_get(testing.marked_example(cell, IN_FEATURES, length=LENGTH))


def expected(cell: Cell, reverse: bool) -> testing.Outcome:
    """What the plain loop gives in float64."""
    with jax.default_device(jax.devices("cpu")[0]), jax.enable_x64(True):
        case = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64 if a.dtype == jnp.float32 else a.dtype),
            example(cell),
        )
        return jax.device_get(testing.oracle(cell, case, reverse))


def deviation(
    cell: Cell, strategy: Strategy, reverse: bool, reference: testing.Outcome
) -> tuple[float, float]:
    """The largest relative differences of values and of gradients, on the default device."""
    with jax.default_matmul_precision("highest"):
        case = jax.tree.map(jnp.asarray, example(cell))
        got = testing.outcome(cell, case, strategy, reverse)
    return _relative(got[:2], reference[:2]), _relative(got.grads, reference.grads)


def _relative(got, reference) -> float:
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(reference), strict=True)
    gaps = [np.max(np.abs(a - b)) / max(1.0, np.max(np.abs(b))) for a, b in pairs]
    return float(np.max(gaps))  # the built-in max would lose a NaN
