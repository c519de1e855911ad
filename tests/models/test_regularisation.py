import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU, LSTM, MinGRU
from rnnlab.models import LanguageModel, Regularisation
from rnnlab.strategies import Scan

KEY = jax.random.key(0)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (9, 3)), jnp.int32)  # [T, B]
EVERYTHING = Regularisation(
    **dict.fromkeys(("embedding", "inputs", "layers", "outputs", "weights"), 0.5),
    variational=True,
    activation=2.0,
    temporal=1.0,
)


def model_of(*cells, **options):
    model = LanguageModel(
        11, 6, cells=cells, regularisation=Regularisation(**options), strategy=Scan()
    )
    return model, model.init(KEY)


def losses(model, params, key=None, **options):
    carry = model.initial_carry(params, 3)
    return model.losses(params, TOKENS[:-1], TOKENS[1:], carry, key=key, **options)[1:]


def test_evaluation_is_free_of_all():
    model, params = model_of(LSTM(8), GRU(8))
    everything = dataclasses.replace(model, regularisation=EVERYTHING)
    _, plain = losses(model, params)
    for got in losses(everything, params):
        np.testing.assert_array_equal(got, plain)
    loss, nats = losses(everything, params, KEY)
    assert not np.allclose(nats, plain)
    assert np.all(np.mean(loss - nats, axis=0) > 0)


def test_at_rate_0_training_is_evaluation():
    model, params = model_of(LSTM(8), GRU(8), variational=True)
    for got in losses(model, params, KEY):
        np.testing.assert_array_equal(got, losses(model, params)[1])


@pytest.mark.parametrize("name", ["embedding", "inputs", "layers", "outputs", "weights"])
def test_every_rate_acts_by_itself_and_varies_with_the_key(name):
    model, params = model_of(LSTM(8), GRU(8), **{name: 0.5})
    plain, _ = losses(model, params)
    one, same, other = (losses(model, params, jax.random.key(seed))[0] for seed in (1, 1, 2))
    assert not np.allclose(one, plain)
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def features(model, params, tokens, key=KEY):
    carry = model.initial_carry(params, tokens.shape[1])
    return model.features(params, tokens, carry, key=key)[1:]


@pytest.mark.parametrize("variational", [True, False])
def test_the_output_mask_is_one_over_time_if_variational(variational):
    model, params = model_of(GRU(100), outputs=0.3, variational=variational)
    ys, dropped = features(model, params, TOKENS)
    kept = np.asarray(dropped) != 0
    assert np.all(kept == kept[:1]) == variational
    assert not np.all(kept[:, 0] == kept[:, 1])  # each row has its own
    assert 0.6 < kept.mean() < 0.8
    np.testing.assert_allclose(dropped[kept], np.asarray(ys)[kept] / 0.7, rtol=1e-6)


def test_a_dropped_word_is_the_same_everywhere_in_the_window():
    """Of a layer without memory the output tells which word it read, and whether it was dropped."""
    model, params = model_of(MinGRU(8), embedding=0.5)
    tokens = jnp.concatenate([TOKENS, TOKENS[::-1]])
    silent = params._replace(embedding=jnp.zeros_like(params.embedding))
    nothing, _ = features(model, silent, tokens[:1])
    first, _ = features(model, params, tokens[:1])
    dropped = np.all(np.asarray(first == nothing), axis=-1)[0]
    assert 0 < dropped.sum() < 3
    again = features(model, params, jnp.flip(tokens[:1], 1))[0]
    np.testing.assert_array_equal(np.all(again == nothing, axis=-1)[0], dropped[::-1])


def test_inputs_have_one_mask_over_time():
    """A sequence of one word, through a layer whose output at t is a function of x_t alone."""
    model, params = model_of(GRU(8), inputs=0.5, variational=True)
    cells = params.cells[0]
    off = cells._replace(
        recurrent_kernel=jnp.zeros_like(cells.recurrent_kernel),
        bias=cells.bias.at[8:16].set(-1e9),  # z = 0: nothing is kept of h
    )
    params = params._replace(cells=(off,))
    ys, _ = features(model, params, jnp.zeros((5, 3), jnp.int32))
    np.testing.assert_allclose(ys, jnp.broadcast_to(ys[:1], ys.shape), atol=1e-6)
    assert not np.allclose(ys[:, 0], ys[:, 1])
    model = dataclasses.replace(model, regularisation=Regularisation(inputs=0.5))
    ys, _ = features(model, params, jnp.zeros((5, 3), jnp.int32))
    assert not np.allclose(ys[0], ys[1])


def test_weight_drop_needs_a_recurrent_kernel():
    model, params = model_of(MinGRU(8), weights=0.5)
    with pytest.raises(ValueError, match=r"expected a parameter named .*recurrent_kernel"):
        losses(model, params, KEY)


def test_penalties_are_the_formula():
    model, params = model_of(LSTM(8), outputs=0.5, activation=2.0, temporal=3.0)
    reset = jnp.zeros(TOKENS[:-1].shape, bool).at[4, 1].set(True)
    carry = model.initial_carry(params, 3)
    _, ys, dropped = model.features(params, TOKENS[:-1], carry, reset=reset, key=KEY)
    loss, nats = losses(model, params, KEY, reset=reset)
    ys, dropped = np.asarray(ys), np.asarray(dropped)
    change = np.diff(ys, axis=0, prepend=ys[:1]) ** 2
    change[4, 1] = 0  # another text
    expected = 2 * (dropped**2).mean(-1) + 3 * change.mean(-1)
    np.testing.assert_allclose(loss, nats + expected, rtol=1e-5)


def test_penalties_of_bfloat16_are_float32():
    ys = jnp.full((3, 2, 64), 1.01, jnp.bfloat16)
    losses = Regularisation(activation=1.0).penalised(jnp.zeros((3, 2)), ys, ys)
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, float(ys[0, 0, 0]) ** 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": 1.0}, r"inputs: expected a rate, .* got 1\.0"),
        ({"weights": -0.1}, r"weights: expected a rate, .* got -0\.1"),
        ({"temporal": -1.0}, r"temporal: expected at least 0, got -1\.0"),
        ({"activation": float("nan")}, "activation: expected at least 0, got nan"),
    ],
)
def test_errors_name_the_field(options, message):
    with pytest.raises(ValueError, match=message):
        Regularisation(**options)
