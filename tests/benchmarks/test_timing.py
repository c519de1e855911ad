import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import timing
from rnnlab import unroll
from rnnlab.cells import Elman


def test_parity_lets_what_agrees_pass():
    timing.require_parity("scan", 9e-6, 1e-5)


@pytest.mark.parametrize("deviation", [1.1e-5, float("inf"), float("nan")])
def test_parity_refuses_what_deviates(deviation):
    with pytest.raises(SystemExit, match=r"scan: expected results within 1e-05.*Nothing was timed"):
        timing.require_parity("scan", deviation, 1e-5)


def test_deviation_is_relative_to_the_largest_element_of_each_array():
    reference = {"a": np.array([100.0, 1.0]), "b": np.array([0.1])}
    tree = {"a": np.array([100.0, 2.0]), "b": np.array([0.102])}
    assert timing.largest_deviation(tree, reference) == pytest.approx(0.02)


@pytest.mark.parametrize("place", ["a", "b"])
def test_a_nan_anywhere_is_a_deviation(place):
    reference = {"a": np.ones(2), "b": np.ones(2)}
    tree = reference | {place: np.array([1.0, np.nan])}
    assert np.isnan(timing.largest_deviation(tree, reference))
    assert np.isnan(timing.largest_deviation(reference, tree))


def test_a_shape_that_would_broadcast_is_a_deviation():
    assert timing.largest_deviation(np.ones((3, 1)), np.ones((3, 3))) == float("inf")


def test_no_elements_do_not_deviate():
    assert timing.largest_deviation(np.ones((0, 3)), np.ones((0, 3))) == 0.0


def test_blocks_are_interleaved_and_reversed_in_turn():
    order = []
    arms = {name: lambda name=name: order.append(name) for name in "abc"}
    times = timing.measure(arms, blocks=4, block_seconds=0.0)
    assert "".join(order[-12:]) == "abc" + "cba" + "abc" + "cba"
    assert {name: len(t.blocks) for name, t in times.items()} == dict.fromkeys("abc", 4)


def test_median_and_ratios_block_by_block():
    arm, other = timing.Timing((4.0, 6.0, 9.0)), timing.Timing((1.0, 3.0, 3.0))
    assert arm.median == 6.0
    assert arm.ratio_to(other) == (3.0, 2.0, 4.0)


def test_a_program_is_traced_anew_every_time():
    traces = []

    def double(x):
        traces.append(x.shape)
        return 2 * x

    programs = [timing.compile_program(double, jnp.ones(3)) for _ in range(2)]
    assert traces == [(3,), (3,)]
    for program in programs:
        np.testing.assert_array_equal(program.call(jnp.arange(3.0)), [0, 2, 4])
        assert program.trace_seconds > 0
        assert program.compile_seconds > 0


def test_temporary_memory_is_what_the_program_needs_besides_arguments_and_results():
    length, features = 100, 16
    cell = Elman(features)
    params = cell.init(jax.random.key(0), features)
    gradient = jax.grad(lambda xs: unroll(cell, params, xs)[1].sum())
    program = timing.compile_program(gradient, jnp.ones((length, features)))
    assert program.temporary_bytes >= length * features * 4  # the carry of every step is kept
