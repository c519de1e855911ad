"""The output layer of a language model: a softmax over all words, whole or in chunks."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnnlab.core.initializers import input_kernel
from rnnlab.core.ops import linear, wide_dtype
from rnnlab.core.types import Array, Key


class SoftmaxParams(NamedTuple):
    """The parameters of a softmax."""

    kernel: Any  # Array [H, V], of an adaptive one [H, frequent words + clusters]; None until `tie`
    bias: Array  # [V], likewise
    tails: tuple[Any, ...] = ()  # one entry a cluster of an adaptive one


@dataclasses.dataclass(frozen=True)
class Softmax:
    """A distribution over V words from H features.

        log p = log_softmax(y @ kernel + bias)

    Args:
      chunk: rows whose logits exist at a time in `losses`, and are computed once more for the
        gradient: memory for chunk * V numbers, where all T * B rows would need T * B * V, at the
        price of a third more matmuls. 0 computes all rows at once.

    Raises:
      ValueError: a negative chunk.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from rnnlab.models.softmax import Softmax
        >>> softmax = Softmax(chunk=16)
        >>> params = softmax.init(jax.random.key(0), 8, 100)
        >>> softmax.losses(params, jnp.ones((5, 4, 8)), jnp.zeros((5, 4), int)).shape
        (5, 4)

    References: Chen et al. 2016, "Training deep nets with sublinear memory cost", for computing
    anew what is not kept.
    """

    chunk: int = 0

    def __post_init__(self):
        if self.chunk < 0:
            raise ValueError(f"chunk: expected at least 0, got {self.chunk}.")

    def init(self, key: Key, features: int, vocabulary_size: int) -> SoftmaxParams:
        """Draws float32 parameters."""
        kernel = input_kernel(key, features, vocabulary_size)
        return SoftmaxParams(kernel, jnp.zeros(vocabulary_size))

    def init_tied(self, key: Key, features: int, vocabulary_size: int) -> SoftmaxParams:
        """Draws those that are needed beside an embedding of as many features."""
        return SoftmaxParams(None, jnp.zeros(vocabulary_size))

    def tie(self, params: SoftmaxParams, embedding: Array) -> SoftmaxParams:
        """The parameters of `init` from those of `init_tied` and an embedding `[V, H]`."""
        return params._replace(kernel=embedding.T)

    def logits(self, params: SoftmaxParams, ys: Array) -> Array:
        """Logits `[..., V]` of features `[..., H]`."""
        return linear(ys, params.kernel, params.bias)

    def losses(self, params: SoftmaxParams, ys: Array, targets: Array) -> Array:
        """-log p(target) in nats, `[...]`, of features `[..., H]` and int targets `[...]`."""

        def nats(ys, targets):
            return cross_entropy(self.logits(params, ys), targets)

        if not self.chunk:
            return nats(ys, targets)
        rows = ys.reshape(-1, ys.shape[-1])
        return by_chunks(nats, self.chunk, rows, targets.reshape(-1)).reshape(targets.shape)


def cross_entropy(logits: Array, targets: Array) -> Array:
    """-log softmax(logits)[target] in nats, in the wider of float32 and the dtype of `logits`.

    Args:
      logits: `[..., V]`.
      targets: int `[...]`.
    """
    logits = logits.astype(wide_dtype(logits))
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets)


def by_chunks(
    function: Callable[..., Array], size: int, *rows: Array, count: Array | None = None
) -> Array:
    """`function(*rows)`, `size` rows at a time, keeping nothing of a chunk for its gradient.

    Args:
      function: arrays `[size, ...]` -> floats `[size]`, each row by itself.
      size: rows of a chunk; the last one is filled up with zeros.
      *rows: `[N, ...]`.
      count: int `[]`, rows from the first on that matter; None: all. Chunks beyond are skipped.

    Returns:
      `[N]`, 0 beyond `count`.
    """
    number = len(rows[0])
    size = min(size, number)
    chunks = jax.tree.map(lambda a: _in_chunks(a, size), rows)
    starts = jnp.arange(0, number, size)
    output = jax.eval_shape(function, *jax.tree.map(lambda a: a[0], chunks))

    # Residuals of the chunks would add up to what chunks are there to avoid.
    @jax.checkpoint
    def compute(start, chunk):
        if count is None:
            return function(*chunk)
        nothing = jnp.zeros(output.shape, output.dtype)
        values = jax.lax.cond(start < count, function, lambda *chunk: nothing, *chunk)
        return jnp.where(start + jnp.arange(size) < count, values, nothing)

    values = jax.lax.map(lambda part: compute(*part), (starts, chunks))
    return values.reshape(-1)[:number]


def _in_chunks(rows: Array, size: int) -> Array:
    """`[N, ...]` as `[ceil(N / size), size, ...]`."""
    filled = jnp.pad(rows, [(0, -len(rows) % size)] + [(0, 0)] * (rows.ndim - 1))
    return filled.reshape(-1, size, *rows.shape[1:])
