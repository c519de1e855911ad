"""The chunkwise-parallel form of cells with a matrix as state."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import GRU, MLSTM, RWKV7, DeltaNet, GatedDeltaNet, LinearAttention
from rnnlab.core.matrix_cell import MatrixCarry, MatrixInput
from rnnlab.strategies import Chunkwise, Scan
from tests.cells.references import reference
from tests.engine.test_compile import jaxprs

CELLS = [
    MLSTM(4, heads=2),
    LinearAttention(4),
    DeltaNet(4, heads=2),
    GatedDeltaNet(4, heads=2),
    RWKV7(4, heads=2),
]
every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda c: type(c).__name__)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("reverse", [False, True])
def test_chunks_that_do_not_divide_the_length(chunk, reverse, x64):
    cell = RWKV7(4, heads=2)
    case = testing.marked_example(cell, length=7, dtype=jnp.float64)
    expected = testing.outcome(cell, case, Scan(), reverse)
    got = testing.outcome(cell, case, Chunkwise(chunk), reverse)
    assert testing.largest_difference(got, expected) < 1e-10


@every_cell
def test_only_one_loop_is_left_with_a_step_for_every_chunk(cell):
    case = testing.marked_example(cell, length=40)

    def trips(strategy):
        def gradient(case):
            return testing.outcome(cell, case, strategy)

        equations = [eqn for eqn, _ in jaxprs(jax.make_jaxpr(gradient)(case).jaxpr)]
        assert not any(eqn.primitive.name == "while" for eqn in equations)
        return [eqn.params["length"] for eqn in equations if eqn.primitive.name == "scan"]

    assert trips(Scan()) == [40, 40]  # forward and back
    assert trips(Chunkwise(chunk=16)) == [3, 3]


@pytest.mark.parametrize("chunk", [2, 16])
@every_cell
def test_a_nan_stays_in_its_segment_and_behind_its_step(cell, chunk):
    """Inside a chunk a matmul would carry it to every step."""
    length = 6
    case = testing.example(cell, length=length, batch=())
    for at, end in ((0, 3), (2, 3), (2, 5)):
        reset = jnp.zeros(length, bool).at[end].set(True)

        def run(xs, params=case.params, reset=reset, end=end):
            options = {"reset": reset, "strategy": Chunkwise(chunk)}
            ys = rnnlab.unroll(cell, params, xs, case.carry, **options)[1]
            return jnp.sum(jnp.sin(ys[end:])), ys

        both = jax.jit(jax.value_and_grad(run, has_aux=True))
        (_, clean), slope = both(case.xs)
        (_, ys), dirty_slope = both(case.xs.at[at].set(jnp.nan))
        assert bool(jnp.all(jnp.isnan(ys[at:end])))
        for part in (slice(at), slice(end, None)):
            np.testing.assert_array_equal(ys[part], clean[part])
        np.testing.assert_array_equal(dirty_slope[end:], slope[end:])


@every_cell
def test_a_nan_in_a_carry_that_only_waits_stays_out_of_the_gradients(cell):
    """A row that is masked throughout, or up to its reset, may have diverged."""
    case = testing.example(cell)
    mask = jnp.ones((7, 3), bool).at[:, 0].set(False).at[:2, 1].set(False)
    reset = jnp.zeros((7, 3), bool).at[2, 1].set(True)
    case = case._replace(mask=mask, reset=reset)
    nan = jax.tree.map(lambda c: c.at[:2].set(jnp.nan), case.carry)
    got = testing.outcome(cell, case._replace(carry=nan), Chunkwise())
    expected = testing.outcome(cell, case, Chunkwise())
    assert testing.largest_difference(got.grads[:2], expected.grads[:2]) == 0
    assert testing.largest_difference(got.ys, expected.ys) == 0
    for leaf in jax.tree.leaves(got.carry):
        assert jnp.isnan(leaf[0]).all() and jnp.isfinite(leaf[1:]).all()


@pytest.mark.parametrize("strategy", [Scan(), Chunkwise(2)], ids=repr)
@pytest.mark.parametrize("forget", [-50.0, 50.0])
@pytest.mark.parametrize("gain", [-50.0, 50.0])
def test_stabilised_gates_equal_plain_ones(strategy, forget, gain, x64):
    """The reference has no stabiliser."""
    cell = MLSTM(4, heads=2)
    params, xs, carry, *_ = testing.example(cell, length=5, batch=(2,), dtype=jnp.float64)
    params = params._replace(gate_bias=jnp.array([gain, gain, forget, forget]))
    got = rnnlab.unroll(cell, params, xs, carry, strategy=strategy)
    expected = reference(cell, *jax.tree.map(np.asarray, (params, xs, carry)))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@dataclasses.dataclass(frozen=True)
class Gated(rnnlab.MatrixCell):
    """Linear attention that forgets all where an input is above 1: a gate of exactly zero."""

    def init(self, key, in_features):
        return jax.random.normal(key, (in_features, 2), jnp.float32)

    def initial_carry(self, params, batch_shape=()):
        return MatrixCarry(jnp.zeros((*batch_shape, 1, 2, 2), params.dtype))

    def project(self, params, x):
        q = (x @ params)[..., None, :]
        closed = jnp.any(x > 1, axis=-1)[..., None, None]
        return MatrixInput(
            q, q, q, log_decay=jnp.where(closed, -jnp.inf, -0.1 * jnp.abs(q[..., :1]))
        )

    def output(self, params, read, log_scale, z):
        return read[..., 0, :]


def test_a_gate_may_be_closed(x64):
    case = testing.marked_example(Gated(), dtype=jnp.float64)
    assert bool(jnp.any(case.xs[case.mask] > 1))
    expected = testing.oracle(Gated(), case)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(expected))
    for strategy in (Scan(), Chunkwise(3)):
        assert (
            testing.largest_difference(testing.outcome(Gated(), case, strategy), expected) < 1e-12
        )


def test_a_memory_may_start_from_the_log_of_nothing(x64):
    cell = MLSTM(4, heads=2)
    case = testing.marked_example(cell, dtype=jnp.float64)
    nothing = jax.tree.map(jnp.zeros_like, case.carry)
    nothing = nothing._replace(log_scale=jnp.full_like(nothing.log_scale, -jnp.inf))
    case = case._replace(carry=nothing, mask=None, reset=None)
    expected, got = (testing.outcome(cell, case, s) for s in (Scan(), Chunkwise(3)))
    assert bool(jnp.all(jnp.isfinite(got.ys)))
    assert testing.largest_difference(got[:2], expected[:2]) < 1e-12
    assert testing.largest_difference(got.grads[:2], expected.grads[:2]) < 1e-12


@pytest.mark.parametrize("strategy", [Scan(), Chunkwise(2)], ids=repr)
@pytest.mark.parametrize("gain", [-1e3, 1e3])
def test_gates_out_of_the_range_of_exp_stay_finite(strategy, gain):
    cell = MLSTM(4, heads=2)
    case = testing.example(cell, length=5)
    gates = jnp.array([gain, gain, -gain, -gain])
    case = case._replace(params=case.params._replace(gate_bias=gates))
    got = testing.outcome(cell, case, strategy)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(got))


def test_a_strong_decay_costs_no_precision_behind_it():
    """Differences of sums from the start of the chunk would lose the weak decays to rounding."""
    cell = MLSTM(4)
    case = testing.example(cell, length=16, batch=())
    params = case.params._replace(
        kernel=case.params.kernel.at[0].set(0),  # the first input reaches the forget gate alone
        gate_kernel=jnp.zeros_like(case.params.gate_kernel).at[0, 1].set(1.0),
        gate_bias=jnp.zeros_like(case.params.gate_bias),
    )
    case = case._replace(params=params, xs=case.xs.at[0, 0].set(-1e5))
    expected = rnnlab.unroll(cell, params, case.xs, case.carry)
    got = rnnlab.unroll(cell, params, case.xs, case.carry, strategy=Chunkwise())
    assert testing.largest_difference(got[1][1:], expected[1][1:]) < 1e-5


def test_other_cells_are_refused():
    case = testing.example(GRU(4))
    with pytest.raises(ValueError, match=r"needs the memory of an rnnlab.MatrixCell.*GRU is not"):
        rnnlab.unroll(GRU(4), case.params, case.xs, strategy=Chunkwise())
    with pytest.raises(ValueError, match="expected chunk >= 1, got chunk=0"):
        Chunkwise(0)


def test_the_memory_of_a_gradient_is_kept_once_a_chunk():
    """No array holds the memory of every step."""
    cell = DeltaNet(6, heads=2)  # D = 3, V = 3
    case = testing.example(cell, length=40, batch=())

    def shapes(strategy):
        closed = jax.make_jaxpr(lambda case: testing.outcome(cell, case, strategy))(case)
        return {v.aval.shape for eqn, _ in jaxprs(closed.jaxpr) for v in eqn.outvars}

    every_step = (40, 2, 3, 3)
    assert every_step in shapes(Scan())
    assert every_step not in shapes(Chunkwise(8))
    assert (5, 2, 3, 3) in shapes(Chunkwise(8))
