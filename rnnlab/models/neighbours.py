"""Which tokens a model takes for alike."""

import numpy as np

from rnnlab.core.types import Array


def nearest_neighbours(embedding: Array, token: int, count: int) -> list[tuple[int, float]]:
    """The tokens whose embeddings point in the direction most like that of a token.

        similarity(a, b) = a . b / (|a| |b|),    0 where one of them is 0

    Args:
      embedding: `[V, E]`.
      token: whose neighbours; it is not one of them.
      count: how many, or V - 1 if there are no more.

    Returns:
      (token, similarity), the most alike first.

    Raises:
      ValueError: a token that has no row.

    Example:
        >>> nearest_neighbours(np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]]), 0, 2)
        [(2, 1.0), (1, 0.0)]
    """
    rows = np.asarray(embedding, np.float64)
    if not 0 <= token < len(rows):
        raise ValueError(f"token: expected 0 to {len(rows) - 1}, got {token}.")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    directions = rows / np.where(norms == 0, 1, norms)
    similarities = directions @ directions[token]
    order = np.argsort(-similarities, kind="stable")
    return [(int(i), float(similarities[i])) for i in order if i != token][:count]
