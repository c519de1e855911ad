import itertools

import numpy as np
import pytest

from rnnlab.data import BucketBatches, bucket_boundaries

LENGTHS = np.random.default_rng(0).integers(1, 60, 103)
SOURCE = [np.full(n, i, np.int32) for i, n in enumerate(LENGTHS)]
BOUNDARIES = bucket_boundaries(LENGTHS, 4)


def numbers(batch):
    """Which examples the rows of a batch are; each is full of its own number."""
    return batch.examples.values[:, 0][batch.weights == 1].tolist()


def take(batches, steps, first_step=0):
    return list(itertools.islice(batches.batches(first_step), steps))


def test_boundaries_are_quantiles():
    assert bucket_boundaries(np.arange(1, 101), 4) == (25, 50, 75, 100)
    assert bucket_boundaries(np.arange(1, 101), 4, multiple=16) == (32, 64, 80, 112)
    assert bucket_boundaries([7, 7, 7], 3) == (7,)
    assert bucket_boundaries([5], 10) == (5,)
    assert bucket_boundaries([0, 0], 2) == (1,)
    assert bucket_boundaries([1, 2, 9], 1) == (9,)


@pytest.mark.parametrize("batch_size", [1, 8, 200])
def test_every_epoch_has_every_example_once_and_equally_many_batches(batch_size):
    batches = BucketBatches(SOURCE, batch_size, BOUNDARIES)
    per_epoch = batches.batches_per_epoch
    stream = take(batches, 3 * per_epoch)
    for start in range(0, len(stream), per_epoch):
        epoch = stream[start : start + per_epoch]
        assert sorted(n for batch in epoch for n in numbers(batch)) == list(range(103))


def test_batches_are_padded_to_the_boundary_of_their_bucket():
    for batch in BucketBatches(SOURCE, 8, BOUNDARIES).epoch():
        values, lengths = batch.examples
        length = values.shape[1]
        lower = max((b for b in BOUNDARIES if b < length), default=0)
        assert length in BOUNDARIES
        assert len(batch.weights) == 8
        assert lower < lengths.min() and lengths.max() <= length
        np.testing.assert_array_equal(lengths, LENGTHS[values[:, 0]])


def test_an_evaluation_pass_has_every_example_once():
    batches = BucketBatches(SOURCE, 8, BOUNDARIES)
    read = [n for batch in batches.epoch() for n in numbers(batch)]
    assert sorted(read) == list(range(103))
    assert len(list(batches.epoch())) == batches.batches_per_epoch
    assert [n for batch in batches.epoch() for n in numbers(batch)] == read


def test_a_batch_depends_on_seed_and_step_alone():
    batches = BucketBatches(SOURCE, 8, BOUNDARIES, seed=1)
    per_epoch = batches.batches_per_epoch
    straight = [numbers(batch) for batch in take(batches, 3 * per_epoch)]
    fresh = BucketBatches(SOURCE, 8, BOUNDARIES, seed=1)
    for step in (2 * per_epoch + 1, 0, per_epoch, per_epoch - 1):  # in any order
        assert numbers(fresh.batch(step)) == straight[step]
    resumed = [numbers(batch) for batch in take(fresh, per_epoch, first_step=per_epoch + 3)]
    assert resumed == straight[per_epoch + 3 : 2 * per_epoch + 3]
    other = [numbers(batch) for batch in take(BucketBatches(SOURCE, 8, BOUNDARIES), per_epoch)]
    assert other != straight[:per_epoch]
    assert straight[:per_epoch] != straight[per_epoch : 2 * per_epoch]


def test_lengths_and_batches_are_both_shuffled():
    batches = BucketBatches(SOURCE, 8, BOUNDARIES)
    shapes = [batch.examples.values.shape[1] for batch in take(batches, batches.batches_per_epoch)]
    assert shapes != sorted(shapes)
    ordered = [batch.examples.values.shape[1] for batch in batches.epoch()]
    assert ordered == sorted(shapes)


def test_shards_are_the_parts_of_the_same_batches():
    whole = BucketBatches(SOURCE, 6, BOUNDARIES)
    parts = [BucketBatches(SOURCE, 6, BOUNDARIES, shard=(i, 3)) for i in range(3)]
    for step in range(whole.batches_per_epoch + 2):
        expected, shards = whole.batch(step), [part.batch(step) for part in parts]
        joined = np.concatenate([shard.examples.values for shard in shards])
        np.testing.assert_array_equal(joined, expected.examples.values)
        np.testing.assert_array_equal(np.concatenate([s.weights for s in shards]), expected.weights)


def test_waste_is_the_share_of_padding():
    for count in (1, 4):
        batches = BucketBatches(SOURCE, 8, bucket_boundaries(LENGTHS, count))
        steps = real = 0
        for batch in batches.epoch():
            steps += batch.examples.values.size
            real += batch.examples.lengths[batch.weights == 1].sum()
        assert batches.waste == pytest.approx(1 - real / steps)
    one, four = (BucketBatches(SOURCE, 4, bucket_boundaries(LENGTHS, n)).waste for n in (1, 4))
    assert four < one / 2


def test_examples_with_other_parts():
    pairs = [(sequence, i % 2) for i, sequence in enumerate(SOURCE)]

    def collate(examples, length):
        return length, [len(sequence) for sequence, _ in examples], [label for _, label in examples]

    batches = BucketBatches(pairs, 8, BOUNDARIES, lengths=LENGTHS, collate=collate)
    for length, lengths, labels in (batch.examples for batch in batches.epoch()):
        assert max(lengths) <= length
        assert set(labels) <= {0, 1}


def test_empty_sequences_have_a_place():
    batches = BucketBatches([[], [1, 2]], 1, (2,), shuffle=False)
    assert batches.batch(0).examples.values.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": []}, r"lengths: expected one or more numbers, got shape \(0,\)"),
        ({"boundaries": ()}, "boundaries: expected ascending lengths"),
        ({"boundaries": (3, 2)}, "boundaries: expected ascending lengths"),
        ({"boundaries": (0, 3)}, "boundaries: expected ascending lengths"),
        ({"boundaries": (1,)}, "example 1: expected a length of at most 1, .* got 2"),
        ({"lengths": [1]}, "lengths: expected 2, one an example, got 1"),
        ({"lengths": [-1, 2]}, "lengths: expected none below 0, got -1"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"shard": (0, 3)}, "batch_size: expected a multiple of 3"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        BucketBatches(**{"source": [[1], [2, 2]], "batch_size": 2, "boundaries": (1, 2), **options})


def test_boundaries_of_nothing():
    with pytest.raises(ValueError, match="lengths: expected one or more numbers"):
        bucket_boundaries([], 2)
    with pytest.raises(TypeError, match="lengths: expected integers, got float64"):
        bucket_boundaries([1.5], 2)
    with pytest.raises(ValueError, match="num_buckets: expected at least 1, got 0"):
        bucket_boundaries([1], 0)
