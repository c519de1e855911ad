"""What every cell promises besides its equations: sizes, dtypes, equality, errors."""

import copy
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import (
    CELLS,
    GRU,
    LRU,
    LSTM,
    AttentionCell,
    Elman,
    MinGRU,
    ResetBeforeGRU,
    Residual,
    Stack,
)
from tests.cells.variants import (
    FEATURES,
    IN_FEATURES,
    LSTMS,
    VARIANTS,
    random_arguments,
    random_like,
    softsign,
)

every_variant = pytest.mark.parametrize("cell", VARIANTS.values(), ids=VARIANTS)


# Sizes


def parameter_count(cell, in_features):
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), in_features))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


LSTM_SIZES = {  # of H, P (None without a projection) and F
    "lstm": lambda H, P, F: 4 * H * (F + H + 1),
    "lstm_peephole": lambda H, P, F: 4 * H * (F + H + 1) + 3 * H,
    "lstm_coupled": lambda H, P, F: 3 * H * (F + H + 1),
    "lstm_peephole_coupled": lambda H, P, F: 3 * H * (F + H + 1) + 2 * H,
    "lstm_layer_norm": lambda H, P, F: 4 * H * (F + H + 1) + 10 * H,
    "lstm_coupled_layer_norm": lambda H, P, F: 3 * H * (F + H + 1) + 8 * H,
    "lstm_projection": lambda H, P, F: 4 * H * (F + P + 1) + H * P,
    "lstm_cell_clip": lambda H, P, F: 4 * H * (F + H + 1),
}


@pytest.mark.parametrize("name", LSTM_SIZES)
def test_lstm_parameter_count(name):
    cell = LSTMS[name]
    assert parameter_count(cell, 7) == LSTM_SIZES[name](FEATURES, cell.projection, 7)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (Elman(5), 5 * (7 + 5 + 1)),
        (GRU(5), 3 * 5 * (7 + 5 + 1) + 5),
        (ResetBeforeGRU(5), 3 * 5 * (7 + 5 + 1)),
        (MinGRU(5), 2 * 5 * (7 + 1)),
        (LRU(5), 2 * 7 * 5 + 3 * 5 + 2 * 5 * 5 + 7 * 5),
        (LRU(5, state_features=9), 2 * 7 * 9 + 3 * 9 + 2 * 9 * 5 + 7 * 5),
        (Stack((Elman(5), Elman(4))), 5 * (7 + 5 + 1) + 4 * (5 + 4 + 1)),
        (Stack((LSTM(5, projection=2), Elman(4))), 4 * 5 * (7 + 2 + 1) + 5 * 2 + 4 * (2 + 4 + 1)),
        (Residual(Elman(7)), 7 * (7 + 7 + 1)),
    ],
    ids=str,
)
def test_parameter_count(cell, expected):
    assert parameter_count(cell, 7) == expected


@every_variant
def test_out_features_is_the_size_of_an_output(cell):
    params, xs, carry = random_arguments(cell, 1, (2,), "float32")
    _, y = jax.eval_shape(cell.step, params, carry, xs[0])
    assert y.shape == (2, *cell.input_shape(cell.out_features(params, IN_FEATURES)))


# Carries and dtypes


@every_variant
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_initial_carry_is_zero_or_learned_in_buffers_of_its_own(cell, batch):
    params, *_ = random_arguments(cell, 1, dtype="float32")
    params = jax.tree.map(np.zeros_like, params)  # of which what is learned is zero as well
    leaves = jax.tree.leaves(cell.initial_carry(params, batch))
    assert all(leaf.shape[: len(batch)] == batch and not np.any(leaf) for leaf in leaves)
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@every_variant
@pytest.mark.parametrize(
    ("dtype", "wide"),
    [("bfloat16", "float32"), ("float16", "float32"), ("float32",) * 2, ("float64",) * 2],
)
def test_a_step_computes_in_the_dtype_of_the_parameters(cell, dtype, wide, x64):
    params, xs, carry = random_arguments(cell, 1, (2,), dtype)
    carry_dtypes = [leaf.dtype for leaf in jax.tree.leaves(carry)]
    assert set(carry_dtypes) <= {np.dtype(wide), np.result_type(wide, np.complex64)}
    for x_dtype in ("bfloat16", "float64"):  # x is cast
        x = jax.ShapeDtypeStruct(xs.shape[1:], jnp.dtype(x_dtype))
        after, y = jax.eval_shape(cell.step, params, carry, x)
        assert [leaf.dtype for leaf in jax.tree.leaves(after)] == carry_dtypes
        assert y.dtype == jnp.dtype(dtype)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("bfloat16", "complex64"), ("float32", "complex64"), ("float64", "complex128")],
)
def test_lru_carry_is_the_complex_kin_of_the_wide_dtype(dtype, expected, x64):
    _, _, carry = random_arguments(LRU(FEATURES), 1, dtype=dtype)
    assert carry.dtype == np.dtype(expected)


@pytest.mark.parametrize("name", CELLS)
def test_bfloat16_is_close_to_float32(name):
    cell = CELLS[name](FEATURES)
    params, xs, carry = random_arguments(cell, 1, (2,), "float32")
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16).astype(np.float32), params)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    expected, got = (jax.jit(cell.step)(p, carry, xs[0]) for p in (params, half))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a = np.asarray(a).astype(b.dtype)
        np.testing.assert_allclose(a, b, atol=0.03 * np.abs(b).max())


# x = 0, which is what a masked step is given


# The other options of the LSTM come after `project`.
PROJECTIONS = VARIANTS.keys() - LSTMS.keys()
PROJECTIONS |= {"lstm", "lstm_coupled", "lstm_layer_norm", "lstm_coupled_layer_norm"}


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
def test_project_is_finite_with_its_gradient_where_the_input_is_zero(name):
    cell = VARIANTS[name]
    params, xs, _ = random_arguments(cell, 1, (2,), "float32")

    @jax.jit
    def both(params, x):
        z, pullback = jax.vjp(cell.project, params, x)
        return z, pullback(random_like(z, seed=7))

    leaves = jax.tree.leaves(both(params, np.zeros_like(xs[0])))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


# A cell is a value


@every_variant
def test_equal_cells_are_equal(cell):
    twin = copy.deepcopy(cell)
    assert twin is not cell
    assert twin == cell
    assert hash(twin) == hash(cell)


def test_cells_differ_by_any_option():
    assert len(set(VARIANTS.values())) == len(set(map(repr, VARIANTS.values())))
    assert GRU(4) != ResetBeforeGRU(4)
    assert LSTM(4) != LSTM(4, forget_bias=0.0)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (Elman(8), "Elman(features=8, activation='tanh')"),
        (GRU(8), "GRU(features=8)"),
        (
            LSTM(8, projection=2),
            "LSTM(features=8, forget_bias=1.0, peephole=False, coupled=False, layer_norm=False,"
            " projection=2, cell_clip=None)",
        ),
        (
            Stack([GRU(8), Residual(MinGRU(8))]),
            "Stack(cells=(GRU(features=8), Residual(cell=MinGRU(features=8))))",
        ),
    ],
)
def test_repr_is_the_call_that_makes_the_cell(cell, expected):
    assert repr(cell) == expected


def test_an_activation_of_the_users_own_shows_its_name():
    assert "softsign" in repr(Elman(8, activation=softsign))


# Errors


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (
            lambda: Elman(4, activation="tnah"),
            ["activation: expected one of", "'leaky_relu'", "'tanh'", "got 'tnah'"],
        ),
        (lambda: Elman(4, activation=None), ["activation: expected one of", "got None"]),
        (
            lambda: LSTM(4, cell_clip=0.0),
            ["LSTM: expected cell_clip > 0 or None, got 0.0"],
        ),
        (lambda: LSTM(4, cell_clip=-1.0), ["cell_clip > 0", "got -1.0"]),
        (lambda: LSTM(4, cell_clip=math.nan), ["cell_clip > 0", "got nan"]),
        (
            lambda: LSTM(4, projection=0),
            ["LSTM: expected projection >= 1, got projection=0"],
        ),
        (lambda: LSTM(4, projection=-3), ["projection=-3"]),
        (lambda: GRU(0), ["GRU: expected features >= 1", "got features=0"]),
        (lambda: Elman(-1), ["Elman: expected features >= 1"]),
        (lambda: GRU(4).init(jax.random.key(0), 0), ["in_features >= 1", "got in_features=0"]),
        (
            lambda: LRU(4, state_features=0),
            ["LRU: expected state_features >= 1", "got state_features=0"],
        ),
        (lambda: LRU(4, max_phase=0.0), ["LRU: expected max_phase > 0", "got 0.0"]),
        (
            lambda: LRU(4, max_radius=1.0),
            [
                "LRU: expected 0 <= min_radius < max_radius < 1",
                "got min_radius=0.9, max_radius=1.0",
                "A radius of 1 never forgets",
            ],
        ),
        (lambda: LRU(4, min_radius=0.5, max_radius=0.5), ["min_radius=0.5, max_radius=0.5"]),
        (lambda: LRU(4, min_radius=-0.1), ["min_radius=-0.1"]),
        (lambda: LRU(4, min_radius=math.nan), ["min_radius=nan"]),
        (lambda: Stack(()), ["Stack: expected at least one cell, got none"]),
        (
            lambda: Residual(GRU(5)).init(jax.random.key(0), 3),
            [
                "Residual: expected GRU(features=5) to put out as many features as it reads",
                "got 3 in and 5 out",
                "Give the cell 3 features",
            ],
        ),
        (
            lambda: Stack((GRU(4), Residual(LSTM(4, projection=2)))).init(jax.random.key(0), 3),
            ["got 4 in and 2 out"],
        ),
    ],
)
def test_a_wrong_value_is_refused(make, parts):
    with pytest.raises(ValueError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GRU(8.0),
        lambda: GRU("8"),
        lambda: GRU(True),
        lambda: LSTM(4, projection=2.5),
        lambda: LRU(4, state_features=2.5),
        lambda: GRU(4).init(jax.random.key(0), 3.0),
    ],
)
def test_a_size_has_to_be_a_whole_number(make):
    with pytest.raises(TypeError, match="to be a whole number, got"):
        make()


def test_a_wrapper_takes_cells_only():
    with pytest.raises(TypeError, match="expected a tuple of cells"):
        Stack(GRU(4))
    with pytest.raises(TypeError, match="call it"):
        Residual(GRU)


@pytest.mark.parametrize(
    "layer", [GRU, "gru", None, lambda x: x], ids=["class", "str", "None", "function"]
)
def test_a_layer_of_a_stack_has_to_be_a_cell(layer):
    with pytest.raises(TypeError) as caught:
        Stack((GRU(4), layer))
    assert f"Stack: cells[1] is not an rnnlab.Cell but {layer!r}" in str(caught.value)


@every_variant
def test_a_step_refuses_inputs_of_another_size(cell):
    params, _, carry = random_arguments(cell, 1, dtype="float32")
    with pytest.raises(ValueError) as caught:
        cell.step(params, carry, jnp.zeros(IN_FEATURES + 2))
    found = re.search(
        r"x: expected (\d+) features on its last axis.*got (\d+) features.*in_features=(\d+)",
        str(caught.value),
    )
    expected, got, named = map(int, found.groups())
    assert got == named == expected + 2
    # A cell inside of another may be what refuses, and read something besides x.
    assert expected == IN_FEATURES or isinstance(cell, AttentionCell)
