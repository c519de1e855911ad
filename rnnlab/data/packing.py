"""Several sequences in one row, one after another: less padding, and the same results.

`rnnlab.unroll` with `reset` starts anew at every sequence, so none of them sees another.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data.checks import check_count
from rnnlab.data.padding import as_sequences


class Packed(NamedTuple):
    """Sequences in rows."""

    values: np.ndarray  # [B, T, ...], 0 at padding
    reset: np.ndarray  # bool [B, T], True at the first step of a sequence
    mask: np.ndarray  # bool [B, T], False at padding
    segments: np.ndarray  # int32 [B, T], the number of the sequence, -1 at padding
    positions: np.ndarray  # int32 [B, T], the step within the sequence, 0 at padding


class PackedTokens(NamedTuple):
    """Texts in rows, for next-token prediction."""

    inputs: np.ndarray  # [B, T]
    targets: np.ndarray  # [B, T], the token after each input, of the same text
    weights: np.ndarray  # float32 [B, T], 1, or 0 at padding
    reset: np.ndarray  # bool [B, T], True at the first token of a text


def pack(
    sequences: Sequence[Any],
    length: int,
    num_rows: int | None = None,
    *,
    decreasing: bool = False,
) -> Packed:
    """Packs sequences into rows: each goes into the first row where it fits.

    Args:
      sequences: arrays or lists `[T_i, ...]`, 1 <= T_i <= length, equal in all but the first axis.
      length: T, steps of a row.
      num_rows: B; None takes as many as are needed.
      decreasing: whether the longest sequences are placed first, which needs fewer rows; if not,
        they are placed in the given order.

    Returns:
      The rows. A reset before the first sequence of a row is marked too.

    Raises:
      ValueError: no sequences, one that is empty or longer than a row, with its number, or more
        rows needed than `num_rows`.

    Example:
        >>> packed = pack([[1, 2, 3], [4, 5], [6]], length=4)
        >>> packed.values
        array([[1, 2, 3, 6],
               [4, 5, 0, 0]])
        >>> packed.reset.astype(int)
        array([[1, 0, 0, 1],
               [1, 0, 0, 0]])
    """
    check_count("length", length)
    arrays = as_sequences(sequences)
    for number, array in enumerate(arrays):
        if not 1 <= len(array) <= length:
            raise ValueError(
                f"sequence {number}: expected 1 to {length} steps, the length of a row, got"
                f" {len(array)}."
            )
    rows, starts = _first_fit([len(array) for array in arrays], length, decreasing)
    needed = max(rows) + 1
    if num_rows is None:
        num_rows = needed
    check_count("num_rows", num_rows)
    if needed > num_rows:
        raise ValueError(
            f"num_rows: expected at least the {needed} rows of {length} steps that these"
            f" {len(arrays)} sequences need, got {num_rows}."
        )
    shape = (num_rows, length)
    values = np.zeros((*shape, *arrays[0].shape[1:]), arrays[0].dtype)
    reset, segments = np.zeros(shape, bool), np.full(shape, -1, np.int32)
    positions = np.zeros(shape, np.int32)
    for number, (array, row, start) in enumerate(zip(arrays, rows, starts, strict=True)):
        steps = slice(start, start + len(array))
        values[row, steps] = array
        reset[row, start] = True
        segments[row, steps] = number
        positions[row, steps] = np.arange(len(array))
    return Packed(values, reset, segments >= 0, segments, positions)


def unpack(values: np.ndarray, segments: np.ndarray) -> list[np.ndarray]:
    """Takes rows apart again, the values of a `Packed` or a model's outputs for it.

    Args:
      values: `[B, T, ...]`.
      segments: int `[B, T]`, those of the `Packed`.

    Returns:
      The sequences `[T_i, ...]`, in their order.

    Example:
        >>> packed = pack([[1, 2, 3], [4, 5], [6]], length=4)
        >>> [sequence.tolist() for sequence in unpack(packed.values, packed.segments)]
        [[1, 2, 3], [4, 5], [6]]
    """
    values, segments = np.asarray(values), np.asarray(segments)
    if values.shape[:2] != segments.shape:
        raise ValueError(
            f"values: expected [B, T, ...] with the segments' {segments.shape}, got {values.shape}."
        )
    return [values[segments == number] for number in range(segments.max() + 1)]


def pack_tokens(
    texts: Sequence[Any], length: int, num_rows: int | None = None, *, decreasing: bool = False
) -> PackedTokens:
    """Packs texts for next-token prediction; no prediction crosses the end of a text.

    The rows of a whole split are examples: `Batches(Rows(pack_tokens(texts, length)), batch_size)`.

    Args:
      texts: int arrays or lists `[N_i]`, 2 <= N_i <= length + 1: one token more than predictions.
      length: T, predictions of a row.
      num_rows: as in `pack`.
      decreasing: as in `pack`.

    Returns:
      Inputs, targets, weights and resets `[B, T]`.

    Raises:
      ValueError: a text of fewer than 2 tokens; and all that `pack` raises.

    Example:
        >>> batch = pack_tokens([[1, 2, 3], [4, 5]], length=4)
        >>> batch.inputs.tolist(), batch.targets.tolist(), batch.weights.tolist()
        ([[1, 2, 4, 0]], [[2, 3, 5, 0]], [[1.0, 1.0, 1.0, 0.0]])
    """
    for number, text in enumerate(texts):
        if len(text) < 2:
            raise ValueError(
                f"text {number}: expected at least 2 tokens, one to read and one to predict, got"
                f" {len(text)}."
            )
    # Equal lengths are laid out equally, so every target stands at its input's place.
    options = {"length": length, "num_rows": num_rows, "decreasing": decreasing}
    inputs = pack([text[:-1] for text in texts], **options)
    targets = pack([text[1:] for text in texts], **options)
    weights = inputs.mask.astype(np.float32)
    return PackedTokens(inputs.values, targets.values, weights, inputs.reset)


def _first_fit(lengths: list[int], length: int, decreasing: bool) -> tuple[list[int], list[int]]:
    """The row and the first step of every sequence."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i] if decreasing else i)
    free, used = np.full(len(lengths), length), 0  # never more rows than sequences
    rows, starts = [0] * len(lengths), [0] * len(lengths)
    for number in order:
        row = int(np.argmax(free[: used + 1] >= lengths[number]))
        used = max(used, row + 1)
        rows[number], starts[number] = row, int(length - free[row])
        free[row] -= lengths[number]
    return rows, starts
