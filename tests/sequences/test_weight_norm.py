import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU, LSTM, RHN, SLSTM, CausalConvolution, ConvLSTM, Stack
from rnnlab.weight_norm import column_norms, weight_norm

KEY = jax.random.key(0)


def test_gains_are_the_lengths_of_the_columns_and_directions_stay():
    params = Stack((LSTM(4), GRU(5))).init(KEY, 3)
    gains = column_norms(params)
    assert set(gains) == {"0.kernel", "0.recurrent_kernel", "1.kernel", "1.recurrent_kernel"}
    same = weight_norm(params, gains)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), same, params)
    doubled = weight_norm(params, {**gains, "1.kernel": 2 * gains["1.kernel"]})
    np.testing.assert_allclose(doubled[1].kernel, 2 * params[1].kernel, rtol=1e-6)
    np.testing.assert_allclose(doubled[0].kernel, params[0].kernel, rtol=1e-6)
    assert doubled[1].bias is params[1].bias


def test_the_length_of_a_direction_does_not_matter_and_its_gradient_is_orthogonal_to_it():
    params = GRU(4).init(KEY, 3)
    gains = column_norms(params, names=("kernel",))
    longer = params._replace(kernel=3 * params.kernel)
    np.testing.assert_allclose(weight_norm(longer, gains).kernel, params.kernel, rtol=1e-6)
    gradient = jax.grad(lambda p: jnp.sum(jnp.sin(weight_norm(p, gains).kernel)))(params).kernel
    np.testing.assert_allclose(jnp.sum(gradient * params.kernel, axis=0), 0, atol=1e-6)
    assert jnp.abs(gradient).max() > 0.1


def test_what_is_not_there_is_refused():
    params = GRU(4).init(KEY, 3)
    with pytest.raises(ValueError, match=r"expected a parameter named .*embedding"):
        column_norms(params, names=("embedding",))
    with pytest.raises(ValueError, match=r"expected a matrix, got bias"):
        column_norms(params, names=("bias",))
    with pytest.raises(ValueError, match=r"expected paths of the parameters .*kernels"):
        weight_norm(params, {"kernels": jnp.ones(12)})
    with pytest.raises(ValueError, match=r"expected a matrix, got bias \(12,\)"):
        weight_norm(params, {"bias": jnp.ones(())})
    with pytest.raises(TypeError, match=r"expected a tuple of names, got 'recurrent_kernel'"):
        column_norms(params, names="recurrent_kernel")


@pytest.mark.parametrize("shape", [(3, 12), (1,), (), (1, 12)])
def test_a_gain_is_one_length_a_column(shape):
    message = r"gains\['kernel'\]: expected one length a column, \(12,\) of a kernel \(3, 12\), got"
    with pytest.raises(ValueError, match=message):
        weight_norm(GRU(4).init(KEY, 3), {"kernel": jnp.ones(shape)})


def test_a_column_of_zeros_stays_zero_and_everything_is_finite():
    params = GRU(4).init(KEY, 3)
    params = params._replace(kernel=params.kernel.at[:, 1].set(0))
    gains = {"kernel": jnp.ones(12)}

    def loss(params, gains):
        return jnp.sum(jnp.sin(weight_norm(params, gains).kernel + 1))

    of_params, of_gains = jax.grad(loss, (0, 1))(params, gains)
    np.testing.assert_allclose(
        jnp.linalg.norm(weight_norm(params, gains).kernel, axis=0), np.arange(12) != 1, rtol=1e-6
    )
    assert jnp.isfinite(of_params.kernel).all() and jnp.isfinite(of_gains["kernel"]).all()
    assert not of_params.kernel[:, 1].any() and of_params.kernel[:, 2].any()
    of_norms = jax.grad(lambda p: jnp.sum(column_norms(p)["kernel"]))(params).kernel
    assert jnp.isfinite(of_norms).all() and of_norms[:, 2].any()


def test_kernels_keep_their_dtype_under_gains_of_another():
    params = GRU(4).init(KEY, 3)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    same = weight_norm(half, column_norms(params))
    assert {a.dtype for a in jax.tree.leaves(same)} == {jnp.dtype(jnp.bfloat16)}
    assert column_norms(half)["kernel"].dtype == jnp.bfloat16
    for got, expected in zip(jax.tree.leaves(same), jax.tree.leaves(half), strict=True):
        got, expected = (a.astype(jnp.float32) for a in (got, expected))
        np.testing.assert_allclose(got, expected, rtol=2**-6)  # two roundings of 8 bits


@pytest.mark.parametrize(
    ("cell", "shapes", "columns"),
    [
        (ConvLSTM(2, (4, 4)), [(8,), (8,)], [(0, 1, 2), (0, 1, 2)]),
        (ConvLSTM(2, (4,)), [(8,), (8,)], [(0, 1), (0, 1)]),
        (CausalConvolution(2, 5), [(5,)], [(0, 1)]),
        (SLSTM(4, heads=2), [(16,), (2, 8)], [(0,), (1,)]),
        (RHN(4, depth=3), [(8,), (3, 8)], [(0,), (1,)]),
    ],
    ids=lambda case: type(case).__name__ if not isinstance(case, list) else "",
)
def test_a_column_is_what_one_output_of_one_head_sums_over(cell, shapes, columns):
    params = cell.init(KEY, 3)
    gains = column_norms(params)
    assert [gain.shape for gain in gains.values()] == shapes
    tripled = weight_norm(params, {path: 3 * gain for path, gain in gains.items()})
    for path, column in zip(gains, columns, strict=True):
        v, w = (np.asarray(getattr(tree, path)) for tree in (params, tripled))
        np.testing.assert_allclose(w, 3 * v, rtol=1e-5, atol=1e-6)
        lengths = np.sqrt((v**2).sum(column))
        np.testing.assert_allclose(gains[path], lengths, rtol=1e-5)
