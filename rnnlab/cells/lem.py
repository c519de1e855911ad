"""Long expressive memory: two states that each choose the length of their time step."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_positive, check_size
from rnnlab.core.ops import gates, kernel_product, linear, separate_pass, wide_dtype
from rnnlab.core.types import Array, Key


class LEMCarry(NamedTuple):
    """Memory and output, z and y in the paper."""

    c: Array  # [*batch, H]
    h: Array  # [*batch, H]


class LEMParams(NamedTuple):
    """Parameters of `LEM`: the time steps of c and h, then what drives c and h."""

    kernel: Array  # [F, 4H]
    recurrent_kernel: Array  # [H, 3H], multiplies h: all but what drives h
    memory_kernel: Array  # [H, H], multiplies c: what drives h
    bias: Array  # [4H]


@dataclasses.dataclass(frozen=True)
class LEM(Cell[LEMParams, LEMCarry]):
    """Long expressive memory.

        d_c, d_h = dt sigmoid(x_t W + h_{t-1} U + b), step by step
        c_t = (1 - d_c) * c_{t-1} + d_c * tanh(x_t W_c + h_{t-1} U_c + b_c)
        h_t = (1 - d_h) * h_{t-1} + d_h * tanh(x_t W_h + c_t V + b_h),    y_t = h_t

    The second matmul needs the new c, so it is a plain `Cell`.

    Args:
      features: H.
      time_step: dt, the longest step of either state.

    Raises:
      ValueError: the time step is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.LEM(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> (c, h), ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Rusch et al. 2022, "Long expressive memory for sequence modeling", eq. 3. Recurrent
    matrices start orthogonal.
    """

    features: int
    time_step: float = 1.0

    def __post_init__(self):
        check_size("LEM", features=self.features)
        check_positive("LEM", time_step=self.time_step)

    def init(self, key: Key, in_features: int) -> LEMParams:
        key_in, key_recurrent, key_memory = jax.random.split(key, 3)
        return LEMParams(
            initializers.input_kernel(key_in, in_features, 4 * self.features),
            initializers.orthogonal_blocks(key_recurrent, self.features, self.features, 3),
            initializers.orthogonal_blocks(key_memory, self.features, self.features, 1),
            jnp.zeros(4 * self.features, jnp.float32),
        )

    def initial_carry(self, params: LEMParams, batch_shape: tuple[int, ...] = ()) -> LEMCarry:
        shape, dtype = (*batch_shape, self.features), wide_dtype(params.kernel)
        return LEMCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def project(self, params: LEMParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recur(self, params: LEMParams, carry: LEMCarry, z: Array) -> LEMCarry:
        c, h = carry
        z_first, z_h = jnp.split(z, [3 * self.features], axis=-1)
        s = z_first + kernel_product(h, params.recurrent_kernel)
        open_c, open_h, new_c = gates(s, ("sigmoid", "sigmoid", "tanh"))
        c = c + self.time_step * open_c * (new_c - c)
        new_h = separate_pass(jnp.tanh(z_h + kernel_product(c, params.memory_kernel)))
        return LEMCarry(c, h + self.time_step * open_h * (new_h - h))

    def readout(self, params: LEMParams, carry: LEMCarry, z: Array) -> Array:
        return carry.h.astype(params.kernel.dtype)
