"""Cells to test, small and in every configuration, and random arguments for them."""

import itertools

import jax
import numpy as np

from rnnlab.cells import CELLS, GRU, LRU, LSTM, Elman, MinGRU, ResetBeforeGRU, Residual, Stack
from rnnlab.core.ops import ACTIVATIONS

IN_FEATURES = 3
FEATURES = 4

LSTM_OPTIONS = {
    "peephole": True,
    "coupled": True,
    "layer_norm": True,
    "projection": 2,
    "cell_clip": 0.4,  # small enough that it clips
}


def softsign(x):
    """An activation of the user's own, for arrays of jax and of numpy."""
    return x / (1 + abs(x))


def _lstms():
    """The LSTM with every subset of its options, by the names of those options."""
    for count in range(len(LSTM_OPTIONS) + 1):
        for names in itertools.combinations(LSTM_OPTIONS, count):
            options = {name: LSTM_OPTIONS[name] for name in names}
            yield "_".join(("lstm", *names)), LSTM(FEATURES, **options)


LSTMS = dict(_lstms())

VARIANTS = {
    **{name: make(FEATURES) for name, make in CELLS.items()},
    **{f"elman_{name}": Elman(FEATURES, activation=name) for name in ACTIVATIONS},
    "elman_function": Elman(FEATURES, activation=softsign),
    **LSTMS,
    "lstm_wide_projection": LSTM(FEATURES, projection=6),
    "lru_small_state": LRU(FEATURES, state_features=2),
    "lru_large_state": LRU(FEATURES, state_features=7),
    "stack": Stack((LSTM(FEATURES, projection=2), GRU(FEATURES), LRU(IN_FEATURES))),
    "stack_of_one": Stack((GRU(FEATURES),)),
    "residual": Residual(GRU(IN_FEATURES)),
    "residual_lru": Residual(LRU(IN_FEATURES, state_features=FEATURES)),
    "residual_of_stack": Residual(Stack((Elman(FEATURES), LSTM(IN_FEATURES)))),
    "nested": Stack(
        (
            Residual(Residual(MinGRU(IN_FEATURES))),
            Stack((ResetBeforeGRU(FEATURES), Residual(LSTM(FEATURES, peephole=True)))),
        )
    ),
}
"""Every cell of `CELLS`, its options, and wrappers around them, reading `IN_FEATURES` features."""


def random_like(tree, seed, scale=1.0):
    """Normal numbers in place of every leaf, so that no bias or norm stays at its start value."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        values = rng.normal(size=leaf.shape)
        if np.issubdtype(leaf.dtype, np.complexfloating):
            values = values + 1j * rng.normal(size=leaf.shape)
        return (scale * values).astype(leaf.dtype)

    return jax.tree.map(draw, tree)


def random_arguments(cell, length, batch=(), dtype="float64", in_features=IN_FEATURES):
    """Random params, xs and carry for `cell`, as numpy arrays of `dtype` or its complex kin."""
    params = jax.eval_shape(lambda key: cell.init(key, in_features), jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf.update(dtype=np.dtype(dtype)), params)
    carry = jax.eval_shape(lambda params: cell.initial_carry(params, batch), params)
    xs = jax.ShapeDtypeStruct((length, *batch, in_features), np.dtype(dtype))
    return random_like(params, 1, scale=0.5), random_like(xs, 2), random_like(carry, 3)
