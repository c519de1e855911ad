"""The compiled CPU kernel: how it is built and refused, folded under vmap, shared by threads."""

import concurrent.futures
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import GRU, LSTM, MGU, Elman, MinGRU, ResetBeforeGRU, Zoneout
from rnnlab.cells.lstm import LSTMNorms
from rnnlab.kernels import build
from rnnlab.strategies import Fused, Scan
from tests.engine.test_compile import matmuls
from tests.native import needs_kernel

layer_norm_lstm = functools.partial(LSTM, layer_norm=True)
PLAIN = [LSTM(5), GRU(5), Elman(5), Elman(5, activation="relu"), MinGRU(5)]
TWO_PASSES = [ResetBeforeGRU(5), layer_norm_lstm(5)]
LISTED = [*PLAIN, *TWO_PASSES, Zoneout(LSTM(5), (0.5, 0.1)), Zoneout(GRU(5), 0.2)]
each_cell = pytest.mark.parametrize("cell", LISTED, ids=str)


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """As on a machine where nothing has been built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.load.cache_clear()
    yield tmp_path
    build.load.cache_clear()


def gradients(cell, case, strategy):
    def loss(params, xs):
        return jnp.sum(jnp.sin(rnnlab.unroll(cell, params, xs, strategy=strategy)[1]))

    return jax.jit(jax.grad(loss, (0, 1)))(case.params, case.xs)


def calls(function, *args):
    """The names of the library's calls in a program."""
    return sorted(re.findall(r"custom_call @(\w+)", jax.jit(function).lower(*args).as_text()))


def test_refused_where_it_is_not_built(empty_cache):
    cell = LSTM(4)
    case = testing.example(cell)
    with pytest.raises(ValueError, match=r"not built for this machine.*rnnlab\.kernels\.build"):
        rnnlab.unroll(cell, case.params, case.xs, strategy=Fused())


def test_auto_does_without_where_it_is_not_built(empty_cache):
    chosen = rnnlab.select.select_strategy(LSTM(4), 10, 2, "cpu")
    assert chosen == rnnlab.strategies.Deferred()


@pytest.mark.parametrize(
    "cell, reason",
    [
        (MGU(4), "lists LSTM, GRU, ResetBeforeGRU, Elman and MinGRU, .* not MGU"),
        (Zoneout(Elman(4)), "Zoneout of LSTM and of GRU, not of Elman"),
        (Zoneout(LSTM(4, peephole=True)), "no other options"),
        (LSTM(4, peephole=True), r"no other options"),
        (Elman(4, activation="sigmoid"), r"activation='relu'.* no other options"),
    ],
    ids=str,
)
def test_refuses_other_cells_and_options_by_name(cell, reason):
    case = testing.example(cell)
    with pytest.raises(ValueError, match=reason):
        rnnlab.unroll(cell, case.params, case.xs, strategy=Fused())


def test_rates_of_zoneout_that_fit_no_carry_are_refused():
    assert "as many rates of zoneout as carries, 1, got" in str(
        Fused().refusal(Zoneout(GRU(4), (0.1, 0.2)))
    )


@needs_kernel
@pytest.mark.parametrize(
    "change",
    [
        {"bias": None},
        {"bias": jnp.zeros(1)},
        {"recurrent_kernel": jnp.ones(16)},
        {"recurrent_kernel": jnp.ones((4, 1))},
        {"peephole": jnp.zeros(12)},
    ],
    ids=str,
)
@pytest.mark.parametrize("strategy", [Fused(), rnnlab.strategies.Auto()], ids=str)
def test_params_that_the_kernel_would_misread_are_refused(change, strategy):
    """Elsewhere they broadcast; the kernel reads and writes memory by their shapes."""
    cell = LSTM(4)
    case = testing.example(cell)
    with pytest.raises(ValueError, match=r"expected (those of LSTM|4 rows)"):
        rnnlab.unroll(cell, case.params._replace(**change), case.xs, strategy=strategy)


@needs_kernel
@pytest.mark.parametrize("sizes", [None, (16, 16, 1, 4)], ids=str)
def test_norms_that_the_kernel_would_misread_are_refused(sizes):
    """Missing, or one that broadcasts elsewhere."""
    cell = layer_norm_lstm(4)
    case = testing.example(cell)
    norms = sizes and LSTMNorms(*map(jnp.ones, sizes))
    with pytest.raises(ValueError, match="expected those of LSTM"):
        params = case.params._replace(norms=norms)
        rnnlab.unroll(cell, params, case.xs, strategy=Fused())


@needs_kernel
def test_refuses_inputs_that_are_shared_out():
    cell, mesh = LSTM(3), jax.make_mesh((1,), ("data",))
    case = testing.example(cell, batch=(2,))
    with jax.set_mesh(mesh):
        xs = jax.device_put(case.xs, jax.P(None, "data"))
        with pytest.raises(ValueError, match="expected inputs of one device"):
            rnnlab.unroll(cell, case.params, xs, strategy=Fused())


def test_where_no_library_can_be_looked_for_auto_does_without(monkeypatch):
    def fail():
        raise PermissionError("no right to look")

    monkeypatch.setattr(build, "library_path", fail)
    build.load.cache_clear()
    try:
        assert "cannot be looked for (no right to look)" in Fused().refusal(LSTM(4))
        chosen = rnnlab.select.select_strategy(LSTM(4), 10, 2, "cpu")
        assert chosen == rnnlab.strategies.Deferred()
    finally:
        build.load.cache_clear()


@needs_kernel
def test_another_users_choice_of_dtypes():
    """Inputs in float16 or integers are cast to the params' dtype, as `project` does."""
    cell = GRU(4)
    case = testing.example(cell)
    for dtype in (jnp.float16, jnp.int32):
        xs = (4 * case.xs).astype(dtype)
        got, expected = (
            rnnlab.unroll(cell, case.params, xs, strategy=s)[1] for s in (Fused(), Scan())
        )
        assert testing.largest_difference(got, expected) < 1e-5


def test_no_compiler_and_a_failing_one_are_said(empty_cache, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="expected a C\\+\\+ compiler"):
        build.build()
    monkeypatch.setenv("CXX", "false --flag")
    with pytest.raises(RuntimeError, match="false --flag failed with exit code 1"):
        build.build()
    assert not list(empty_cache.rglob("*.so"))


def test_a_library_that_does_not_load_is_said(empty_cache):
    path = build.library_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a library")
    assert "does not load" in Fused().refusal(LSTM(4))


def test_other_sources_or_processors_have_another_library(monkeypatch):
    here = build.library_path()
    monkeypatch.setattr(build, "_processor", lambda: "another one")
    assert build.library_path() != here


@needs_kernel
@each_cell
def test_vmap_is_one_call_with_a_larger_batch(cell):
    case = testing.example(cell)

    def run(xs):
        return rnnlab.unroll(cell, case.params, xs, strategy=Fused())[1]

    def loss(params, x):
        return jnp.sum(rnnlab.unroll(cell, params, x, strategy=Fused())[1])

    def total(params, xs):
        return jnp.sum(jax.vmap(loss, in_axes=(None, 1))(params, xs))

    assert calls(jax.vmap(run, in_axes=1), case.xs) == ["rnnlab_forward"]
    both = ["rnnlab_backward", "rnnlab_forward"]
    assert calls(jax.grad(total, (0, 1)), case.params, case.xs) == both
    assert matmuls(run, case.xs, inside="loop") == 0


@needs_kernel
def test_vmap_over_the_weights():
    cell = GRU(4)
    xs = testing.example(cell).xs
    params = jax.vmap(lambda key: cell.init(key, 3))(jax.random.split(jax.random.key(0), 3))

    def run(strategy):
        return jax.vmap(lambda p: rnnlab.unroll(cell, p, xs, strategy=strategy))(params)

    assert testing.largest_difference(run(Fused()), run(Scan())) < 1e-6


@needs_kernel
@pytest.mark.parametrize(
    "cell",
    [
        LSTM(130),
        GRU(130),
        Elman(130),
        MinGRU(130),
        ResetBeforeGRU(130),
        layer_norm_lstm(130),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_sizes_that_fill_no_vector_tile_or_panel(cell, batch):
    """Units beyond whole vectors, rows beyond whole tiles; threads share rows or units."""
    case = testing.example(cell, 70, length=9, batch=(batch,))
    expected, got = (testing.outcome(cell, case, s) for s in (Scan(), Fused()))
    assert testing.largest_difference(got[:2], expected[:2]) < 2e-5
    pairs = zip(jax.tree.leaves(got.grads), jax.tree.leaves(expected.grads), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * float(np.max(np.abs(b))))


@needs_kernel
@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize(
    "cell",
    [
        Zoneout(LSTM(130), (0.5, 0.1)),
        Zoneout(layer_norm_lstm(130), (0.5, 0.1)),
        Zoneout(GRU(130), 0.3),
    ],
    ids=str,
)
def test_zoneout_with_marks(cell, batch):
    """Training, where marks say what to keep, also where steps are masked and carries restart."""
    case = testing.example(cell, 70, length=9, batch=(batch,))
    keep = cell.draw(jax.random.key(1), case.params, (9, batch))
    marks = jax.random.bernoulli(jax.random.key(2), 0.3, (2, 9, batch))
    options = {"mask": ~marks[0], "reset": marks[1], "reverse": True}

    def loss(params, x, carry, strategy):
        last, ys = rnnlab.unroll(cell, params, (x, keep), carry, strategy=strategy, **options)
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(c**2) for c in jax.tree.leaves(last))

    gradient = jax.value_and_grad(loss, (0, 1, 2))
    got, expected = (gradient(*case[:2], case.carry, s) for s in (Fused(), Scan()))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * float(np.max(np.abs(b))))


@needs_kernel
def test_zoneout_refuses_marks_that_the_kernel_would_misread():
    cell = Zoneout(LSTM(4))
    case = testing.example(cell)
    keep = cell.draw(jax.random.key(1), case.params, case.xs.shape[:2])
    with pytest.raises(ValueError, match=r"expected keep\.c to be"):
        xs = (case.xs, keep._replace(c=keep.c[..., :2]))
        rnnlab.unroll(cell, case.params, xs, strategy=Fused())
    with pytest.raises(TypeError, match="bool"):
        xs = (case.xs, jax.tree.map(lambda a: a.astype(jnp.float32), keep))
        rnnlab.unroll(cell, case.params, xs, strategy=Fused())


@needs_kernel
@pytest.mark.parametrize("features", [64, 260])  # of 260, a tile of one row may have one vector
@pytest.mark.parametrize("make", [LSTM, Elman, layer_norm_lstm, ResetBeforeGRU])
def test_a_row_does_not_depend_on_the_batch_around_it(make, features):
    """Bit for bit: however rows are put into tiles and tiles handed to threads."""
    cell = make(features)
    case = testing.example(cell, 64, length=5, batch=(50,))
    run = jax.jit(lambda xs: rnnlab.unroll(cell, case.params, xs, strategy=Fused())[1])
    whole = run(case.xs)
    for rows in (slice(0, 1), slice(3, 10), slice(20, 50)):
        assert testing.largest_difference(run(case.xs[:, rows]), whole[:, rows]) == 0


@needs_kernel
@pytest.mark.slow
@pytest.mark.parametrize("cell", [LSTM(200), layer_norm_lstm(200)], ids=str)
def test_callers_that_want_the_same_threads_all_end(cell):
    """More calls at once than the pool has threads: none may wait for one that cannot come.

    However many do come, the results are the same.
    """
    case = testing.example(cell, 200, length=20, batch=(4,))
    expected = gradients(cell, case, Fused())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(gradients, cell, case, Fused()) for _ in range(24)]
        for future in futures:
            assert testing.largest_difference(future.result(timeout=120), expected) == 0


@needs_kernel
@each_cell
def test_a_diverged_row_stays_alone(cell):
    """A NaN in one row reaches no other row and, where the row is masked, no gradient."""
    case = testing.example(cell, length=6, batch=(4,))
    xs = case.xs.at[0, 1].set(jnp.nan)
    ys = rnnlab.unroll(cell, case.params, xs, strategy=Fused())[1]
    assert jnp.isnan(ys[:, 1]).any() and jnp.isfinite(ys[:, [0, 2, 3]]).all()
    carry = jax.tree.map(lambda c: c.at[1].set(jnp.nan), case.carry)
    mask = jnp.ones((6, 4), bool).at[:, 1].set(False)

    def loss(params, xs):
        return jnp.sum(rnnlab.unroll(cell, params, xs, carry, mask=mask, strategy=Fused())[1])

    for leaf in jax.tree.leaves(jax.grad(loss, (0, 1))(case.params, case.xs)):
        assert jnp.isfinite(leaf).all()


@needs_kernel
@each_cell
def test_bfloat16_is_computed_in_float32(cell):
    case = testing.example(cell, length=6, dtype=jnp.bfloat16)
    carry, ys = rnnlab.unroll(cell, case.params, case.xs, strategy=Fused())
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), (case.params, case.xs))
    expected = rnnlab.unroll(cell, *wide, strategy=Scan())
    assert ys.dtype == jnp.bfloat16
    assert testing.largest_difference(carry, expected[0]) < 1e-5
    assert testing.largest_difference(ys, expected[1].astype(jnp.bfloat16)) < 1e-2


@needs_kernel
@each_cell
def test_an_empty_batch(cell):
    case = testing.example(cell, batch=(0,))
    got = testing.outcome(cell, case, Fused())
    assert got.ys.shape == (7, 0, 5)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(got.grads[0]))


@needs_kernel
def test_the_reverse_loop_reads_inputs_carries_and_gates():
    """x, c, h and four gates of the LSTM: no z, no u."""
    cell, length, batch = LSTM(16), 10, 4
    case = testing.example(cell, 16, length=length, batch=(batch,))

    def run(params, xs):
        return rnnlab.unroll(cell, params, xs, strategy=Fused())

    leaves = jax.tree.leaves(jax.vjp(run, case.params, case.xs)[1])
    per_step = [leaf for leaf in leaves if leaf.shape[:2] == (length, batch)]
    assert sum(leaf.size for leaf in per_step) == 7 * length * batch * 16


@needs_kernel
def test_programs_do_not_grow_with_the_length():
    cell = GRU(4)

    def operations(length):
        params, xs, *_ = testing.example(cell, length=length)

        def loss(params, xs):
            return jnp.sum(rnnlab.unroll(cell, params, xs, strategy=Fused())[1])

        return jax.jit(jax.grad(loss)).lower(params, xs).as_text().count("\n")

    assert operations(40) == operations(10)
