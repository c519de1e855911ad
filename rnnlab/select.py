"""Which strategy `Auto` takes: an ordered list that anyone can read, call and test."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from rnnlab.cells.reset_before_gru import ResetBeforeGRU
from rnnlab.cells.rwkv7 import RWKV7
from rnnlab.cells.zoneout import Zoneout
from rnnlab.core.cell import AffineCell, Cell, GatedCell
from rnnlab.core.matrix_cell import MatrixCell
from rnnlab.kernels.listed import listed
from rnnlab.strategies.associative import Associative
from rnnlab.strategies.base import Strategy
from rnnlab.strategies.chunkwise import Chunkwise
from rnnlab.strategies.deferred import Deferred
from rnnlab.strategies.fused import Fused
from rnnlab.strategies.scan import Scan


class Rule(NamedTuple):
    """One line of the list."""

    reason: str
    applies: Callable[[Cell, int, int, str], bool]  # (cell, length, batch, platform)
    strategy: Strategy


def _laid_out(cell: Cell) -> int:
    """Features of a cell whose weights `Fused` lays out first; 0 if it leaves them to XLA."""
    if isinstance(listed(cell), str):
        return 0
    inner: Any = cell.cell if isinstance(cell, Zoneout) else cell
    return inner.features


RULES: tuple[Rule, ...] = (
    Rule(
        "a linear cell on an accelerator from T = 64: parallel over time",
        lambda cell, length, batch, platform: (
            isinstance(cell, AffineCell) and platform != "cpu" and length >= 64
        ),
        Associative(),
    ),
    Rule(
        "a cell of the CPU kernel, where that is built and the batch stays on one device; large"
        " weights only for 64 rows or more, since the kernel lays them out first, unless `Scan` is"
        " all there is beside it for two products a step",
        lambda cell, length, batch, platform: (
            platform == "cpu"
            and jax.device_count() == 1
            and Fused().refusal(cell) is None
            and (length * batch >= 64 or _laid_out(cell) <= 256 or isinstance(cell, ResetBeforeGRU))
        ),
        Fused(),
    ),
    Rule(
        "a gated cell: weight gradients after the reverse loop",
        lambda cell, length, batch, platform: isinstance(cell, GatedCell),
        Deferred(),
    ),
    Rule(
        "a matrix as state, where the decays between steps are numbers and not vectors: chunks",
        lambda cell, length, batch, platform: (
            isinstance(cell, MatrixCell) and not isinstance(cell, RWKV7)
        ),
        Chunkwise(),
    ),
    Rule("anything else: the plain loop", lambda cell, length, batch, platform: True, Scan()),
)


def select_strategy(cell: Cell, length: int, batch: int, platform: str) -> Strategy:
    """The strategy of the first rule of `RULES` that applies.

    Args:
      cell: the cell to run.
      length: T.
      batch: examples in the batch, the product of its axes.
      platform: "cpu", "gpu" or "tpu".

    Example:
        >>> import rnnlab
        >>> from rnnlab.select import select_strategy
        >>> select_strategy(rnnlab.cells.MGU(128), length=100, batch=16, platform="cpu")
        Deferred(unroll=1)
    """
    return next(rule.strategy for rule in RULES if rule.applies(cell, length, batch, platform))
