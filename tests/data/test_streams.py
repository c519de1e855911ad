import itertools

import numpy as np
import pytest

from rnnlab.data import Streams

SHAPES = [(50, 4, 5), (51, 4, 5), (47, 3, 64), (9, 8, 1), (2, 1, 1), (5, 8, 3)]


@pytest.mark.parametrize(("size", "num_streams", "seq_length"), SHAPES)
def test_every_prediction_is_made_exactly_once_per_epoch(size, num_streams, seq_length):
    tokens = np.arange(size, dtype=np.int32)
    seen = []
    for window in Streams(tokens, num_streams, seq_length).epoch():
        assert window.inputs.shape == (num_streams, seq_length)
        assert window.weights.sum() > 0
        real = window.weights == 1
        assert np.all(window.weights[~real] == 0)
        np.testing.assert_array_equal(window.targets[real], window.inputs[real] + 1)
        seen += window.inputs[real].tolist()
    assert sorted(seen) == list(range(size - 1))


def test_rows_go_on_from_window_to_window():
    streams = Streams(np.arange(41, dtype=np.int32), num_streams=4, seq_length=5)
    first, second = streams.window(0), streams.window(1)
    np.testing.assert_array_equal(second.inputs[:, 0], first.targets[:, -1])


def test_the_next_epoch_starts_anew():
    streams = Streams(np.arange(41, dtype=np.int32), num_streams=4, seq_length=5)
    epoch = streams.windows_per_epoch
    starts = [window.start.tolist() for window in itertools.islice(streams.windows(), 2 * epoch)]
    assert starts == ([[True] * 4] + [[False] * 4] * (epoch - 1)) * 2
    np.testing.assert_array_equal(streams.window(epoch).inputs, streams.window(0).inputs)


def test_position_depends_on_the_step_alone():
    streams = Streams(np.arange(100, dtype=np.int32), num_streams=3, seq_length=4)
    straight = list(itertools.islice(streams.windows(), 25))
    resumed = list(itertools.islice(streams.windows(first_step=13), 12))
    for one, other in zip(straight[13:], resumed, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_stateless_windows_all_start_anew():
    streams = Streams(np.arange(100, dtype=np.int32), 3, 4, stateful=False)
    assert all(window.start.all() for window in streams.epoch())


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="at least 2 tokens"):
        Streams(np.zeros(1, np.int32), 1, 1)
    with pytest.raises(ValueError, match="num_streams: expected at least 1, got 0"):
        Streams(np.zeros(9, np.int32), 0, 1)
    with pytest.raises(ValueError, match="seq_length: expected at least 1, got -1"):
        Streams(np.zeros(9, np.int32), 1, -1)
