"""The block of Mamba: a cell between two projections, multiplied by a gate."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.checks import check_size
from rnnlab.core.ops import linear, rms_norm
from rnnlab.core.types import Array, Key
from rnnlab.core.wrapper import Wrapper


class GatedBlockParams(NamedTuple):
    """Parameters of `GatedBlock`."""

    kernel: Array  # [F, E + G], the input of the cell inside, the gate
    cell: Any  # of the cell inside
    norm: Array | None  # [G], scale of the norm
    output_kernel: Array  # [G, H]


@dataclasses.dataclass(frozen=True)
class GatedBlock(Wrapper):
    """Projects the input, runs a cell over it, gates its output and projects that.

        u_t, g_t = x_t W,    v_t = cell(u_t),    y_t = norm(v_t * silu(g_t)) W_out

    The carry is that of the cell inside. `rnnlab.cells.mamba` and `rnnlab.cells.mamba2` are such
    blocks around a causal convolution and a state space model. As a layer of
    `rnnlab.sequences.stack` its parts run one after another, each over the whole sequence.

    Args:
      cell: what to run, with G features out.
      features: H, the size of y.
      cell_features: E, the size of u.
      normalised: a root mean square norm stands before the last projection.

    Raises:
      TypeError: what is wrapped is not a cell.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.GatedBlock(rnnlab.cells.MinGRU(16), 8, cell_features=16)
        >>> params = cell.init(jax.random.key(0), in_features=8)
        >>> carry, ys = rnnlab.sequences.stack(
        ...     (cell,), (params,), jnp.ones((10, 4, 8)), strategy=rnnlab.strategies.Associative())

    References: Gu & Dao 2023, "Mamba", section 3.4 and figure 3; Dao & Gu 2024, "Transformers are
    SSMs", section 7.1, for the norm. The norm and the residual around the block are left to the
    model.
    """

    features: int
    cell_features: int
    normalised: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_size("GatedBlock", features=self.features, cell_features=self.cell_features)

    def init(self, key: Key, in_features: int) -> GatedBlockParams:
        kernel_key, cell_key, output_key = jax.random.split(key, 3)
        inner = self.cell.init(cell_key, self.cell_features)
        size = self.cell.out_features(inner, self.cell_features)
        return GatedBlockParams(
            initializers.input_kernel(kernel_key, in_features, self.cell_features + size),
            inner,
            jnp.ones(size, jnp.float32) if self.normalised else None,
            initializers.input_kernel(output_key, size, self.features),
        )

    def inner_params(self, params: GatedBlockParams) -> Any:
        return params.cell

    def enter(self, params: GatedBlockParams, x: Array) -> tuple[Array, Array]:
        u, gate = jnp.split(linear(x, params.kernel), [self.cell_features], axis=-1)
        return u, jax.nn.silu(gate)

    def leave(self, params: GatedBlockParams, side: Array, y: Array) -> Array:
        y = y.astype(side.dtype) * side
        if params.norm is not None:
            y = rms_norm(y, params.norm)
        return linear(y, params.output_kernel).astype(params.kernel.dtype)
