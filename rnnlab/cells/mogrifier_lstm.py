"""The LSTM whose input and state gate each other before every step."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import (
    check_features,
    gates,
    kernel_product,
    linear,
    lstm_update,
    wide_dtype,
    widened,
)
from rnnlab.core.types import Array, Key, LSTMCarry


class MogrifierLSTMParams(NamedTuple):
    """Parameters of `MogrifierLSTM`."""

    kernel: Array  # [F, 4H], gates i, f, g, o
    recurrent_kernel: Array  # [H, 4H]
    bias: Array  # [4H]
    # One entry a round: [H, F], [F, H], [H, F], ...; with a rank R its factors, [H, R], [R, F], ...
    mogrifiers: tuple[tuple[Array, ...], ...]


@dataclasses.dataclass(frozen=True)
class MogrifierLSTM(Cell[MogrifierLSTMParams, LSTMCarry]):
    """LSTM whose input and last output scale each other, in turns, before they enter it.

        x <- 2 sigmoid(h Q_i) * x  in odd rounds,    h <- 2 sigmoid(x R_i) * h  in even rounds
        c_t, h_t = LSTM(c_{t-1}, h, x),    y_t = h_t

    The input that enters the gates depends on h, so its matmul stays in the loop: `project` hands
    x on. Each round costs one more product in every step, two with a rank.

    Args:
      features: H.
      rounds: n, at least 1; 0 rounds are `LSTM`.
      rank: R; every Q and R is a product of two factors of that rank. None: full matrices.
      forget_bias: initial bias of the forget gate.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.MogrifierLSTM(16, rounds=4, rank=2)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> (c, h), ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Melis et al. 2019, "Mogrifier LSTM", section 2. As in its equations, the input gate
    is not capped at 1 - f and the scales have no bias; the authors' code has both.
    """

    features: int
    rounds: int = 5
    rank: int | None = None
    forget_bias: float = 1.0

    def __post_init__(self):
        check_size("MogrifierLSTM", features=self.features, rounds=self.rounds)
        if self.rank is not None:
            check_size("MogrifierLSTM", rank=self.rank)

    def init(self, key: Key, in_features: int) -> MogrifierLSTMParams:
        key_in, key_recurrent, *keys = jax.random.split(key, 2 + self.rounds)
        size = self.features
        sizes = [(size, in_features), (in_features, size)]
        return MogrifierLSTMParams(
            initializers.input_kernel(key_in, in_features, 4 * size),
            initializers.orthogonal_blocks(key_recurrent, size, size, 4),
            initializers.gate_bias(size, (0.0, self.forget_bias, 0.0, 0.0)),
            tuple(self._mogrifier(k, *sizes[i % 2]) for i, k in enumerate(keys)),
        )

    def _mogrifier(self, key: Key, rows: int, columns: int) -> tuple[Array, ...]:
        if self.rank is None:
            return (initializers.input_kernel(key, rows, columns),)
        first, second = jax.random.split(key)
        return (
            initializers.input_kernel(first, rows, self.rank),
            initializers.input_kernel(second, self.rank, columns),
        )

    def initial_carry(
        self, params: MogrifierLSTMParams, batch_shape: tuple[int, ...] = ()
    ) -> LSTMCarry:
        shape, dtype = (*batch_shape, self.features), wide_dtype(params.kernel)
        return LSTMCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def project(self, params: MogrifierLSTMParams, x: Array) -> Array:
        check_features(x, params.kernel)
        return x.astype(params.kernel.dtype).astype(wide_dtype(params.kernel))

    def recur(self, params: MogrifierLSTMParams, carry: LSTMCarry, z: Array) -> LSTMCarry:
        x, h = z, carry.h
        for number, factors in enumerate(params.mogrifiers):
            scale = x if number % 2 else h
            for factor in factors:
                scale = linear(scale, factor)
            (scale,) = gates(scale, ("sigmoid",))
            x, h = (x, 2 * scale * h) if number % 2 else (2 * scale * x, h)
        u = linear(x, params.kernel) + kernel_product(h, params.recurrent_kernel)
        return LSTMCarry(*lstm_update(carry.c, u + widened(params.bias, u)))

    def readout(self, params: MogrifierLSTMParams, carry: LSTMCarry, z: Array) -> Array:
        return carry.h.astype(params.kernel.dtype)
