"""Layer 2: the cells. `CELLS` is the catalogue that flags, tests and benchmarks read."""

from collections.abc import Callable

from rnnlab.cells.elman import Elman as Elman
from rnnlab.cells.gru import GRU as GRU
from rnnlab.cells.lru import LRU as LRU
from rnnlab.cells.lstm import LSTM as LSTM
from rnnlab.cells.lstm import LSTMCarry as LSTMCarry
from rnnlab.cells.min_gru import MinGRU as MinGRU
from rnnlab.cells.reset_before_gru import ResetBeforeGRU as ResetBeforeGRU
from rnnlab.cells.residual import Residual as Residual
from rnnlab.cells.stack import Stack as Stack
from rnnlab.core.cell import Cell

CELLS: dict[str, Callable[[int], Cell]] = {
    "elman": Elman,
    "lstm": LSTM,
    "gru": GRU,
    "reset_before_gru": ResetBeforeGRU,
    "min_gru": MinGRU,
    "lru": LRU,
}
"""A cell of any size by the name that `--cell` takes."""
