"""The cells that the CPU kernel runs, and their parameters and carries as it takes them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.cells.elman import Elman, ElmanParams
from rnnlab.cells.gru import GRU, GRUParams
from rnnlab.cells.lstm import LSTM, LSTMNorms, LSTMParams
from rnnlab.cells.min_gru import MinGRU, MinGRUParams
from rnnlab.cells.reset_before_gru import ResetBeforeGRU, ResetBeforeGRUParams
from rnnlab.cells.zoneout import Zoneout
from rnnlab.core.cell import Cell
from rnnlab.core.types import Array, LSTMCarry, PyTree


class Weights(NamedTuple):
    """Parameters, or their gradients."""

    kernel: Array  # [F, K]
    bias: Array  # [K]
    recurrent_kernel: Any = None  # [H, K], or None where the gates read the input alone
    gating: Any = None  # [E * H], other parameters of the gates, or None


class State(NamedTuple):
    """A carry."""

    h: Array  # [..., H]
    c: Any = None  # [..., H], or None where the cell has no such state


@dataclasses.dataclass(frozen=True)
class Listed:
    """A cell of the kernel: it projects x W, and its output is h."""

    name: str
    gates: int  # columns of the kernels, in multiples of H
    saved: int  # arrays [H] a step that the forward loop keeps for the reverse one, besides carries
    weights: Callable[[Any], Weights]
    params: Callable[[Weights], Any]
    state: Callable[[PyTree], State] = State
    carry: Callable[[State], PyTree] = lambda state: state.h
    recurrent: bool = True  # whether it has a recurrent kernel
    gating: int = 0  # E
    rates: tuple[float, float] = (0.0, 0.0)  # of zoneout, of h and c, for steps without marks


_LSTM = Listed(
    "lstm",
    4,
    4,
    lambda params: Weights(params.kernel, params.bias, params.recurrent_kernel),
    lambda weights: LSTMParams(weights.kernel, weights.recurrent_kernel, weights.bias),
    lambda carry: State(carry.h, carry.c),
    lambda state: LSTMCarry(state.c, state.h),
)
_GRU = Listed(
    "gru",
    3,
    4,
    lambda params: Weights(
        params.kernel, params.bias, params.recurrent_kernel, params.recurrent_bias
    ),
    lambda weights: GRUParams(
        weights.kernel, weights.recurrent_kernel, weights.bias, weights.gating
    ),
    gating=1,
)
_ELMAN_TANH = Listed(
    "elman_tanh",
    1,
    0,
    lambda params: Weights(params.kernel, params.bias, params.recurrent_kernel),
    lambda weights: ElmanParams(weights.kernel, weights.recurrent_kernel, weights.bias),
)
_ELMAN_RELU = dataclasses.replace(_ELMAN_TANH, name="elman_relu")
_MIN_GRU = Listed(
    "min_gru",
    2,
    2,
    lambda params: Weights(params.kernel, params.bias),
    lambda weights: MinGRUParams(weights.kernel, weights.bias),
    recurrent=False,
)
_RESET_BEFORE_GRU = Listed(
    "reset_before_gru",
    3,
    4,
    lambda params: Weights(params.kernel, params.bias, params.recurrent_kernel),
    lambda weights: ResetBeforeGRUParams(weights.kernel, weights.recurrent_kernel, weights.bias),
)


def _layer_norm_weights(params: LSTMParams) -> Weights:
    norms = params.norms or (params.kernel[0, :0],)  # too short, and refused
    gating = jnp.concatenate([jnp.ravel(norm) for norm in norms])
    return Weights(params.kernel, params.bias, params.recurrent_kernel, gating)


def _layer_norm_params(weights: Weights) -> LSTMParams:
    features = weights.gating.shape[0] // 10
    norms = LSTMNorms(*jnp.split(weights.gating, [4 * features, 8 * features, 9 * features]))
    return LSTMParams(weights.kernel, weights.recurrent_kernel, weights.bias, norms=norms)


_LAYER_NORM_LSTM = dataclasses.replace(
    _LSTM,
    name="layer_norm_lstm",
    saved=8,
    weights=_layer_norm_weights,
    params=_layer_norm_params,
    gating=10,
)


def check_params(cell: Cell, entry: Listed, features: int, params: PyTree) -> None:
    """Refuses params of other shapes than the kernel reads and writes: it knows no broadcasting.

    Raises:
      ValueError: a parameter is missing, has another shape, or is none of this cell's.
    """
    weights, columns = entry.weights(params), entry.gates * features
    shapes = [(weights.kernel.shape[0], columns), (columns,), (features, columns)]
    shapes += [(entry.gating * features,)]
    got = [None if a is None else a.shape for a in weights]
    present = [True, True, entry.recurrent, weights.gating is not None]
    expected = [shape if there else None for shape, there in zip(shapes, present, strict=True)]
    whole = jax.tree.map(jnp.shape, entry.params(weights)) == jax.tree.map(jnp.shape, params)
    if got != expected or not whole:
        raise ValueError(
            f"params: Fused() expected those of {cell} alone, of shapes {expected}, got {got}"
            f"{'' if whole else ' and others'}. Scan() runs a cell with params that broadcast."
        )


def listed(cell: Cell) -> Listed | str:
    """The kernel's entry for a cell, or why it has none, as a sentence without a full stop."""
    options: dict[Cell, Listed] = {}
    if type(cell) is Zoneout:
        return _zoned(cell)
    if type(cell) is LSTM:
        plain = LSTM(cell.features, forget_bias=cell.forget_bias)
        options = {plain: _LSTM, dataclasses.replace(plain, layer_norm=True): _LAYER_NORM_LSTM}
    elif type(cell) is GRU:
        options = {cell: _GRU}
    elif type(cell) is ResetBeforeGRU:
        options = {cell: _RESET_BEFORE_GRU}
    elif type(cell) is Elman:
        options = {
            Elman(cell.features, activation="tanh"): _ELMAN_TANH,
            Elman(cell.features, activation="relu"): _ELMAN_RELU,
        }
    elif type(cell) is MinGRU:
        options = {cell: _MIN_GRU}
    if cell in options:
        return options[cell]
    if options:
        return f"its kernel has {', '.join(map(str, options))} and no other options"
    return (
        "its kernel lists LSTM, GRU, ResetBeforeGRU, Elman and MinGRU, and Zoneout of LSTM and GRU,"
        f" and runs any LinearCell, but not {type(cell).__name__}. Use Deferred() or Scan()"
    )


def _zoned(cell: Zoneout) -> Listed | str:
    """The entry of the cell inside, with the rates of zoneout."""
    entry = listed(cell.cell)
    if isinstance(entry, str):
        return entry
    if type(cell.cell) not in (LSTM, GRU):
        return f"its kernel has Zoneout of LSTM and of GRU, not of {type(cell.cell).__name__}"
    count = 2 if isinstance(cell.cell, LSTM) else 1
    rates = cell.rate if isinstance(cell.rate, tuple) else count * (cell.rate,)
    if len(rates) != count:
        return f"expected as many rates of zoneout as carries, {count}, got {rates}"
    return dataclasses.replace(entry, rates=(rates[-1], rates[0]))  # c comes first, if there is one
