"""A softmax that is cheap for frequent words and looks at rare ones only where they stand."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.checks import check_size
from rnnlab.core.initializers import input_kernel
from rnnlab.core.ops import linear, wide_dtype
from rnnlab.core.types import Array, Key
from rnnlab.models.softmax import SoftmaxParams, by_chunks, cross_entropy


class TailParams(NamedTuple):
    """The parameters of a cluster of rare words."""

    projection: Array  # [H, D]
    kernel: Array  # [D, W], W words


class TiedTailParams(NamedTuple):
    """The parameters of a cluster whose words are those of an embedding."""

    projection: Array  # [H, D]
    reduction: Array  # [H, D], of the embedding


@dataclasses.dataclass(frozen=True)
class AdaptiveSoftmax:
    """A distribution over V words, of which the rare ones stand in clusters.

        log p(w) = log_softmax(y @ kernel + bias)_w                              w frequent
        log p(w) = log_softmax(y @ kernel + bias)_c
                   + log_softmax(y @ projection_c @ kernel_c)_w                  w in cluster c

    The words have to be numbered from the most frequent to the rarest; in any other order it is a
    distribution like any other, but saves nothing. `losses` computes the kernel of a cluster for
    the rows whose target is in it, up to a whole chunk: it sorts the rows by cluster and skips the
    chunks that hold none of it. (Under `jax.vmap` no chunk is skipped, so use it on a batch.)

    Tied to an embedding `[V, H]`, the columns of the frequent words are its first rows, and those
    of cluster c are (its rows @ reduction_c)', a matrix of rank D between outputs and words.

    Args:
      cutoffs: the number of the first word of each cluster, rising; the words below the first are
        the frequent ones.
      factor: cluster c = 1, 2, ... reads H / factor^c features, at least 1.
      chunk: rows computed at a time, whose logits are computed once more for the gradient.

    Raises:
      ValueError: cutoffs that are none, below 1 or do not rise, or a chunk or factor below 1; of
        `init`, a cutoff that leaves the last cluster empty.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from rnnlab.models import AdaptiveSoftmax
        >>> softmax = AdaptiveSoftmax(cutoffs=(10, 40))
        >>> params = softmax.init(jax.random.key(0), 32, 100)
        >>> [tail.kernel.shape for tail in params.tails]
        [(8, 30), (2, 60)]
        >>> softmax.losses(params, jnp.ones((5, 4, 32)), jnp.full((5, 4), 70)).shape
        (5, 4)

    References: Grave et al. 2017, "Efficient softmax approximation for GPUs". Here the cutoffs are
    given, not found by a model of the cost of a matmul, and the head has a bias. Press & Wolf 2017,
    "Using the output embedding to improve language models", for the tying; the reduction is ours.
    """

    cutoffs: tuple[int, ...]
    factor: int = 4
    chunk: int = 128

    def __post_init__(self):
        check_size("AdaptiveSoftmax", factor=self.factor, chunk=self.chunk)
        rising = all(low < high for low, high in itertools.pairwise((0, *self.cutoffs)))
        if not self.cutoffs or not rising:
            raise ValueError(
                f"cutoffs: expected one or more rising numbers of words from 1 on, got"
                f" {self.cutoffs}."
            )

    def init(self, key: Key, features: int, vocabulary_size: int) -> SoftmaxParams:
        """Draws float32 parameters."""
        head_key, *keys = jax.random.split(key, 1 + len(self.cutoffs))
        tails = []
        for tail_key, size, (low, high) in self._clusters(keys, features, vocabulary_size):
            projection_key, kernel_key = jax.random.split(tail_key)
            projection = input_kernel(projection_key, features, size)
            tails.append(TailParams(projection, input_kernel(kernel_key, size, high - low)))
        head_size = self.cutoffs[0] + len(self.cutoffs)
        head = input_kernel(head_key, features, head_size)
        return SoftmaxParams(head, jnp.zeros(head_size), tuple(tails))

    def init_tied(self, key: Key, features: int, vocabulary_size: int) -> SoftmaxParams:
        """Draws those that are needed beside an embedding of as many features."""
        head_key, *keys = jax.random.split(key, 1 + len(self.cutoffs))
        tails = []
        for tail_key, size, _ in self._clusters(keys, features, vocabulary_size):
            projection, reduction = (
                input_kernel(key, features, size) for key in jax.random.split(tail_key)
            )
            tails.append(TiedTailParams(projection, reduction))
        clusters = input_kernel(head_key, features, len(self.cutoffs))
        bias = jnp.zeros(self.cutoffs[0] + len(self.cutoffs))
        return SoftmaxParams(clusters, bias, tuple(tails))

    def tie(self, params: SoftmaxParams, embedding: Array) -> SoftmaxParams:
        """The parameters of `init` from those of `init_tied` and an embedding `[V, H]`."""
        bounds = itertools.pairwise((*self.cutoffs, len(embedding)))
        tails = tuple(
            TailParams(tail.projection, linear(embedding[low:high], tail.reduction).T)
            for tail, (low, high) in zip(params.tails, bounds, strict=True)
        )
        frequent = embedding[: self.cutoffs[0]].T
        kernel = jnp.concatenate([frequent, params.kernel], axis=1)
        return SoftmaxParams(kernel, params.bias, tails)

    def _clusters(self, keys: Sequence[Key], features: int, vocabulary_size: int):
        """Key, features, and bounds of the words of each cluster."""
        if self.cutoffs[-1] >= vocabulary_size:
            raise ValueError(
                f"cutoffs: expected all of them below {vocabulary_size}, the size of the"
                f" vocabulary, got {self.cutoffs}."
            )
        sizes = [max(features // self.factor**c, 1) for c in range(1, len(self.cutoffs) + 1)]
        bounds = itertools.pairwise((*self.cutoffs, vocabulary_size))
        return zip(keys, sizes, bounds, strict=True)

    def logits(self, params: SoftmaxParams, ys: Array) -> Array:
        """log p of all words, `[..., V]`, of features `[..., H]`; all clusters are computed."""
        frequent = self.cutoffs[0]
        head = _log_softmax(linear(ys, params.kernel, params.bias))
        parts = [head[..., :frequent]]
        for cluster, tail in enumerate(params.tails):
            reached = head[..., frequent + cluster, None]
            parts.append(reached + _log_softmax(_tail_logits(tail, ys)))
        return jnp.concatenate(parts, axis=-1)

    def losses(self, params: SoftmaxParams, ys: Array, targets: Array) -> Array:
        """-log p(target) in nats, `[...]`, of features `[..., H]` and int targets `[...]`."""
        rows, words = ys.reshape(-1, ys.shape[-1]), targets.reshape(-1)
        cutoffs = jnp.asarray(self.cutoffs, words.dtype)
        cluster = jnp.searchsorted(cutoffs, words, side="right")  # 0: frequent
        entry = jnp.where(cluster == 0, words, self.cutoffs[0] + cluster - 1)

        def head_nats(ys, entries):
            return cross_entropy(linear(ys, params.kernel, params.bias), entries)

        losses = by_chunks(head_nats, self.chunk, rows, entry)
        order = jnp.argsort(cluster)
        first = jnp.searchsorted(cluster, jnp.arange(1, len(cutoffs) + 2), sorter=order)
        for number, tail in enumerate(params.tails):
            members = jnp.roll(order, -first[number])  # those of this cluster come first
            count = first[number + 1] - first[number]
            # The words that fill up the last chunk are none of the cluster; what they give is zero.
            entry = jnp.clip(words[members] - cutoffs[number], 0, tail.kernel.shape[1] - 1)

            def tail_nats(ys, entries, tail=tail):
                return cross_entropy(_tail_logits(tail, ys), entries)

            own = by_chunks(tail_nats, self.chunk, rows[members], entry, count=count)
            losses = losses.at[members].add(own)
        return losses.reshape(targets.shape)


def _tail_logits(tail: TailParams, ys: Array) -> Array:
    return linear(linear(ys, tail.projection), tail.kernel)


def _log_softmax(logits: Array) -> Array:
    return jax.nn.log_softmax(logits.astype(wide_dtype(logits)))
