"""The recurrent highway network."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import gates, kernel_product, linear, wide_dtype, widened
from rnnlab.core.types import Array, Key


class RHNParams(NamedTuple):
    """Parameters of `RHN`; gates h, t, and c unless they are coupled: K = 2H or 3H."""

    kernel: Array  # [F, K]
    recurrent_kernel: Array  # [L, H, K]
    bias: Array  # [L, K]


@dataclasses.dataclass(frozen=True)
class RHN(Cell[RHNParams, Array]):
    """Recurrent highway network: L highway layers within every time step.

        s = y_{t-1},    then for each layer l = 1 .. L
            h, t = tanh, sigmoid of ([l = 1] x_t W + s U_l + b_l), gate by gate;    c = 1 - t
            s <- h * t + s * c
        y_t = s

    Args:
      features: H.
      depth: L, the recurrence depth.
      coupled: the carry gate is c = 1 - t; otherwise it is a gate of its own.
      transform_bias: initial bias of the transform gates t; one below 0 lets the state pass.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.RHN(16, depth=3)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> s, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))

    References: Zilly et al. 2016, "Recurrent highway networks", eq. 6-9. Coupled gates are the
    default, as in their experiments. Without them the carry gate's bias starts at -transform_bias.
    """

    features: int
    depth: int = 2
    coupled: bool = True
    transform_bias: float = -2.0

    def __post_init__(self):
        check_size("RHN", features=self.features, depth=self.depth)

    @property
    def _gate_bias(self) -> tuple[float, ...]:
        both = (0.0, self.transform_bias)
        return both if self.coupled else (*both, -self.transform_bias)

    def init(self, key: Key, in_features: int) -> RHNParams:
        key_in, *keys = jax.random.split(key, 1 + self.depth)
        size, gate_count = self.features, len(self._gate_bias)
        layers = [initializers.orthogonal_blocks(k, size, size, gate_count) for k in keys]
        return RHNParams(
            initializers.input_kernel(key_in, in_features, gate_count * size),
            jnp.stack(layers),
            jnp.stack([initializers.gate_bias(size, self._gate_bias)] * self.depth),
        )

    def initial_carry(self, params: RHNParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.kernel))

    def project(self, params: RHNParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias[0])

    def recur(self, params: RHNParams, carry: Array, z: Array) -> Array:
        kinds = ("tanh", "sigmoid", "sigmoid")[: len(self._gate_bias)]
        for layer in range(self.depth):
            u = kernel_product(carry, params.recurrent_kernel[layer])
            s = u + (widened(params.bias[layer], u) if layer else z)
            new, transform, *keep = gates(s, kinds)
            carry = new * transform + carry * (keep[0] if keep else 1 - transform)
        return carry

    def readout(self, params: RHNParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
