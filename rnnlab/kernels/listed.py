"""The cells that the CPU kernel runs: what it needs of each, and the gates' derivative."""

import abc
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.cells.elman import Elman
from rnnlab.cells.gru import GRU
from rnnlab.cells.lstm import LSTM
from rnnlab.core.cell import Cell
from rnnlab.core.ops import gates, widened
from rnnlab.core.types import Array, LSTMCarry, PyTree


class Weights(NamedTuple):
    """The parameters of a cell as the kernel takes them."""

    kernel: Array  # [F, K]
    bias: Array  # [K]
    recurrent_kernel: Array  # [H, K]
    recurrent_bias: Array | None = None  # [H], of the u of the last gate


class State(NamedTuple):
    """A carry as the kernel takes it."""

    h: Array  # [..., H]
    c: Any = None  # [..., H], or None where the cell has no such state


class Listed(abc.ABC):
    """A cell of the kernel. Its projection is x W + b and its output is h.

    `saved` is what the kernel keeps of every gate, `[..., S, H]`, and `change` the derivative of
    the new state by z, u and the gate's own parameters, from what was saved.
    """

    name: ClassVar[str]
    saved_arrays: ClassVar[int]

    def weights(self, params: Any) -> Weights:
        return Weights(params.kernel, params.bias, params.recurrent_kernel)

    def state(self, carry: PyTree) -> State:
        return State(carry)

    def carry(self, state: State) -> PyTree:
        return state.h

    @abc.abstractmethod
    def saved(self, params: Any, z: Array, u: Array) -> Array:
        """What the kernel keeps, computed by jax: `[..., S, H]`."""

    @abc.abstractmethod
    def change(
        self, saved: Array, before: State, after: State, dparams: Any, dz: Array, du: Array
    ) -> State:
        """The change of the new state, linear in those of params, z and u."""


def _gate_columns(a: Array, count: int) -> Array:
    """`[..., G * H]` as `[..., G, H]`."""
    return a.reshape(*a.shape[:-1], count, a.shape[-1] // count)


class _LSTM(Listed):
    name = "lstm"
    saved_arrays = 4  # i, f, g, o

    def state(self, carry: LSTMCarry) -> State:
        return State(carry.h, carry.c)

    def carry(self, state: State) -> LSTMCarry:
        return LSTMCarry(state.c, state.h)

    def saved(self, params, z, u):
        kinds = ("sigmoid", "sigmoid", "tanh", "sigmoid")
        return jnp.stack(gates(z + u, kinds), axis=-2)

    def change(self, saved, before, after, dparams, dz, du):
        i, f, g, o = jnp.moveaxis(saved, -2, 0)
        di, df, dg, do = jnp.moveaxis(_gate_columns(dz + du, 4), -2, 0)
        dc = g * i * (1 - i) * di + before.c * f * (1 - f) * df + i * (1 - g * g) * dg
        t = jnp.tanh(after.c)
        return State(t * o * (1 - o) * do + o * (1 - t * t) * dc, dc)


class _GRU(Listed):
    name = "gru"
    saved_arrays = 4  # r, z, n, and the u of n with its bias

    def weights(self, params):
        return super().weights(params)._replace(recurrent_bias=params.recurrent_bias)

    def saved(self, params, z, u):
        (z_r, z_z, z_n), (u_r, u_z, u_n) = jnp.split(z, 3, -1), jnp.split(u, 3, -1)
        r, update = jax.nn.sigmoid(z_r + u_r), jax.nn.sigmoid(z_z + u_z)
        inner = u_n + widened(params.recurrent_bias, u_n)
        return jnp.stack([r, update, jnp.tanh(z_n + r * inner), inner], axis=-2)

    def change(self, saved, before, after, dparams, dz, du):
        r, update, n, inner = jnp.moveaxis(saved, -2, 0)
        dr, dupdate, _ = jnp.split(dz + du, 3, -1)
        dinner = du[..., -r.shape[-1] :] + widened(dparams.recurrent_bias, du)
        dn = dz[..., -r.shape[-1] :] + r * dinner + inner * r * (1 - r) * dr
        dn = (1 - n * n) * dn
        return State((1 - update) * dn + (before.h - n) * update * (1 - update) * dupdate)


class _ElmanTanh(Listed):
    name = "elman_tanh"
    saved_arrays = 0

    def saved(self, params, z, u):
        return z[..., None, :][..., :0, :]

    def change(self, saved, before, after, dparams, dz, du):
        return State((1 - after.h * after.h) * (dz + du))


class _ElmanRelu(_ElmanTanh):
    name = "elman_relu"

    def change(self, saved, before, after, dparams, dz, du):
        return State(jnp.where(after.h > 0, dz + du, 0))


def listed(cell: Cell) -> Listed | str:
    """The kernel's entry for a cell, or why it has none, as a sentence without a full stop."""
    options: dict[Cell, Listed] = {}
    if type(cell) is LSTM:
        options = {LSTM(cell.features, forget_bias=cell.forget_bias): _LSTM()}
    elif type(cell) is GRU:
        options = {cell: _GRU()}
    elif type(cell) is Elman:
        options = {
            Elman(cell.features, activation="tanh"): _ElmanTanh(),
            Elman(cell.features, activation="relu"): _ElmanRelu(),
        }
    if cell in options:
        return options[cell]
    if options:
        return f"its kernel has {', '.join(map(str, options))} and no other options"
    return (
        f"its kernel lists LSTM, GRU and Elman, not {type(cell).__name__}. Use Deferred() or Scan()"
    )
