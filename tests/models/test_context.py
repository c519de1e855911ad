import jax
import numpy as np
import pytest

from rnnlab.cells import GRU
from rnnlab.data import Streams
from rnnlab.models import LanguageModel
from rnnlab.models.context import loss_by_position

MODEL = LanguageModel(11, 6, cells=(GRU(8),))
PARAMS = MODEL.init(jax.random.key(0))
TOKENS = np.random.default_rng(0).integers(0, 11, 30).astype(np.int32)


def test_every_window_starts_anew_and_every_prediction_counts_once():
    streams = Streams(TOKENS, num_streams=2, seq_length=4)  # 15 predictions each, the last 14
    losses = [[] for _ in range(4)]
    for row in range(2):
        for begin in range(row * 15, min(row * 15 + 15, 29), 4):
            read = TOKENS[begin : min(begin + 4, row * 15 + 15, 29)]
            _, logits = MODEL.apply(PARAMS, read[:, None], MODEL.initial_carry(PARAMS, 1))
            for place, scores in enumerate(jax.nn.log_softmax(logits[:, 0])):
                losses[place].append(-float(scores[TOKENS[begin + place + 1]]))
    assert [len(place) for place in losses] == [8, 8, 7, 6]
    expected = [np.mean(place) for place in losses]
    np.testing.assert_allclose(
        loss_by_position(MODEL, PARAMS, streams.epoch()), expected, rtol=1e-5
    )


def test_places_that_no_window_reaches_are_left_out():
    streams = Streams(TOKENS, num_streams=10, seq_length=8)  # three predictions each
    assert loss_by_position(MODEL, PARAMS, streams.epoch()).shape == (3,)


def test_no_window_at_all():
    with pytest.raises(ValueError, match="windows: expected one or more, got none"):
        loss_by_position(MODEL, PARAMS, [])
