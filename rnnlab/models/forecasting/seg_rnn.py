"""A recurrent network over segments of the past, that answers for all of the future at once."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.cells.gru import GRU
from rnnlab.core.cell import Cell, GatedCell
from rnnlab.core.checks import check_size
from rnnlab.core.initializers import input_kernel
from rnnlab.core.ops import kernel_product, linear
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.dropout import check_rate, dropout
from rnnlab.engine import unroll
from rnnlab.models.forecasting.base import Window
from rnnlab.models.forecasting.naive import last_observed
from rnnlab.models.forecasting.point import PointForecaster
from rnnlab.strategies import Auto
from rnnlab.strategies.base import Strategy


class SegRNNParams(NamedTuple):
    """The parameters of a `SegRNN`."""

    kernel: Array  # [S, D], from a segment to what the cell reads
    bias: Array  # [D]
    cell: PyTree
    positions: Array  # [M, D - D // 2], one entry a segment of the future
    channels: Array  # [C, D // 2]
    output_kernel: Array  # [H, S]
    output_bias: Array  # [S]


@dataclasses.dataclass(frozen=True)
class SegRNN(PointForecaster):
    """Reads the past in segments of S steps, and each segment of the future from one more step.

        s_i = relu((x_i - x_L) @ kernel + bias),    h = the carry after s_1, ..., s_{L/S}
        y_j = dropout(step(h, [position_j, channel_c])) @ output_kernel + output_bias + x_L

    All channels share the parameters, and all steps into the future start from the same h. A
    segment in which nothing was observed is left out; other missing values count as equal to the
    last observed one, x_L. Covariates are not read.

    Attributes:
      cell: any; `step` is its own.
      segment: S. Where it does not divide L the first segment is filled up on the left, and where
        it does not divide H the last one is cut.
      embedding: D; 0 takes as many as the cell puts out.
      dropout: rate on what the output reads.
      strategy: how the cell runs over the past.
      others: see `PointForecaster`; the paper's loss is "absolute".

    Example:
        >>> import jax
        >>> from rnnlab.cells import GRU
        >>> from rnnlab.models.forecasting import SegRNN
        >>> model = SegRNN(720, 96, channels=7, cell=GRU(64), segment=48)
        >>> model.init(jax.random.key(0)).positions.shape
        (2, 32)

    References: Lin et al. 2023, "SegRNN: segment recurrent neural network for long-term time
    series forecasting", with parallel multi-step decoding. The product of h with the recurrent
    kernel, the same for all j, is computed once.
    """

    loss: str = "absolute"
    cell: Cell = dataclasses.field(default_factory=lambda: GRU(128))
    segment: int = 48
    embedding: int = 0
    dropout: float = 0.5
    strategy: Strategy = dataclasses.field(default_factory=Auto)

    def __post_init__(self):
        super().__post_init__()
        check_size("SegRNN", segment=self.segment)
        check_rate(self.dropout)

    def init(self, key: Key) -> SegRNNParams:
        """Draws float32 parameters."""
        keys = jax.random.split(key, 5)
        features = self.embedding or self.cell.out_features(self.cell.init(keys[0], 1), 1)
        cell = self.cell.init(keys[0], features)
        count, half = -(-self.horizon // self.segment), features // 2
        out_features = self.cell.out_features(cell, features)
        return SegRNNParams(
            kernel=input_kernel(keys[1], self.segment, features),
            bias=jnp.zeros(features),
            cell=cell,
            positions=jax.random.normal(keys[2], (count, features - half)),
            channels=jax.random.normal(keys[3], (self.channels, half)),
            output_kernel=input_kernel(keys[4], out_features, self.segment),
            output_bias=jnp.zeros(self.segment),
        )

    def predict(self, params: SegRNNParams, window: Window, key: Key | None = None) -> Array:
        last = last_observed(window.past, window.past_mask)[0][:, None]
        past = self._segments(jnp.where(window.past_mask, window.past - last, 0))
        mask = jnp.any(self._segments(window.past_mask), axis=-1)
        xs = jax.nn.relu(linear(past, params.kernel, params.bias))
        carry, _ = unroll(self.cell, params.cell, xs, mask=mask, strategy=self.strategy)
        ys = self._decode(params, carry)
        ys = ys if key is None else dropout(key, ys, self.dropout)
        ys = linear(ys, params.output_kernel, params.output_bias)  # [B, C, M, S]
        future = ys.reshape(*ys.shape[:2], -1)[..., : self.horizon]
        return jnp.swapaxes(future, 1, 2) + last

    def _segments(self, values: Array) -> Array:
        """`[B, L, C]` as `[N, B, C, S]`."""
        filled = jnp.pad(values, ((0, 0), (-values.shape[1] % self.segment, 0), (0, 0)))
        segments = filled.reshape(len(values), -1, self.segment, self.channels)
        return jnp.transpose(segments, (1, 0, 3, 2))

    def _decode(self, params: SegRNNParams, carry: PyTree) -> Array:
        """One step from the same carry `[B, C, ...]` for each segment to come: `[B, C, M, H]`."""
        shape = self.channels, len(params.positions)
        positions = jnp.broadcast_to(params.positions, (*shape, params.positions.shape[-1]))
        channels = jnp.broadcast_to(params.channels[:, None], (*shape, params.channels.shape[-1]))
        x = jnp.concatenate([positions, channels], axis=-1)
        return step_each(self.cell, params.cell, carry, x)


def step_each(cell: Cell, params: PyTree, carry: PyTree, x: Array) -> Array:
    """The outputs of one step from the same carry for each of M inputs.

    Args:
      cell: what steps. Of a gated one the carry meets the recurrent kernel once, not M times.
      params: its parameters.
      carry: leaves `[B, C, ...]`.
      x: `[C, M, F]`, the same for the whole batch.

    Returns:
      `[B, C, M, H]`.
    """
    batch = jax.tree.leaves(carry)[0].shape[0]

    def over_inputs(leaf: Array) -> Array:  # [B, C, ...] to [B, C, M, ...]
        return jnp.broadcast_to(leaf[:, :, None], (*leaf.shape[:2], x.shape[1], *leaf.shape[2:]))

    def over_batch(leaf: Array) -> Array:
        return jnp.broadcast_to(leaf, (batch, *leaf.shape))

    z: Any = jax.tree.map(over_batch, cell.project(params, x))
    spread = jax.tree.map(over_inputs, carry)
    if isinstance(cell, GatedCell):
        u = kernel_product(cell.hidden(carry), cell.recurrent_kernel(params))
        after = cell.gate(params, spread, z, over_inputs(u))
    else:
        after = cell.recur(params, spread, z)
    return cell.readout(params, after, z)
