"""Every cell under every strategy lowers for an accelerator, from a machine that has none.

Lowered are values and gradients together; nothing is compiled. What XLA makes of it on a device is
for `python -m benchmarks.gpu` to say.
"""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import export

from rnnlab import testing
from rnnlab.cells import CELLS, LSTM, MinGRU
from rnnlab.strategies import (
    STRATEGIES,
    Associative,
    Auto,
    Chunkwise,
    Deferred,
    Fused,
    Remat,
    Scan,
    Unrolled,
)

PLATFORMS = ("cuda", "tpu")
LENGTH = 7
# Of a loop there is one copy forward and one in the gradient. Remat: 7 = 3 + 3 + 1 steps, so a loop
# over chunks, loops inside of it and loops of the rest, some of them run again.
LOOPS = {
    Unrolled(): {0},
    Scan(): {2},
    Deferred(): {2},
    Associative(): {0},
    Chunkwise(3): set(range(2, 6)),  # a cumsum may be a loop too: that is up to jax
    Remat(): set(range(4, 10)),
}


def lowered(cell, strategy, length=LENGTH):
    """Values and gradients of params, inputs and carry, with a mask and resets, as a module."""
    case = testing.marked_example(cell, length=length)
    function = jax.jit(lambda case: testing.outcome(cell, case, strategy))
    exported = export.export(function, platforms=PLATFORMS)(case)
    assert exported.platforms == PLATFORMS
    outcome = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert jax.tree.map(jnp.shape, outcome.grads) == jax.tree.map(jnp.shape, tuple(case[:3]))
    return exported.mlir_module()


def custom_calls(module):
    """The targets of a module's calls to what is no part of StableHLO."""
    return set(re.findall(r"custom_call @([\w.]+)", module))


def loops(module):
    return module.count("stablehlo.while")


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_lowers_for_cuda_and_tpu(name):
    cell = CELLS[name](4)
    for strategy in LOOPS:
        if strategy.refusal(cell) is not None:
            continue
        module = lowered(cell, strategy, 2 if strategy == Unrolled() else LENGTH)
        assert loops(module) in LOOPS[strategy], strategy
        assert not custom_calls(module), strategy  # such as kernels that only a CPU has


def test_every_strategy_of_the_catalogue_is_lowered():
    """`Fused` is for CPUs, and `Auto`, traced on one, may name it."""
    assert {type(s) for s in LOOPS} == set(STRATEGIES.values()) - {Auto, Fused}


def test_a_custom_call_would_be_seen():
    exported = export.export(jax.jit(jnp.linalg.qr), platforms=["cuda"])(jnp.eye(2))
    assert custom_calls(exported.mlir_module())


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Our code takes the process for one that runs on a GPU; traces of the other kind are gone."""
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    yield
    jax.clear_caches()


def test_barriers_are_for_the_cpu_that_traces():
    assert "optimization_barrier" in lowered(LSTM(4), Scan())


@pytest.mark.usefixtures("on_a_gpu")
def test_traced_on_a_gpu_no_barrier_is_left():
    assert "optimization_barrier" not in lowered(LSTM(4), Scan())
    assert "optimization_barrier" not in lowered(MinGRU(4), Scan())


@pytest.mark.usefixtures("on_a_gpu")
def test_traced_on_a_gpu_auto_takes_what_is_parallel_over_time():
    assert loops(lowered(MinGRU(4), Auto(), length=64)) == 0
    assert loops(lowered(MinGRU(4), Auto(), length=63)) == 2
    assert loops(lowered(LSTM(4), Auto(), length=64)) == 2
