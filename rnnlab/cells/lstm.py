"""Long short-term memory, with its published variants in any combination."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import gates, layer_norm, linear, separate_pass, wide_dtype, widened
from rnnlab.core.types import Array, Key, LSTMCarry


class LSTMNorms(NamedTuple):
    """Parameters of the layer norms of `LSTM`."""

    input: Array  # [4H], scale of the norm of x W
    hidden: Array  # [4H], scale of the norm of h U
    cell: Array  # [H], scale of the norm of c
    cell_bias: Array  # [H]


class LSTMParams(NamedTuple):
    """Parameters of `LSTM`; None for what its options leave out."""

    kernel: Array  # [F, 4H], gates i, f, g, o; coupled: [F, 3H], gates f, g, o
    recurrent_kernel: Array  # [P, 4H], or [P, 3H]
    bias: Array  # [4H], or [3H]
    peephole: Array | None = None  # [3H] for i, f, o; coupled: [2H] for f, o
    norms: LSTMNorms | None = None
    projection: Array | None = None  # [H, P]


@dataclasses.dataclass(frozen=True)
class LSTM(GatedCell[LSTMParams, LSTMCarry]):
    """Long short-term memory.

        i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of (x_t W + h_{t-1} U + b), gate by gate
        c_t = f * c_{t-1} + i * g,    h_t = o * tanh(c_t),    y_t = h_t

    Args:
      features: H, the size of c, and of h unless there is a projection.
      forget_bias: initial bias of the forget gate.
      peephole: adds p_i * c_{t-1} and p_f * c_{t-1} to the gates i and f, and p_o * c_t to o.
      coupled: one gate for both, i = 1 - f (CIFG); the gates are then f, g, o.
      layer_norm: normalises x W and h U over all gates together, and c_t before its tanh.
      projection: P; h_t = (o * tanh(c_t)) W_p is then what recurs and what comes out.
      cell_clip: clips c_t to [-cell_clip, cell_clip].

    Raises:
      ValueError: `projection` or `cell_clip` is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.LSTM(16, peephole=True, layer_norm=True)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> (c, h), ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References:
      Hochreiter & Schmidhuber 1997; forget gate and peephole, Gers et al. 2000: the output gate
      reads the new c, the others the old; coupled gates, Greff et al. 2015; layer norm, Ba et al.
      2016, eq. 20-22: the biases of its first two norms are the one bias b; projection and clip,
      Sak et al. 2014, without their second, non-recurrent projection; forget bias 1,
      Jozefowicz et al. 2015.
    """

    features: int
    forget_bias: float = 1.0
    peephole: bool = False
    coupled: bool = False
    layer_norm: bool = False
    projection: int | None = None
    cell_clip: float | None = None

    def __post_init__(self):
        check_size("LSTM", features=self.features)
        if self.projection is not None:
            check_size("LSTM", projection=self.projection)
        if self.cell_clip is not None and not self.cell_clip > 0:
            raise ValueError(f"LSTM: expected cell_clip > 0 or None, got {self.cell_clip!r}.")

    @property
    def _gate_bias(self) -> tuple[float, ...]:
        """The initial bias of each gate, in gate order."""
        both = (self.forget_bias, 0.0, 0.0)
        return both if self.coupled else (0.0, *both)

    def init(self, key: Key, in_features: int) -> LSTMParams:
        key_in, key_recurrent, key_projection = jax.random.split(key, 3)
        size, gate_count = self.features, len(self._gate_bias)
        out = self.projection or size
        ones = functools.partial(jnp.ones, dtype=jnp.float32)
        zeros = functools.partial(jnp.zeros, dtype=jnp.float32)
        norms = LSTMNorms(ones(gate_count * size), ones(gate_count * size), ones(size), zeros(size))
        return LSTMParams(
            initializers.input_kernel(key_in, in_features, gate_count * size),
            initializers.orthogonal_blocks(key_recurrent, out, size, gate_count),
            initializers.gate_bias(size, self._gate_bias),
            zeros((gate_count - 1) * size) if self.peephole else None,
            norms if self.layer_norm else None,
            initializers.input_kernel(key_projection, size, out) if self.projection else None,
        )

    def initial_carry(self, params: LSTMParams, batch_shape: tuple[int, ...] = ()) -> LSTMCarry:
        dtype = wide_dtype(params.kernel)
        c = jnp.zeros((*batch_shape, self.features), dtype)
        h = jnp.zeros((*batch_shape, self.projection or self.features), dtype)
        return LSTMCarry(c, h)

    def project(self, params: LSTMParams, x: Array) -> Array:
        if params.norms is None:
            return linear(x, params.kernel, params.bias)
        z = layer_norm(linear(x, params.kernel), params.norms.input)
        return z + widened(params.bias, z)

    def recurrent_kernel(self, params: LSTMParams) -> Array:
        return params.recurrent_kernel

    def hidden(self, carry: LSTMCarry) -> Array:
        return carry.h

    def gate(self, params: LSTMParams, carry: LSTMCarry, z: Array, u: Array) -> LSTMCarry:
        if params.norms is not None:
            u = layer_norm(u, params.norms.hidden)
        c, o = self._cell_and_output_gate(params, carry.c, z + u)
        if self.cell_clip is not None:
            c = jnp.clip(c, -self.cell_clip, self.cell_clip)
        if params.peephole is not None:  # the output gate looks at the new c
            peep = jnp.split(params.peephole, len(self._gate_bias) - 1)[-1]
            (o,) = gates(o + widened(peep, c) * c, ("sigmoid",))
        seen = c
        if params.norms is not None:
            seen = layer_norm(c, params.norms.cell, params.norms.cell_bias)
        h = o * separate_pass(jnp.tanh(seen))
        return LSTMCarry(c, h if params.projection is None else linear(h, params.projection))

    def _cell_and_output_gate(self, params: LSTMParams, c: Array, s: Array) -> tuple[Array, Array]:
        """The new c, and the output gate; with a peephole, only what it has so far."""
        kinds = ("sigmoid", "tanh", "sigmoid") if self.coupled else _LSTM_GATES
        if params.peephole is None:
            *i, f, g, o = gates(s, kinds)
        else:
            s, o = jnp.split(s, [(len(kinds) - 1) * self.features], axis=-1)
            early = jnp.split(params.peephole, len(kinds) - 1)[:-1]
            looks = jnp.concatenate([widened(p, c) * c for p in early], axis=-1)
            s = s + jnp.concatenate([looks, jnp.zeros_like(c)], axis=-1)
            *i, f, g = gates(s, kinds[:-1])
        i = i[0] if i else 1 - f
        return f * c + i * g, o

    def readout(self, params: LSTMParams, carry: LSTMCarry, z: Array) -> Array:
        return carry.h.astype(params.kernel.dtype)


_LSTM_GATES = ("sigmoid", "sigmoid", "tanh", "sigmoid")
