"""Batch normalisation of a gated cell's projected input and recurrent product."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.batch_norm import BatchNorm, Moments, cast_like, moments_of, normalise
from rnnlab.core.checks import check_size
from rnnlab.core.ops import kernel_product, wide_dtype, widened
from rnnlab.core.types import Array, Key


class RecurrentBatchNormParams(NamedTuple):
    """Parameters of `RecurrentBatchNorm`."""

    cell: Any  # of the cell inside
    input_scale: Array  # [K]
    hidden_scale: Array  # [K]
    bias: Array  # [K]
    statistics: tuple[Moments, Moments]  # [L, K], of z and of u


class RecurrentBatchNormCarry(NamedTuple):
    """Carry of `RecurrentBatchNorm`."""

    inner: Any  # of the cell inside
    steps: Array  # [*batch], since the start or the last reset


@dataclasses.dataclass(frozen=True)
class RecurrentBatchNorm(BatchNorm):
    """Batch normalisation of a gated cell's projected input and recurrent product, step by step.

        h_t = gate(h_{t-1}, BN(z_t) * input_scale + bias, BN(u_t) * hidden_scale)

    Each of the first L steps has statistics of its own, and later ones take those of step L.

    Args:
      cell: what to wrap, a gated cell with as many columns in z as in u.
      length: L.
      scale: what both scales start from.

    Raises:
      TypeError: the cell is not gated, or its z is not one real array.
      ValueError: at `init`, where z and u differ in shape, as those of `LipschitzRNN` and `SLSTM`.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.RecurrentBatchNorm(rnnlab.cells.LSTM(16), length=10)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> xs = jax.random.normal(jax.random.key(1), (10, 4, 3))
        >>> carry, ys = rnnlab.unroll(cell, cell.with_statistics(params, xs), xs)

    References: Cooijmans et al. 2016, "Recurrent batch normalization". Deviations: their third
    norm, of c before its tanh, would be inside the gates of the cell and is left out. Statistics
    need a pass of their own over the batch, and know no resets within a sequence.
    """

    length: int
    scale: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_size("RecurrentBatchNorm", length=self.length)

    def init(self, key: Key, in_features: int) -> RecurrentBatchNormParams:
        params = self.cell.init(key, in_features)
        shift = self._shift(params, in_features)
        self._check_product(params, shift)
        scale, shape = jnp.full_like(shift, self.scale), (self.length, *shift.shape)

        def moments() -> Moments:
            return Moments(jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32))

        statistics = moments(), moments()
        return RecurrentBatchNormParams(params, scale, jnp.copy(scale), shift, statistics)

    def _check_product(self, params: Any, z: Array) -> None:
        """Refuses a cell whose u is not of the shape of its z."""

        def product(params: Any) -> Array:
            hidden = self.cell.hidden(self.cell.initial_carry(params))
            return kernel_product(hidden, self.cell.recurrent_kernel(params))

        u = jax.eval_shape(product, params)
        if u.shape != z.shape:
            raise ValueError(
                f"RecurrentBatchNorm: expected a cell with as many columns in u, the product with"
                f" the recurrent kernel, as in z, its projected input, got u {u.shape} and z"
                f" {z.shape} of {self.cell}. Take SequenceBatchNorm, which normalises z alone."
            )

    def with_statistics(
        self, params: RecurrentBatchNormParams, xs: Array, mask: Array | None = None
    ) -> RecurrentBatchNormParams:
        """Parameters with the statistics of one batch `[T, *batch, F]`, T at least L.

        Args:
          params: what `init` returned, or what was trained since.
          xs: inputs; only the first L steps of each sequence count.
          mask: bool `[T, *batch]`, of right-padded sequences; masked steps count not.

        Raises:
          TypeError: the mask is not bool.
          ValueError: T is below L; the mask is not `[T, *batch]`.
        """
        xs = self._counted(xs, mask)
        if len(xs) < self.length:
            raise ValueError(
                f"xs: expected at least length={self.length} steps to take statistics from, got"
                f" {len(xs)}."
            )
        zs = self.cell.project(params.cell, xs[: self.length])
        marks = jnp.ones(zs.shape[:-1], bool) if mask is None else mask[: self.length]

        def step(carry, now):
            z, mark = now
            u = kernel_product(self.cell.hidden(carry), self.recurrent_kernel(params))
            moments = moments_of(z, mark), moments_of(u, mark)
            return self._gate(params, carry, z, u, moments), moments

        start = self.cell.initial_carry(params.cell, xs.shape[1 : -self.cell.feature_ndim])
        _, moments = lax.scan(step, start, (zs, marks))
        return params._replace(statistics=cast_like(moments, params.bias))

    def initial_carry(
        self, params: RecurrentBatchNormParams, batch_shape: tuple[int, ...] = ()
    ) -> RecurrentBatchNormCarry:
        inner = self.cell.initial_carry(params.cell, batch_shape)
        return RecurrentBatchNormCarry(inner, jnp.zeros(batch_shape, wide_dtype(params.bias)))

    def project(self, params: RecurrentBatchNormParams, x: Any) -> Array:
        return self.cell.project(params.cell, x)

    def hidden(self, carry: RecurrentBatchNormCarry) -> Array:
        return self.cell.hidden(carry.inner)

    def gate(
        self, params: RecurrentBatchNormParams, carry: RecurrentBatchNormCarry, z: Array, u: Array
    ) -> RecurrentBatchNormCarry:
        now = jnp.clip(carry.steps, 0, self.length - 1).astype(jnp.int32)
        moments = jax.tree.map(lambda a: jnp.take(a, now, axis=0), params.statistics)
        inner = self._gate(params, carry.inner, z, u, moments)
        return RecurrentBatchNormCarry(inner, carry.steps + 1)

    def _gate(self, params, carry: Any, z: Array, u: Array, moments) -> Any:
        z = normalise(z, moments[0], params.input_scale) + widened(params.bias, z)
        return self.cell.gate(params.cell, carry, z, normalise(u, moments[1], params.hidden_scale))

    def readout(self, params: Any, carry: RecurrentBatchNormCarry, z: Array) -> Array:
        return self.cell.readout(params.cell, carry.inner, z)
