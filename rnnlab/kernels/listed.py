"""The cells that the CPU kernel runs, and their parameters and carries as it takes them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from rnnlab.cells.elman import Elman, ElmanParams
from rnnlab.cells.gru import GRU, GRUParams
from rnnlab.cells.lstm import LSTM, LSTMParams
from rnnlab.core.cell import Cell
from rnnlab.core.types import Array, LSTMCarry, PyTree


class Weights(NamedTuple):
    """Parameters, or their gradients."""

    kernel: Array  # [F, K]
    bias: Array  # [K]
    recurrent_kernel: Array  # [H, K]
    recurrent_bias: Any = None  # [H], of the u of the last gate, or None


class State(NamedTuple):
    """A carry."""

    h: Array  # [..., H]
    c: Any = None  # [..., H], or None where the cell has no such state


@dataclasses.dataclass(frozen=True)
class Listed:
    """A cell of the kernel: its projection is x W + b, and its output is h."""

    name: str
    saved: int  # arrays [H] a step that the forward loop keeps for the reverse one, besides carries
    weights: Callable[[Any], Weights]
    params: Callable[[Weights], Any]
    state: Callable[[PyTree], State] = State
    carry: Callable[[State], PyTree] = lambda state: state.h


_LSTM = Listed(
    "lstm",
    4,
    lambda params: Weights(params.kernel, params.bias, params.recurrent_kernel),
    lambda weights: LSTMParams(weights.kernel, weights.recurrent_kernel, weights.bias),
    lambda carry: State(carry.h, carry.c),
    lambda state: LSTMCarry(state.c, state.h),
)
_GRU = Listed(
    "gru",
    4,
    lambda params: Weights(
        params.kernel, params.bias, params.recurrent_kernel, params.recurrent_bias
    ),
    lambda weights: GRUParams(
        weights.kernel, weights.recurrent_kernel, weights.bias, weights.recurrent_bias
    ),
)
_ELMAN_TANH = Listed(
    "elman_tanh",
    0,
    lambda params: Weights(params.kernel, params.bias, params.recurrent_kernel),
    lambda weights: ElmanParams(weights.kernel, weights.recurrent_kernel, weights.bias),
)
_ELMAN_RELU = dataclasses.replace(_ELMAN_TANH, name="elman_relu")


def listed(cell: Cell) -> Listed | str:
    """The kernel's entry for a cell, or why it has none, as a sentence without a full stop."""
    options: dict[Cell, Listed] = {}
    if type(cell) is LSTM:
        options = {LSTM(cell.features, forget_bias=cell.forget_bias): _LSTM}
    elif type(cell) is GRU:
        options = {cell: _GRU}
    elif type(cell) is Elman:
        options = {
            Elman(cell.features, activation="tanh"): _ELMAN_TANH,
            Elman(cell.features, activation="relu"): _ELMAN_RELU,
        }
    if cell in options:
        return options[cell]
    if options:
        return f"its kernel has {', '.join(map(str, options))} and no other options"
    return (
        f"its kernel lists LSTM, GRU and Elman, not {type(cell).__name__}. Use Deferred() or Scan()"
    )
