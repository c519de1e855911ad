"""Dropout for recurrent networks: masks are drawn before the loop, never inside it."""

import jax
import jax.numpy as jnp

from rnnlab.core.checks import check_names
from rnnlab.core.types import Array, Key, PyTree


def dropout(key: Key, x: Array, rate: float) -> Array:
    """Zeroes each element with probability `rate` and scales the rest by 1 / (1 - rate).

    Args:
      key: consumed.
      x: any shape.
      rate: in [0, 1); 0 returns `x` itself.

    Raises:
      ValueError: the rate is outside [0, 1).

    References: Srivastava et al. 2014, "Dropout".
    """
    return _drop(key, x, rate, x.shape)


def variational_dropout(key: Key, xs: Array, rate: float) -> Array:
    """Dropout with one mask for all time steps of a sequence.

    Args:
      key: consumed.
      xs: `[T, *batch, F]`; every example has its own mask.
      rate: in [0, 1); 0 returns `xs` itself.

    Raises:
      ValueError: the rate is outside [0, 1).

    References: Gal & Ghahramani 2016, "A theoretically grounded application of dropout in
    recurrent neural networks": their masks on a layer's input and output. Their mask on the
    recurrent state is `weight_drop` here.
    """
    return _drop(key, xs, rate, (1, *xs.shape[1:]))


def embedding_dropout(key: Key, embedding: Array, tokens: Array, rate: float) -> Array:
    """The embeddings of tokens, with whole words dropped: one mask for all places of a word.

        x = embedding[tokens] * (mask / (1 - rate))[tokens],    mask ~ Bernoulli(1 - rate)^V

    Args:
      key: consumed.
      embedding: `[V, E]`.
      tokens: int, any shape.
      rate: in [0, 1); 0 returns `embedding[tokens]`.

    Returns:
      `[*tokens.shape, E]`.

    Raises:
      ValueError: the rate is outside [0, 1).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from rnnlab.dropout import embedding_dropout
        >>> tokens = jnp.array([3, 5, 3])
        >>> embedding_dropout(jax.random.key(1), jnp.ones((9, 2)), tokens, 0.5).tolist()
        [[2.0, 2.0], [0.0, 0.0], [2.0, 2.0]]

    References: Gal & Ghahramani 2016, "A theoretically grounded application of dropout in
    recurrent neural networks".
    """
    kept = dropout(key, jnp.ones(len(embedding), embedding.dtype), rate)
    xs = embedding[tokens]
    return xs if rate == 0 else xs * kept[tokens][..., None]


def weight_drop(
    key: Key, params: PyTree, rate: float, names: tuple[str, ...] = ("recurrent_kernel",)
) -> PyTree:
    """Dropout on parameters, by name: one mask for the whole sequence and batch.

    Draw it once per training step and unroll with the result: `unroll(cell, weight_drop(...), xs)`.

    Args:
      key: consumed.
      params: a cell's parameters, or a tuple of them.
      rate: in [0, 1); 0 returns `params` itself.
      names: fields to drop from, wherever in the tree they are.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: the rate is outside [0, 1), or no parameter has one of the names.
      TypeError: `names` is one string.

    References: Merity et al. 2017, "Regularizing and optimizing LSTM language models".
    """
    check_names("weight_drop", names)
    leaves, tree = jax.tree.flatten_with_path(params)
    chosen = [_last_name(path) in names for path, _ in leaves]
    if not any(chosen):
        found = sorted({str(_last_name(path)) for path, _ in leaves})
        raise ValueError(f"weight_drop: expected a parameter named {names}, got {found}.")
    keys = jax.random.split(key, len(leaves))
    dropped = [
        dropout(k, leaf, rate) if drop else leaf
        for k, drop, (_, leaf) in zip(keys, chosen, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, dropped)


def check_rate(rate: float) -> None:
    """Refuses a rate that is no probability below 1."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate: expected a probability in [0, 1), got {rate}.")


def _drop(key: Key, x: Array, rate: float, mask_shape: tuple[int, ...]) -> Array:
    check_rate(rate)
    if rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, mask_shape)
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


def _last_name(path: tuple) -> str | None:
    """The field or the dictionary key that a path ends with."""
    return getattr(path[-1], "name", getattr(path[-1], "key", None)) if path else None
