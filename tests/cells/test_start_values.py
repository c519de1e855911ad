"""The parameters that every cell starts from."""

import itertools
import math

import jax
import numpy as np
import pytest

from rnnlab.cells import CELLS, GRU, LRU, LSTM, Elman, MinGRU, ResetBeforeGRU
from tests.cells.variants import FEATURES, IN_FEATURES, LSTMS, VARIANTS


def start(cell, in_features=IN_FEATURES, seed=0):
    return cell.init(jax.random.key(seed), in_features)


@pytest.mark.parametrize("cell", VARIANTS.values(), ids=VARIANTS)
def test_parameters_are_float32_also_where_float64_is_allowed(cell, x64):
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(lambda: start(cell)))}
    assert dtypes == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", CELLS)
def test_equal_keys_give_equal_parameters(name):
    first, again, other = (start(CELLS[name](FEATURES), seed=seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(jax.tree.leaves(first)[0], jax.tree.leaves(other)[0])


@pytest.mark.parametrize(
    ("cell", "blocks"),
    [
        (Elman(4), 1),
        (LSTM(4), 4),
        (LSTM(4, coupled=True), 3),
        (LSTM(4, projection=2), 4),
        (LSTM(4, projection=6), 4),
        (GRU(4), 3),
        (ResetBeforeGRU(4), 3),
    ],
    ids=str,
)
def test_recurrent_kernels_start_orthogonal_gate_by_gate(cell, blocks):
    kernel = np.asarray(start(cell).recurrent_kernel)
    rows, columns = kernel.shape[0], cell.features
    assert kernel.shape == (rows, blocks * columns)
    parts = np.split(kernel, blocks, axis=1)
    for part in parts:
        gram = part @ part.T if rows <= columns else part.T @ part
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
    for a, b in itertools.pairwise(parts):
        assert np.abs(a - b).max() > 0.1  # drawn apart


@pytest.mark.parametrize("cell", [Elman(4), LSTM(4), GRU(4), ResetBeforeGRU(4), MinGRU(4)], ids=str)
def test_input_kernels_start_with_variance_one_over_their_inputs(cell):
    np.testing.assert_allclose(2000 * np.var(start(cell, in_features=2000).kernel), 1, atol=0.1)


def test_complex_input_kernel_starts_with_variance_one_over_its_inputs():
    params = start(LRU(4), in_features=2000)
    variance = np.var(params.kernel_real) + np.var(params.kernel_imag)
    np.testing.assert_allclose(2000 * variance, 1, atol=0.1)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(("options", "expected"), [({}, 1), ({"forget_bias": 2.5}, 2.5)], ids=str)
def test_lstm_forget_bias_is_at_the_forget_gate_alone(coupled, options, expected):
    bias = start(LSTM(FEATURES, coupled=coupled, **options)).bias
    names = "fgo" if coupled else "ifgo"
    gates = dict(zip(names, np.split(bias, len(names)), strict=True))
    np.testing.assert_array_equal(gates.pop("f"), np.full(FEATURES, expected, np.float32))
    np.testing.assert_array_equal(list(gates.values()), np.zeros((len(gates), FEATURES)))


def test_a_forget_bias_moves_the_bias_and_nothing_else():
    low, high = (start(LSTM(FEATURES, forget_bias=bias)) for bias in (0.0, 3.0))
    jax.tree.map(np.testing.assert_array_equal, low._replace(bias=0), high._replace(bias=0))


@pytest.mark.parametrize("cell", [Elman(4), GRU(4), ResetBeforeGRU(4), MinGRU(4)], ids=str)
def test_other_biases_start_at_zero(cell):
    biases = [a for name, a in start(cell)._asdict().items() if name.endswith("bias")]
    assert biases
    assert not any(np.any(bias) for bias in biases)


@pytest.mark.parametrize("cell", LSTMS.values(), ids=LSTMS)
def test_lstm_has_the_parameters_of_its_options_at_their_start(cell):
    params = start(cell)
    gates = 3 if cell.coupled else 4
    assert (params.peephole is not None) == cell.peephole
    if cell.peephole:
        np.testing.assert_array_equal(params.peephole, np.zeros((gates - 1) * FEATURES))
    assert (params.norms is not None) == cell.layer_norm
    if cell.layer_norm:
        for scale, size in zip(params.norms, (gates, gates, 1, 1), strict=True):
            value = 0 if scale is params.norms.cell_bias else 1
            np.testing.assert_array_equal(scale, np.full(size * FEATURES, value))
    assert (params.projection is not None) == (cell.projection is not None)
    if cell.projection is not None:
        assert params.projection.shape == (FEATURES, cell.projection)


def lru_ring(**options):
    params = start(LRU(8, state_features=2000, **options))
    return np.exp(-np.exp(params.nu_log)), np.exp(params.theta_log), np.exp(params.gamma_log)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_radius": 0.0, "max_radius": 0.5},
        {"min_radius": 0.6, "max_radius": 0.7, "max_phase": 0.3},
    ],
    ids=str,
)
def test_lru_eigenvalues_start_on_their_ring(options):
    cell = LRU(8, **options)
    radius, phase, gamma = lru_ring(**options)
    slack = 1e-6
    assert cell.min_radius - slack <= radius.min()
    assert radius.max() <= cell.max_radius + slack
    assert 0 < phase.min() < 0.01 * cell.max_phase
    assert 0.99 * cell.max_phase < phase.max() <= cell.max_phase + slack
    # Uniform in area: the squared radius is uniform, of which the mean and deviation are known.
    low, high = cell.min_radius**2, cell.max_radius**2
    np.testing.assert_allclose(np.mean(radius**2), (low + high) / 2, atol=0.02 * (high - low))
    np.testing.assert_allclose(np.std(radius**2), (high - low) / math.sqrt(12), rtol=0.05)
    np.testing.assert_allclose(gamma, np.sqrt(1 - radius**2), rtol=1e-3)


@pytest.mark.parametrize("options", [{"min_radius": 0.0}, {"max_radius": 1 - 1e-7}], ids=str)
def test_lru_starts_finite_at_the_edges_of_its_ring(options):
    for leaf in jax.tree.leaves(start(LRU(4, state_features=2000, **options))):
        assert np.isfinite(leaf).all()


def test_lru_keeps_the_variance_of_its_input():
    cell = LRU(8, state_features=500, min_radius=0.3, max_radius=0.9)
    xs = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    params = start(cell, in_features=16)
    eigenvalues, drives = jax.jit(lambda x: cell.coefficients(params, cell.project(params, x)))(xs)
    h, power = np.zeros(500), []
    (a,) = np.asarray(eigenvalues)
    for b in np.asarray(drives):
        h = a * h + b
        power.append(np.mean(np.abs(h) ** 2))
    np.testing.assert_allclose(np.mean(power[100:]), 1, atol=0.1)
