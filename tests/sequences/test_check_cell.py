"""`check_cell` passes what keeps the contract and names what breaks it."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import rnnlab
from rnnlab.cells import GRU, Elman, MinGRU


@dataclasses.dataclass(frozen=True)
class Leaky(rnnlab.Cell):
    """Somebody's own cell."""

    features: int

    def init(self, key, in_features):
        return jax.random.normal(key, (in_features, self.features), jnp.float32)

    def initial_carry(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, self.features), jnp.float32)

    def project(self, params, x):
        return (x.astype(params.dtype) @ params).astype(jnp.float32)

    def recur(self, params, carry, z):
        return 0.9 * carry + 0.1 * z

    def readout(self, params, carry, z):
        return jnp.tanh(carry).astype(params.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [Leaky(4), GRU(4), MinGRU(4)], ids=repr)
def test_cells_that_keep_the_contract_pass(cell):
    rnnlab.testing.check_cell(cell)


def broken(name, **methods):
    """A `Leaky` with some methods replaced."""
    return dataclasses.dataclass(frozen=True)(type(name, (Leaky,), methods))(4)


BROKEN = {
    "wider carry than it started with": broken(
        "Wider", initial_carry=lambda self, p, b=(): jnp.zeros((*b, 4), p.dtype)
    ),
    "output in another dtype": broken(
        "Wide", readout=lambda self, params, carry, z: jnp.tanh(carry)
    ),
    "mixes examples of a batch": broken(
        "Mixing",
        recur=lambda self, params, carry, z: 0.9 * carry + 0.1 * z - 0.01 * jnp.sum(z),
    ),
    "works on one batch axis only": broken(
        "Flat",
        recur=lambda self, params, carry, z: (
            0.9 * carry + 0.1 * z * jnp.float32(1 if z.ndim != 1 else 2)
        ),
    ),
    "a matmul in recur that could be hoisted": broken(
        "Unhoisted",
        project=lambda self, params, x: x.astype(jnp.float32),
        recur=lambda self, params, carry, z: 0.9 * carry + z @ params.astype(jnp.float32),
    ),
    "infinite at zero": broken(
        "Singular",
        project=lambda self, params, x: jnp.log(jnp.abs(x.astype(jnp.float32))) @ params,
    ),
}

MESSAGES = {
    "wider carry than it started with": "bfloat16",
    "output in another dtype": "the output is float32",
    "mixes examples of a batch": "one example and the same example in a batch",
    "works on one batch axis only": "one example and the same example in a batch",
    "a matmul in recur that could be hoisted": "recur multiplies",
    "infinite at zero": "not finite",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_cells_that_break_the_contract_are_refused(name):
    # Arithmetic of mixed dtypes is what a user's own cell may do outside of our strict tests.
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises((AssertionError, TypeError), match=MESSAGES[name]),
    ):
        rnnlab.testing.check_cell(BROKEN[name])


def test_what_is_not_static_is_refused():
    class Renamed(Elman):  # undecorated, but without state of its own: equal by its fields
        pass

    rnnlab.testing.check_static(Renamed(4))

    class Unequal(Elman):
        def __eq__(self, other):
            return self is other

        __hash__ = object.__hash__

    with pytest.raises(AssertionError, match="differs from its copy"):
        rnnlab.testing.check_static(Unequal(4))
