"""Layers that fit: skips around those they fit, and as many features as a budget allows."""

from collections.abc import Sequence

import jax

from rnnlab.cells.residual import Residual
from rnnlab.core.cell import Cell


def connected(cells: Sequence[Cell], in_features: int) -> tuple[Cell, ...]:
    """Skips around every layer that puts out as many features as it reads.

    Args:
      cells: the layers, the one that reads the input first.
      in_features: what that one reads.

    Returns:
      The layers, those in a `Residual`.

    Raises:
      ValueError: no layer puts out as many features as it reads.

    Example:
        >>> from rnnlab.cells import GRU
        >>> from rnnlab.models.sizes import connected
        >>> connected((GRU(8), GRU(8)), in_features=4)
        (GRU(features=8), Residual(cell=GRU(features=8)))
    """
    layers, sizes = [], [in_features]
    for cell in cells:
        sizes.append(_out_features(cell, sizes[-1]))
        layers.append(Residual(cell) if sizes[-1] == sizes[-2] else cell)
    if not any(isinstance(layer, Residual) for layer in layers):
        raise ValueError(
            "residual: expected a layer that puts out as many features as it reads, got the sizes"
            f" {' -> '.join(map(str, sizes))}. Make two that follow each other equal."
        )
    return tuple(layers)


def _out_features(cell: Cell, in_features: int) -> int:
    params = jax.eval_shape(lambda key: cell.init(key, in_features), jax.random.key(0))
    return cell.out_features(params, in_features)
