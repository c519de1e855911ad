import numpy as np
import pytest

from rnnlab.data import pad


def test_padding_goes_to_the_right():
    values, lengths = pad([np.array([1, 2, 3], np.int32), np.array([4], np.int32)], value=-1)
    assert values.tolist() == [[1, 2, 3], [4, -1, -1]]
    assert values.dtype == np.int32
    assert lengths.tolist() == [3, 1]
    assert lengths.dtype == np.int32


def test_padding_goes_to_the_left():
    assert pad([[1, 2, 3], [4]], side="left").values.tolist() == [[1, 2, 3], [0, 0, 4]]


def test_features_stay():
    values, lengths = pad([np.ones((2, 3)), np.ones((4, 3))], 5)
    assert values.shape == (2, 5, 3)
    np.testing.assert_array_equal(values.sum((1, 2)), 3 * lengths)


@pytest.mark.parametrize(("multiple", "length"), [(1, 5), (4, 8), (5, 5), (64, 64)])
def test_the_longest_is_rounded_up(multiple, length):
    assert pad([[1] * 5, [1]], multiple=multiple).values.shape == (2, length)


def test_truncation_is_at_the_side_of_the_padding():
    assert pad([[1, 2, 3], [4]], 2, truncate=True).values.tolist() == [[1, 2], [4, 0]]
    left = pad([[1, 2, 3], [4]], 2, truncate=True, side="left")
    assert left.values.tolist() == [[2, 3], [0, 4]]
    assert left.lengths.tolist() == [2, 1]
    assert pad([[1, 2]], 0, truncate=True, side="left").values.shape == (1, 0)


def test_empty_sequences_are_padding_alone():
    values, lengths = pad([[], [1, 2]])
    assert values.tolist() == [[0, 0], [1, 2]]
    assert values.dtype == np.int64  # an empty list says nothing about its numbers
    assert lengths.tolist() == [0, 2]
    assert pad([[], np.ones((2, 3), np.float32)]).values.shape == (2, 2, 3)
    assert pad([[]]).values.shape == (1, 0)
    assert pad([np.zeros((0, 3)), np.zeros((0, 3))]).values.shape == (2, 0, 3)


def test_dtypes_are_joined_and_values_kept():
    assert pad([np.ones(2, np.float32), np.ones(1, np.float64)]).values.dtype == np.float64
    values = pad([np.array([np.nan, 1.0]), np.array([2.0])], value=np.nan).values
    np.testing.assert_array_equal(values, [[np.nan, 1], [2, np.nan]])
    assert pad([[True], [True, True]]).values.tolist() == [[True, False], [True, True]]
    tenths = pad([np.ones(1, np.float32), np.ones(2, np.float32)], value=0.1).values
    assert tenths[0, 1] == np.float32(0.1)


@pytest.mark.parametrize(
    ("sequences", "options", "message"),
    [
        ([], {}, "sequences: expected at least one, got none"),
        ([[1], [1, 2, 3]], {"length": 2}, "sequence 1: expected at most 2 steps, got 3"),
        ([[1], 2], {}, r"sequence 1: expected steps \[T, ...\], got"),
        ([np.ones((2, 3)), np.ones((2, 4))], {}, r"sequence 1: .* \(3,\), .* got \(4,\)"),
        ([[1], [2, 3]], {"value": 0.5}, r"value: expected one that int64 can hold, got 0\.5"),
        ([[1], [2, 3]], {"value": np.nan}, "value: expected one that int64 can hold, got nan"),
        ([np.ones(1, np.uint8)], {"length": 2, "value": -1}, "that uint8 can hold, got -1"),
        ([[1]], {"length": -1}, "length: expected at least 0, got -1"),
        ([[1]], {"multiple": 0}, "multiple: expected at least 1, got 0"),
        ([[1]], {"side": "middle"}, "side: expected"),
    ],
)
def test_errors(sequences, options, message):
    with pytest.raises(ValueError, match=message):
        pad(sequences, **options)
