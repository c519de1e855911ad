"""How devices share the large parameters of a model."""

from collections.abc import Sequence

from jax.sharding import PartitionSpec

MODEL = "model"
"""The axis of a mesh over which parameters are split."""


def split_over_model(shape: Sequence[int], axes: Sequence[int], count: int) -> PartitionSpec:
    """Splits the first of `axes` that `count` devices can share; where there is none, it is copied.

    Example:
        >>> tuple(split_over_model((87, 64), (0, 1), 2))
        (None, 'model')
    """
    for axis in axes:
        if shape[axis] % count == 0:
            return PartitionSpec(*[None] * axis, MODEL)
    return PartitionSpec()
