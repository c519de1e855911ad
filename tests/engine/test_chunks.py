"""Large projections are made in chunks of steps on a CPU: the same results, and less memory."""

import functools

import jax
import jax.numpy as jnp
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import GRU, LSTM, MinGRU
from rnnlab.strategies import Deferred, Remat, Scan, chunks


@pytest.mark.parametrize(
    "length, wanted, expected",
    [(150, 4, 5), (150, 7, 6), (64, 8, 8), (2048, 46, 64), (7, 3, 3), (12, 100, 12), (1, 1, 1)],
)
def test_a_chunk_leaves_no_rest_where_one_near_enough_does(length, wanted, expected):
    assert chunks.even_chunk(length, wanted) == expected


@pytest.fixture
def small_chunks(monkeypatch):
    """As if every projection were large, and a cache held three steps of seven."""
    monkeypatch.setattr(chunks, "FEW_BYTES", 0)
    monkeypatch.setattr(chunks, "CACHE_BYTES", 1000)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "cell, strategy",
    [(LSTM(5), Scan()), (LSTM(5), Deferred()), (GRU(7), Deferred()), (MinGRU(9), Scan())],
    ids=str,
)
def test_chunks_change_nothing(cell, strategy, reverse):
    with jax.enable_x64(True):
        case = testing.marked_example(cell, dtype=jnp.float64)
        got = testing.outcome(cell, case, strategy, reverse)
        expected = testing.oracle(cell, case, reverse)
    assert testing.largest_difference(got, expected) < 1e-12


def temporary_bytes(function, *args):
    return jax.jit(function).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_a_large_projection_is_never_whole():
    """z would be 32 MiB."""
    cell = LSTM(64)
    params = cell.init(jax.random.key(0), 64)
    xs = jax.ShapeDtypeStruct((1024, 32, 64), jnp.float32)
    run = functools.partial(rnnlab.unroll, cell)
    assert temporary_bytes(lambda p, x: run(p, x)[1], params, xs) < 16 << 20


def test_small_projections_and_other_platforms_are_not_cut(monkeypatch):
    cell = LSTM(64)
    params = cell.init(jax.random.key(0), 64)

    def steps(length):
        xs = jax.ShapeDtypeStruct((length, 32, 64), jnp.float32)
        carry = cell.initial_carry(params, (32,))
        marks = rnnlab.strategies.base.Marks(None, None)
        inputs = rnnlab.strategies.base.Inputs(params, carry, carry, xs, marks)
        return chunks.cached_steps(cell, inputs)

    assert steps(512) is None and steps(1024) == 32
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert steps(1024) is None


@pytest.mark.slow
def test_remat_needs_the_square_root_at_lengths_that_are_no_squares():
    """Of T = 2048 a chunk of 45 steps left a rest, and two more copies of all outputs."""
    cell = MinGRU(16)
    params = cell.init(jax.random.key(0), 16)

    def memory(length):
        xs = jax.ShapeDtypeStruct((length, 2, 16), jnp.float32)

        def loss(params, xs):
            return jnp.sum(rnnlab.unroll(cell, params, xs, strategy=Remat())[1])

        return temporary_bytes(jax.grad(loss), params, xs)

    assert memory(2048) < 2 * memory(1024)
