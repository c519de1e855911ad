"""jvp, grad, vmap(grad), grad(vmap), hessian, checkpoint and shard_map equal those of `Scan`."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec
from jax.test_util import check_grads

import rnnlab
from rnnlab import testing
from rnnlab.cells import (
    GRU,
    LRU,
    LSTM,
    MLSTM,
    RWKV7,
    S6,
    SLSTM,
    CausalConvolution,
    Elman,
    GatedDeltaNet,
    IndRNN,
    MinGRU,
    ResetBeforeGRU,
    Zoneout,
)
from rnnlab.strategies import Associative, Auto, Chunkwise, Deferred, Fused, Remat, Scan
from tests.native import needs_kernel

LSTM_WITH_ALL = LSTM(3, peephole=True, coupled=True, layer_norm=True, projection=2, cell_clip=0.4)
PAIRS = [
    (Elman(3), Deferred()),
    (LSTM_WITH_ALL, Deferred()),
    (GRU(3), Deferred()),
    (LSTM(3), Fused()),
    (GRU(3), Fused()),
    (Elman(3), Fused()),
    (MinGRU(3), Fused()),
    (ResetBeforeGRU(3), Fused()),
    (LSTM(3, layer_norm=True), Fused()),
    (Zoneout(GRU(3), 0.3), Fused()),
    (LRU(3), Fused()),
    (S6(3), Fused()),
    (SLSTM(4, heads=2), Deferred()),  # a block-diagonal kernel
    (IndRNN(3), Deferred()),  # a diagonal kernel
    (GRU(3), Remat(chunk=2)),
    (MinGRU(3), Associative()),
    (LRU(3), Associative()),
    (S6(3), Associative()),
    (CausalConvolution(2), Associative()),  # affine, not diagonal
    (GatedDeltaNet(2), Chunkwise(3)),
    (MLSTM(2), Chunkwise(3)),
    (RWKV7(2), Chunkwise(3)),
]
each_pair = pytest.mark.parametrize(
    "cell, strategy",
    [pytest.param(c, s, marks=needs_kernel if isinstance(s, Fused) else ()) for c, s in PAIRS],
    ids=[f"{type(s).__name__}-{type(c).__name__}" for c, s in PAIRS],
)


def loss_of(cell, example, strategy, reverse=False):
    """A scalar function of (params, xs, carry), nonlinear in the outputs and the last carry."""

    def loss(params, xs, carry):
        out = rnnlab.unroll(
            cell,
            params,
            xs,
            carry,
            mask=example.mask,
            reset=example.reset,
            reverse=reverse,
            strategy=strategy,
        )
        return sum(jnp.sum(jnp.sin(a.real) + a.imag**2) for a in jax.tree.leaves(out))

    return loss


def both(cell, strategy, transform, batch=(2,), length=4):
    """What `transform(loss, example)` gives under `Scan` and under `strategy`."""
    with jax.enable_x64(True):
        case = testing.marked_example(cell, length=length, batch=batch, dtype=jnp.float64)
        case = case._replace(reset=case.reset.at[1].set(True))
        results = [
            jax.jit(lambda case, s=s: transform(loss_of(cell, case, s), case))(case)
            for s in (Scan(), strategy)
        ]
        return testing.largest_difference(*results)


@each_pair
def test_forward_mode(cell, strategy):
    def transform(loss, case):
        args = (case.params, case.xs, case.carry)
        tangents = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size)).reshape(a.shape), args)
        tangents = jax.tree.map(lambda t, a: t.astype(a.dtype), tangents, args)
        return jax.jvp(loss, args, tangents)

    assert both(cell, strategy, transform) < 1e-10


@pytest.mark.slow
@each_pair
def test_vmap_of_grad(cell, strategy):
    def transform(loss, case):
        def grad(x, c):
            one = case._replace(mask=case.mask[:, 0], reset=case.reset[:, 0])
            return jax.grad(loss_of(cell, one, current[0]), (0, 1, 2))(case.params, x, c)

        return jax.vmap(grad, in_axes=(1, 0))(case.xs, case.carry)

    results = []
    for s in (Scan(), strategy):
        current = [s]
        with jax.enable_x64(True):
            case = testing.marked_example(cell, length=4, batch=(2,), dtype=jnp.float64)
            results.append(transform(None, case))
    assert testing.largest_difference(*results) < 1e-10


@pytest.mark.slow
@each_pair
def test_grad_of_vmap_over_examples(cell, strategy):
    results = []
    for s in (Scan(), strategy):
        with jax.enable_x64(True):
            case = testing.marked_example(cell, length=4, batch=(3,), dtype=jnp.float64)

            def total(params, xs, carry, case=case, s=s):
                def one(x, c, m, r):
                    return loss_of(cell, case._replace(mask=m, reset=r), s)(params, x, c)

                return jnp.sum(
                    jax.vmap(one, in_axes=(1, 0, 1, 1))(xs, carry, case.mask, case.reset)
                )

            grads = jax.grad(total, (0, 1, 2))(case.params, case.xs, case.carry)
            results.append(grads)
            native = jax.grad(loss_of(cell, case, Scan()), (0, 1, 2))
            results.append(native(case.params, case.xs, case.carry))
    assert testing.largest_difference(results[0], results[2]) < 1e-10
    assert testing.largest_difference(results[2], results[3]) < 1e-10


@pytest.mark.slow
@each_pair
def test_hessians_forward_over_reverse_and_reverse_over_reverse(cell, strategy):
    def transform(loss, case):
        def of_inputs(xs):
            return loss(case.params, xs, case.carry)

        def direction(params):  # reverse over reverse, through the parameters
            grads = jax.grad(loss)(params, case.xs, case.carry)
            return sum(jnp.sum(jnp.sin(g)) for g in jax.tree.leaves(grads))

        return jax.hessian(of_inputs)(case.xs), jax.grad(direction)(case.params)

    assert both(cell, strategy, transform, batch=(), length=3) < 1e-8


@each_pair
def test_checkpoint(cell, strategy):
    def transform(loss, case):
        args = (case.params, case.xs, case.carry)
        return jax.grad(jax.checkpoint(loss), (0, 1, 2))(*args)

    assert both(cell, strategy, transform) < 1e-10


@pytest.mark.parametrize("wrt", [0, 1, 2], ids=["params", "xs", "carry"])
@each_pair
def test_gradient_of_one_argument_alone(cell, strategy, wrt):
    def transform(loss, case):
        return jax.grad(loss, wrt)(case.params, case.xs, case.carry)

    assert both(cell, strategy, transform) < 1e-10


@each_pair
def test_shard_map_over_the_batch(cell, strategy):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def transform(loss, case):
        def shard(params, xs, mask, reset):
            # The initial carry is made inside: it has to vary like the inputs.
            case_here = case._replace(mask=mask, reset=reset)
            value = loss_of(cell, case_here, strategy_now[0])(params, xs, None)
            return jax.lax.psum(value, "data")

        P = PartitionSpec
        spec = P(None, "data")
        mapped = jax.shard_map(shard, mesh=mesh, in_specs=(P(), spec, spec, spec), out_specs=P())
        return jax.grad(mapped, (0, 1))(case.params, case.xs, case.mask, case.reset)

    results = []
    for s in (Scan(), strategy):
        strategy_now = [s]
        with jax.enable_x64(True):
            case = testing.marked_example(cell, length=4, batch=(2,), dtype=jnp.float64)
            results.append(jax.jit(lambda case: transform(None, case))(case))
            plain = functools.partial(loss_of(cell, case, s), carry=None)
            results.append(jax.grad(plain, (0, 1))(case.params, case.xs))
    assert testing.largest_difference(results[0], results[1]) < 1e-10
    assert testing.largest_difference(results[2], results[3]) < 1e-10
    assert testing.largest_difference(results[1], results[3]) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("cell", [Elman(2), GRU(2)], ids=repr)
def test_gradients_equal_finite_differences(cell):
    with jax.enable_x64(True):
        case = testing.marked_example(cell, length=4, batch=(2,), dtype=jnp.float64)
        loss = loss_of(cell, case, Deferred())
        check_grads(loss, (case.params, case.xs, case.carry), order=2, atol=1e-5, rtol=1e-5)


class ClockCarry(NamedTuple):
    h: Any
    clock: Any  # reads no input


@dataclasses.dataclass(frozen=True)
class Clock(rnnlab.GatedCell):
    """An Elman network with a learned clock."""

    features: int

    def init(self, key, in_features):
        return Elman(self.features).init(key, in_features)

    def initial_carry(self, params, batch_shape=()):
        h = jnp.zeros((*batch_shape, self.features), params.bias.dtype)
        return ClockCarry(h, jnp.zeros((*batch_shape, 1), params.bias.dtype))

    def project(self, params, x):
        return x @ params.kernel

    def recurrent_kernel(self, params):
        return params.recurrent_kernel

    def hidden(self, carry):
        return carry.h

    def gate(self, params, carry, z, u):
        rate = jnp.broadcast_to(params.bias[:1], carry.clock.shape)
        return ClockCarry(jnp.tanh(z + u + carry.clock), 0.5 * carry.clock + rate)

    def readout(self, params, carry, z):
        return carry.h + carry.clock


@pytest.mark.slow
@pytest.mark.parametrize("jitted", [False, True])
def test_a_carry_that_reads_no_input_is_batched_like_its_gradient(jitted):
    """grad(vmap) once gave B times the gradient of such a leaf."""
    with jax.enable_x64(True):
        case = testing.example(Clock(3), length=4, dtype=jnp.float64)
        weights = jnp.arange(1.0, 4.0)[:, None]

        def gradient(strategy):
            def one(x, params):
                return rnnlab.unroll(Clock(3), params, x, strategy=strategy)

            def loss(params):
                run = jax.jit(one) if jitted else one
                carry, ys = jax.vmap(run, in_axes=(1, None))(case.xs, params)
                return jnp.sum(carry.clock * weights) + jnp.sum(jnp.sin(ys))

            return jax.grad(loss)(case.params)

        assert testing.largest_difference(gradient(Deferred()), gradient(Scan())) < 1e-12


@pytest.mark.parametrize("strategy", [Scan(), Remat(), Deferred(), Auto()], ids=repr)
def test_explicit_sharding_of_the_batch(strategy):
    """The default of `jax.make_mesh`: the loop keeps the sharding of its carry."""
    cell, mesh = LSTM(3), jax.make_mesh((1,), ("data",))
    case = testing.marked_example(cell, batch=(2,))
    spec = jax.NamedSharding(mesh, PartitionSpec(None, "data"))

    def gradient(params, xs, mask, reset):
        run = case._replace(mask=mask, reset=reset)
        return jax.grad(loss_of(cell, run, strategy))(params, xs, None)

    expected = gradient(case.params, case.xs, case.mask, case.reset)
    with jax.set_mesh(mesh):
        sharded = jax.device_put((case.xs, case.mask, case.reset), spec)
        got = jax.jit(gradient)(case.params, *sharded)
    assert testing.largest_difference(got, expected) < 1e-5


def test_deferred_keeps_few_residuals():
    """z, u, carries and inputs, where autodiff of the scan keeps every gate."""
    cell, length, batch, features = LSTM(16), 10, 4, 16
    params, xs, *_ = testing.example(cell, features, length=length, batch=(batch,))

    def kept(strategy):
        def run(params, xs):
            return rnnlab.unroll(cell, params, xs, strategy=strategy)

        leaves = jax.tree.leaves(jax.vjp(run, params, xs)[1])
        per_step = [leaf for leaf in leaves if leaf.shape[:2] == (length, batch)]
        return sum(leaf.shape[-1] for leaf in per_step) // features

    assert kept(Deferred()) == 11  # x, c and h before the step, z and u of four gates
    assert kept(Scan()) > 11  # 13 to 17, by version of jax
