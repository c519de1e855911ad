import itertools
import multiprocessing
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

from rnnlab.data import Batches, Rows, stack_examples
from rnnlab.data.batches import permutation


class Example(NamedTuple):
    x: np.ndarray
    label: int


def source(size):
    return [Example(np.full(3, i, np.float32), i) for i in range(size)]


def labels(batches, steps, first_step=0):
    stream = itertools.islice(batches.batches(first_step), steps)
    return np.concatenate([batch.examples.label for batch in stream]).tolist()


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (12, 4), (5, 8), (1, 1), (7, 7), (1, 4)])
def test_every_epoch_has_every_example_once(size, batch_size):
    batches = Batches(source(size), batch_size)
    stream = labels(batches, steps=3 * size)
    assert len(stream) == 3 * size * batch_size
    for start in range(0, len(stream), size):
        assert sorted(stream[start : start + size]) == list(range(size))


def test_epochs_and_seeds_differ_and_repeat():
    first = labels(Batches(source(50), 50), 2)
    assert labels(Batches(source(50), 50), 2) == first
    assert first[:50] != first[50:]
    assert labels(Batches(source(50), 50, seed=1), 2) != first
    assert labels(Batches(source(50), 25, seed=0), 4) == first  # the stream knows no batch size


def test_batches_are_trees_of_the_examples():
    batch = Batches(source(9), 4).batch(1)
    assert isinstance(batch.examples, Example)
    assert batch.examples.x.shape == (4, 3)
    assert batch.examples.x.dtype == np.float32
    np.testing.assert_array_equal(batch.examples.x[:, 0], batch.examples.label)
    np.testing.assert_array_equal(batch.weights, np.ones(4, np.float32))


def test_without_shuffling_the_stream_is_in_order():
    assert labels(Batches(source(5), 3, shuffle=False), 4) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_a_restart_goes_on_where_it_was():
    batches = Batches(source(10), 4, seed=3)
    assert labels(batches, 13, first_step=7) == labels(batches, 20)[28:]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_shards_are_the_parts_of_the_same_batches(count):
    whole = Batches(source(10), 6, seed=2)
    parts = [Batches(source(10), 6, seed=2, shard=(i, count)) for i in range(count)]
    for step in range(8):
        joined = np.concatenate([part.batch(step).examples.label for part in parts])
        np.testing.assert_array_equal(joined, whole.batch(step).examples.label)
    for together, *shards in zip(whole.epoch(), *(part.epoch() for part in parts), strict=True):
        for leaf, pieces in [
            (together.examples.label, [shard.examples.label for shard in shards]),
            (together.weights, [shard.weights for shard in shards]),
        ]:
            np.testing.assert_array_equal(np.concatenate(pieces), leaf)


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_an_evaluation_pass_is_in_order_and_filled_up(size, batch_size):
    batches = Batches(source(size), batch_size)
    passed = list(batches.epoch())
    assert len(passed) == batches.batches_per_epoch == -(-size // batch_size)
    assert {len(batch.weights) for batch in passed} == {batch_size}
    read = np.concatenate([batch.examples.label for batch in passed])
    weights = np.concatenate([batch.weights for batch in passed])
    assert weights.dtype == np.float32
    assert set(weights.tolist()) <= {0.0, 1.0}
    assert read[weights == 1].tolist() == list(range(size))


def test_a_permutation_is_fixed_for_good():
    """Raw Philox output, sorted: a resumed run must not depend on numpy's version."""
    assert permutation(8, seed=0, epoch=0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert permutation(8, seed=1, epoch=2, stream=1).tolist() == [4, 5, 6, 7, 1, 0, 2, 3]
    assert sorted(permutation(1000, 5, 6).tolist()) == list(range(1000))
    orders = {tuple(permutation(20, *args)) for args in itertools.product(*[range(3)] * 3)}
    assert len(orders) == 27


def test_permutations_are_uniform():
    orders = [tuple(permutation(3, 0, epoch)) for epoch in range(3000)]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert sum(counts) == 3000
    assert sum((count - 500) ** 2 / 500 for count in counts) < 20.5  # chi-square, p = 0.001


def test_rows_of_arrays_are_examples():
    rows = Rows({"x": np.arange(6).reshape(3, 2), "label": np.arange(3)})
    batch = Batches(rows, 2, shuffle=False).batch(1)
    assert batch.examples["x"].tolist() == [[4, 5], [0, 1]]
    assert batch.examples["label"].tolist() == [2, 0]
    for arrays in [{"x": np.zeros((3, 2)), "label": np.zeros(2)}, np.float32(1), ()]:
        with pytest.raises(ValueError, match=r"arrays: expected arrays \[N, ...\] of one length"):
            Rows(arrays)


def test_another_collate():
    batches = Batches([[1], [2, 3]], 2, shuffle=False, collate=lambda rows: [*rows[0], *rows[1]])
    assert batches.batch(0).examples == [1, 2, 3]


def test_ragged_examples_name_the_leaf_and_the_remedy():
    examples = [{"x": np.zeros(2)}, {"x": np.zeros(3)}]
    with pytest.raises(ValueError, match=r"examples\['x'\]: expected equal .*\(2,\) and \(3,"):
        stack_examples(examples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": []}, "source: expected at least one example, got none"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"seed": 2**64}, r"seed: expected less than 2\*\*64"),
        ({"workers": -1}, "workers: expected at least 0, got -1"),
        ({"shard": (2, 2)}, r"index < count, got \(2, 2\)"),
        ({"shard": (0, 3)}, "batch_size: expected a multiple of 3, the number of shards, got 4"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        Batches(**{"source": source(3), "batch_size": 4, **options})


def test_sizes_and_steps_are_whole_numbers():
    with pytest.raises(TypeError, match=r"batch_size: expected a whole number, got 4\.0"):
        Batches(source(3), 4.0)
    with pytest.raises(ValueError, match="step: expected at least 0, got -1"):
        Batches(source(3), 4).batch(-1)


def test_missing_grain_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnlab\[data\]'"):
        Batches(source(3), 4, workers=1).batches()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_bytes_and_end(workers):
    pytest.importorskip("grain")
    here = Batches(source(20), 8, seed=1)
    ahead = Batches(source(20), 8, seed=1, workers=workers).batches(first_step=5)
    for step, batch in zip(range(5, 12), ahead, strict=False):
        expected = here.batch(step)
        for got, leaf in zip(jax.tree.leaves(batch), jax.tree.leaves(expected), strict=True):
            assert type(got) is np.ndarray
            assert got.dtype == leaf.dtype
            assert got.tobytes() == leaf.tobytes()
    assert len(multiprocessing.active_children()) == workers
    ahead.close()
    assert not multiprocessing.active_children()


PROGRAM = """
import numpy as np
from rnnlab.data import Batches, Rows

if __name__ == "__main__":
    import multiprocessing, os, signal
    batches = Batches(Rows(np.arange(100_000).reshape(1000, 100)), 500, workers=1).batches()
    print(next(batches).weights.sum(), flush=True)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGTERM)  # as it comes to a whole process group
    for _ in range(8):
        next(batches)
    KILL
"""


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_workers_end_with_a_program_that_ends_or_is_killed(tmp_path, killed):
    pytest.importorskip("grain")
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.replace("KILL", "os.kill(os.getpid(), 9)" if killed else "pass"))
    # `run` returns when nobody holds the pipes any more, neither the program nor its worker.
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == (-9 if killed else 0), ended.stderr
    assert ended.stdout == "500.0\n"
    assert killed or not ended.stderr
