import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import CELLS, GRU, LSTM, Stack
from rnnlab.models import LanguageModel, Regularisation
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
