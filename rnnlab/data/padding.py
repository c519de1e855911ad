"""Sequences of different lengths as one array."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from rnnlab.data.checks import check_count


class Padded(NamedTuple):
    """Sequences in one array."""

    values: np.ndarray  # [B, T, ...]
    lengths: np.ndarray  # int32 [B], steps that are not padding


def pad(
    sequences: Sequence[Any],
    length: int | None = None,
    *,
    multiple: int = 1,
    value: float = 0,
    truncate: bool = False,
    side: Literal["left", "right"] = "right",
) -> Padded:
    """Pads sequences to one length.

    Args:
      sequences: B arrays or lists `[T_i, ...]`, equal in all but the first axis.
      length: T; None takes the longest, rounded up to a multiple of `multiple`.
      multiple: few different T mean few compilations.
      value: what to pad with.
      truncate: whether sequences longer than `length` are cut, at the side that would be padded;
        if not, they are an error.
      side: where the padding goes.

    Returns:
      The values `[B, T, ...]`, in the dtype all sequences fit in, and the lengths.

    Raises:
      ValueError: no sequences, one that is too long, with its number, one of another shape, or a
        value that the dtype cannot hold.

    Example:
        >>> pad([[1, 2, 3], [4]])
        Padded(values=array([[1, 2, 3],
               [4, 0, 0]]), lengths=array([3, 1], dtype=int32))
    """
    check_count("multiple", multiple)
    if side not in ("left", "right"):
        raise ValueError(f'side: expected "left" or "right", got {side!r}.')
    arrays = as_sequences(sequences)
    longest = max(len(array) for array in arrays)
    if length is None:
        length = -(-longest // multiple) * multiple
    check_count("length", length, least=0)
    if longest > length and not truncate:
        number = next(i for i, array in enumerate(arrays) if len(array) > length)
        raise ValueError(
            f"sequence {number}: expected at most {length} steps, got {len(arrays[number])}."
            " Use truncate=True to cut it, or a greater length."
        )
    values = filled((len(arrays), length, *arrays[0].shape[1:]), arrays[0].dtype, value)
    for row, array in zip(values, arrays, strict=True):
        steps = min(len(array), length)
        if side == "right":
            row[:steps] = array[:steps]
        else:
            row[length - steps :] = array[len(array) - steps :]
    lengths = np.array([min(len(array), length) for array in arrays], np.int32)
    return Padded(values, lengths)


def as_sequences(sequences: Sequence[Any]) -> list[np.ndarray]:
    """Sequences as arrays of one dtype, equal in all but the first axis.

    An empty list says nothing about its dtype and features, so it takes those of the others.
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError("sequences: expected at least one, got none.")
    for number, array in enumerate(arrays):
        if array.ndim == 0:
            raise ValueError(f"sequence {number}: expected steps [T, ...], got {array!r}.")
    known = [array for array in arrays if array.shape != (0,)] or arrays
    features, dtype = known[0].shape[1:], np.result_type(*known)
    for number, array in enumerate(arrays):
        if array.shape[1:] != features and array.shape != (0,):
            raise ValueError(
                f"sequence {number}: expected steps of shape {features}, as in the first, got"
                f" {array.shape[1:]}."
            )
    return [array.astype(dtype).reshape(len(array), *features) for array in arrays]


def filled(shape: tuple[int, ...], dtype: np.dtype, value: float) -> np.ndarray:
    """An array full of `value`, refused where `dtype` cannot hold it."""
    refused = ValueError(f"value: expected one that {dtype} can hold, got {value}.")
    try:
        with np.errstate(invalid="ignore"):  # of a NaN, which is refused below
            array = np.full(shape, value, dtype)
    except (OverflowError, ValueError) as error:  # out of an integer's range
        raise refused from error
    if dtype.kind in "iub" and array.size and array.flat[0] != value:
        raise refused
    return array
