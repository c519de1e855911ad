"""What is compiled, how often, and what importing costs: counts, never times."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import CELLS, GRU, LSTM, DeltaNet, Elman, MinGRU
from rnnlab.strategies import STRATEGIES, Deferred, Fused, Scan, Unrolled
from tests.native import needs_kernel


def traced_projections(monkeypatch, cell_type):
    """Counts how often the cell's `project` is traced or run."""
    calls = []
    original = cell_type.project
    monkeypatch.setattr(cell_type, "project", lambda *args: calls.append(1) or original(*args))
    return calls


def test_equal_cells_share_one_trace(monkeypatch):
    jax.clear_caches()
    case = testing.example(LSTM(4))
    calls = traced_projections(monkeypatch, LSTM)
    rnnlab.unroll(LSTM(4), case.params, case.xs)
    once = len(calls)
    assert once > 0
    rnnlab.unroll(LSTM(4), case.params, case.xs)
    rnnlab.unroll(LSTM(4, forget_bias=1.0), case.params, case.xs + 1, strategy=Scan())
    assert len(calls) == once
    rnnlab.unroll(LSTM(4, cell_clip=1.0), case.params, case.xs)  # another cell: another trace
    assert len(calls) > once


@pytest.mark.parametrize("name", CELLS)
def test_equal_cells_give_one_trace_under_jit_of_ones_own(name):
    traces = []

    def step(cell, params, xs):
        traces.append(1)
        return rnnlab.unroll(cell, params, xs)

    step = jax.jit(step, static_argnums=0)
    make = CELLS[name]
    case = testing.example(make(4))
    for _ in range(2):
        step(make(4), case.params, case.xs)
    assert make(4) == make(4) and hash(make(4)) == hash(make(4))
    assert len(traces) == 1


@pytest.mark.parametrize(
    "strategy",
    [pytest.param(s(), marks=needs_kernel if s is Fused else ()) for s in STRATEGIES.values()],
    ids=repr,
)
def test_a_second_call_compiles_nothing(strategy):
    cell = next(c for c in (GRU(4), MinGRU(4), DeltaNet(4)) if strategy.refusal(c) is None)
    case = testing.marked_example(cell)
    compiled = []

    def run():
        testing.outcome(cell, case, strategy)
        rnnlab.unroll(cell, case.params, case.xs, mask=case.mask, strategy=strategy)

    def listen(name, *_, **__):
        compiled.append(name)

    run()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert not [name for name in compiled if "compile" in name]


@pytest.mark.slow
def test_importing_rnnlab_costs_jax_and_nothing_else():
    code = (
        "import sys, rnnlab; "
        "[getattr(rnnlab, name) for name in dir(rnnlab)]; "  # names are imported when used
        "assert 'jax' in sys.modules; "
        "found = [m for m in ('flax', 'orbax', 'grain', 'matplotlib', 'absl', 'optax', 'chex')"
        " if m in sys.modules]; "
        "print(found); sys.exit(bool(found))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def jaxprs(closed, inside=None):
    """Every equation of a program, with the name of the loop it is in."""
    for eqn in closed.eqns:
        yield eqn, inside
        name = eqn.primitive.name
        for value in eqn.params.values():
            for sub in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(sub, "jaxpr", sub)
                inner = (
                    [getattr(s, "jaxpr", s) for s in inner] if isinstance(inner, tuple) else [inner]
                )
                for program in inner:
                    if hasattr(program, "eqns"):
                        yield from jaxprs(program, "loop" if name in ("scan", "while") else inside)


def matmuls(function, *args, inside=None):
    """How many matmuls stand in loops ("loop") or outside of them (None)."""
    closed = jax.make_jaxpr(function)(*args)
    return sum(e.primitive.name == "dot_general" and i == inside for e, i in jaxprs(closed.jaxpr))


MATMULS_IN_LOOP = {
    **{"elman": 1, "lstm": 1, "gru": 1, "reset_before_gru": 2, "min_gru": 0, "lru": 2},
    **{
        "mgu": 1,
        "li_gru": 1,
        "ugrnn": 1,
        "ran": 1,
        "janet": 1,
        "ind_rnn": 0,
        "co_rnn": 1,
        "lem": 2,
    },
    **{"lem": 2, "antisymmetric_rnn": 1, "lipschitz_rnn": 1, "diagonal_gru": 0, "diagonal_lstm": 0},
    **{"slstm": 1, "sru": 0, "qrnn": 0, "min_lstm": 0, "rg_lru": 0, "s5": 2, "s6": 0, "ssd": 1},
    **{"mamba": 5, "mamba2": 3, "mlstm": 1, "linear_attention": 1, "delta_net": 2},
    **{"gated_delta_net": 2, "rwkv7": 2, "rhn": 2, "mogrifier_lstm": 7, "ntm": 6},
}


@pytest.mark.parametrize("name", CELLS)
def test_only_the_recurrent_matmuls_are_in_the_loop(name):
    """LRU reads its complex state out with two."""
    cell = CELLS[name](4)
    case = testing.example(cell)
    assert (
        matmuls(lambda p, x: rnnlab.unroll(cell, p, x), case.params, case.xs, inside="loop")
        == MATMULS_IN_LOOP[name]
    )


@pytest.mark.parametrize("name", CELLS)
def test_recur_multiplies_nothing_that_depends_on_z_alone(name):
    testing.check_cut(CELLS[name](4), 3)


def test_a_matmul_that_could_be_hoisted_is_found():
    class Unhoisted(Elman):
        def project(self, params, x):
            return x.astype(jnp.float32)

        def gate(self, params, carry, z, u):
            return jnp.tanh(z @ params.kernel + u)

    with pytest.raises(AssertionError, match="dot_general"):
        testing.check_cut(Unhoisted(4), 3)


@pytest.mark.parametrize("name", CELLS)
def test_vmap_compiles_to_the_matmuls_of_a_batch(name):
    cell = CELLS[name](4)
    params, xs, *_ = testing.example(cell)

    def run(xs):
        return rnnlab.unroll(cell, params, xs)[1]

    for inside in ("loop", None):
        mapped = matmuls(jax.vmap(run, in_axes=1), xs, inside=inside)
        assert mapped == matmuls(run, xs, inside=inside)


def compiled_text(strategy, batch_by):
    """The optimised program of the gradient of a summed loss over a batch of 16."""
    cell = LSTM(8)
    params, xs, *_ = testing.example(cell, length=5, batch=(16,))

    def loss(params, xs):
        return jnp.sum(rnnlab.unroll(cell, params, xs, strategy=strategy)[1])

    def mapped(params, xs):
        return jnp.sum(jax.vmap(loss, in_axes=(None, 1))(params, xs))

    chosen = mapped if batch_by == "vmap" else loss
    return jax.jit(jax.grad(chosen)).lower(params, xs).compile().as_text()


@pytest.mark.slow
@pytest.mark.parametrize("batch_by", ["vmap", "batch"])
def test_deferred_holds_no_weight_gradient_per_example_or_step(batch_by):
    """No array of the recurrent kernel's shape with another axis: not 16 of them, nor 5."""
    text = compiled_text(Deferred(), batch_by)
    for extra in (16, 5):
        assert f"f32[{extra},8,32]" not in text
    assert "f32[8,32]" in text


@pytest.mark.slow
def test_deferred_carries_no_weight_gradient_through_its_reverse_loop():
    cell = LSTM(8)
    params, xs, *_ = testing.example(cell, length=5)

    def loop_carries(strategy):
        """Shapes that any loop of the gradient hands from step to step."""

        def loss(params):
            return jnp.sum(rnnlab.unroll(cell, params, xs, strategy=strategy)[1])

        shapes = []
        for eqn, _ in jaxprs(jax.make_jaxpr(jax.grad(loss))(params).jaxpr):
            if eqn.primitive.name == "scan":
                first, count = eqn.params["num_consts"], eqn.params["num_carry"]
                shapes += [v.aval.shape for v in eqn.invars[first : first + count]]
        return shapes

    assert (8, 32) in loop_carries(Scan())
    assert (8, 32) not in loop_carries(Deferred())


def test_unrolled_grows_with_the_length_and_scan_does_not():
    cell = GRU(4)

    def size(strategy, length):
        params, xs, *_ = testing.example(cell, length=length)
        closed = jax.make_jaxpr(lambda p, x: rnnlab.unroll(cell, p, x, strategy=strategy))(
            params, xs
        )
        return sum(1 for _ in jaxprs(closed.jaxpr))

    assert size(Scan(), 40) == size(Scan(), 10)
    assert size(Unrolled(), 40) > 3 * size(Unrolled(), 10)
