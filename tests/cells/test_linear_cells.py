"""What linear cells and the blocks of them promise beyond their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import (
    QRNN,
    RGLRU,
    S5,
    S6,
    SSD,
    CausalConvolution,
    GatedBlock,
    MinLSTM,
    mamba,
    mamba2,
)
from rnnlab.sequences import stack
from rnnlab.strategies import Associative, Chunkwise, Scan

START = jax.random.key(0)
MAMBA = mamba(4, state_features=2)
MAMBA2 = mamba2(4, state_features=2, heads=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "parts"),
    [(MAMBA, Associative()), (MAMBA2, (Associative(), Chunkwise(3)))],
    ids=["mamba", "mamba2"],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_block_run_part_by_part_is_the_block(cell, parts, reverse, x64):
    case = testing.marked_example(cell, dtype=jnp.float64)
    expected = testing.outcome(cell, case, Scan(), reverse)
    options = {"mask": case.mask, "reset": case.reset, "reverse": reverse}

    @jax.jit
    def run(params, xs, carry):
        (carry,), ys = stack((cell,), (params,), xs, (carry,), strategy=[parts], **options)
        return carry, ys

    @jax.jit
    def gradients(direction):
        return jax.vjp(run, case.params, case.xs, case.carry)[1](direction)

    got = run(case.params, case.xs, case.carry)
    assert testing.largest_difference(got, (expected.carry, expected.ys)) < 1e-10
    direction = testing._direction(got)
    assert testing.largest_difference(gradients(direction), expected.grads) < 1e-10


def test_a_block_run_part_by_part_leaves_no_loop_over_time():
    case = testing.marked_example(MAMBA)

    def run(params, xs):
        return stack((MAMBA,), (params,), xs, strategy=Associative())

    assert "scan[" not in str(jax.make_jaxpr(run)(case.params, case.xs))
    assert "scan[" in str(jax.make_jaxpr(lambda p, x: rnnlab.unroll(MAMBA, p, x))(*case[:2]))


def test_padding_of_a_block_may_hold_anything():
    clean = testing.marked_example(MAMBA)

    def loss(params, xs):
        _, ys = stack((MAMBA,), (params,), xs, mask=clean.mask, strategy=Associative())
        return jnp.sum(jnp.square(ys))

    slopes = jax.jit(jax.grad(loss))
    expected = slopes(clean.params, clean.xs)
    for value in testing.POISONS:
        got = slopes(clean.params, testing.fill_padding(clean, value))
        assert testing.largest_difference(got, expected) == 0


def test_a_block_refuses_a_carry_or_a_mask_of_another_shape():
    case = testing.example(MAMBA)
    with pytest.raises(ValueError, match=r"mask: expected shape \(7, 3\)"):
        stack((MAMBA,), (case.params,), case.xs, mask=jnp.ones((7, 2), bool))
    window, state = case.carry
    with pytest.raises(ValueError, match=r"carry.*expected shape"):
        stack((MAMBA,), (case.params,), case.xs, [(window, state[:2])])


@pytest.mark.parametrize("strategy", [Scan(), Associative()], ids=repr)
def test_the_window_of_a_convolution_streams_and_resets(strategy):
    cell = CausalConvolution(3)
    params, xs, *_ = testing.example(cell, length=9)
    whole, ys = rnnlab.unroll(cell, params, xs, strategy=strategy)
    np.testing.assert_array_equal(whole, np.moveaxis(xs[-3:], 0, 1))  # the last three inputs
    carry, first = rnnlab.unroll(cell, params, xs[:4], strategy=strategy)
    carry, second = rnnlab.unroll(cell, params, xs[4:], carry, strategy=strategy)
    np.testing.assert_allclose(jnp.concatenate([first, second]), ys, atol=1e-6)
    reset = jnp.zeros((9, 3), bool).at[4].set(True)
    poisoned = xs.at[:4].set(jnp.nan)
    _, after = rnnlab.unroll(cell, params, poisoned, reset=reset, strategy=strategy)
    _, alone = rnnlab.unroll(cell, params, xs[4:], strategy=strategy)
    np.testing.assert_allclose(after[4:], alone, atol=1e-6)


def test_a_convolution_is_that_of_numpy():
    cell = CausalConvolution(4)
    params, xs, *_ = testing.example(cell, length=9, batch=())
    _, ys = rnnlab.unroll(cell, params, xs)
    for c in range(3):
        expected = np.convolve(xs[:, c], params.kernel[::-1, c])[:9] + params.bias[c]
        np.testing.assert_allclose(ys[:, c], expected, atol=1e-5)


def test_rg_lru_has_finite_gradients_where_nothing_decays():
    cell = RGLRU(4)
    params = cell.init(START, 4)._replace(decay=jnp.full(4, 200.0))  # a rounds to 1

    def loss(params):
        return jnp.sum(rnnlab.unroll(cell, params, jnp.ones((5, 4)), jnp.ones(4))[1])

    value, slopes = jax.value_and_grad(loss)(params)
    np.testing.assert_allclose(value, 20, atol=1e-5)  # the carry stays
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_rg_lru_starts_with_decays_in_its_range():
    params = RGLRU(2000, min_radius=0.5, max_radius=0.7).init(START, 2000)
    a = np.asarray(jax.nn.sigmoid(params.decay)) ** 8
    assert 0.5 - 1e-4 <= a.min() < 0.51 and 0.69 < a.max() <= 0.7 + 1e-4
    np.testing.assert_allclose(a.mean(), 0.6, atol=0.01)


def test_min_lstm_divides_no_zero_by_zero_where_both_gates_close():
    cell = MinLSTM(2)
    bias = jnp.asarray([-300.0, -300, -300, -301, 1, 1])
    params = cell.init(START, 1)._replace(bias=bias)

    def last(params):
        h, _ = rnnlab.unroll(cell, params, jnp.zeros((1, 1)), jnp.zeros(2))
        return jnp.sum(h), h

    slopes, h = jax.grad(last, has_aux=True)(params)
    np.testing.assert_allclose(h, [0.5, 1 / (1 + np.exp(-1))], rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_s5_starts_at_the_eigenvalues_of_the_normal_part_of_hippo():
    params = S5(4, state_features=8).init(START, 3)
    n = np.arange(16)
    hippo = -np.sqrt(np.outer(2 * n + 1, 2 * n + 1))
    hippo = np.tril(hippo, -1) - np.diag(n + 1)
    p = np.sqrt(n + 0.5)
    eigenvalues = np.linalg.eigvals(hippo + np.outer(p, p))  # normal plus low rank
    upper = np.sort(eigenvalues.imag[eigenvalues.imag > 0])
    np.testing.assert_allclose(np.sort(params.frequency), upper, rtol=1e-4)
    np.testing.assert_allclose(-np.exp(params.decay_log), -0.5, rtol=1e-6)
    np.testing.assert_allclose(eigenvalues.real, -0.5, atol=1e-6)
    assert np.exp(params.step_log).min() >= 1e-3 and np.exp(params.step_log).max() <= 0.1


@pytest.mark.parametrize("cell", [S6(3000), SSD(3000, heads=3000)], ids=["s6", "ssd"])
def test_selective_models_start_with_steps_in_their_range(cell):
    params = cell.init(START, 3)
    step = np.log(np.asarray(jax.nn.softplus(params.step_bias)))
    low, high = np.log(1e-3), np.log(0.1)
    np.testing.assert_allclose([step.min(), step.max()], [low, high], atol=0.01)
    np.testing.assert_allclose(step.mean(), (low + high) / 2, atol=0.1)


def test_s6_starts_with_rates_from_one_to_its_states():
    params = S6(2, state_features=3).init(START, 2)
    np.testing.assert_allclose(np.exp(params.rate_log), [[1, 2, 3]] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QRNN(4, pooling="of"), "QRNN: expected pooling to be one of"),
        (lambda: QRNN(4, project_input=False).init(START, 3), "QRNN: expected in_features=12"),
        (lambda: RGLRU(4, min_radius=0.0), "RGLRU: expected 0 < min_radius"),
        (lambda: RGLRU(4, max_radius=1.0), "max_radius=1.0"),
        (lambda: RGLRU(4, exponent=0.0), "RGLRU: expected exponent > 0, got 0.0"),
        (lambda: S5(4, min_step=0.0), "S5: expected 0 < min_step < max_step"),
        (lambda: S6(4, min_step=0.2), "S6: expected 0 < min_step < max_step"),
        (lambda: SSD(4, heads=3), "SSD: expected features to be a multiple of heads"),
        (lambda: SSD(4, project_input=False).init(START, 3), "SSD: expected in_features=133"),
        (lambda: CausalConvolution(0), "expected width >= 1"),
        (lambda: CausalConvolution(passed=3).init(START, 3), "expected more than passed=3"),
        (lambda: GatedBlock(MinLSTM(4), 4, 0), "GatedBlock: expected cell_features >= 1"),
    ],
)
def test_a_wrong_value_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
