"""Batches as a function of the step: shuffled, in shards, and resumed by an integer."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data.checks import check_count, check_seed, check_shard
from rnnlab.data.workers import run_steps


class Batch(NamedTuple):
    """Several examples at once."""

    examples: Any  # what `collate` made of them, arrays [B, ...]
    weights: np.ndarray  # float32 [B], 1, or 0 for a row that only fills up


def stack_examples(examples: list[Any]) -> Any:
    """Stacks trees of equal shapes, leaf by leaf.

    Args:
      examples: B trees of arrays or numbers.

    Returns:
      A tree of arrays `[B, ...]`.

    Raises:
      ValueError: leaves of different shapes, with the leaf's name; trees of different structure.

    Example:
        >>> stack_examples([{"x": 1.0}, {"x": 2.0}])
        {'x': array([1., 2.])}
    """
    import jax

    def stack(path, *leaves):
        shapes = sorted({np.shape(leaf) for leaf in leaves})
        if len(shapes) > 1:
            raise ValueError(
                f"examples{jax.tree_util.keystr(path)}: expected equal shapes in a batch, got"
                f" {shapes[0]} and {shapes[-1]}. Use a collate that pads, see rnnlab.data.pad."
            )
        return np.stack(leaves)

    return jax.tree.map_with_path(stack, *examples)


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """Batches of single examples, each a function of an integer step.

    Training reads an endless stream: epoch after epoch, each a permutation of the source that
    depends on (seed, epoch) alone. Row r of step s is sample number `s * batch_size + r` of that
    stream, so no example is dropped or doubled within an epoch, and a batch at the border of two
    epochs has rows of both. A restart needs the step and nothing else. A shard reads its part of
    the rows of the same batches, so another number of shards changes nothing either.

    Attributes:
      source: examples by their number, `source[i]` for `0 <= i < len(source)`; each a tree (tuples,
        dicts, named tuples) of arrays or numbers.
      batch_size: B, rows of all shards together.
      seed: of the permutations.
      shuffle: whether to permute; if not, every epoch is in the order of the source.
      shard: (index, count): which of `count` equal parts of the rows to give.
      collate: list of examples -> tree of arrays `[B, ...]`.
      workers: processes that read ahead for `batches`, each with a copy of the source; 0 reads
        in this one. The batches are the same.

    Example:
        >>> batches = Batches([(x, x % 2) for x in range(5)], batch_size=2, shuffle=False)
        >>> batches.batch(2)  # the end of one epoch and the start of the next
        Batch(examples=(array([4, 0]), array([0, 0])), weights=array([1., 1.], dtype=float32))
        >>> [batch.weights.tolist() for batch in batches.epoch()]
        [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]
    """

    source: Sequence[Any]
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    shard: tuple[int, int] = (0, 1)
    collate: Callable[[list[Any]], Any] = stack_examples
    workers: int = 0

    def __post_init__(self):
        check_count("batch_size", self.batch_size)
        check_count("workers", self.workers, least=0)
        check_seed(self.seed)
        check_shard(self.shard, self.batch_size)
        if len(self.source) == 0:
            raise ValueError("source: expected at least one example, got none.")

    @property
    def batches_per_epoch(self) -> int:
        """Batches that `epoch` gives, the last one filled up."""
        return -(-len(self.source) // self.batch_size)

    def batch(self, step: int) -> Batch:
        """The training batch of a step."""
        check_count("step", step, least=0)
        samples = step * self.batch_size + shard_rows(self.batch_size, self.shard)
        epochs, places = np.divmod(samples, len(self.source))
        orders = {epoch: self._order(epoch) for epoch in set(epochs.tolist())}
        numbers = [orders[e][p] for e, p in zip(epochs.tolist(), places.tolist(), strict=True)]
        return self._read(numbers, np.ones(len(samples), np.float32))

    def batches(self, first_step: int = 0) -> Iterator[Batch]:
        """The training batches from a step on, without end."""
        return run_steps(self.batch, first_step, self.workers)

    def epoch(self) -> Iterator[Batch]:
        """One pass in the order of the source; the last batch is filled up with weight 0."""
        for step in range(self.batches_per_epoch):
            samples = step * self.batch_size + shard_rows(self.batch_size, self.shard)
            real = samples < len(self.source)
            numbers = np.minimum(samples, len(self.source) - 1)
            yield self._read(numbers, real.astype(np.float32))

    def _order(self, epoch: int) -> Sequence[int] | np.ndarray:
        size = len(self.source)
        return permutation(size, self.seed, epoch) if self.shuffle else range(size)

    def _read(self, numbers, weights: np.ndarray) -> Batch:
        return Batch(self.collate([self.source[int(number)] for number in numbers]), weights)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The rows of arrays as examples, a source for `Batches`.

    Attributes:
      arrays: a tree of arrays `[N, ...]`.

    Example:
        >>> rows = Rows({"x": np.eye(2), "label": np.array([3, 4])})
        >>> len(rows), rows[1]
        (2, {'label': np.int64(4), 'x': array([0., 1.])})
    """

    arrays: Any

    def __post_init__(self):
        import jax

        shapes = [np.shape(array) for array in jax.tree.leaves(self.arrays)]
        if not all(shapes) or len({shape[0] for shape in shapes}) != 1:
            raise ValueError(f"arrays: expected arrays [N, ...] of one length N, got {shapes}.")

    def __len__(self) -> int:
        import jax

        return len(jax.tree.leaves(self.arrays)[0])

    def __getitem__(self, index: int) -> Any:
        import jax

        return jax.tree.map(lambda array: array[index], self.arrays)


def shard_rows(batch_size: int, shard: tuple[int, int]) -> np.ndarray:
    """The rows of a batch that a shard (index, count) reads."""
    index, count = shard
    rows = batch_size // count
    return np.arange(index * rows, (index + 1) * rows)


@functools.lru_cache(maxsize=4)
def permutation(size: int, seed: int, epoch: int, stream: int = 0) -> np.ndarray:
    """A permutation of `range(size)` that depends on the arguments alone.

    It sorts the raw output of the counter-based generator Philox, which is fixed by its authors;
    what `numpy.random.Generator.permutation` makes of it may change from version to version.

    Args:
      size: how many numbers to permute.
      seed: half of the generator's key.
      epoch: the other half.
      stream: tells apart independent permutations of one epoch.

    Returns:
      int64 `[size]`, read-only.

    References: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=[0, 0, 0, stream])
    order = np.argsort(bits.random_raw(size), kind="stable")
    order.flags.writeable = False  # the cache hands out one array again and again
    return order
