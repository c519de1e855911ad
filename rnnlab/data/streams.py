"""One long text as parallel streams, cut into windows: the batches of truncated BPTT."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """A batch: the same stretch of every stream."""

    inputs: np.ndarray  # int32 [B, T]
    targets: np.ndarray  # int32 [B, T], the token after each input
    weights: np.ndarray  # float32 [B, T], 1, or 0 where a stream has ended
    start: np.ndarray  # bool [B], True where the state has to start anew


@dataclasses.dataclass(frozen=True, eq=False)
class Streams:
    """Contiguous streams of a text, read window after window and epoch after epoch.

    The `len(tokens) - 1` predictions are cut into `num_streams` streams of equal length; row b of
    window w + 1 goes on where row b of window w stopped, so a carried state stays right. Every
    prediction is made exactly once per epoch: what is left over is filled up with weight 0. The
    position is a function of the step alone, so a resumed run needs no other bookkeeping.

    Attributes:
      tokens: int32 `[N]`, N >= 2.
      num_streams: B.
      seq_length: T, steps per window.
      stateful: whether state is carried from window to window; if not, every window starts anew.

    Example:
        >>> streams = Streams(np.arange(8, dtype=np.int32), num_streams=2, seq_length=3)
        >>> streams.windows_per_epoch
        2
        >>> streams.window(0).inputs
        array([[0, 1, 2],
               [4, 5, 6]], dtype=int32)
        >>> streams.window(1).weights
        array([[1., 0., 0.],
               [0., 0., 0.]], dtype=float32)
    """

    tokens: np.ndarray
    num_streams: int
    seq_length: int
    stateful: bool = True

    def __post_init__(self):
        if np.ndim(self.tokens) != 1 or len(self.tokens) < 2:
            raise ValueError(
                "tokens: expected one axis of at least 2 tokens, one to read and one to predict,"
                f" got shape {np.shape(self.tokens)}."
            )
        for name in ("num_streams", "seq_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}.")

    @property
    def stream_length(self) -> int:
        """Predictions per stream, the padding of the last streams included."""
        return -(-(len(self.tokens) - 1) // self.num_streams)

    @property
    def windows_per_epoch(self) -> int:
        """Windows until every prediction was made once."""
        return -(-self.stream_length // self.seq_length)

    def window(self, step: int) -> Window:
        """The batch of an integer step; the next epoch follows the last window of an epoch."""
        index = step % self.windows_per_epoch
        return self.stretch(index * self.seq_length, self.seq_length)

    def stretch(self, first: int, length: int) -> Window:
        """The window of `seq_length` steps from place `first` of every stream.

        Args:
          first: 0 begins the epoch.
          length: steps that count, at most `seq_length`; the others have weight 0.
        """
        steps = np.arange(self.seq_length)
        within = first + steps  # [T]
        position = np.arange(self.num_streams)[:, None] * self.stream_length + within  # [B, T]
        predictions = len(self.tokens) - 1
        counts = (steps < length) & (within < self.stream_length)
        weights = counts & (position < predictions)
        position = np.minimum(position, predictions - 1)
        return Window(
            inputs=self.tokens[position],
            targets=self.tokens[position + 1],
            weights=weights.astype(np.float32),
            start=np.full(self.num_streams, first == 0 or not self.stateful),
        )

    def windows(self, first_step: int = 0) -> Iterator[Window]:
        """The batches from a step on, without end."""
        while True:
            yield self.window(first_step)
            first_step += 1

    def epoch(self) -> Iterator[Window]:
        """The batches of one epoch."""
        return (self.window(step) for step in range(self.windows_per_epoch))
