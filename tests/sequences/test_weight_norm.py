import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import GRU, LSTM, Stack
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
