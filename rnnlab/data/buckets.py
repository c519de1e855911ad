"""Batches of sequences of similar length: little padding, and few shapes to compile."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data.batches import Batch, permutation, shard_rows
from rnnlab.data.checks import check_count, check_seed, check_shard
from rnnlab.data.padding import pad
from rnnlab.data.workers import run_steps


class _Planned(NamedTuple):
    length: int  # the boundary of the bucket
    numbers: np.ndarray  # int [n], n <= B, which examples


def bucket_boundaries(
    lengths: Sequence[int] | np.ndarray, num_buckets: int, *, multiple: int = 1
) -> tuple[int, ...]:
    """Lengths to pad to, so that about equally many sequences go to each.

    Args:
      lengths: of all sequences.
      num_buckets: how many to make; fewer come where boundaries coincide.
      multiple: boundaries are rounded up to multiples of it.

    Returns:
      Ascending lengths, from 1 on; the last holds the longest sequence.

    Raises:
      ValueError: no lengths, or a negative one.

    Example:
        >>> bucket_boundaries([2, 3, 3, 4, 9, 30], num_buckets=3)
        (3, 4, 30)
    """
    check_count("num_buckets", num_buckets)
    check_count("multiple", multiple)
    lengths = _checked_lengths(lengths)
    shares = np.arange(1, num_buckets + 1) / num_buckets
    quantiles = np.quantile(lengths, shares, method="inverted_cdf").astype(int)
    rounded = -(-np.maximum(quantiles, 1) // multiple) * multiple
    return tuple(np.unique(rounded).tolist())


@dataclasses.dataclass(frozen=True, eq=False)
class BucketBatches:
    """Batches of similar length, each padded to the boundary of its bucket.

    An epoch is a plan that depends on (seed, epoch) alone: the examples of every bucket are
    shuffled and cut into batches, the last of a bucket is filled up with weight 0, and the batches
    of all buckets are shuffled. Every example comes once in an epoch, and every epoch has equally
    many batches, so a batch is a function of its step.

    Attributes:
      source: sequences by their number, `source[i]`; examples with other parts need `lengths` and
        a `collate`.
      batch_size: B, rows of all shards together.
      boundaries: ascending lengths to pad to, as `bucket_boundaries` gives.
      lengths: of every example; None takes `len(source[i])`.
      seed: of the plans.
      shuffle: whether to shuffle; if not, buckets come in the order of their boundaries.
      shard: (index, count): which of `count` equal parts of the rows to give.
      collate: (list of examples, length) -> tree of arrays `[B, ...]`; `pad` gives `Padded`.
      workers: processes that read ahead for `batches`, as in `Batches`.

    Example:
        >>> source = [[1], [2, 2], [3, 3, 3, 3], [4]]
        >>> batches = BucketBatches(source, batch_size=2, boundaries=(2, 4), shuffle=False)
        >>> [batch.examples.values.tolist() for batch in batches.epoch()]
        [[[1, 0], [2, 2]], [[4, 0], [4, 0]], [[3, 3, 3, 3], [3, 3, 3, 3]]]
        >>> [batch.weights.tolist() for batch in batches.epoch()]
        [[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    """

    source: Sequence[Any]
    batch_size: int
    boundaries: Sequence[int]
    lengths: Sequence[int] | np.ndarray | None = None
    seed: int = 0
    shuffle: bool = True
    shard: tuple[int, int] = (0, 1)
    collate: Callable[[list[Any], int], Any] = pad
    workers: int = 0
    _plans: dict[int, list[_Planned]] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self):
        check_count("batch_size", self.batch_size)
        check_count("workers", self.workers, least=0)
        check_seed(self.seed)
        check_shard(self.shard, self.batch_size)
        boundaries = list(self.boundaries)
        if not boundaries or boundaries != sorted(set(boundaries)) or boundaries[0] < 1:
            raise ValueError(f"boundaries: expected ascending lengths from 1 on, got {boundaries}.")
        lengths = self._lengths
        if len(lengths) != len(self.source):
            raise ValueError(
                f"lengths: expected {len(self.source)}, one an example, got {len(lengths)}."
            )
        if lengths.max() > boundaries[-1]:
            number = int(lengths.argmax())
            raise ValueError(
                f"example {number}: expected a length of at most {boundaries[-1]}, the last"
                f" boundary, got {lengths[number]}."
            )

    @cached_property
    def _lengths(self) -> np.ndarray:
        if self.lengths is not None:
            return _checked_lengths(self.lengths)
        return _checked_lengths([len(example) for example in self.source])

    @cached_property
    def _buckets(self) -> np.ndarray:
        return np.searchsorted(self.boundaries, self._lengths)  # [N], the first that fits

    @cached_property
    def batches_per_epoch(self) -> int:
        """Batches in every epoch."""
        counts = np.bincount(self._buckets)
        return int((-(-counts // self.batch_size)).sum())

    @cached_property
    def waste(self) -> float:
        """The share of an epoch's steps that are padding, rows that fill up included."""
        counts = np.bincount(self._buckets, minlength=len(self.boundaries))
        rows = -(-counts // self.batch_size) * self.batch_size
        return float(1 - self._lengths.sum() / (rows * np.array(self.boundaries)).sum())

    def batch(self, step: int) -> Batch:
        """The training batch of a step."""
        check_count("step", step, least=0)
        epoch, place = divmod(step, self.batches_per_epoch)
        return self._read(self._plan(epoch)[place])

    def batches(self, first_step: int = 0) -> Iterator[Batch]:
        """The training batches from a step on, without end."""
        return run_steps(self.batch, first_step, self.workers)

    def epoch(self) -> Iterator[Batch]:
        """One pass without shuffling, bucket after bucket."""
        return map(self._read, self._cut(np.arange(len(self.source))))

    def _plan(self, epoch: int) -> list[_Planned]:
        """The batches of an epoch; the last plan is kept, for the steps that follow."""
        plan = self._plans.get(epoch)
        if plan is None:
            plan = self._make_plan(epoch)
            self._plans.clear()
            self._plans[epoch] = plan
        return plan

    def _make_plan(self, epoch: int) -> list[_Planned]:
        if not self.shuffle:
            return self._cut(np.arange(len(self.source)))
        batches = self._cut(permutation(len(self.source), self.seed, epoch))
        order = permutation(len(batches), self.seed, epoch, stream=1)
        return [batches[place] for place in order]

    def _cut(self, order: np.ndarray) -> list[_Planned]:
        """The batches of every bucket in turn, with its examples in the given order."""
        buckets = self._buckets[order]
        members = [(length, order[buckets == b]) for b, length in enumerate(self.boundaries)]
        return [
            _Planned(length, numbers[start : start + self.batch_size])
            for length, numbers in members
            for start in range(0, len(numbers), self.batch_size)
        ]

    def _read(self, planned: _Planned) -> Batch:
        rows = shard_rows(self.batch_size, self.shard)
        real = rows < len(planned.numbers)
        numbers = planned.numbers[np.minimum(rows, len(planned.numbers) - 1)]
        examples = self.collate([self.source[int(number)] for number in numbers], planned.length)
        return Batch(examples, real.astype(np.float32))


def _checked_lengths(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    array = np.asarray(lengths)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"lengths: expected one or more numbers, got shape {array.shape}.")
    if array.dtype.kind not in "iu":
        raise TypeError(f"lengths: expected integers, got {array.dtype}.")
    if array.min() < 0:
        raise ValueError(f"lengths: expected none below 0, got {array.min()}.")
    return array
