"""The rules of the design at their edges, by name, for every kind of cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import cells, testing
from rnnlab.cells import GRU, LRU, LSTM, MLSTM, Elman, MinGRU, ResetBeforeGRU, Residual, Stack
from rnnlab.core.ops import select
from rnnlab.strategies import STRATEGIES, Associative, Auto, Deferred, Remat, Scan, Unrolled

CELLS = [
    Elman(4),
    LSTM(4),
    LSTM(4, peephole=True, coupled=True, layer_norm=True, projection=2, cell_clip=0.4),
    GRU(4),
    ResetBeforeGRU(4),
    MinGRU(4),
    LRU(4),
    Stack((GRU(4), LSTM(2))),
    Residual(GRU(3)),
]
FEW = [LSTM(4), LRU(4), MLSTM(4, heads=2), ResetBeforeGRU(4)]  # one of each base class


def strategies_of(cell, without=(Auto,)):
    """All that can run the cell, but for `Auto`, which is one of the others."""
    made = [make() for make in STRATEGIES.values() if make not in without]
    return [strategy for strategy in made if strategy.refusal(cell) is None]


every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda c: type(c).__name__)
each_base = pytest.mark.parametrize("cell", FEW, ids=lambda c: type(c).__name__)


def same(a, b):
    """Bit for bit."""
    return testing.largest_difference(a, b) == 0


@each_base
def test_no_steps_return_the_carry_and_no_outputs(cell):
    case = testing.example(cell, length=0)
    for strategy in strategies_of(cell):
        for reverse in (False, True):
            carry, ys = rnnlab.unroll(
                cell, case.params, case.xs, case.carry, reverse=reverse, strategy=strategy
            )
            assert same(carry, case.carry)
            assert ys.shape == (0, 3, 4) and ys.dtype == jnp.float32
    grads = testing.outcome(cell, case, Scan()).grads
    assert same(grads[0], jax.tree.map(jnp.zeros_like, case.params))


@each_base
def test_one_step_is_step(cell):
    case = testing.example(cell, length=1)
    carry, y = cell.step(case.params, case.carry, case.xs[0])
    for strategy in strategies_of(cell):
        got_carry, ys = rnnlab.unroll(cell, case.params, case.xs, case.carry, strategy=strategy)
        assert testing.largest_difference((got_carry, ys), (carry, y[None])) < 1e-6


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("reverse", [False, True])
def test_chunks_that_do_not_divide_the_length(chunk, reverse):
    case = testing.marked_example(GRU(4), length=7)
    expected = testing.outcome(GRU(4), case, Scan(), reverse)
    got = testing.outcome(GRU(4), case, Remat(chunk), reverse)
    assert testing.largest_difference(got, expected) < 1e-5


@pytest.mark.parametrize("strategy", [Scan(unroll=3), Deferred(unroll=3)], ids=repr)
@pytest.mark.parametrize("reverse", [False, True])
def test_unrolling_that_does_not_divide_the_length(strategy, reverse):
    case = testing.marked_example(LSTM(4), length=7)
    expected = testing.outcome(LSTM(4), case, Scan(), reverse)
    got = testing.outcome(LSTM(4), case, strategy, reverse)
    assert testing.largest_difference(got, expected) < 1e-5


@each_base
def test_a_row_of_length_zero_returns_its_initial_carry(cell):
    case = testing.example(cell)
    mask = rnnlab.lengths_to_mask(jnp.array([0, 3, 7]), 7)
    for strategy in strategies_of(cell):
        for reverse in (False, True):
            carry, ys = rnnlab.unroll(
                cell,
                case.params,
                case.xs,
                case.carry,
                mask=mask,
                reverse=reverse,
                strategy=strategy,
            )
            assert same(*jax.tree.map(lambda a: a[0], (carry, case.carry)))
            assert same(ys[:, 0], jnp.zeros_like(ys[:, 0]))


@each_base
def test_lengths_equal_running_each_row_by_itself(cell):
    case = testing.example(cell)
    lengths = [0, 3, 7]
    mask = rnnlab.lengths_to_mask(jnp.array(lengths), 7)
    for reverse in (False, True):
        carry, ys = rnnlab.unroll(
            cell, case.params, case.xs, case.carry, mask=mask, reverse=reverse
        )
        for row, length in enumerate(lengths):
            alone = rnnlab.unroll(
                cell,
                case.params,
                case.xs[:length, row],
                jax.tree.map(lambda a, row=row: a[row], case.carry),
                reverse=reverse,
            )
            got = jax.tree.map(lambda a, row=row: a[row], carry), ys[:length, row]
            assert testing.largest_difference(got, alone) < 1e-5
            assert same(ys[length:, row], jnp.zeros_like(ys[length:, row]))


@every_cell
@pytest.mark.slow
def test_batch_axes_and_vmap_mean_the_same(cell):
    testing.check_batching(cell, 3)


@pytest.mark.slow
@every_cell
def test_padding_may_hold_anything(cell):
    for strategy in strategies_of(cell, without=(Auto, Unrolled)):
        testing.check_padding(cell, strategy, 3)


@each_base
def test_gradients_of_padded_inputs_are_zero(cell):
    case = testing.marked_example(cell)
    for strategy in strategies_of(cell):
        dxs = testing.outcome(cell, case, strategy).grads[1]
        assert float(jnp.max(jnp.abs(jnp.where(case.mask[..., None], 0, dxs)))) == 0
        assert float(jnp.min(jnp.max(jnp.abs(dxs), axis=-1)[case.mask])) > 0


@each_base
def test_a_masked_step_leaves_the_carry_and_puts_out_zero(cell):
    case = testing.example(cell, length=3)
    mask = jnp.array([True, False, True])[:, None] & jnp.ones((3, 3), bool)
    for strategy in strategies_of(cell):
        got = rnnlab.unroll(cell, case.params, case.xs, case.carry, mask=mask, strategy=strategy)
        carry, ys = rnnlab.unroll(
            cell, case.params, case.xs[jnp.array([0, 2])], case.carry, strategy=strategy
        )
        without = carry, jnp.stack([ys[0], jnp.zeros_like(ys[0]), ys[1]])
        assert testing.largest_difference(got, without) < 1e-6


@each_base
@pytest.mark.parametrize("reverse", [False, True])
def test_reset_uses_the_cells_initial_carry_and_acts_before_the_step(cell, reverse):
    case = testing.example(cell, length=5)
    reset = jnp.zeros((5, 3), bool).at[2].set(True)
    later = slice(None, 3) if reverse else slice(2, None)  # steps processed from the reset on
    alone = rnnlab.unroll(cell, case.params, case.xs[later], reverse=reverse)
    for strategy in strategies_of(cell):
        carry, ys = rnnlab.unroll(
            cell,
            case.params,
            case.xs,
            case.carry,
            reset=reset,
            reverse=reverse,
            strategy=strategy,
        )
        assert testing.largest_difference((carry, ys[later]), alone) < 1e-6


@each_base
def test_reset_at_the_first_step_ignores_the_given_carry_even_if_it_is_nan(cell):
    case = testing.example(cell)
    reset = testing.marks("first", 7, (3,))
    expected = rnnlab.unroll(cell, case.params, case.xs)
    broken = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), case.carry)
    for strategy in strategies_of(cell):
        run = case._replace(carry=broken, reset=reset)
        got = testing.outcome(cell, run, strategy)
        assert testing.largest_difference((got.carry, got.ys), expected) < 1e-6
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(got.grads))


@each_base
def test_reset_at_every_step_makes_steps_independent(cell):
    case = testing.example(cell)
    for strategy in strategies_of(cell):
        _, ys = rnnlab.unroll(
            cell, case.params, case.xs, reset=jnp.ones((7, 3), bool), strategy=strategy
        )
        carry = cell.initial_carry(case.params, (7, 3))
        assert testing.largest_difference(ys, cell.step(case.params, carry, case.xs)[1]) < 1e-6


@each_base
def test_reset_acts_on_a_masked_step_too(cell):
    case = testing.example(cell, length=3)
    mask, reset = testing.marks("none", 3, (3,)), testing.marks("first", 3, (3,))
    for strategy in strategies_of(cell):
        carry, ys = rnnlab.unroll(
            cell, case.params, case.xs, case.carry, mask=mask, reset=reset, strategy=strategy
        )
        assert same(carry, cell.initial_carry(case.params, (3,)))
        assert same(ys, jnp.zeros_like(ys))


@each_base
def test_a_nan_does_not_survive_a_reset(cell):
    """Values after the reset are those of a clean run, though the segment before is lost."""
    case = testing.example(cell, length=6)
    reset = jnp.zeros((6, 3), bool).at[3].set(True)
    dirty = case.xs.at[1].set(jnp.nan)
    for strategy in strategies_of(cell):
        clean = rnnlab.unroll(cell, case.params, case.xs, reset=reset, strategy=strategy)
        carry, ys = rnnlab.unroll(cell, case.params, dirty, reset=reset, strategy=strategy)
        assert bool(jnp.any(jnp.isnan(ys[1:3])))
        assert same((carry, ys[3:]), (clean[0], clean[1][3:]))


def test_a_nan_does_not_survive_a_reset_wherever_both_stand():
    """A parallel scan pairs steps by position, so every position counts."""
    cell = MinGRU(2)
    for length in (2, 5, 8):
        plain = testing.example(cell, length=length, batch=())
        for at in range(length - 1):
            reset = jnp.zeros(length, bool).at[at + 1].set(True)
            dirty = plain.xs.at[at].set(jnp.nan)
            options = {"reset": reset, "strategy": Associative()}
            _, ys = rnnlab.unroll(cell, plain.params, dirty, **options)
            _, clean = rnnlab.unroll(cell, plain.params, plain.xs, reset=reset)
            assert testing.largest_difference(ys[at + 1 :], clean[at + 1 :]) < 1e-6, (length, at)


@each_base
def test_a_nan_in_a_carry_that_only_waits_stays_out_of_the_gradients(cell):
    """A row that is masked throughout, or up to its reset, may have diverged."""
    case = testing.example(cell)
    row = jnp.array([True, False, False])
    mask = jnp.ones((7, 3), bool).at[:, 0].set(False).at[:2, 1].set(False)
    reset = jnp.zeros((7, 3), bool).at[2, 1].set(True)
    broken = jnp.array([True, True, False])
    for strategy in strategies_of(cell):

        def grads(carry, s=strategy):
            run = case._replace(carry=carry, mask=mask, reset=reset)
            return testing.outcome(cell, run, s)

        nan = jax.tree.map(lambda c: select(broken, jnp.full((), jnp.nan, c.dtype), c), case.carry)
        got, expected = grads(nan), grads(case.carry)
        assert same(got.grads[:2], expected.grads[:2])
        for leaf in jax.tree.leaves(got.carry):
            assert jnp.isnan(leaf[row]).all() and jnp.isfinite(leaf[~row]).all()


@each_base
def test_packed_sequences_equal_separate_ones_with_gradients(cell):
    case = testing.example(cell, length=7, batch=())
    reset = jnp.zeros(7, bool).at[jnp.array([0, 3])].set(True)
    for strategy in strategies_of(cell):

        def packed(params, xs, s=strategy):
            _, ys = rnnlab.unroll(cell, params, xs, reset=reset, strategy=s)
            return jnp.sum(jnp.sin(ys))

        def separate(params, xs):
            parts = [rnnlab.unroll(cell, params, p)[1] for p in (xs[:3], xs[3:])]
            return sum(jnp.sum(jnp.sin(ys)) for ys in parts)

        got = jax.grad(packed, (0, 1))(case.params, case.xs)
        expected = jax.grad(separate, (0, 1))(case.params, case.xs)
        assert testing.largest_difference(got, expected) < 1e-5


@each_base
def test_reverse_keeps_input_order_and_twice_is_the_identity(cell):
    case = testing.example(cell)
    for strategy in strategies_of(cell):
        forward = rnnlab.unroll(cell, case.params, case.xs, case.carry, strategy=strategy)
        carry, ys = rnnlab.unroll(
            cell, case.params, case.xs[::-1], case.carry, reverse=True, strategy=strategy
        )
        assert testing.largest_difference((carry, ys[::-1]), forward) < 1e-6


@each_base
def test_splitting_and_carrying_equals_the_whole(cell):
    case = testing.marked_example(cell)
    for strategy in strategies_of(cell):

        def run(part, carry, s=strategy):
            return rnnlab.unroll(
                cell,
                case.params,
                case.xs[part],
                carry,
                mask=case.mask[part],
                reset=case.reset[part],
                strategy=s,
            )

        whole = run(slice(None), case.carry)
        carry, first = run(slice(3), case.carry)
        carry, rest = run(slice(3, None), carry)
        assert testing.largest_difference((carry, jnp.concatenate([first, rest])), whole) < 1e-6


@each_base
def test_permuting_the_batch_permutes_the_outputs(cell):
    case = testing.marked_example(cell)
    order = jnp.array([2, 0, 1])
    carry, ys = rnnlab.unroll(cell, case.params, case.xs, case.carry, mask=case.mask)
    shuffled = rnnlab.unroll(
        cell,
        case.params,
        case.xs[:, order],
        jax.tree.map(lambda a: a[order], case.carry),
        mask=case.mask[:, order],
    )
    expected = jax.tree.map(lambda a: a[order], carry), ys[:, order]
    assert testing.largest_difference(shuffled, expected) < 1e-6


@every_cell
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_types_follow_the_params(cell, dtype):
    with jax.enable_x64(dtype == "float64"):
        testing.check_types(cell, 3, jnp.dtype(dtype).type)


@every_cell
def test_bfloat16_stays_close_to_float32(cell):
    case = testing.example(cell)
    half = case._replace(params=jax.tree.map(lambda a: a.astype(jnp.bfloat16), case.params))
    full = half._replace(params=jax.tree.map(lambda a: a.astype(jnp.float32), half.params))
    for strategy in strategies_of(cell):
        carry, ys = rnnlab.unroll(cell, half.params, case.xs, case.carry, strategy=strategy)
        wide_carry, wide = rnnlab.unroll(cell, full.params, case.xs, case.carry)
        assert ys.dtype == jnp.bfloat16
        assert testing.largest_difference(carry, wide_carry) < 5e-2
        assert testing.largest_difference(ys.astype(jnp.float32), wide) < 5e-2


@every_cell
def test_the_carry_can_be_donated(cell):
    case = testing.example(cell)

    def run(params, carry, xs):
        return rnnlab.unroll(cell, params, xs, carry)

    expected = run(case.params, case.carry, case.xs)
    fresh = cell.initial_carry(case.params, (3,))
    jax.jit(run, donate_argnums=1)(case.params, fresh, case.xs)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(fresh))
    given = jax.tree.map(jnp.copy, case.carry)
    assert same(jax.jit(run, donate_argnums=1)(case.params, given, case.xs), expected)


@pytest.mark.parametrize("strategy", [Scan(), Remat(), Deferred(), Unrolled()], ids=repr)
def test_integer_inputs_are_cast(strategy):
    case = testing.example(GRU(4))
    tokens = jnp.asarray(np.arange(7 * 3 * 3).reshape(7, 3, 3) % 5)
    got = rnnlab.unroll(GRU(4), case.params, tokens, strategy=strategy)
    expected = rnnlab.unroll(GRU(4), case.params, tokens.astype(jnp.float32))
    assert testing.largest_difference(got, expected) < 1e-6


@pytest.mark.parametrize("name", cells.CELLS)
def test_an_empty_batch_has_gradients_of_zero(name):
    cell = cells.CELLS[name](4)
    case = testing.marked_example(cell, batch=(0,))
    for strategy in strategies_of(cell, without=(Auto, Unrolled)):
        got = testing.outcome(cell, case, strategy)
        assert got.ys.shape[:2] == (7, 0)
        assert same(got.grads[0], jax.tree.map(jnp.zeros_like, case.params))
