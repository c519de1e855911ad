"""`select_strategy` is an ordered public list, and `Auto` runs what it names."""

import jax.numpy as jnp
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import CELLS, GRU, LRU, LSTM, MinGRU, MinLSTM, ResetBeforeGRU, Stack
from rnnlab.select import RULES, select_strategy
from rnnlab.strategies import Associative, Auto, Deferred, Fused, Scan
from tests.native import needs_kernel


@pytest.mark.parametrize(
    "cell, length, platform, expected",
    [
        (LSTM(4, peephole=True), 8, "cpu", Deferred()),
        (GRU(4), 512, "gpu", Deferred()),
        (MinGRU(4), 64, "gpu", Associative()),
        (LRU(4), 64, "tpu", Associative()),
        (MinGRU(4), 63, "gpu", Scan()),
        (MinLSTM(4), 63, "tpu", Scan()),
        (ResetBeforeGRU(4), 64, "gpu", Scan()),
        (Stack((LSTM(4),)), 64, "cpu", Scan()),
    ],
    ids=str,
)
def test_the_rules(cell, length, platform, expected):
    assert select_strategy(cell, length, batch=1, platform=platform) == expected


def test_some_rule_always_applies_and_each_gives_its_reason():
    assert all(rule.reason for rule in RULES)
    for make in CELLS.values():
        chosen = select_strategy(make(4), 1, 1, "cpu")
        assert chosen.refusal(make(4)) is None


@needs_kernel
@pytest.mark.parametrize(
    "cell", [LSTM(4, layer_norm=True), ResetBeforeGRU(4), MinLSTM(4), LRU(4)], ids=repr
)
def test_the_kernel_is_taken_for_its_cells(cell):
    assert select_strategy(cell, 64, 1, "cpu") == Fused()


@pytest.mark.parametrize("cell", [GRU(4), MinGRU(4), ResetBeforeGRU(4)], ids=repr)
def test_auto_runs_what_is_selected(cell):
    case = testing.marked_example(cell)
    chosen = select_strategy(cell, 7, 3, "cpu")
    expected = testing.outcome(cell, case, chosen)
    assert testing.largest_difference(testing.outcome(cell, case, Auto()), expected) == 0
    assert jnp.isfinite(rnnlab.unroll(cell, case.params, case.xs, strategy=Auto())[1]).all()
