"""Linear cells in the compiled CPU kernel: how they are called, sized, cut and differentiated."""

import dataclasses
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import LRU, S6, MinLSTM
from rnnlab.core.cell import LinearCell
from rnnlab.core.types import Array
from rnnlab.kernels.linear import linear_scan
from rnnlab.strategies import Associative, Fused, Scan
from tests.native import needs_kernel

pytestmark = needs_kernel
each_cell = pytest.mark.parametrize("cell", [LRU(5), S6(4), MinLSTM(5)], ids=str)


class TraceParams(NamedTuple):
    decay: Array  # [H]


@dataclasses.dataclass(frozen=True)
class Trace(LinearCell[TraceParams, Array]):
    """A user's cell: h_t = decay * h_{t-1} + x_t, the decay the same for all steps and rows."""

    features: int

    def init(self, key, in_features):
        return TraceParams(jax.random.uniform(key, (self.features,), minval=0.5))

    def initial_carry(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, self.features))

    def project(self, params, x):
        return x

    def coefficients(self, params, z):
        return params.decay.reshape((1,) * (z.ndim - 1) + (-1,)), z

    def readout(self, params, carry, z):
        return carry


def calls(function, *args):
    """The names of the library's calls in a program."""
    return sorted(re.findall(r"custom_call @(\w+)", jax.jit(function).lower(*args).as_text()))


def outcome(cell, params, xs, strategy, carry=None, **marks):
    """The loss and its gradients."""

    def loss(params, xs, carry):
        last, ys = rnnlab.unroll(cell, params, xs, carry, strategy=strategy, **marks)
        ends = sum(jnp.sum(jnp.abs(c) ** 2) for c in jax.tree.leaves(last))
        return jnp.sum(jnp.sin(ys)) + ends

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, xs, carry)


def check_close(got, expected, tolerance=1e-5):
    """To the largest entry of each leaf."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(np.max(np.abs(b))))


@each_cell
def test_one_call_each_way_and_vmap_makes_the_batch_larger(cell):
    case = testing.example(cell)

    def loss(params, xs):
        return jnp.sum(rnnlab.unroll(cell, params, xs, strategy=Fused())[1])

    def total(params, xs):
        return jnp.sum(jax.vmap(loss, in_axes=(None, 1))(params, xs[:, :, None]))

    both = ["rnnlab_linear_backward", "rnnlab_linear_forward"]
    assert calls(jax.grad(loss, (0, 1)), case.params, case.xs) == both
    assert calls(jax.grad(total, (0, 1)), case.params, case.xs) == both


@each_cell
def test_vmap_over_the_weights_and_of_gradients(cell):
    case = testing.example(cell)
    params = jax.vmap(lambda key: cell.init(key, case.xs.shape[-1]))(
        jax.random.split(jax.random.key(0), 3)
    )

    def gradients(strategy):
        return jax.vmap(lambda p: outcome(cell, p, case.xs, strategy))(params)

    check_close(gradients(Fused()), gradients(Scan()))


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("cell", [LRU(130), MinLSTM(131), Trace(33)], ids=str)
def test_sizes_that_fill_no_vector(cell, batch):
    """Also where threads share rows (a batch of 64) or units (of 1)."""
    length = 4_000 // batch
    xs = jax.random.normal(jax.random.key(1), (length, batch, cell.features))
    params = cell.init(jax.random.key(2), cell.features)
    got, expected = (outcome(cell, params, xs, s) for s in (Fused(), Scan()))
    check_close(got, expected, 1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_the_same_for_all_steps_is_not_spread_over_them(reverse):
    cell = Trace(5)
    case = testing.example(cell, 5, length=6, batch=(3,))
    params, xs = case.params, case.xs
    got, expected = (outcome(cell, params, xs, s, reverse=reverse) for s in (Fused(), Scan()))
    check_close(got, expected)
    text = jax.jit(lambda p: rnnlab.unroll(cell, p, xs, strategy=Fused())).lower(params).as_text()
    assert re.search(r"rnnlab_linear_forward\(.*\(tensor<1x1x5xf32>, tensor<6x3x5xf32>", text)


@pytest.mark.parametrize("reverse", [False, True])
@each_cell
def test_a_nan_before_a_reset_or_in_a_masked_row_reaches_no_gradient(cell, reverse):
    case = testing.example(cell, length=6, batch=(4,))
    carry = jax.tree.map(lambda c: c.at[1].set(jnp.nan), case.carry)
    masked = jnp.ones((6, 4), bool).at[:, 1].set(False)
    first = jnp.zeros((6, 4), bool).at[-1 if reverse else 0, 1].set(True)
    for marks in ({"mask": masked}, {"reset": first}):

        def loss(params, xs, marks=marks):
            options = {**marks, "reverse": reverse, "strategy": Fused()}
            return jnp.sum(rnnlab.unroll(cell, params, xs, carry, **options)[1])

        for leaf in jax.tree.leaves(jax.grad(loss, (0, 1))(case.params, case.xs)):
            assert jnp.isfinite(leaf).all()


@pytest.mark.parametrize("dtypes", ["a bfloat16", "a real", "b real", "b bfloat16", "b of one"])
def test_what_adds_up_to_the_carry_is_read_as_the_carry(dtypes):
    """Where a loop promotes and broadcasts, the kernel is given what it reads by the carry."""
    cast = {
        "a bfloat16": lambda a, b: (a.astype(jnp.bfloat16), b),
        "a real": lambda a, b: (a, b.astype(jnp.complex64)),
        "b real": lambda a, b: (a.astype(jnp.complex64), b),
        "b bfloat16": lambda a, b: (a, b.astype(jnp.bfloat16)),
        "b of one": lambda a, b: (a, b[..., :1]),
    }[dtypes]
    dtype = jnp.complex64 if "real" in dtypes else jnp.float32

    class Mixed(Trace):
        def initial_carry(self, params, batch_shape=()):
            return jnp.zeros((*batch_shape, self.features), dtype)

        def coefficients(self, params, z):
            return cast(*super().coefficients(params, z))

        def readout(self, params, carry, z):
            return carry.real

    cell = Mixed(5)
    case = testing.example(cell, 5, length=6, batch=(3,))
    with jax.numpy_dtype_promotion("standard"):
        got, expected, parallel = (
            rnnlab.unroll(cell, case.params, case.xs, strategy=s)
            for s in (Fused(), Scan(), Associative())
        )
    assert got[0].dtype == dtype
    check_close(got, expected)
    check_close(parallel, expected, 5e-2 if "bf" in dtypes else 1e-5)


@each_cell
def test_an_empty_batch(cell):
    case = testing.example(cell)
    xs = jnp.zeros((4, 0, case.xs.shape[-1]))
    loss, gradients = outcome(cell, case.params, xs, Fused())
    assert loss == 0 and gradients[1].shape == xs.shape
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients[0]))


def test_arrays_that_the_kernel_would_misread_are_refused():
    a, b, start = jnp.ones((1, 1, 3)), jnp.ones((5, 2, 3)), jnp.ones((2, 3))
    for wrong in (
        (a.astype(jnp.bfloat16), b, start),
        (a, b, start.astype(jnp.complex64)),
        (a[..., :1], b, start),
        (jnp.ones((2, 1, 3)), b, start),
        (a, b, start[:1]),
    ):
        with pytest.raises(ValueError, match="linear_scan: expected a"):
            linear_scan(*wrong, None, reverse=False)
        with pytest.raises(ValueError, match="linear_scan: expected a"):
            jax.jit(lambda *w: linear_scan(*w, None, reverse=False))(*wrong)


def test_derivatives_of_every_order_run_in_the_kernel():
    def loss(a):
        return jnp.sum(linear_scan(a, *rest, reverse=False) ** 3)

    keys = jax.random.split(jax.random.key(0), 3)
    a, b = jax.random.uniform(keys[0], (5, 2, 3)), jax.random.normal(keys[1], (5, 2, 3))
    rest = (b, jax.random.normal(keys[2], (2, 3)), jnp.zeros((5, 2), bool).at[3, 1].set(True))

    def direction(a):
        return jnp.vdot(jax.grad(loss)(a), b)

    second = jax.grad(direction)(a)
    step = 1e-3
    numeric = (direction(a + step * b) - direction(a - step * b)) / (2 * step)
    assert jnp.allclose(jnp.vdot(second, b), numeric, rtol=2e-2)
    assert "while" not in jax.jit(jax.grad(direction)).lower(a).as_text()


def test_a_leading_axis_that_fits_nothing_is_refused():
    class Wrong(Trace):
        def coefficients(self, params, z):
            return jnp.ones(z.shape if z.ndim == 2 else (2, *z.shape[1:])), z

    cell = Wrong(5)
    case = testing.example(cell, 5, length=6, batch=(3,))
    with pytest.raises(ValueError, match=r"Wrong\.coefficients: expected every leaf to be led by"):
        rnnlab.unroll(cell, case.params, case.xs, strategy=Fused())
