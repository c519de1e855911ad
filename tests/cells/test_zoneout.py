"""Zoneout beyond what every cell promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import (
    GRU,
    LRU,
    LSTM,
    SLSTM,
    CoRNN,
    GatedBlock,
    Highway,
    RecurrentBatchNorm,
    Residual,
    Stack,
    Zoneout,
)
from rnnlab.strategies import Deferred, Remat, Scan, Unrolled
from tests.cells.agreement import agree, values_and_gradients
from tests.cells.references import reference
from tests.cells.references_other import zoneout as zoneout_reference

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
T, B, F, H = 6, 3, 3, 4

ZONED = Zoneout(LSTM(H), rate=(0.5, 0.2))


def test_zoneout_keeps_what_it_is_told_to():
    params, xs, carry, *_ = testing.example(ZONED, F, length=T, batch=(B,), dtype=jnp.float64)
    keep = ZONED.draw(jax.random.key(1), params, (T, B))
    got = rnnlab.unroll(ZONED, params, (xs, keep), carry)
    numpy = jax.tree.map(np.asarray, (params, xs, carry, keep))
    agree(got, zoneout_reference(reference, ZONED, *numpy), 1e-12)


@pytest.mark.parametrize("strategy", [Scan(), Deferred(), Remat()], ids=str)
@pytest.mark.parametrize("marked", [False, True])
def test_zoneout_in_training_is_the_same_under_every_strategy(strategy, marked):
    case = testing.marked_example(ZONED, F, length=T, batch=(B,), dtype=jnp.float64)
    keep = ZONED.draw(jax.random.key(1), case.params, (T, B))
    marks = {"mask": case.mask, "reset": case.reset} if marked else {}

    def run(strategy, params, xs, carry):
        return rnnlab.unroll(ZONED, params, (xs, keep), carry, strategy=strategy, **marks)

    arguments = case.params, case.xs, case.carry
    got, expected = (
        values_and_gradients(functools.partial(run, s), *arguments) for s in (strategy, Unrolled())
    )
    agree(got, expected)


def test_zoneout_at_rate_zero_is_the_cell_itself_in_training_and_evaluation():
    cell = Zoneout(LSTM(H), rate=0.0)
    params, xs, carry, *_ = testing.example(cell, F, dtype=jnp.float64)
    plain = rnnlab.unroll(LSTM(H), params, xs, carry)
    keep = cell.draw(KEY, params, xs.shape[:2])
    agree(rnnlab.unroll(cell, params, xs, carry), plain, 1e-15)
    agree(rnnlab.unroll(cell, params, (xs, keep), carry), plain, 1e-15)


def test_zoneout_at_rate_one_keeps_everything():
    cell = Zoneout(LSTM(H), rate=1.0)
    params, xs, carry, *_ = testing.example(cell, F, dtype=jnp.float64)
    for inputs in (xs, (xs, cell.draw(KEY, params, xs.shape[:2]))):
        agree(rnnlab.unroll(cell, params, inputs, carry)[0], carry, 1e-15)


def test_zoneout_draws_each_leaf_at_its_own_rate():
    keep = ZONED.draw(KEY, ZONED.init(KEY, F), (100, 50))
    assert keep.c.shape == keep.h.shape == (100, 50, H)
    assert abs(float(keep.c.mean()) - 0.5) < 0.02 and abs(float(keep.h.mean()) - 0.2) < 0.02
    assert (keep.c[..., 0] != keep.c[..., 1]).any()


def test_zoneout_refuses_what_it_cannot_wrap():
    with pytest.raises(TypeError, match=r"expected an rnnlab\.GatedCell"):
        Zoneout(LRU(H))
    with pytest.raises(ValueError, match="rates from 0 to 1"):
        Zoneout(GRU(H), rate=1.5)
    cell = Zoneout(GRU(H), rate=(0.1, 0.2))
    with pytest.raises(ValueError, match="expected one rate or 1"):
        cell.draw(KEY, cell.init(KEY, F), (T, B))
    params = ZONED.init(KEY, F)
    with pytest.raises(TypeError, match=r"keep like the carry.*cell\.draw"):
        rnnlab.unroll(ZONED, params, (jnp.ones((T, B, F)), jnp.ones((T, B, H), bool)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda keep: keep.astype(jnp.float32),
            TypeError,
            "keep.h to be a bool array, got float32",
        ),
        (lambda keep: keep.astype(jnp.int32), TypeError, "keep.h to be a bool array, got int32"),
        (lambda keep: keep[..., :1], ValueError, r"keep.h to be \(3, 4\) .* got \(3, 1\)"),
    ],
)
def test_zoneout_keeps_by_flags_of_the_shape_of_the_carry_alone(change, error, message):
    params, xs = ZONED.init(KEY, F), jnp.ones((T, B, F), jnp.float32)
    keep = ZONED.draw(KEY, params, (T, B))
    with pytest.raises(error, match=message):
        rnnlab.unroll(ZONED, params, (xs, keep._replace(h=change(keep.h))))


@pytest.mark.parametrize(
    ("cell", "leaves"),
    [
        (RecurrentBatchNorm(LSTM(H), length=T), "inner.c.*steps"),
        (SLSTM(H), "'n', 'm'"),
        (CoRNN(H), "'v'"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_zoneout_refuses_leaves_of_a_carry_that_belong_together(cell, leaves):
    params = cell.init(KEY, F)
    for call in (lambda c: c.init(KEY, F), lambda c: c.initial_carry(params, (B,))):
        with pytest.raises(ValueError, match=f"made of c and h, got .*{leaves}.*Take LSTM"):
            call(Zoneout(cell))


@pytest.mark.parametrize("rate", ["a", True, None, (0.1, "b"), np.ones((2, 2))], ids=str)
def test_a_rate_that_is_no_number_is_refused(rate):
    with pytest.raises(TypeError, match="Zoneout: expected rate to be numbers"):
        Zoneout(LSTM(H), rate=rate)


def test_rates_of_numpy_and_of_a_list_are_those_of_python():
    assert Zoneout(LSTM(H), rate=np.float32(0.5)) == Zoneout(LSTM(H), rate=0.5)
    assert Zoneout(LSTM(H), rate=[np.float32(0.5), 0]) == Zoneout(LSTM(H), rate=(0.5, 0.0))
    with pytest.raises(ValueError, match="rates from 0 to 1"):
        Zoneout(LSTM(H), rate=(0.5, float("nan")))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Residual(Zoneout(GRU(F))),
        lambda: Highway(Zoneout(GRU(F))),
        lambda: GatedBlock(Zoneout(GRU(F)), F, cell_features=F),
        lambda: Residual(Stack((GRU(F), Zoneout(GRU(F))))),
    ],
    ids=["residual", "highway", "gated_block", "residual_of_stack"],
)
def test_a_wrapper_refuses_a_zoneout_that_could_not_train_in_it(make):
    with pytest.raises(TypeError, match=r"reads x alone, got Zoneout.*it reads \(x, keep\)"):
        make()


def test_zoneout_trains_as_the_first_layer_of_a_stack():
    cells = (Zoneout(LSTM(H)), GRU(H))
    params, xs = Stack(cells).init(KEY, F), jax.random.normal(KEY, (T, B, F), jnp.float32)
    keep = cells[0].draw(KEY, params[0], (T, B))
    _, first = rnnlab.unroll(cells[0], params[0], (xs, keep))
    expected = rnnlab.unroll(cells[1], params[1], first)[1]
    agree(rnnlab.sequences.stack(cells, params, (xs, keep))[1], expected, 1e-6)
    agree(rnnlab.unroll(Stack(cells), params, (xs, keep))[1], expected, 1e-6)
