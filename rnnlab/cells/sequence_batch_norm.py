"""Batch normalisation of a gated cell's projected input."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from rnnlab.core.batch_norm import BatchNorm, Moments, cast_like, moments_of, normalise
from rnnlab.core.ops import widened
from rnnlab.core.types import Array, Key


class SequenceBatchNormParams(NamedTuple):
    """Parameters of `SequenceBatchNorm`."""

    cell: Any  # of the cell inside
    scale: Array  # [K]
    bias: Array  # [K]
    statistics: Moments  # [K], of z


@dataclasses.dataclass(frozen=True)
class SequenceBatchNorm(BatchNorm):
    """Batch normalisation of a gated cell's projected input, over examples and time.

        h_t = gate(h_{t-1}, (z_t - mean) / sqrt(variance + 1e-5) * scale + bias, u_t)

    Args:
      cell: what to wrap, a gated cell.

    Raises:
      TypeError: the cell is not gated, or its z is not one real array.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.SequenceBatchNorm(rnnlab.cells.LSTM(16))
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> xs = jax.random.normal(jax.random.key(1), (10, 4, 3))
        >>> carry, ys = rnnlab.unroll(cell, cell.with_statistics(params, xs), xs)

    References: Laurent et al. 2016, "Batch normalized recurrent neural networks". The bias takes
    the cell's own start, such as the 1 of a forget gate, for the normalisation removes that one.
    """

    def init(self, key: Key, in_features: int) -> SequenceBatchNormParams:
        params = self.cell.init(key, in_features)
        shift = self._shift(params, in_features)
        moments = Moments(jnp.zeros_like(shift), jnp.ones_like(shift))
        return SequenceBatchNormParams(params, jnp.ones_like(shift), shift, moments)

    def with_statistics(
        self, params: SequenceBatchNormParams, xs: Array, mask: Array | None = None
    ) -> SequenceBatchNormParams:
        """Parameters with the statistics of one batch `[T, *batch, F]`.

        Args:
          params: what `init` returned, or what was trained since.
          xs: inputs.
          mask: bool `[T, *batch]`; masked steps count not.

        Raises:
          TypeError: the mask is not bool.
          ValueError: the mask is not `[T, *batch]`.
        """
        zs = self.cell.project(params.cell, self._counted(xs, mask))
        moments = moments_of(zs, mask)
        return params._replace(statistics=cast_like(moments, params.scale))

    def initial_carry(self, params: SequenceBatchNormParams, batch_shape=()) -> Any:
        return self.cell.initial_carry(params.cell, batch_shape)

    def project(self, params: SequenceBatchNormParams, x: Any) -> Array:
        z = self.cell.project(params.cell, x)
        moments = Moments(*(widened(a, z) for a in params.statistics))
        return normalise(z, moments, params.scale) + widened(params.bias, z)

    def hidden(self, carry: Any) -> Array:
        return self.cell.hidden(carry)

    def gate(self, params: SequenceBatchNormParams, carry: Any, z: Array, u: Array) -> Any:
        return self.cell.gate(params.cell, carry, z, u)

    def readout(self, params: SequenceBatchNormParams, carry: Any, z: Array) -> Array:
        return self.cell.readout(params.cell, carry, z)
