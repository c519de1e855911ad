"""Layers that fit: skips around those they fit, and as many features as a budget allows."""

import dataclasses
from collections.abc import Callable, Sequence

import jax

from rnnlab.cells.residual import Residual
from rnnlab.core.cell import Cell
from rnnlab.core.types import Key, PyTree
from rnnlab.models.transformer import Transformer


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


def count_params(init: Callable[[Key], PyTree]) -> int:
    """How many numbers a model's parameters are; computes shapes only.

    Args:
      init: `key -> params`.
    """
    shapes = jax.eval_shape(init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def largest_features(count: Callable[[int], int], num_params: int) -> int:
    """The most features of a model with at most `num_params` parameters.

    Args:
      count: features -> parameters, which grow with the features.
      num_params: the budget.

    Returns:
      At least 1.

    Raises:
      ValueError: 1 feature is too much for the budget, or parameters do not grow with features.

    Example:
        >>> from rnnlab.cells import GRU
        >>> from rnnlab.models.sizes import count_params, largest_features
        >>> def count(features):
        ...     return count_params(lambda key: GRU(features).init(key, in_features=10))
        >>> largest_features(count, 1000), count(13), count(14)
        (13, 949, 1064)
    """
    if count(1) > num_params:
        raise ValueError(
            f"num_params: expected at least {count(1)}, the parameters at 1 feature, got"
            f" {num_params}."
        )
    fits, too_many = 1, 2
    while count(too_many) <= num_params:
        if too_many > num_params:
            raise ValueError(
                f"num_params: expected a model that grows with its features, got"
                f" {count(too_many)} parameters at {too_many} features."
            )
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if count(middle) <= num_params else (fits, middle)
    return fits


def largest_transformer(
    count: Callable[[Transformer], int], num_params: int, body: Transformer
) -> Transformer:
    """The largest Transformer like `body` in a model with at most `num_params` parameters.

    It has as many features as fit with 4 H hidden ones, a whole number of pairs for each head. What
    is left of the budget are hidden features, so that it is used up whatever the number of heads.

    Args:
      count: body -> parameters of the model with it.
      num_params: the budget.
      body: of any size.

    Raises:
      ValueError: one pair of features for each head is too much for the budget.

    Example:
        >>> from rnnlab.models.sizes import count_params, largest_transformer
        >>> from rnnlab.models.transformer import Transformer
        >>> def count(body):
        ...     return count_params(lambda key: body.init(key, in_features=10))
        >>> body = largest_transformer(count, 10_000, Transformer(8, blocks=1))
        >>> body.features, body.hidden_features, count(body)
        (24, 146, 9962)
    """

    def sized(pairs):
        return dataclasses.replace(body, features=2 * body.heads * pairs, hidden_features=None)

    def widened(hidden):
        return dataclasses.replace(largest, hidden_features=hidden)

    largest = sized(largest_features(lambda pairs: count(sized(pairs)), num_params))
    return widened(largest_features(lambda hidden: count(widened(hidden)), num_params))


def _out_features(cell: Cell, in_features: int) -> int:
    params = jax.eval_shape(lambda key: cell.init(key, in_features), jax.random.key(0))
    return cell.out_features(params, in_features)
