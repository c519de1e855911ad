import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU, LSTM
from rnnlab.models import LanguageModel, generate, generate_batch
from rnnlab.models.generation import _nucleus


def model_of(*cells):
    model = LanguageModel(11, 6, cells=cells)
    return model, model.init(jax.random.key(0))


def without_recurrence():
    """Token i has (i + 1) / 66 at every step, so that frequencies can be checked."""
    model, params = model_of(GRU(8))
    bias = jnp.log(jnp.arange(1.0, 12.0))
    return model, params._replace(kernel=jnp.zeros_like(params.kernel), bias=bias)


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
    model, params = without_recurrence()
    counts = np.bincount(take(2000, model, params, [0]), minlength=11) / 2000
    np.testing.assert_allclose(counts, np.arange(1, 12) / 66, atol=0.04)
    counts = np.bincount(take(500, model, params, [0], top_k=2), minlength=11) / 500
    assert counts[:9].sum() == 0
    np.testing.assert_allclose(counts[9:], [10 / 21, 11 / 21], atol=0.08)
    sharp = np.bincount(take(500, model, params, [0], temperature=0.1), minlength=11) / 500
    assert sharp[10] > 0.6 > counts[10]
    assert set(take(20, model, params, [0], top_k=1)) == {10}


def test_the_nucleus_is_the_fewest_likeliest_that_reach_top_p():
    """Of 11, 10, 9 ... in 66: the first has 0.167, two have 0.318, three 0.4545, four 0.576."""
    model, params = without_recurrence()
    for top_p, expected in ((0.16, {10}), (0.2, {10, 9}), (0.45, {10, 9, 8}), (0.5, {10, 9, 8, 7})):
        drawn = take(300, model, params, [0], top_p=top_p)
        assert set(drawn) == expected
    counts = np.bincount(take(1000, model, params, [0], top_p=0.4), minlength=11) / 1000
    np.testing.assert_allclose(counts[8:], np.array([9, 10, 11]) / 30, atol=0.05)
    assert take(50, model, params, [0], top_p=1.0) == take(50, model, params, [0])


def test_the_nucleus_is_taken_of_what_temperature_and_top_k_leave():
    model, params = without_recurrence()
    # The two likeliest have 0.524 and 0.476, so that the first alone reaches a half.
    assert set(take(50, model, params, [0], top_k=2, top_p=0.5)) == {10}
    assert set(take(50, model, params, [0], temperature=0.1, top_p=0.6)) == {10}


def test_a_nucleus_of_equals_is_not_larger_than_needed():
    kept = _nucleus(jnp.zeros(10), 0.35)
    assert kept.tolist() == [True] * 4 + [False] * 6


def test_a_tiny_nucleus_is_greedy():
    model, params = model_of(LSTM(8), GRU(8))
    greedy = take(12, model, params, [3, 1], temperature=0)
    assert take(12, model, params, [3, 1], top_p=1e-6) == greedy
    assert take(12, model, params, [3, 1], top_k=1) == greedy


def test_a_row_of_a_batch_is_what_its_key_draws_alone():
    model, params = model_of(LSTM(8), GRU(8))
    keys = jax.random.split(jax.random.key(5), 4)
    for options in ({}, {"top_k": 3}, {"top_p": 0.7, "temperature": 1.3}):
        batch = generate_batch(model, params, [2, 7], keys, **options)
        rows = np.stack(list(itertools.islice(batch, 15)), axis=1)
        alone = [generate(model, params, [2, 7], key, **options) for key in keys]
        assert rows.tolist() == [list(itertools.islice(row, 15)) for row in alone]
        assert len({tuple(row) for row in rows.tolist()}) == 4


def test_of_tokens_that_are_equally_likely_the_top_k_are_the_first():
    model, params = model_of(LSTM(8))
    flat = params._replace(kernel=jnp.zeros_like(params.kernel), bias=jnp.zeros_like(params.bias))
    assert set(take(40, model, flat, [4], seed=3, top_k=2)) == {0, 1}


def test_the_state_goes_on_from_token_to_token():
    """As if prompt and draws had been read anew for every token."""
    model, params = model_of(LSTM(8))
    drawn = take(5, model, params, [4, 2, 9], seed=3)
    for i in range(1, 5):
        read = [4, 2, 9, *drawn[:i]]
        _, logits = model.apply(params, jnp.array(read)[:, None], model.initial_carry(params, 1))
        key = jax.random.fold_in(jax.random.key(3), i)
        assert drawn[i] == int(jax.random.categorical(key, logits[-1, 0]))


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "prompt: expected at least one token"),
        ([0], {"temperature": -1}, "temperature: expected a number from 0 on, got -1"),
        ([0], {"temperature": float("nan")}, "temperature"),
        ([0], {"top_k": 12}, r"top_k: expected 0 to 11, the size of the vocabulary, got 12"),
        ([0], {"top_k": -1}, "top_k"),
        ([0], {"top_p": 0}, "top_p: expected a number above 0, up to 1, got 0"),
        ([0], {"top_p": 1.5}, "top_p"),
        ([0], {"top_p": float("nan")}, "top_p"),
    ],
)
def test_generation_errors_come_at_the_call(prompt, options, message):
    model, params = model_of(GRU(8))
    with pytest.raises(ValueError, match=message):
        generate(model, params, prompt, jax.random.key(0), **options)
