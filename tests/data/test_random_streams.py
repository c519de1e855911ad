import itertools

import numpy as np
import pytest

from rnnlab.data import RandomStreams


def streams_of(size, num_streams=3, seq_length=20, deviation=3.0, **options):
    return RandomStreams(
        np.arange(size, dtype=np.int32), num_streams, seq_length, deviation, **options
    )


def epochs(streams, count):
    """The windows of each of the first epochs."""
    found = []
    for window in streams.windows():
        if window.start[0]:
            if len(found) == count:
                return found
            found.append([])
        found[-1].append(window)
    raise AssertionError("windows came to an end")


@pytest.mark.parametrize("size", [2, 7, 50, 1000])
def test_every_prediction_is_made_exactly_once_in_every_epoch(size):
    for windows in epochs(streams_of(size), 4):
        seen = []
        for window in windows:
            assert window.inputs.shape == (3, 26)
            real = window.weights == 1
            assert real.any()
            np.testing.assert_array_equal(window.targets[real], window.inputs[real] + 1)
            seen += window.inputs[real].tolist()
        assert sorted(seen) == list(range(size - 1))


def test_rows_go_on_where_their_last_real_step_was():
    first, second = itertools.islice(streams_of(1000).windows(), 2)
    lengths = first.weights.sum(1).astype(int)
    for row, length in enumerate(lengths):
        assert first.weights[row, :length].all() and not first.weights[row, length:].any()
        assert second.inputs[row, 0] == first.targets[row, length - 1]


def lengths_of(streams, epoch):
    return [int(window.weights[0].sum()) for window in epochs(streams, epoch + 1)[epoch]]


def test_lengths_have_the_distribution_asked_for():
    lengths = np.array(lengths_of(streams_of(100_000, 1, deviation=2.0), 0)[:-1])
    assert lengths.min() >= 5 and lengths.max() == 24
    near_half = lengths < 14
    assert abs(near_half.mean() - 0.05) < 0.01
    assert abs(lengths[near_half].mean() - 10) < 0.5
    assert abs(lengths[~near_half].mean() - 20) < 0.2
    assert abs(lengths[~near_half].std() - 2) < 0.2


def test_lengths_are_others_in_another_epoch_and_with_another_seed():
    streams = streams_of(1000)
    assert lengths_of(streams, 0) != lengths_of(streams, 1)
    assert lengths_of(streams, 0) != lengths_of(streams_of(1000, seed=1), 0)
    assert lengths_of(streams, 1) == lengths_of(streams_of(1000), 1)
    assert lengths_of(streams, 0) == [int(w.weights[0].sum()) for w in streams.epoch()]


def test_position_depends_on_the_step_alone():
    straight = list(itertools.islice(streams_of(1000).windows(), 70))  # more than three epochs
    assert sum(window.start[0] for window in straight) > 3
    for first in (0, 1, 41, 69):
        for expected, got in zip(straight[first:], streams_of(1000).windows(first), strict=False):
            for a, b in zip(expected, got, strict=True):
                np.testing.assert_array_equal(a, b)


def test_stateless_windows_all_start_anew():
    streams = streams_of(1000, stateful=False)
    assert all(window.start.all() for window in streams.epoch())


@pytest.mark.parametrize("seq_length", [1, 3])
def test_windows_may_be_shorter_than_the_shortest_of_long_ones(seq_length):
    lengths = [int(w.weights[0].sum()) for w in streams_of(200, 1, seq_length).epoch()]
    assert min(lengths[:-1]) == seq_length and sum(lengths) == 199


def test_errors_name_the_argument():
    for deviation in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="deviation: expected more than 0, got"):
            streams_of(100, deviation=deviation)
    with pytest.raises(ValueError, match="num_streams: expected at least 1, got 0"):
        streams_of(100, num_streams=0)
    with pytest.raises(ValueError, match="seq_length: expected at least 1, got 0"):
        streams_of(100, seq_length=0)
