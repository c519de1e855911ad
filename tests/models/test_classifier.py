import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import CELLS, GRU, Stack
from rnnlab.models import Classifier

XS = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)  # [T, B, F]
LENGTHS = jnp.array([7, 4, 1])


def model_of(*cells, **options):
    model = Classifier(2, 5, cells=cells, **options)
    return model, model.init(jax.random.key(0))


@pytest.mark.parametrize("cell", CELLS)
def test_logits_are_those_of_each_sequence_alone(cell):
    model, params = model_of(CELLS[cell](4), CELLS[cell](3))
    logits = model.apply(params, XS, LENGTHS)
    assert logits.shape == (3, 5)
    for row, length in enumerate(LENGTHS):
        alone = model.apply(params, XS[:length, row : row + 1], LENGTHS[row : row + 1])
        np.testing.assert_allclose(logits[row : row + 1], alone, atol=1e-5)


def test_logits_are_the_formula():
    model, params = model_of(GRU(4))
    carry, ys = Stack(model.cells).initial_carry(params.cells, ()), []
    for x in XS[:4, 1]:
        carry, y = Stack(model.cells).step(params.cells, carry, x)
        ys.append(np.asarray(y))
    expected = np.mean(ys, axis=0) @ np.asarray(params.kernel) + np.asarray(params.bias)
    np.testing.assert_allclose(model.apply(params, XS, LENGTHS)[1], expected, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_padding_changes_neither_values_nor_gradients(value):
    model, params = model_of(GRU(4), GRU(4))
    padding = np.arange(7)[:, None] >= np.asarray(LENGTHS)
    filled = np.where(padding[..., None], np.float32(value), XS)

    def loss(params, xs):
        return jnp.sum(model.apply(params, xs, LENGTHS) ** 2)

    expected, got = (jax.value_and_grad(loss)(params, xs) for xs in (XS, filled))
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_dropout_acts_in_training_alone():
    model, params = model_of(GRU(4), dropout=0.5)
    plain = model.apply(params, XS, LENGTHS)
    np.testing.assert_array_equal(plain, model_of(GRU(4))[0].apply(params, XS, LENGTHS))
    draws = [model.apply(params, XS, LENGTHS, key=jax.random.key(seed)) for seed in range(2)]
    assert not np.allclose(draws[0], draws[1])
