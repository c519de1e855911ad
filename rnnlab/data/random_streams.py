"""Streams whose windows are of random length, so that their ends fall elsewhere in every epoch."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator

import numpy as np

from rnnlab.data.streams import Streams, Window

SHORTEST = 5
"""Steps of a window that is not the last of its epoch, unless `seq_length` is less."""
HALVED = 0.05
"""Share of the windows that are drawn around half the length."""
DEVIATIONS = 2
"""Where the normal distribution of lengths is cut off, above."""


@dataclasses.dataclass(frozen=True, eq=False)
class RandomStreams:
    """As `Streams`, with a new length for every window.

        base = seq_length, or seq_length / 2 with probability 5 %
        length = min(max(round(N(base, deviation)), 5), seq_length + 2 deviation)

    All windows have one shape, that of the longest there can be, so that one compiled program
    serves all; the steps beyond the length of a window have weight 0, and the next window starts
    with them. A model with a carry has to leave it as it was there: give it `weights > 0` as mask.
    Every prediction is made exactly once per epoch. The position is a function of seed and step
    alone, so a resumed run needs no other bookkeeping.

    Attributes:
      tokens: int32 `[N]`, N >= 2.
      num_streams: B.
      seq_length: the length that most windows are near to.
      deviation: of the lengths, in steps, more than 0.
      seed: of the lengths.
      stateful: whether state is carried from window to window; if not, every window starts anew.

    Raises:
      ValueError: a deviation that is not more than 0; and all that `Streams` raises.

    Example:
        >>> import numpy as np
        >>> from rnnlab.data import RandomStreams
        >>> streams = RandomStreams(np.arange(90), num_streams=2, seq_length=10, deviation=2.0)
        >>> [int(window.weights[0].sum()) for window in streams.epoch()]
        [7, 9, 5, 5, 10, 8, 1]
        >>> streams.window(0).inputs.shape
        (2, 14)

    References: Merity et al. 2018, "Regularizing and optimizing LSTM language models", section 5
    and their code. There lengths have no upper end, which here is two deviations above.
    """

    tokens: np.ndarray
    num_streams: int
    seq_length: int
    deviation: float
    seed: int = 0
    stateful: bool = True

    def __post_init__(self):
        if not 0 < self.deviation < math.inf:
            raise ValueError(f"deviation: expected more than 0, got {self.deviation}.")
        Streams(self.tokens, self.num_streams, self.seq_length)  # refuses what it cannot read

    @property
    def longest(self) -> int:
        """T, steps of a window with those of weight 0."""
        return self.seq_length + math.ceil(DEVIATIONS * self.deviation)

    def window(self, step: int) -> Window:
        """The batch of an integer step; the next epoch follows the last window of an epoch."""
        epoch = 0
        while step >= (windows := len(self._bounds(epoch)) - 1):
            step, epoch = step - windows, epoch + 1
        first, last = map(int, self._bounds(epoch)[step : step + 2])
        return self._streams.stretch(first, last - first)

    def windows(self, first_step: int = 0) -> Iterator[Window]:
        """The batches from a step on, without end."""
        return map(self.window, itertools.count(first_step))

    def epoch(self) -> Iterator[Window]:
        """The batches of the first epoch."""
        return (self.window(step) for step in range(len(self._bounds(0)) - 1))

    @functools.cached_property
    def _streams(self) -> Streams:
        return Streams(self.tokens, self.num_streams, self.longest, self.stateful)

    @functools.cached_property
    def _known(self) -> list[np.ndarray]:
        return []

    def _bounds(self, epoch: int) -> np.ndarray:
        """Where the windows of an epoch start, and where the last one ends; epochs in order."""
        if epoch == len(self._known):
            self._known.append(self._draw(epoch))
        return self._known[epoch]

    def _draw(self, epoch: int) -> np.ndarray:
        total = self._streams.stream_length
        rng, shortest = np.random.default_rng((self.seed, epoch)), min(SHORTEST, self.seq_length)
        count = -(-total // shortest)  # windows at most
        base = np.where(rng.random(count) < HALVED, self.seq_length / 2, self.seq_length)
        lengths = np.rint(rng.normal(base, self.deviation)).astype(int)
        ends = np.cumsum(np.clip(lengths, shortest, self.longest))
        return np.concatenate([[0], ends[ends < total], [total]])
