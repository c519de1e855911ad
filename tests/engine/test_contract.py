"""Cells x strategies x {mask, reset, reverse, dtype, lengths}: values and gradients agree.

Every run is compared with a plain loop over `step`, which knows no strategy: the last carry, the
outputs, and the gradients of params, inputs and initial carry through both. A test is
one cell under one structure (what is compiled); inside it run all strategies and all kinds of
masks and resets. `make test` runs every cell in one structure, and every structure with some cell;
`make test-all` runs the whole product.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import testing
from rnnlab.cells import CELLS
from rnnlab.core.ops import wide_dtype
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
from tests.cells.variants import VARIANTS

OPTIONS_AND_WRAPPERS = [
    "lstm_peephole_coupled_layer_norm_projection_cell_clip",
    "lstm_peephole",
    "slstm_heads",
    "lru_small_state",
    "mlstm_exp",
    "causal_convolution",
    "conv_lstm_2d",
    "attention_bahdanau",
    "stack",
    "residual",
    "highway",
    "zoneout",
    "lstm_layer_norm",
]
NAMES = [*CELLS, *OPTIONS_AND_WRAPPERS]
# Remat, Chunkwise: 7 = 3 + 3 + 1
CONTRACT = [Unrolled(), Scan(), Remat(), Deferred(), Associative(), Chunkwise(3), Fused()]
MASKS = ("random", "lengths", "all", "none")
RESETS = ("random", "first", "all", "random")  # beside the mask of the same place
SHAPES = ((7, (3,)), (1, ()), (6, (2, 2)))  # T and batch: an odd T, T = 1, an even T
# bfloat16: relative to the largest entry, and to the plain loop in float32 on the same numbers: in
# bfloat16 it would add gradients up step by step, each sum rounded to 8 bits.
TOLERANCE = {"float64": 1e-10, "bfloat16": 8e-2}

STRUCTURES = [
    (dtype, shape, masked, reset, reverse)
    for dtype, shapes in (("float64", SHAPES), ("bfloat16", SHAPES[:1]))
    for shape, masked, reset, reverse in itertools.product(
        shapes, (False, True), (False, True), (False, True)
    )
]


def cases():
    for (c, name), (s, structure) in itertools.product(enumerate(NAMES), enumerate(STRUCTURES)):
        dtype, (length, batch), masked, reset, reverse = structure
        words = "-".join(
            [name, dtype, f"T{length}", f"B{len(batch)}"]
            + [word for word, on in (("mask", masked), ("reset", reset), ("rev", reverse)) if on]
        )
        # 5 and the number of structures have no common divisor, so every structure is met.
        full = () if s == 5 * c % len(STRUCTURES) else (pytest.mark.full,)
        yield pytest.param(name, *structure, id=words, marks=(pytest.mark.slow, *full))


@pytest.mark.parametrize("name, dtype, shape, masked, reset, reverse", list(cases()))
def test_strategies_agree(name, dtype, shape, masked, reset, reverse, record_property):
    cell = VARIANTS[name]
    strategies = [s for s in CONTRACT if s.refusal(cell) is None]
    if shape[0] > 1:  # its compilation takes longest by far; test_edges runs it at other lengths
        strategies.remove(Unrolled())
    values, gradients, combinations = 0.0, 0.0, 0
    with jax.enable_x64(dtype == "float64"):
        plain = testing.example(cell, length=shape[0], batch=shape[1], dtype=jnp.dtype(dtype))
        mask_kinds = MASKS if masked else (None,) * len(MASKS)
        reset_kinds = RESETS if reset else (None,) * len(MASKS)
        for mask_kind, reset_kind in dict.fromkeys(zip(mask_kinds, reset_kinds, strict=True)):
            case = plain._replace(
                mask=mask_kind and testing.marks(mask_kind, *shape),
                reset=reset_kind and testing.marks(reset_kind, *shape, seed=1),
            )
            expected = testing.oracle(cell, widened(case), reverse)
            for strategy in strategies:
                got = testing.outcome(cell, case, strategy, reverse)
                rounded = jax.tree.map(lambda e, g: e.astype(g.dtype), expected, got)
                gaps = deviations(got, rounded, relative=dtype == "bfloat16")
                assert max(gaps) <= TOLERANCE[dtype], (strategy, mask_kind, reset_kind, gaps)
                values, gradients = max(values, gaps[0]), max(gradients, gaps[1])
                combinations += 1
    record_property("cell", name)
    record_property("dtype", dtype)
    record_property("combinations", combinations)
    record_property("values", values)
    record_property("gradients", gradients)


def widened(case):
    """The same numbers, the params at least in float32."""
    return case._replace(params=jax.tree.map(lambda a: a.astype(wide_dtype(a)), case.params))


def deviations(got, expected, relative):
    """The largest difference of values and of gradients."""
    pairs = ((got[:2], expected[:2]), (got.grads, expected.grads))
    return [deviation(*pair, relative) for pair in pairs]


def deviation(got, expected, relative):
    """The largest difference, absolute or relative to the largest entry of the same leaf."""
    if not relative:
        return testing.largest_difference(got, expected)
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return max(
        testing.largest_difference(a, b)
        / max(float(np.max(np.abs(np.asarray(b)), initial=0)), 1e-2)
        for a, b in pairs
    )


def test_every_strategy_of_the_catalogue_is_under_contract():
    """`Auto` runs one of the others: see test_select."""
    assert {type(s) for s in CONTRACT} == set(STRATEGIES.values()) - {Auto}


def test_a_deviation_would_be_seen():
    """The comparison itself: one gradient entry off by 1e-6 fails it."""
    cell = VARIANTS["gru"]
    with jax.enable_x64(True):
        case = testing.marked_example(cell, dtype=jnp.float64)
        expected = testing.oracle(cell, case)
        params, xs, carry = expected.grads
        bent = params._replace(kernel=params.kernel.at[0, 0].add(1e-6))
        got = expected._replace(grads=(bent, xs, carry))
        assert deviations(got, expected, relative=False) == [0, pytest.approx(1e-6)]
