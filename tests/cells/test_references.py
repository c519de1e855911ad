"""Every cell in every configuration gives what its paper says, derivatives included."""

import jax
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import CELLS, LSTM
from tests.cells.references import REFERENCES, reference
from tests.cells.variants import FEATURES, LSTM_OPTIONS, VARIANTS, random_arguments, random_like

pytestmark = pytest.mark.usefixtures("x64")

LENGTH = 3


def unroll(cell, *arguments):
    """`unroll` one operation at a time: to compile every variant would take minutes."""
    with jax.disable_jit():
        return rnnlab.unroll(cell, *arguments, strategy=rnnlab.strategies.Unrolled())


def assert_agree(got, expected, tolerance):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_every_cell_has_a_reference():
    assert set(REFERENCES) == set(CELLS)


@pytest.mark.parametrize("batch", [(2,), (2, 3)], ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_values(name, batch):
    cell = VARIANTS[name]
    arguments = random_arguments(cell, LENGTH, batch)
    assert_agree(unroll(cell, *arguments), reference(cell, *arguments), 1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_values_and_derivatives_of_one_example(name):
    """Derivatives by params, inputs and carry, along one direction of all of them at once."""
    cell = VARIANTS[name]
    arguments = random_arguments(cell, LENGTH)
    direction = random_like(arguments, seed=4)
    values, slopes = jax.jvp(lambda *a: unroll(cell, *a), arguments, direction)

    def moved(step):
        return reference(cell, *jax.tree.map(lambda a, d: a + step * d, arguments, direction))

    def difference(step):
        return jax.tree.map(lambda a, b: (a - b) / (2 * step), moved(step), moved(-step))

    # The errors of the two differences are as 4 to 1, so they cancel.
    extrapolated = jax.tree.map(
        lambda fine, coarse: (4 * fine - coarse) / 3, difference(1e-4), difference(2e-4)
    )
    assert_agree(values, reference(cell, *arguments), 1e-12)
    assert_agree(slopes, extrapolated, 1e-8)


@pytest.mark.parametrize("option", ["coupled", "cell_clip"])
def test_an_option_without_parameters_acts(option):
    """Else the numbers above could agree and say nothing about the option."""
    with_option = LSTM(FEATURES, **{option: LSTM_OPTIONS[option]})
    params, xs, carry = random_arguments(with_option, LENGTH)
    _, ys = reference(with_option, params, xs, carry)
    if option == "coupled":  # an input gate of its own, with the parameters of the forget gate
        first = (np.concatenate([a[..., :FEATURES], a], axis=-1) for a in params[:3])
        params = type(params)(*first)
    _, plain = reference(LSTM(FEATURES), params, xs, carry)
    assert np.abs(ys - plain).max() > 0.01
