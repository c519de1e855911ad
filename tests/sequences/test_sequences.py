"""Lengths, both directions, several layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import GRU, LRU, LSTM, Elman, MinGRU, Residual, Stack
from rnnlab.sequences import segment_ends, stack
from rnnlab.strategies import Associative, Deferred, Scan

F = 3


def test_lengths_to_mask():
    mask = rnnlab.lengths_to_mask(jnp.array([[0, 2], [3, 1]]), 3)
    assert mask.shape == (3, 2, 2) and mask.dtype == jnp.bool_
    assert mask.sum(0).tolist() == [[0, 2], [3, 1]]
    assert mask[:, 0, 1].tolist() == [True, True, False]  # right padding
    assert rnnlab.lengths_to_mask(jnp.int32(2), 3).tolist() == [True, True, False]


def test_lengths_are_checked():
    with pytest.raises(TypeError, match="integers"):
        rnnlab.lengths_to_mask(jnp.array([1.0]), 3)
    for wrong in (4, -1):
        with pytest.raises(ValueError, match="0 to 3"):
            rnnlab.lengths_to_mask(jnp.array([1, wrong]), 3)
    traced = jax.jit(rnnlab.lengths_to_mask, static_argnums=1)(jnp.array([2]), 3)
    assert traced[:, 0].tolist() == [True, True, False]


@pytest.fixture(scope="module")
def both_ways():
    """Two cells with their params, and inputs of three lengths."""
    forward, backward = testing.example(GRU(4)), testing.example(LSTM(4), seed=1)
    return (GRU(4), LSTM(4)), (forward.params, backward.params), forward.xs


@pytest.mark.parametrize("strategy", [Scan(), Deferred()], ids=repr)
def test_bidirectional_equals_each_row_by_itself(both_ways, strategy):
    cells, params, xs = both_ways
    lengths = [0, 4, 7]
    mask = rnnlab.lengths_to_mask(jnp.array(lengths), 7)
    (forward, backward), ys = rnnlab.bidirectional(*cells, params, xs, mask=mask, strategy=strategy)
    assert ys.shape == (7, 3, 8)
    for row, length in enumerate(lengths):
        x = xs[:length, row]
        last_f, ys_f = rnnlab.unroll(cells[0], params[0], x)
        last_b, ys_b = rnnlab.unroll(cells[1], params[1], x[::-1])  # flipped by hand
        got = jax.tree.map(lambda a, row=row: a[row], (forward, backward))
        assert testing.largest_difference(got, (last_f, last_b)) < 1e-6
        expected = jnp.concatenate([ys_f, ys_b[::-1]], axis=-1)
        assert testing.largest_difference(ys[:length, row], expected) < 1e-6
        assert not ys[length:, row].any()


def test_bidirectional_merges(both_ways):
    cells, params, xs = both_ways
    _, whole = rnnlab.bidirectional(*cells, params, xs)
    f, b = jnp.split(whole, 2, axis=-1)
    expected = {
        "concat": whole,
        "sum": f + b,
        "mean": (f + b) / 2,
        "product": f * b,
        jnp.maximum: jnp.maximum(f, b),
    }
    for merge, value in expected.items():
        _, ys = rnnlab.bidirectional(*cells, params, xs, merge=merge)
        assert testing.largest_difference(ys, value) == 0
    with pytest.raises(ValueError, match="concat"):
        rnnlab.bidirectional(*cells, params, xs, merge="mul")


def test_padding_stays_zero_whatever_the_merge(both_ways):
    cells, params, xs = both_ways
    mask = rnnlab.lengths_to_mask(jnp.array([2, 4, 7]), 7)
    _, ys = rnnlab.bidirectional(*cells, params, xs, mask=mask, merge=lambda f, b: f + b + 1)
    assert not ys[2:, 0].any() and ys[:2, 0].all()


def test_bidirectional_takes_starts_of_segments(both_ways):
    """Packed sequences equal separate ones in both directions."""
    cells, params, xs = both_ways
    xs = xs[:, 0]
    reset = jnp.zeros(7, bool).at[jnp.array([0, 3])].set(True)
    _, packed = rnnlab.bidirectional(*cells, params, xs, reset=reset)
    parts = [rnnlab.bidirectional(*cells, params, part)[1] for part in (xs[:3], xs[3:])]
    assert testing.largest_difference(packed, jnp.concatenate(parts)) < 1e-6


def test_bidirectional_starts_from_the_given_carries(both_ways):
    cells, params, xs = both_ways
    start = tuple(
        jax.tree.map(lambda a: a + 0.5, c.initial_carry(p, (3,)))
        for c, p in zip(cells, params, strict=True)
    )
    carries, _ = rnnlab.bidirectional(*cells, params, xs, start)
    for got, cell, p, c, reverse in zip(carries, cells, params, start, (False, True), strict=True):
        expected, _ = rnnlab.unroll(cell, p, xs, c, reverse=reverse)
        assert testing.largest_difference(got, expected) == 0


def test_segment_ends():
    reset = jnp.array([True, False, True, True, False])
    assert segment_ends(reset).tolist() == [False, True, True, False, False]
    assert segment_ends(None) is None


LAYERS = {
    "plain": (GRU(4), LSTM(5)),
    "residual": (LSTM(4), Residual(GRU(4)), Residual(Residual(Elman(4)))),
    "linear": (LRU(4), Residual(MinGRU(4))),
    "nested": (Stack((GRU(4), GRU(4))), Residual(Stack((Elman(4),)))),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "cells, reverse", list(zip(LAYERS.values(), (False, True) * 2, strict=True)), ids=LAYERS
)
def test_layer_by_layer_equals_the_stacked_cell(cells, reverse):
    """Values and gradients, under masks and resets."""
    with jax.enable_x64(True):
        case = testing.marked_example(Stack(cells), dtype=jnp.float64)
        options = {"mask": case.mask, "reset": case.reset, "reverse": reverse}

        def by_layer(params, xs, carry):
            return stack(cells, params, xs, carry, **options)

        def as_cell(params, xs, carry):
            return rnnlab.unroll(Stack(cells), params, xs, carry, **options)

        args = (case.params, case.xs, case.carry)
        got, vjp = jax.vjp(by_layer, *args)
        expected, expected_vjp = jax.vjp(as_cell, *args)
        direction = jax.tree.map(jnp.cos, expected)
        assert testing.largest_difference(got, expected) < 1e-12
        assert testing.largest_difference(vjp(direction), expected_vjp(direction)) < 1e-10


def test_each_layer_has_its_own_strategy():
    cells = (GRU(4), Residual(GRU(4)), Residual(MinGRU(4)))
    case = testing.example(Stack(cells))
    mixed = stack(
        cells,
        case.params,
        case.xs,
        case.carry,
        strategy=(Scan(), Deferred(), Associative()),
    )
    expected = stack(cells, case.params, case.xs, case.carry)
    assert testing.largest_difference(mixed, expected) < 1e-6
    with pytest.raises(ValueError, match="Associative"):  # a Residual runs what its cell can run
        stack(cells, case.params, case.xs, strategy=(Scan(), Associative(), Scan()))


def test_numbers_of_layers_must_agree():
    cells = (GRU(4), GRU(4))
    params = Stack(cells).init(jax.random.key(0), F)
    xs = jnp.ones((2, F))
    for options in (
        {"params": params[:1]},
        {"carry": (None,)},
        {"strategy": (Scan(),) * 3},
    ):
        name = next(iter(options))
        with pytest.raises(ValueError, match=f"{name}: expected 2 entries"):
            stack(cells, **{"params": params, "xs": xs, **options})


def test_dropout_acts_between_layers_only():
    cells = (Elman(50, activation="identity"), Elman(50, activation="identity"))
    params = Stack(cells).init(jax.random.key(0), F)
    params = tuple(p._replace(recurrent_kernel=0 * p.recurrent_kernel) for p in params)
    eye = params[1]._replace(kernel=jnp.eye(50))  # the second layer shows what it reads
    xs = jnp.ones((6, 2, F))
    _, plain = stack(cells, (params[0], eye), xs)
    for variational in (False, True):
        _, dropped = stack(
            cells,
            (params[0], eye),
            xs,
            dropout=0.5,
            variational=variational,
            key=jax.random.key(1),
        )
        zero = np.asarray(dropped == 0)
        assert 0.4 < zero.mean() < 0.6
        kept = np.asarray(dropped)[~zero]
        np.testing.assert_allclose(kept, 2 * np.asarray(plain)[~zero], rtol=1e-5)
        assert (zero == zero[:1]).all() == variational  # the same mask at every step, or not
    one = stack(cells[:1], params[:1], xs, dropout=0.5, key=jax.random.key(1))[1]
    assert testing.largest_difference(one, stack(cells[:1], params[:1], xs)[1]) == 0


def test_no_key_or_rate_zero_is_evaluation():
    cells = (GRU(4), GRU(4))
    case = testing.example(Stack(cells))
    plain = stack(cells, case.params, case.xs)
    for options in ({"dropout": 0.5}, {"dropout": 0.0, "key": jax.random.key(0)}):
        got = stack(cells, case.params, case.xs, **options)
        assert testing.largest_difference(got, plain) == 0
