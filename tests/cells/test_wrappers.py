"""Attention, batch norm and highway layers beyond what every cell promises."""

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
    AntisymmetricRNN,
    AttentionCell,
    ConvGRU,
    ConvLSTM,
    Highway,
    LipschitzRNN,
    MogrifierLSTM,
    RecurrentBatchNorm,
    SequenceBatchNorm,
    Stack,
)
from rnnlab.strategies import Deferred, Scan, Unrolled
from tests.cells.agreement import agree, values_and_gradients, weights_like
from tests.cells.references import reference

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
T, B, F, H = 6, 3, 3, 4


# Attention


ATTENTIVE = [AttentionCell(GRU(H), 2, attention_features=5), AttentionCell(LSTM(H), 2, "luong")]


@pytest.mark.parametrize("cell", ATTENTIVE, ids=["bahdanau", "luong"])
@pytest.mark.parametrize("shared", [True, False])
def test_attention_over_a_memory_of_several_slots(cell, shared):
    params, xs, carry, *_ = testing.example(cell, F, length=T, batch=(B,), dtype=jnp.float64)
    lead = () if shared else (B,)
    memory = jax.random.normal(KEY, (*lead, 5, 2))
    mask = jnp.arange(5) < 4 if shared else rnnlab.lengths_to_mask(jnp.array([5, 2, 0]), 5).T
    looking = cell.attend(params, memory, mask)
    numpy = jax.tree.map(np.asarray, (looking, xs, carry))
    got = rnnlab.unroll(cell, looking, xs, carry)
    agree(got, reference(cell, *numpy), 1e-12)
    poisoned = jnp.where(mask[..., None], memory, jnp.nan)
    agree(rnnlab.unroll(cell, cell.attend(params, poisoned, mask), xs, carry), got, 1e-15)
    other = rnnlab.unroll(cell, cell.attend(params, memory + 1, mask), xs, carry)
    assert testing.largest_difference(got[1], other[1]) > 0.01


@pytest.mark.parametrize("cell", ATTENTIVE, ids=["bahdanau", "luong"])
def test_gradients_reach_the_memory_and_its_kernel_under_every_strategy(cell):
    case = testing.marked_example(cell, F, length=T, batch=(B,), dtype=jnp.float64)
    memory, mask = jax.random.normal(KEY, (B, 5, 2)), jnp.arange(15).reshape(B, 5) % 4 > 0

    def run(strategy, params, memory):
        options = {"mask": case.mask, "reset": case.reset, "strategy": strategy}
        looking = cell.attend(params, memory, mask)
        return rnnlab.unroll(cell, looking, case.xs, case.carry, **options)

    got, expected = (
        values_and_gradients(functools.partial(run, s), case.params, memory)
        for s in (Scan(), Unrolled())
    )
    agree(got, expected)
    of_params, of_memory = got[1]
    assert jnp.abs(of_params.key_kernel).max() > 1e-3 and jnp.abs(of_memory).max() > 1e-3
    assert not jnp.where(mask[..., None], 0, of_memory).any()


def test_attention_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="expected one of"):
        AttentionCell(GRU(H), 2, attention="dot")
    with pytest.raises(ValueError, match="expected None with luong"):
        AttentionCell(GRU(H), 2, attention="luong", attention_features=3)
    cell = AttentionCell(GRU(H), 2)
    with pytest.raises(ValueError, match=r"mask: expected bool \(3, 5\)"):
        cell.attend(cell.init(KEY, F), jnp.ones((3, 5, 2)), jnp.ones((3, 4), bool))


# Batch norm


def standardised(xs, mask=None):
    """Standardised over all axes but the last, counting what the mask lets through."""
    counted = xs[np.asarray(mask)] if mask is not None else xs.reshape(-1, xs.shape[-1])
    return (xs - counted.mean(0)) / np.sqrt(counted.var(0) + 1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_sequence_batch_norm_is_a_cell_that_reads_standardised_products(masked):
    """Laurent et al. 2016: an LSTM of identity kernel reading what numpy has normalised."""
    cell = SequenceBatchNorm(LSTM(H))
    params, xs, _, *_ = testing.example(cell, F, length=T, batch=(B,), dtype=jnp.float64)
    mask = rnnlab.lengths_to_mask(jnp.array([T, 2, 0]), T) if masked else None
    zs = standardised(np.asarray(xs) @ np.asarray(params.cell.kernel), mask)
    inner = params.cell._replace(kernel=jnp.eye(4 * H), bias=jnp.zeros(4 * H, jnp.float64))
    fed = jnp.asarray(zs * np.asarray(params.scale) + np.asarray(params.bias))
    expected = rnnlab.unroll(LSTM(H), inner, fed, mask=mask)
    got = rnnlab.unroll(cell, cell.with_statistics(params, xs, mask), xs, mask=mask)
    agree(got, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_recurrent_batch_norm_standardises_every_step_over_the_batch(masked):
    """Cooijmans et al. 2016, eq. 6-7, an LSTM step by step in numpy."""
    cell = RecurrentBatchNorm(LSTM(H), length=T)
    params, xs, _, *_ = testing.example(cell, F, length=T, batch=(5,), dtype=jnp.float64)
    mask = rnnlab.lengths_to_mask(jnp.array([T, 2, 4, T, 3]), T) if masked else None
    got = rnnlab.unroll(cell, cell.with_statistics(params, xs, mask), xs, mask=mask)
    inner, c, h = params.cell, np.zeros((5, H)), np.zeros((5, H))
    for t, x in enumerate(np.asarray(xs)):
        on = np.ones(5, bool) if mask is None else np.asarray(mask[t])
        z = standardised(x @ np.asarray(inner.kernel), on) * np.asarray(params.input_scale)
        u = standardised(h @ np.asarray(inner.recurrent_kernel), on)
        gates = z + u * np.asarray(params.hidden_scale) + np.asarray(params.bias)
        i, f, g, o = np.split(gates, 4, axis=-1)
        new = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * np.tanh(g)
        c, h = (
            np.where(on[:, None], a, b)
            for a, b in ((new, c), (jax.nn.sigmoid(o) * np.tanh(new), h))
        )
    agree(got[0].inner, LSTM(H).initial_carry(inner, (5,))._replace(c=c, h=h))


@pytest.mark.parametrize(
    "cell", [SequenceBatchNorm(GRU(H)), RecurrentBatchNorm(GRU(H), length=4)], ids=str
)
def test_gradients_pass_through_the_statistics_under_every_strategy(cell):
    """By finite differences along one direction, and equal under Deferred."""
    params, xs, *_ = testing.example(cell, F, length=T, batch=(B,), dtype=jnp.float64)

    def run(strategy, params, xs):
        return rnnlab.unroll(cell, cell.with_statistics(params, xs), xs, strategy=strategy)

    got, expected = (
        values_and_gradients(functools.partial(run, s), params, xs) for s in (Deferred(), Scan())
    )
    agree(got, expected)
    weights = weights_like(got[0])

    def loss(params, xs):
        parts = zip(jax.tree.leaves(run(Scan(), params, xs)), jax.tree.leaves(weights), strict=True)
        return sum(jnp.sum(a * w) for a, w in parts)

    direction = weights_like((params, xs))
    step = 1e-5

    def moved(by):
        return loss(*jax.tree.map(lambda a, d: a + by * d, (params, xs), direction))

    pairs = zip(jax.tree.leaves(got[1]), jax.tree.leaves(direction), strict=True)
    slope = sum(jnp.sum(a * d) for a, d in pairs)
    np.testing.assert_allclose(slope, (moved(step) - moved(-step)) / (2 * step), rtol=1e-6)


def test_evaluation_reads_stored_statistics_so_that_one_example_is_enough():
    cell = RecurrentBatchNorm(LSTM(H), length=4)
    params, xs, *_ = testing.example(cell, F, length=T, batch=(B,), dtype=jnp.float64)
    stored = cell.with_statistics(params, xs)
    _, whole = rnnlab.unroll(cell, stored, xs)
    _, one = rnnlab.unroll(cell, stored, xs[:, 1])
    agree(one, whole[:, 1])
    moved = cell.moving(params.statistics, stored.statistics, 0.75)
    expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, params.statistics, stored.statistics)
    agree(moved, expected)


def test_the_forget_bias_survives_batch_norm():
    params = RecurrentBatchNorm(LSTM(H), length=2).init(KEY, F)
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, 1.0, 0.0, 0.0], H))


def test_batch_norm_refuses_what_it_cannot_wrap():
    with pytest.raises(TypeError, match="GatedCell"):
        SequenceBatchNorm(LRU(H))
    cell = RecurrentBatchNorm(LSTM(H), length=9)
    with pytest.raises(ValueError, match="at least length=9 steps"):
        cell.with_statistics(cell.init(KEY, F), jnp.ones((T, B, F)))


@pytest.mark.parametrize(
    "cell", [SequenceBatchNorm(LSTM(H)), RecurrentBatchNorm(LSTM(H), length=2)], ids=str
)
def test_statistics_count_by_a_mask_of_time_and_batch_alone(cell):
    params, xs = cell.init(KEY, F), jnp.ones((T, B, F), jnp.float32)
    with pytest.raises(TypeError, match=r"mask: expected bool \(6, 3\), got int32 \(6, 3\)"):
        cell.with_statistics(params, xs, jnp.ones((T, B), jnp.int32))
    with pytest.raises(ValueError, match=r"mask: expected shape \(6, 3\).*Transpose it"):
        cell.with_statistics(params, xs, jnp.ones((B, T), bool))
    with pytest.raises(ValueError, match=r"mask: expected shape \(6, 3\)"):
        cell.with_statistics(params, xs, jnp.ones(T * B, bool))


@pytest.mark.parametrize(
    "cell", [SequenceBatchNorm(LSTM(H)), RecurrentBatchNorm(LSTM(H), length=T)], ids=str
)
def test_a_mask_of_one_sequence_or_of_several_batch_axes_counts_the_same(cell):
    params, xs, *_ = testing.example(cell, F, length=T, batch=(4,), dtype=jnp.float64)
    mask = rnnlab.lengths_to_mask(jnp.array([T, 2, 4, 3]), T)
    wide = cell.with_statistics(params, xs.reshape(T, 2, 2, F), mask.reshape(T, 2, 2))
    agree(wide.statistics, cell.with_statistics(params, xs, mask).statistics)
    one = cell.with_statistics(params, xs[:, 1], mask[:, 1])
    agree(one.statistics, cell.with_statistics(params, xs[:, 1:2], mask[:, 1:2]).statistics)


@pytest.mark.parametrize(
    "cell",
    [LipschitzRNN(H), SLSTM(H), SLSTM(H, heads=2), AntisymmetricRNN(H, gated=True)],
    ids=str,
)
def test_recurrent_batch_norm_refuses_products_of_different_columns(cell):
    with pytest.raises(ValueError, match=r"as many columns in u.*Take SequenceBatchNorm"):
        RecurrentBatchNorm(cell, length=2).init(KEY, F)


# Highway


def test_a_highway_layer_of_a_stack_lets_the_cell_inside_choose_its_strategy():
    cells = (GRU(H), Highway(GRU(H)))
    case = testing.marked_example(Stack(cells), F, length=T, batch=(B,), dtype=jnp.float64)
    marks = {"mask": case.mask, "reset": case.reset}
    expected = rnnlab.unroll(Stack(cells), case.params, case.xs, case.carry, **marks)
    for strategy in (Deferred(), Scan()):
        got = rnnlab.sequences.stack(
            cells, case.params, case.xs, case.carry, strategy=strategy, **marks
        )
        agree(got, expected)


def test_a_closed_highway_is_the_identity():
    cell = Highway(GRU(F), transform_bias=-100.0)
    params, xs = cell.init(KEY, F), jax.random.normal(KEY, (T, B, F))
    agree(rnnlab.unroll(cell, params, xs)[1], xs.astype(jnp.float32), 1e-6)


# What the others refuse


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvLSTM(2, ()), "1 to 3 sizes in spatial_shape"),
        (lambda: ConvLSTM(2, (2, 2, 2, 2)), "1 to 3 sizes in spatial_shape"),
        (lambda: ConvGRU(2, (4, 4), window=(3,)), "window to be one size or 2"),
        (lambda: ConvGRU(2, (4, 0)), r"spatial_shape\[1\] >= 1"),
        (lambda: MogrifierLSTM(4, rounds=0), "rounds >= 1"),
    ],
)
def test_a_wrong_option_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_another_spatial_shape_is_refused():
    cell = ConvGRU(2, spatial_shape=(4, 3))
    params = cell.init(KEY, F)
    with pytest.raises(ValueError, match=r"expected \[\.\.\., 4, 3, F\] as in spatial_shape"):
        rnnlab.unroll(cell, params, jnp.ones((T, B, 5, 3, F), jnp.float32))
