"""Type aliases, and the axis letters that every docstring uses.

| letter | axis |
|---|---|
| T | time, always the first axis inside the engine |
| B | batch; `*batch` is any number of batch axes, none included |
| F | input features |
| H | hidden features |
| K | columns of a recurrent kernel, the number of gates times H |
| N | state features of a linear cell, or heads of a block-diagonal kernel |
"""

from typing import Any, NamedTuple, TypeVar

import jax

Array = jax.Array
PyTree = Any
Key = jax.Array  # a typed PRNG key, `jax.random.key(seed)`

Params = TypeVar("Params")
Carry = TypeVar("Carry")


class LSTMCarry(NamedTuple):
    """Cell state and output, in Flax's order: the carry of `LSTM` and of its kin."""

    c: Array  # [*batch, H]
    h: Array  # [*batch, P], P = H without a projection
