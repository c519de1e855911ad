"""What a call of `RNN` and `Bidirectional` means, whichever Flax API it comes through.

Asked of `rnnlab.nn.nnx`; `test_linen.py` shows that Linen's modules are the same calls.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rnnlab
from rnnlab.cells import GRU, LSTM, Elman, Stack
from rnnlab.nn.nnx import RNN, Bidirectional
from rnnlab.strategies import Deferred, Scan, Unrolled
from tests.nn.flax_oracle import F, H, normal

B, T = 3, 5
LENGTHS = (5, 1, 3)


# --- layouts, lengths, masks, resets ---


def test_batch_axes_and_time_major_change_nothing_but_the_layout():
    rnn = RNN(Elman(H), F, rngs=nnx.Rngs(0), return_carry=True)
    x = normal(2, 3, T, F)
    lengths = jnp.array([[5, 0, 3], [1, 2, 4]])
    reset = jnp.zeros((2, 3, T), bool).at[:, 1:, 2].set(True)
    carry, ys = rnn(x, seq_lengths=lengths, reset=reset)
    assert ys.shape == (2, 3, T, H) and carry.shape == (2, 3, H)

    moved_carry, moved = rnn(
        jnp.moveaxis(x, 2, 0), seq_lengths=lengths, reset=jnp.moveaxis(reset, 2, 0), time_major=True
    )
    np.testing.assert_array_equal(jnp.moveaxis(moved, 0, 2), ys)
    np.testing.assert_array_equal(moved_carry, carry)

    flat_carry, flat = rnn(
        x.reshape(6, T, F), seq_lengths=lengths.reshape(6), reset=reset.reshape(6, T)
    )
    np.testing.assert_allclose(flat.reshape(ys.shape), ys, atol=1e-6)
    np.testing.assert_allclose(flat_carry.reshape(carry.shape), carry, atol=1e-6)

    one_carry, one = rnn(x[1, 2], seq_lengths=lengths[1, 2], reset=reset[1, 2])
    np.testing.assert_allclose(one, ys[1, 2], atol=1e-6)
    np.testing.assert_allclose(one_carry, carry[1, 2], atol=1e-6)


def test_equals_unroll_with_the_strategy_of_the_module():
    """A mask with holes, joined with lengths, against the engine itself."""
    rnn = RNN(GRU(H), F, rngs=nnx.Rngs(0), strategy=Deferred(unroll=2), return_carry=True)
    x, lengths = normal(B, T, F), jnp.array(LENGTHS)
    mask = jnp.arange(T)[None] != jnp.array([[0], [4], [1]])
    both = mask & (jnp.arange(T)[None] < lengths[:, None])
    carry, ys = rnn(x, seq_lengths=lengths, mask=mask)
    want_carry, want = rnnlab.unroll(
        rnn.cell, rnn.cell_params, x.swapaxes(0, 1), mask=both.T, strategy=Unrolled()
    )
    np.testing.assert_allclose(ys, want.swapaxes(0, 1), atol=1e-6)
    np.testing.assert_allclose(carry, want_carry, atol=1e-6)
    assert not np.any(ys[~both])
    assert np.all(np.any(ys[both] != 0, axis=-1))


@pytest.mark.parametrize("reverse", [False, True])
def test_segments_marked_by_reset_equal_separate_sequences(reverse):
    """`reset` marks where a segment starts, in either direction; keep_order flips the whole."""
    rnn = RNN(Elman(H), F, rngs=nnx.Rngs(0), reverse=reverse, return_carry=True)
    x = normal(1, 6, F)
    reset = jnp.array([[True, False, True, True, False, False]])
    parts = [rnn(x[:, a:b], keep_order=True) for a, b in ((0, 2), (2, 3), (3, 6))]
    carry, ys = rnn(x, reset=reset, keep_order=True)
    np.testing.assert_allclose(ys, jnp.concatenate([p[1] for p in parts], axis=1), atol=1e-6)
    np.testing.assert_allclose(carry, parts[0 if reverse else 2][0], atol=1e-6)
    flipped = rnn(x, reset=reset)[1]
    np.testing.assert_array_equal(flipped, ys[:, ::-1] if reverse else ys)


def test_outputs_are_flipped_within_lengths():
    rnn = RNN(Elman(H), F, rngs=nnx.Rngs(0), reverse=True)
    x, lengths = normal(B, T, F), (5, 0, 3)
    kept = rnn(x, seq_lengths=jnp.array(lengths), keep_order=True)
    flipped = rnn(x, seq_lengths=jnp.array(lengths))
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(flipped[row, :length], kept[row, :length][::-1])
        assert not np.any(flipped[row, length:]) and not np.any(kept[row, length:])


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_lengths_may_be_constants_of_a_jitted_function(dtype):
    """And of any integer dtype, whatever it makes of T."""
    rnn, long = RNN(Elman(H), F, rngs=nnx.Rngs(0)), 300
    lengths = jnp.array([0, 3], dtype)
    ys = jax.jit(lambda x: rnn(x, seq_lengths=lengths))(normal(2, long, F))
    assert np.any(ys != 0, axis=-1).sum(axis=1).tolist() == [0, 3]


def test_options_of_the_constructor_are_overruled_by_the_call():
    x = normal(T, B, F)
    options = {"time_major": True, "return_carry": True, "reverse": True, "keep_order": True}
    ours = RNN(GRU(H), F, rngs=nnx.Rngs(0), **options)
    plain = RNN(GRU(H), F, rngs=nnx.Rngs(0))
    carry, ys = ours(x)
    want_carry, want = plain(x, **options)
    np.testing.assert_array_equal(ys, want)
    np.testing.assert_array_equal(carry, want_carry)
    back = ours(x.swapaxes(0, 1), **dict.fromkeys(options, False))
    np.testing.assert_array_equal(back, plain(x.swapaxes(0, 1)))
    assert not np.array_equal(back.swapaxes(0, 1), ys)


def test_plain_tuples_serve_as_carries():
    rnn = RNN(Stack((LSTM(H), GRU(2))), F, rngs=nnx.Rngs(0), return_carry=True)
    x, c, h, h2 = normal(B, T, F), normal(B, H, seed=2), normal(B, H, seed=3), normal(B, 2)
    carry, ys = rnn(x, initial_carry=((c, h), h2))
    named = (rnnlab.cells.LSTMCarry(c, h), h2)
    np.testing.assert_array_equal(ys, rnn(x, initial_carry=named)[1])
    assert not np.array_equal(ys, rnn(x, initial_carry=((h, c), h2))[1])
    assert isinstance(carry[0], rnnlab.cells.LSTMCarry)


# --- bidirectional ---


def both_ways(**options):
    rngs = nnx.Rngs(0)
    return Bidirectional(RNN(GRU(H), F, rngs=rngs), RNN(GRU(H), F, rngs=rngs), **options)


def test_bidirectional_equals_the_function():
    rnn = both_ways(return_carry=True)
    x, lengths = normal(B, T, F), jnp.array([5, 0, 3])
    reset = jnp.zeros((B, T), bool).at[0, 2].set(True)
    (last, first), ys = rnn(x, seq_lengths=lengths, reset=reset)
    params = (rnn.forward_rnn.cell_params, rnn.backward_rnn.cell_params)
    (want_last, want_first), want = rnnlab.bidirectional(
        GRU(H),
        GRU(H),
        params,
        x.swapaxes(0, 1),
        mask=rnnlab.lengths_to_mask(lengths, T),
        reset=reset.T,
    )
    np.testing.assert_allclose(ys, want.swapaxes(0, 1), atol=1e-6)
    np.testing.assert_allclose(last, want_last, atol=1e-6)
    np.testing.assert_allclose(first, want_first, atol=1e-6)


def test_bidirectional_merges_by_name_or_function():
    x = normal(T, B, F)
    concat = both_ways(time_major=True)(x)
    forward, backward = jnp.split(concat, 2, axis=-1)
    for merge_fn, want in {
        "sum": forward + backward,
        "mean": (forward + backward) / 2,
        "product": forward * backward,
        jnp.maximum: jnp.maximum(forward, backward),
    }.items():
        rnn = both_ways(merge_fn=merge_fn, time_major=True)
        np.testing.assert_allclose(rnn(x), want, atol=1e-6)


@pytest.mark.parametrize("time_major", [False, True])
def test_bidirectional_padding_is_zero_whatever_the_merge(time_major):
    rnn = both_ways(merge_fn=lambda f, b: f + b + 1)
    x = normal(2, T, F)
    mask = jnp.array([[True, False, True, True, True], [True] * 5])
    lengths = jnp.array([4, 2])
    if time_major:
        x, mask = x.swapaxes(0, 1), mask.T
    ys = rnn(x, mask=mask, seq_lengths=lengths, time_major=time_major)
    ys = ys.swapaxes(0, 1) if time_major else ys
    valid = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(np.any(ys != 0, axis=-1), valid)


def test_bidirectional_ignores_the_order_of_its_modules():
    rngs = nnx.Rngs(0)
    options = {"reverse": True, "keep_order": False, "time_major": True, "return_carry": False}
    rnn = Bidirectional(*(RNN(GRU(H), F, rngs=rngs, **options) for _ in range(2)))
    np.testing.assert_array_equal(rnn(normal(B, T, F)), both_ways()(normal(B, T, F)))


# --- errors ---


FLAGS = np.ones((B, T), bool)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"inputs: expected \[\*batch, time, \*f.*\(5,\)", {"inputs": zeros(5)}),
        (ValueError, r"x: expected 3 features .* got 4", {"inputs": zeros(B, T, 4)}),
        (ValueError, r"mask: .*\(3, 5\) = \[\*batch, time\].*\(5, 3\)", {"mask": FLAGS.T}),
        (ValueError, r"reset: expected shape \(3, 5\) = \[\*batch, time\]", {"reset": FLAGS[0]}),
        (TypeError, r"mask: expected bool \(3, 5\).*float64.*seq_len", {"mask": FLAGS * 1.0}),
        (TypeError, r"reset: expected bool \(3, 5\).*list", {"reset": [True]}),
        (ValueError, r"seq_lengths: expected .* shape \(3,\)", {"seq_lengths": np.array([1, 2])}),
        (ValueError, r"got values from 1 to 6", {"seq_lengths": np.array([1, 6, 2])}),
        (TypeError, r"lengths: expected integers", {"seq_lengths": np.ones(3)}),
        (ValueError, r"mask: expected keep_order=True", {"mask": FLAGS, "reverse": True}),
        (TypeError, r"initial_carry: expected .*LSTMCarry", {"initial_carry": zeros(B, H)}),
        (TypeError, r"initial_carry: expected .*LSTM", {"initial_carry": (zeros(B, H),) * 3}),
        (
            ValueError,
            r"initial_carry.c: expected shape \(3, 4\), got \(3, 5\)",
            {"initial_carry": (zeros(B, 5), zeros(B, 5))},
        ),
        (
            TypeError,
            r"initial_carry.h: expected dtype float32, got bfloat16",
            {"initial_carry": (zeros(B, H), zeros(B, H, dtype=jnp.bfloat16))},
        ),
    ],
)
def test_wrong_calls_say_what_to_do(error, message, arguments):
    rnn = RNN(LSTM(H), F, rngs=nnx.Rngs(0))
    arguments = {"inputs": np.ones((B, T, F), np.float32), **arguments}
    with pytest.raises(error, match=message):
        rnn(**arguments)


def test_another_named_tuple_is_not_taken_for_a_carry():
    """Its fields may have another order: (h, c) in PyTorch and Haiku."""
    state = collections.namedtuple("State", "hidden cell")(jnp.zeros((B, H)), jnp.zeros((B, H)))
    with pytest.raises(TypeError, match=r"initial_carry: expected .*LSTMCarry.* got .*State"):
        RNN(LSTM(H), F, rngs=nnx.Rngs(0))(normal(B, T, F), initial_carry=state)


def test_wrong_bidirectional_says_what_to_do():
    rnn = RNN(LSTM(H), F, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"backward_rnn: expected an rnnlab.nn.nnx.RNN, got LSTM"):
        Bidirectional(rnn, LSTM(H))
    with pytest.raises(ValueError, match=r"merge_fn: expected one of .*'concat'.* got 'add'"):
        Bidirectional(rnn, rnn, merge_fn="add")(normal(B, T, F))
    with pytest.raises(ValueError, match="initial_carry: expected a pair"):
        Bidirectional(rnn, rnn)(normal(B, T, F), initial_carry=normal(B, H))


def test_a_strategy_that_cannot_run_the_cell_is_refused():
    rnn = RNN(rnnlab.cells.MinGRU(H), F, rngs=nnx.Rngs(0), strategy=Deferred())
    with pytest.raises(ValueError, match=r"strategy: Deferred.* cannot run MinGRU"):
        rnn(normal(B, T, F))
    rnn.strategy = Scan()
    assert rnn(normal(B, T, F)).shape == (B, T, H)
