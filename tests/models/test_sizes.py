import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU, LSTM, Residual
from rnnlab.models import LanguageModel
from rnnlab.models.sizes import connected, count_params, largest_features


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


def test_the_largest_features_are_within_the_budget_and_one_more_is_not():
    def count(features):
        return count_params(LanguageModel(50, 8, (LSTM(features), LSTM(8)), tied=True).init)

    assert count(3) == sum(
        leaf.size
        for leaf in jax.tree.leaves(
            LanguageModel(50, 8, (LSTM(3), LSTM(8)), tied=True).init(jax.random.key(0))
        )
    )
    for budget in (count(1), count(1) + 1, count(17) - 1, count(17), 100_000):
        features = largest_features(count, budget)
        assert count(features) <= budget < count(features + 1)
    with pytest.raises(ValueError, match=f"num_params: expected at least {count(1)}.* got 5"):
        largest_features(count, 5)
    with pytest.raises(ValueError, match="expected a model that grows with its features"):
        largest_features(lambda features: 10, 100)
