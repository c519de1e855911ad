import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU, LSTM, Residual
from rnnlab.models import LanguageModel
from rnnlab.models.sizes import connected


def test_skips_stand_where_sizes_are_equal():
    cells = connected((LSTM(8), LSTM(8), GRU(6), GRU(6)), in_features=6)
    assert cells == (LSTM(8), Residual(LSTM(8)), GRU(6), Residual(GRU(6)))
    assert connected((GRU(6),), in_features=6) == (Residual(GRU(6)),)


def test_a_skip_adds_the_input_of_a_layer_to_its_output():
    plain = LanguageModel(11, 8, cells=(GRU(8),))
    skipping = LanguageModel(11, 8, cells=connected((GRU(8),), 8))
    params = plain.init(jax.random.key(0))
    tokens = jnp.arange(8).reshape(4, 2)
    ys, ys_and_xs = (
        model.features(params, tokens, model.initial_carry(params, 2))[1]
        for model in (plain, skipping)
    )
    np.testing.assert_allclose(ys_and_xs, ys + params.embedding[tokens], atol=1e-6)


def test_no_place_for_a_skip_is_an_error():
    with pytest.raises(ValueError, match=r"residual: expected .* got the sizes 4 -> 8 -> 6"):
        connected((GRU(8), GRU(6)), in_features=4)
