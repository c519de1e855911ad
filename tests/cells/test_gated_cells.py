"""What the gated cells beyond LSTM and GRU promise besides their equations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import (
    GRU,
    JANET,
    LEM,
    LSTM,
    MGU,
    RAN,
    SLSTM,
    UGRNN,
    AntisymmetricRNN,
    CoRNN,
    DiagonalGRU,
    DiagonalLSTM,
    Elman,
    IndRNN,
    LiGRU,
    LipschitzRNN,
)
from rnnlab.core.ops import kernel_product
from tests.cells.variants import FEATURES, IN_FEATURES, random_arguments

LENGTH = 5


def block_diagonal(blocks):
    """`[N, D, D]` as a matrix `[N * D, N * D]`."""
    return jax.scipy.linalg.block_diag(*blocks)


def dense(diagonals, gates):
    """The matrix `[H, G * H]` whose blocks hold the diagonals of the gates."""
    return np.concatenate([np.diag(d) for d in np.split(diagonals, gates)], axis=1)


def assert_same_outputs(cell, params, other, other_params, xs, carry):
    _, ys = rnnlab.unroll(cell, params, xs, carry)
    _, expected = rnnlab.unroll(other, other_params, xs, carry)
    np.testing.assert_allclose(ys, expected, rtol=1e-12, atol=1e-12)


# A diagonal cell is the dense one with diagonal matrices; heads are blocks.


def test_ind_rnn_is_an_elman_network_with_a_diagonal_kernel(x64):
    cell = IndRNN(FEATURES, activation="tanh")
    params, xs, h = random_arguments(cell, LENGTH, (2,))
    kernel = dense(params.recurrent_kernel, 1)
    other = Elman(FEATURES).init(jax.random.key(0), IN_FEATURES)
    other = other._replace(kernel=params.kernel, recurrent_kernel=kernel, bias=params.bias)
    assert_same_outputs(cell, params, Elman(FEATURES), other, xs, h)


def test_diagonal_gru_is_a_gru_with_diagonal_kernels(x64):
    cell = DiagonalGRU(FEATURES)
    params, xs, h = random_arguments(cell, LENGTH, (2,))
    other, *_ = random_arguments(GRU(FEATURES), LENGTH)
    other = other._replace(
        kernel=params.kernel,
        recurrent_kernel=dense(params.recurrent_kernel, 3),
        bias=params.bias,
        recurrent_bias=np.zeros(FEATURES),
    )
    assert_same_outputs(cell, params, GRU(FEATURES), other, xs, h)


def test_diagonal_lstm_is_a_coupled_peephole_lstm_with_diagonal_kernels(x64):
    cell, full = DiagonalLSTM(FEATURES), LSTM(FEATURES, coupled=True, peephole=True)
    params, xs, carry = random_arguments(cell, LENGTH, (2,))
    other, *_ = random_arguments(full, LENGTH)
    other = other._replace(
        **params._asdict() | {"recurrent_kernel": dense(params.recurrent_kernel, 3)}
    )
    assert_same_outputs(cell, params, full, other, xs, carry)


def test_heads_of_slstm_are_blocks_of_one_kernel(x64):
    cell, one = SLSTM(FEATURES, heads=2), SLSTM(FEATURES)
    params, xs, carry = random_arguments(cell, LENGTH, (2,))
    gates = np.split(params.recurrent_kernel, 4, axis=-1)
    kernel = np.concatenate([block_diagonal(gate) for gate in gates], axis=1)
    assert_same_outputs(
        cell, params, one, params._replace(recurrent_kernel=kernel[None]), xs, carry
    )


def test_a_head_of_slstm_does_not_see_the_past_of_another():
    cell = SLSTM(FEATURES, heads=2)
    params, xs, carry = random_arguments(cell, 1, dtype="float32")
    slopes = jax.jacobian(lambda h: cell.step(params, carry._replace(h=h), xs[0])[1])(carry.h)
    first, second = np.asarray(slopes[:2]), np.asarray(slopes[2:])
    assert not first[:, 2:].any() and not second[:, :2].any()
    assert first[:, :2].all() and second[:, 2:].all()


@pytest.mark.parametrize("features", [2, 4])
def test_a_diagonal_kernel_of_several_gates_is_one_product_a_gate(features):
    h, kernel = np.arange(1.0, 1 + features), np.arange(1.0, 1 + 3 * features)
    expected = np.concatenate([h * part for part in np.split(kernel, 3)])
    np.testing.assert_array_equal(kernel_product(jnp.asarray(h), jnp.asarray(kernel)), expected)


def test_a_diagonal_kernel_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"expected 4 rows.*got shape \(6,\)"):
        kernel_product(jnp.ones(4), jnp.ones(6))


# sLSTM: the stabiliser changes nothing, and keeps what it should in range.


def unstabilised(cell, params, xs):
    """Beck et al. 2024, section 2.2, before stabilisation, for one head."""
    W, R, b = params.kernel, params.recurrent_kernel[0], params.bias
    c = n = h = np.zeros(cell.features)
    ys = []
    for x in xs:
        i, f, z, o = np.split(x @ W + h @ R + b, 4)
        i, f, z, o = np.exp(i), np.exp(f), np.tanh(z), 1 / (1 + np.exp(-o))
        f = f if cell.forget_gate == "exp" else f / (1 + f)
        c, n = f * c + i * z, f * n + i
        h = o * c / n
        ys.append(h)
    return np.stack(ys)


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
def test_the_stabiliser_of_slstm_changes_no_output(forget_gate, x64):
    cell = SLSTM(FEATURES, forget_gate=forget_gate)
    params, xs, _ = random_arguments(cell, 20)
    _, ys = rnnlab.unroll(cell, params, xs)
    np.testing.assert_allclose(ys, unstabilised(cell, params, xs), rtol=1e-12)


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
@pytest.mark.parametrize("size", [-300.0, -50.0, 50.0, 300.0])
def test_slstm_is_finite_at_gates_beyond_the_range_of_their_exponential(forget_gate, size):
    """h is o times a mean of g, whatever the gates; resets start from nothing again."""
    cell = SLSTM(FEATURES, forget_gate=forget_gate)
    params, xs, _ = random_arguments(cell, 6, (2,), dtype="float32")
    reset = jnp.zeros((6, 2), bool).at[3].set(True)

    def run(bias, xs):
        return rnnlab.unroll(cell, params._replace(bias=bias), xs, reset=reset)[1]

    for gate in (0, 1):  # i, f
        bias = params.bias.copy()
        bias[gate * FEATURES : (gate + 1) * FEATURES] = size
        ys, pullback = jax.vjp(run, bias, xs)
        assert np.abs(ys).max() <= 1
        assert all(np.isfinite(g).all() for g in pullback(jnp.ones_like(ys)))


def test_slstm_of_one_step_puts_out_its_cell_input():
    """Nothing came before, so the mean is over one value, however small its weight."""
    cell = SLSTM(FEATURES)
    params, xs, _ = random_arguments(cell, 1, dtype="float32")
    params.bias[:FEATURES] = -200
    _, ys = rnnlab.unroll(cell, params, xs)
    _, _, g, o = np.split(xs[0] @ params.kernel + params.bias, 4)
    np.testing.assert_allclose(ys[0], np.tanh(g) / (1 + np.exp(-o)), rtol=1e-5)


# Kernels made of parameters


def test_the_kernel_of_an_antisymmetric_rnn_neither_grows_nor_fades(x64):
    cell = AntisymmetricRNN(FEATURES, gamma=0.3)
    params, *_ = random_arguments(cell, 1)
    eigenvalues = np.linalg.eigvals(cell.recurrent_kernel(params))
    np.testing.assert_allclose(eigenvalues.real, -0.3, atol=1e-12)
    assert np.abs(eigenvalues.imag).max() > 0.1


@pytest.mark.parametrize(("beta", "sign"), [(0.0, 1), (1.0, -1)])
def test_beta_of_a_lipschitz_rnn_goes_from_symmetric_to_skew(beta, sign, x64):
    cell = LipschitzRNN(FEATURES, beta=beta, linear_gamma=0.3, gamma=0.2)
    params, *_ = random_arguments(cell, 1)
    parts = np.split(cell.recurrent_kernel(params), 2, axis=1)
    for part, gamma in zip(parts, (0.3, 0.2), strict=True):
        part = part + gamma * np.eye(FEATURES)
        np.testing.assert_allclose(part, sign * part.T, atol=1e-12)
        assert np.abs(part).max() > 0.1


# Start values and sizes


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        (MGU(FEATURES), "fn"),
        (UGRNN(FEATURES), "fn"),  # its z forgets
        (RAN(FEATURES), "if"),
        (JANET(FEATURES), "fg"),
        (DiagonalLSTM(FEATURES), "fgo"),
        (SLSTM(FEATURES), "ifgo"),
    ],
    ids=str,
)
def test_forget_bias_starts_at_the_forget_gate_alone(cell, names):
    bias = cell.init(jax.random.key(0), IN_FEATURES).bias
    expected = [np.full(FEATURES, float(name == "f")) for name in names]
    np.testing.assert_array_equal(bias, np.concatenate(expected))


@pytest.mark.parametrize(
    ("cell", "rows", "blocks"),
    [
        (MGU(4), 4, 2),
        (LiGRU(4), 4, 2),
        (UGRNN(4), 4, 2),
        (RAN(4), 4, 2),
        (JANET(4), 4, 2),
        (LEM(4), 4, 3),
        (CoRNN(4), 8, 1),
        (SLSTM(4, heads=2), 2, 4),
    ],
    ids=str,
)
def test_recurrent_kernels_start_orthogonal_gate_by_gate(cell, rows, blocks):
    kernel = np.asarray(cell.init(jax.random.key(0), 3).recurrent_kernel)
    for head in kernel.reshape(-1, rows, kernel.shape[-1]):
        for part in np.split(head, blocks, axis=1):
            for square in np.split(part, max(1, rows // part.shape[1])):
                np.testing.assert_allclose(square @ square.T, np.eye(len(square)), atol=1e-5)


@pytest.mark.parametrize(
    ("cell", "low", "high"),
    [(IndRNN(500), 0, 1), (DiagonalGRU(500), -1, 1), (DiagonalLSTM(500), -1, 1)],
)
def test_diagonals_start_uniform(cell, low, high):
    diagonal = np.asarray(cell.init(jax.random.key(0), 3).recurrent_kernel)
    assert low <= diagonal.min() < low + 0.02 * (high - low)
    assert high - 0.02 * (high - low) < diagonal.max() <= high


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (MGU(5), 2 * 5 * (7 + 5 + 1) + 5),
        (LiGRU(5), 2 * 5 * (7 + 5 + 1)),
        (UGRNN(5), 2 * 5 * (7 + 5 + 1)),
        (RAN(5), 3 * 5 * 7 + 2 * 5 * (5 + 1)),
        (JANET(5), 2 * 5 * (7 + 5 + 1)),
        (IndRNN(5), 5 * (7 + 1 + 1)),
        (CoRNN(5), 5 * (7 + 10 + 1)),
        (LEM(5), 4 * 5 * (7 + 5 + 1)),
        (AntisymmetricRNN(5), 5 * (7 + 5 + 1)),
        (AntisymmetricRNN(5, gated=True), 5 * (14 + 5 + 2)),
        (LipschitzRNN(5), 5 * (7 + 5 + 5 + 1)),
        (DiagonalGRU(5), 3 * 5 * (7 + 1 + 1)),
        (DiagonalLSTM(5), 3 * 5 * (7 + 1 + 1) + 2 * 5),
        (SLSTM(6, heads=3), 4 * 6 * (7 + 2 + 1)),
    ],
    ids=str,
)
def test_parameter_count(cell, expected):
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), 7))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == expected


# Errors


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (
            lambda: SLSTM(6, heads=4),
            ["to be a multiple of heads", "features=6", "heads=4"],
        ),
        (lambda: SLSTM(4, heads=0), ["SLSTM: expected heads >= 1"]),
        (lambda: SLSTM(4, forget_gate="tanh"), ['"sigmoid" or "exp"', "got 'tanh'"]),
        (lambda: LipschitzRNN(4, beta=1.5), ["LipschitzRNN: expected 0 <= beta <= 1", "got 1.5"]),
        (lambda: LipschitzRNN(4, time_step=0.0), ["expected time_step > 0", "got 0.0"]),
        (lambda: AntisymmetricRNN(4, time_step=-1.0), ["AntisymmetricRNN: expected time_step > 0"]),
        (lambda: LEM(4, time_step=math.nan), ["LEM: expected time_step > 0", "got nan"]),
        (lambda: CoRNN(4, gamma=0.0), ["CoRNN: expected gamma > 0"]),
        (lambda: CoRNN(4, epsilon=math.inf), ["CoRNN: expected epsilon > 0", "got inf"]),
        (lambda: IndRNN(4, activation="rleu"), ["activation: expected one of", "got 'rleu'"]),
        (lambda: RAN(4, activation="rleu"), ["activation: expected one of", "got 'rleu'"]),
    ],
)
def test_a_wrong_value_is_refused(make, parts):
    with pytest.raises(ValueError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)
