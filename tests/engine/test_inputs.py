"""Cells of the user's own that read trees, booleans, or several feature axes."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import GRU
from rnnlab.strategies import Associative, Deferred, Remat, Scan, Unrolled


class Kept(NamedTuple):
    x: Any  # [..., F]
    keep: Any  # bool [..., H]


@dataclasses.dataclass(frozen=True)
class ZoneoutGRU(rnnlab.GatedCell):
    """A GRU that reads `(x, keep)` and holds on to the units where `keep` is set."""

    features: int

    @property
    def inner(self):
        return GRU(self.features)

    def init(self, key, in_features):
        return self.inner.init(key, in_features)

    def initial_carry(self, params, batch_shape=()):
        return self.inner.initial_carry(params, batch_shape)

    def project(self, params, x):
        return Kept(self.inner.project(params, x.x), x.keep)

    def recurrent_kernel(self, params):
        return params.recurrent_kernel

    def hidden(self, carry):
        return carry

    def gate(self, params, carry, z, u):
        return jnp.where(z.keep, carry, self.inner.gate(params, carry, z.x, u))

    def readout(self, params, carry, z):
        return self.inner.readout(params, carry, z.x)


@pytest.fixture(scope="module")
def zoneout():
    case = testing.marked_example(GRU(4))
    keep = jax.random.bernoulli(jax.random.key(5), 0.3, (7, 3, 4))
    return ZoneoutGRU(4), case, keep


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "strategy", [Unrolled(), Scan(), Remat(chunk=3), Deferred()], ids=lambda s: type(s).__name__
)
def test_a_tree_of_inputs_with_a_boolean_leaf(zoneout, strategy, reverse):
    cell, case, keep = zoneout

    def run(params, x, strategy):
        options = {"mask": case.mask, "reset": case.reset, "reverse": reverse}
        carry, ys = rnnlab.unroll(
            cell, params, Kept(x, keep), case.carry, strategy=strategy, **options
        )
        return jnp.sum(jnp.sin(ys)) + jnp.sum(carry**2)

    def plain(params, x):
        with jax.disable_jit():
            return run(params, x, Unrolled())

    got = jax.value_and_grad(run, (0, 1))(case.params, case.xs, strategy)
    expected = jax.value_and_grad(plain, (0, 1))(case.params, case.xs)
    assert testing.largest_difference(got, expected) < 1e-5


def test_leaves_that_disagree_are_named(zoneout):
    cell, case, keep = zoneout
    with pytest.raises(ValueError, match=r"xs\.keep.*\(6, 3\)"):
        rnnlab.unroll(cell, case.params, Kept(case.xs, keep[:6]))


@dataclasses.dataclass(frozen=True)
class Pixels(rnnlab.LinearCell):
    """A running mean of pictures `[..., height, width]`."""

    feature_ndim = 2

    def init(self, key, in_features):
        return jnp.full((), 0.3, jnp.float32)

    def initial_carry(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, 3, 3), jnp.float32)

    def project(self, params, x):
        return x.astype(jnp.float32)

    def coefficients(self, params, z):
        decay = params.astype(jnp.float32)
        return jnp.full(z.shape, 1.0, z.dtype) * decay.reshape((1,) * z.ndim), z

    def readout(self, params, carry, z):
        return carry.astype(params.dtype)


@pytest.mark.parametrize("strategy", [Scan(), Remat(chunk=2), Associative()], ids=repr)
def test_several_feature_axes(strategy):
    case = testing.marked_example(Pixels())
    assert case.xs.shape == (7, 3, 3, 3) and case.mask.shape == (7, 3)
    got = testing.outcome(Pixels(), case, strategy)
    assert testing.largest_difference(got, testing.oracle(Pixels(), case)) < 1e-5
    with pytest.raises(ValueError, match="2 feature axis"):
        rnnlab.unroll(Pixels(), case.params, case.xs[0, 0])


class Heads(NamedTuple):
    kernel: Any  # [F, N * K]
    recurrent_kernel: Any  # [N, D, K] or [H]


@dataclasses.dataclass(frozen=True)
class BlockDiagonal(rnnlab.GatedCell):
    """tanh of x W + h U with U of `heads` blocks, or diagonal for none."""

    features: int
    heads: int

    def init(self, key, in_features):
        size = self.features // self.heads if self.heads else None
        shape = (self.heads, size, size) if self.heads else (self.features,)
        first, second = jax.random.split(key)
        return Heads(
            jax.random.normal(first, (in_features, self.features), jnp.float32),
            jax.random.normal(second, shape, jnp.float32),
        )

    def initial_carry(self, params, batch_shape=()):
        dtype = jnp.float64 if params.kernel.dtype == jnp.float64 else jnp.float32
        return jnp.zeros((*batch_shape, self.features), dtype)

    def project(self, params, x):
        wide = jnp.float64 if params.kernel.dtype == jnp.float64 else jnp.float32
        return jnp.matmul(x.astype(params.kernel.dtype), params.kernel, preferred_element_type=wide)

    def recurrent_kernel(self, params):
        return params.recurrent_kernel

    def hidden(self, carry):
        return carry

    def gate(self, params, carry, z, u):
        return jnp.tanh(z + u.reshape(z.shape))

    def readout(self, params, carry, z):
        return carry.astype(params.kernel.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("heads", [0, 2])
def test_heads_and_diagonal_kernels_keep_the_contract(heads):
    """A block-diagonal kernel, or an elementwise one, under every strategy."""
    cell = BlockDiagonal(4, heads)
    testing.check_cell(cell)
    with jax.enable_x64(True):
        case = testing.marked_example(cell, dtype=jnp.float64)
        got = testing.outcome(cell, case, Deferred())
        assert testing.largest_difference(got, testing.oracle(cell, case)) < 1e-12
