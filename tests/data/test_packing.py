import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnlab.cells import GRU, LSTM
from rnnlab.data import Batches, PackedTokens, Rows, pack, pack_tokens, unpack
from rnnlab.models import LanguageModel
from rnnlab.strategies import Scan

RNG = np.random.default_rng(0)
LENGTHS = [5, 3, 7, 1, 4, 2, 6, 2]
SEQUENCES = [RNG.integers(1, 11, n) for n in LENGTHS]


@pytest.mark.parametrize("decreasing", [False, True])
def test_sequences_come_back(decreasing):
    packed = pack(SEQUENCES, 8, decreasing=decreasing)
    again = unpack(packed.values, packed.segments)
    assert [s.tolist() for s in again] == [s.tolist() for s in SEQUENCES]
    for number, sequence in enumerate(SEQUENCES):
        rows, steps = np.nonzero(packed.segments == number)
        assert len(set(rows)) == 1  # in one row, without a gap
        np.testing.assert_array_equal(steps, steps[0] + np.arange(len(sequence)))
        np.testing.assert_array_equal(packed.positions[rows, steps], np.arange(len(sequence)))
        np.testing.assert_array_equal(packed.reset[rows, steps], np.arange(len(sequence)) == 0)
    np.testing.assert_array_equal(packed.mask, packed.segments >= 0)
    padding = ~packed.mask
    assert not packed.values[padding].any()
    assert not packed.reset[padding].any()
    assert not packed.positions[padding].any()


def test_each_goes_into_the_first_row_where_it_fits():
    packed = pack([[1] * 3, [2] * 3, [3] * 2, [4] * 2], 5)
    assert packed.values.tolist() == [[1, 1, 1, 3, 3], [2, 2, 2, 4, 4]]
    in_order = pack([[1] * 2, [2] * 3, [3] * 4, [4] * 1], 5)
    assert in_order.values.tolist() == [[1, 1, 2, 2, 2], [3, 3, 3, 3, 4]]


def test_longest_first_needs_fewer_rows():
    lengths = [1, 1, 4, 4]
    sequences = [[1] * n for n in lengths]
    assert len(pack(sequences, 5).values) == 3
    assert len(pack(sequences, 5, decreasing=True).values) == 2


def test_features_dtypes_and_a_number_of_rows():
    sequences = [np.ones((n, 2), np.float32) for n in (3, 4)]
    packed = pack(sequences, 4, num_rows=5)
    assert packed.values.shape == (5, 4, 2)
    assert packed.values.dtype == np.float32
    assert packed.mask.sum(axis=1).tolist() == [3, 4, 0, 0, 0]
    assert (packed.segments.dtype, packed.positions.dtype) == (np.int32, np.int32)
    assert (packed.reset.dtype, packed.mask.dtype) == (bool, bool)


@pytest.mark.parametrize(
    ("sequences", "options", "message"),
    [
        ([], {}, "sequences: expected at least one, got none"),
        ([[1], [1] * 5], {}, "sequence 1: expected 1 to 4 steps, .* got 5"),
        ([[1], []], {}, "sequence 1: expected 1 to 4 steps, .* got 0"),
        ([[1] * 4] * 3, {"num_rows": 2}, "at least the 3 rows of 4 steps that these 3 .* got 2"),
        ([[1]], {"length": 0}, "length: expected at least 1, got 0"),
        ([np.ones((1, 2)), np.ones((1, 3))], {}, r"sequence 1: .* \(2,\), .* got \(3,\)"),
    ],
)
def test_errors(sequences, options, message):
    with pytest.raises(ValueError, match=message):
        pack(sequences, **{"length": 4, **options})


def test_taking_apart_needs_values_of_the_same_rows():
    with pytest.raises(ValueError, match=r"expected \[B, T, ...\] with the segments' \(1, 2\)"):
        unpack(np.zeros((2, 1)), np.zeros((1, 2), int))


def test_no_prediction_crosses_the_end_of_a_text():
    texts = [[10 * i + j for j in range(n)] for i, n in enumerate([5, 2, 3, 4])]
    batch = pack_tokens(texts, 5, decreasing=True)
    real = batch.weights == 1
    np.testing.assert_array_equal(batch.targets[real], batch.inputs[real] + 1)
    pairs = sorted(zip(batch.inputs[real].tolist(), batch.targets[real].tolist(), strict=True))
    assert pairs == sorted(pair for t in texts for pair in itertools.pairwise(t))
    assert batch.reset.sum() == 4
    with pytest.raises(ValueError, match=r"text 1: expected at least 2 tokens, .* got 1"):
        pack_tokens([[1, 2], [3]], 4)


def test_packed_rows_are_examples():
    packed = pack_tokens([[1, 2, 3], [4, 5], [6, 7, 8]], 2)
    batches = list(Batches(Rows(packed), 2).epoch())
    assert [batch.examples.inputs.tolist() for batch in batches] == [
        [[1, 2], [4, 0]],
        [[6, 7], [6, 7]],
    ]
    assert [batch.weights.tolist() for batch in batches] == [[1, 1], [1, 0]]


def test_a_packed_batch_has_the_losses_and_gradients_of_the_texts_one_by_one():
    model = LanguageModel(11, 6, cells=(LSTM(8), GRU(7)), strategy=Scan())
    params = model.init(jax.random.key(0))
    texts = [RNG.integers(0, 11, n) for n in (5, 2, 5, 2, 2, 5, 2)]

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(params, batch):
        carry = model.initial_carry(params, len(batch.inputs))
        _, logits = model.apply(params, batch.inputs.T, carry, reset=batch.reset.T)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets.T).T
        return jnp.sum(losses * batch.weights), losses

    one_by_one = []
    for text in texts:
        inputs, targets = text[None, :-1], text[None, 1:]
        batch = PackedTokens(inputs, targets, np.ones(inputs.shape), np.zeros(inputs.shape, bool))
        one_by_one.append(run(params, batch))

    packed = pack_tokens(texts, 8, num_rows=4)
    assert (packed.reset.sum(axis=1) > 1).any()  # some texts do share a row
    (total, losses), gradients = run(params, packed)
    segments = pack([text[:-1] for text in texts], 8, num_rows=4).segments
    for got, ((_, expected), _) in zip(unpack(losses, segments), one_by_one, strict=True):
        np.testing.assert_allclose(got, expected[0], atol=2e-6)
    np.testing.assert_allclose(total, sum(loss for (loss, _), _ in one_by_one), rtol=1e-6)
    expected = jax.tree.map(lambda *parts: sum(parts), *(gradient for _, gradient in one_by_one))
    for got, gradient in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, gradient, atol=2e-5)
