"""Batch normalisation of gated cells; the statistics ride in the parameters.

Statistics over a batch are no function of one example, so no step can compute them and still mean
the same for one example and for a batch. `with_statistics` computes them from a whole batch of
sequences, differentiably, and `unroll` then reads them:

    params = cell.with_statistics(params, xs, mask)     training: inside the loss
    params = cell.moving(running, params.statistics)    what evaluation reads, kept by the caller
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.cell import GatedCell
from rnnlab.core.checks import check_arrays, check_cell_type, check_flags, sequence_shape
from rnnlab.core.ops import broadcast_to_rank, select, widened, zero_unless
from rnnlab.core.types import Array

EPSILON = 1e-5


class Moments(NamedTuple):
    """Mean and variance of each column."""

    mean: Array  # [K], or [L, K] for each of L steps
    variance: Array


@dataclasses.dataclass(frozen=True)
class BatchNorm(GatedCell):
    """What the two share: the cell inside, whose z is one real array, does everything else."""

    cell: GatedCell

    def __post_init__(self):
        check_cell_type(self.cell)
        if not isinstance(self.cell, GatedCell):
            name = type(self).__name__
            raise TypeError(f"{name}: expected an rnnlab.GatedCell, got {self.cell!r}.")

    def _shift(self, params: Any, in_features: int) -> Array:
        """z of an input of zeros, which is the bias of the cell inside where z is affine in x."""
        z = self.cell.project(params, jnp.zeros(self.cell.input_shape(in_features), jnp.float32))
        if not isinstance(z, jax.Array) or jnp.iscomplexobj(z) or z.ndim != 1:
            raise TypeError(
                f"{type(self).__name__}: expected a cell whose projected input is one real array"
                f" [K], got {jax.tree.map(jax.typeof, z)} of {self.cell}."
            )
        return z

    def recurrent_kernel(self, params: Any) -> Array:
        return self.cell.recurrent_kernel(params.cell)

    def _counted(self, xs: Array, mask: Array | None) -> Array:
        """`xs` with zeros where the mask is not set; refuses what `unroll` would refuse."""
        check_arrays(xs=xs)
        check_flags("mask", mask, *sequence_shape(self.cell, xs))
        return zero_unless(mask, xs)

    @staticmethod
    def moving(running: Any, batch: Any, momentum: float = 0.9) -> Any:
        """momentum * running + (1 - momentum) * batch, for statistics, leaf by leaf."""
        return jax.tree.map(lambda a, b: momentum * a + (1 - momentum) * b, running, batch)


def moments_of(z: Array, mask: Array | None) -> Moments:
    """Mean and variance of `[..., K]` over all of its other axes, of what a mask lets through.

    Args:
      z: `[..., K]`.
      mask: bool `[...]`, or None.
    """
    mask = jnp.ones(z.shape[:-1], bool) if mask is None else mask
    axes = tuple(range(z.ndim - 1))
    count = jnp.maximum(jnp.sum(mask.astype(z.dtype)), jnp.ones((), z.dtype))

    def mean(a: Array) -> Array:
        return jnp.sum(select(~mask, jnp.zeros((), a.dtype), a), axis=axes) / count

    centre = mean(z)
    return Moments(centre, mean(jnp.square(z - broadcast_to_rank(centre, z))))


def cast_like(moments: Any, params: Array) -> Any:
    """Statistics in the dtype of the parameters."""
    return jax.tree.map(lambda a: a.astype(params.dtype), moments)


def normalise(z: Array, moments: Moments, scale: Array) -> Array:
    """(z - mean) / sqrt(variance + epsilon) * scale, with moments that combine with z."""
    mean, variance = (broadcast_to_rank(a.astype(z.dtype), z) for a in moments)
    return (z - mean) * lax.rsqrt(variance + EPSILON) * widened(scale, z)
