import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import CELLS, GRU, LSTM, Stack
from rnnlab.models import LanguageModel, Regularisation, generate
from rnnlab.strategies import Unrolled

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (9, 3)), jnp.int32)  # [T, B]

DROPPED = Regularisation(inputs=0.5, layers=0.5, outputs=0.5)


def model_of(*cells, **options):
    model = LanguageModel(11, 6, cells=cells, **options)
    return model, model.init(jax.random.key(0))


@pytest.mark.parametrize("cell", CELLS)
def test_stepping_equals_unrolling(cell):
    model, params = model_of(CELLS[cell](8), CELLS[cell](5))
    carry, logits = model.apply(params, TOKENS, model.initial_carry(params, 3))
    stepped = model.initial_carry(params, 3)
    step = jax.jit(model.step)
    for token, expected in zip(TOKENS, logits, strict=True):
        stepped, got = step(params, stepped, token)
        np.testing.assert_allclose(got, expected, atol=2e-6)
    assert jax.tree.structure(stepped) == jax.tree.structure(carry)
    for a, b in zip(jax.tree.leaves(stepped), jax.tree.leaves(carry), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_logits_are_the_formula():
    model, params = model_of(GRU(8), strategy=Unrolled())
    carry, h = model.initial_carry(params, 3), model.initial_carry(params, 3)
    _, logits = model.apply(params, TOKENS, carry)
    for token, got in zip(TOKENS, logits, strict=True):
        h, y = Stack(model.cells).step(params.cells, h, np.asarray(params.embedding)[token])
        expected = np.asarray(y) @ np.asarray(params.kernel) + np.asarray(params.bias)
        np.testing.assert_allclose(got, expected, atol=2e-6)


def test_windows_with_a_carry_are_one_long_window():
    model, params = model_of(LSTM(8), GRU(8))
    carry = model.initial_carry(params, 3)
    _, whole = model.apply(params, TOKENS, carry)
    carry, first = model.apply(params, TOKENS[:4], carry)
    _, second = model.apply(params, TOKENS[4:], carry)
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, atol=2e-6)


def test_start_restarts_the_rows_it_marks():
    model, params = model_of(LSTM(8))
    fresh = model.initial_carry(params, 3)
    used, _ = model.apply(params, TOKENS, fresh)
    _, from_fresh = model.apply(params, TOKENS, fresh)
    _, from_used = model.apply(params, TOKENS, used)
    start = jnp.array([True, False, True])
    _, logits = model.apply(params, TOKENS, used, start=start)
    np.testing.assert_allclose(logits[:, ::2], from_fresh[:, ::2], atol=2e-6)
    np.testing.assert_allclose(logits[:, 1], from_used[:, 1], atol=2e-6)
    assert not np.allclose(from_fresh[:, 1], from_used[:, 1], atol=1e-3)


def test_tied_output_is_the_embedding():
    model, params = model_of(GRU(8), GRU(6), tied=True)
    assert params.kernel is None
    carry = model.initial_carry(params, 3)
    moved = params._replace(embedding=params.embedding.at[4].add(1.0))
    untouched = np.array(TOKENS)
    untouched[untouched == 4] = 5  # token 4 is never read, so only its logit may move
    _, before = model.apply(params, untouched, carry)
    _, after = model.apply(moved, untouched, carry)
    changed = np.abs(np.asarray(after - before)).max(axis=(0, 1)) > 1e-6
    assert changed.tolist() == [token == 4 for token in range(11)]


def test_tied_needs_equal_sizes():
    with pytest.raises(ValueError, match=r"tied: expected .* 8, got 6"):
        model_of(GRU(8), tied=True)


def test_dropout_acts_with_a_key_only():
    model, params = model_of(GRU(8), GRU(8), regularisation=DROPPED)
    carry = model.initial_carry(params, 3)
    _, plain = model.apply(params, TOKENS, carry)
    _, one = model.apply(params, TOKENS, carry, key=jax.random.key(1))
    _, same = model.apply(params, TOKENS, carry, key=jax.random.key(1))
    _, other = model.apply(params, TOKENS, carry, key=jax.random.key(2))
    reference = LanguageModel(11, 6, cells=model.cells)
    np.testing.assert_array_equal(plain, reference.apply(params, TOKENS, carry)[1])
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, plain)
    assert not np.allclose(one, other)


def take(count, model, params, prompt, seed=0, **options):
    return list(
        itertools.islice(generate(model, params, prompt, jax.random.key(seed), **options), count)
    )


def test_greedy_generation_follows_the_unrolled_model():
    model, params = model_of(LSTM(8), GRU(8))
    prompt = [3, 1, 4]
    drawn = take(6, model, params, prompt, temperature=0)
    for i in range(6):
        text = jnp.asarray(prompt + drawn[:i])[:, None]
        _, logits = model.apply(params, text, model.initial_carry(params, 1))
        assert drawn[i] == int(logits[-1, 0].argmax())


def test_generation_repeats_with_its_key_and_varies_without():
    model, params = model_of(GRU(8))
    assert take(20, model, params, [0]) == take(20, model, params, [0])
    assert take(20, model, params, [0]) != take(20, model, params, [0], seed=1)


def test_samples_follow_the_distribution():
    """Without recurrence every draw has the same distribution, so frequencies can be checked."""
    model, params = model_of(GRU(8))
    bias = jnp.log(jnp.arange(1.0, 12.0))
    params = params._replace(kernel=jnp.zeros_like(params.kernel), bias=bias)
    counts = np.bincount(take(2000, model, params, [0]), minlength=11) / 2000
    np.testing.assert_allclose(counts, np.arange(1, 12) / 66, atol=0.04)
    counts = np.bincount(take(500, model, params, [0], top_k=2), minlength=11) / 500
    assert counts[:9].sum() == 0
    np.testing.assert_allclose(counts[9:], [10 / 21, 11 / 21], atol=0.08)
    sharp = np.bincount(take(500, model, params, [0], temperature=0.1), minlength=11) / 500
    assert sharp[10] > 0.6 > counts[10]
    assert set(take(20, model, params, [0], top_k=1)) == {10}


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "prompt: expected at least one token"),
        ([0], {"temperature": -1}, "temperature: expected a number from 0 on, got -1"),
        ([0], {"temperature": float("nan")}, "temperature"),
        ([0], {"top_k": 12}, r"top_k: expected 0 to 11, the size of the vocabulary, got 12"),
        ([0], {"top_k": -1}, "top_k"),
    ],
)
def test_generation_errors_come_at_the_call(prompt, options, message):
    model, params = model_of(GRU(8))
    with pytest.raises(ValueError, match=message):
        generate(model, params, prompt, jax.random.key(0), **options)
