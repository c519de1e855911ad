"""Statistics of the masks, what they act on, and rate 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU, LSTM, Stack
from rnnlab.dropout import dropout, embedding_dropout, variational_dropout, weight_drop

KEY = jax.random.key(0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_mean_is_kept(rate):
    x = jnp.ones((100, 200))
    y = np.asarray(dropout(KEY, x, rate))
    assert abs((y == 0).mean() - rate) < 0.02
    assert np.unique(y).tolist() == pytest.approx([0, 1 / (1 - rate)])
    assert abs(y.mean() - 1) < 0.05


def test_the_variational_mask_is_the_same_at_every_step_but_not_for_every_row():
    y = np.asarray(variational_dropout(KEY, jnp.ones((7, 5, 100)), 0.5))
    assert (y == y[:1]).all()
    assert not (y[:, :1] == y).all()
    assert 0.4 < (y == 0).mean() < 0.6


def test_rate_zero_is_the_identity():
    x = jnp.arange(6.0).reshape(3, 1, 2)
    params = GRU(4).init(KEY, 3)
    assert dropout(KEY, x, 0.0) is x
    assert variational_dropout(KEY, x, 0.0) is x
    for got, expected in zip(weight_drop(KEY, params, 0.0), params, strict=True):
        assert got is expected


def test_weight_drop_acts_on_the_recurrent_kernels_of_all_layers():
    params = Stack((LSTM(40), GRU(40))).init(KEY, 3)
    dropped = weight_drop(KEY, params, 0.5)
    for before, after in zip(params, dropped, strict=True):
        zero = np.asarray(after.recurrent_kernel == 0)
        assert 0.45 < zero.mean() < 0.55
        kept = np.asarray(before.recurrent_kernel)[~zero]
        np.testing.assert_allclose(np.asarray(after.recurrent_kernel)[~zero], 2 * kept, rtol=1e-6)
        assert after.kernel is before.kernel and after.bias is before.bias
    first, second = (np.asarray(p.recurrent_kernel[:, :40] == 0) for p in dropped)
    assert (first != second).any()  # layers have masks of their own


def test_weight_drop_by_other_names():
    params = GRU(40).init(KEY, 30)
    dropped = weight_drop(KEY, params, 0.5, names=("kernel",))
    assert (dropped.kernel == 0).any() and dropped.recurrent_kernel is params.recurrent_kernel
    with pytest.raises(ValueError, match=r"'embedding'.*recurrent_kernel"):
        weight_drop(KEY, params, 0.5, names=("embedding",))


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_rates_are_checked(rate):
    params = GRU(4).init(KEY, 3)
    for call in (
        lambda: dropout(KEY, jnp.ones(3), rate),
        lambda: variational_dropout(KEY, jnp.ones((2, 3)), rate),
        lambda: weight_drop(KEY, params, rate),
    ):
        with pytest.raises(ValueError, match=r"\[0, 1\)"):
            call()


def test_gradients_flow_through_what_is_kept_only():
    x = jnp.ones(1000)
    y, vjp = jax.vjp(lambda x: dropout(KEY, x, 0.5), x)
    (dx,) = vjp(jnp.ones(1000))
    assert ((dx == 0) == (y == 0)).all() and set(np.unique(dx)) == {0.0, 2.0}


def test_half_precision_stays():
    x = jnp.ones(10, jnp.bfloat16)
    assert dropout(KEY, x, 0.5).dtype == jnp.bfloat16


def test_one_name_is_not_several():
    params = LSTM(4).init(KEY, 3)
    with pytest.raises(TypeError, match="expected a tuple of names, got 'recurrent_kernel'"):
        weight_drop(KEY, params, 0.5, names="recurrent_kernel")


def test_embedding_dropout_drops_a_word_wherever_it_stands():
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 400, (50, 60)), jnp.int32)
    embedding = jax.random.normal(KEY, (400, 3))
    xs = np.asarray(embedding_dropout(KEY, embedding, tokens, 0.25))
    scale = xs / np.asarray(embedding)[tokens]
    by_word = np.array([scale[np.asarray(tokens) == word].mean() for word in range(400)])
    np.testing.assert_allclose(scale, by_word[tokens][..., None] * np.ones(3), rtol=1e-5)
    np.testing.assert_allclose(np.unique(by_word.round(4)), [0, 1.3333], atol=1e-4)
    assert abs((by_word == 0).mean() - 0.25) < 0.06
    np.testing.assert_array_equal(embedding_dropout(KEY, embedding, tokens, 0.0), embedding[tokens])
