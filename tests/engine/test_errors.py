"""Errors say what was expected, what came and how to mend it, before anything is compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import rnnlab
from rnnlab import testing
from rnnlab.cells import GRU, LSTM, LSTMCarry, MinGRU
from rnnlab.strategies import Associative, Deferred, Scan


@pytest.fixture
def case():
    return testing.example(LSTM(4))


CELL = LSTM(4)


def refused(error, *parts, cell=CELL, args=(), **options):
    """`unroll` raises `error` with all `parts` in its message, and compiles nothing."""
    compiled = []

    def listen(name, *_, **__):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with pytest.raises(error) as info:
            rnnlab.unroll(cell, *args, **options)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    message = str(info.value)
    for part in parts:
        assert part in message, message
    assert not compiled


def test_cell_that_is_a_class(case):
    refused(TypeError, "rnnlab.Cell", "call it", cell=LSTM, args=(case.params, case.xs))


def test_cell_of_another_library(case):
    refused(TypeError, "rnnlab.Cell", "wrapped", cell=object(), args=(case.params, case.xs))


def test_cell_with_an_unhashable_field(case):
    @dataclasses.dataclass(frozen=True)
    class Listed(GRU):
        sizes: object = None

    refused(TypeError, "hashed", "tuples", cell=Listed(4, [1, 2]), args=(case.params, case.xs))


def test_strategy_that_is_a_class_or_a_name(case):
    for wrong in (Scan, "scan"):
        refused(TypeError, "strategy", "Scan()", args=(case.params, case.xs), strategy=wrong)


def test_a_named_strategy_that_cannot_run_says_why(case):
    refused(
        ValueError,
        "Associative",
        "LinearCell",
        "Use Scan()",
        args=(case.params, case.xs),
        strategy=Associative(),
    )
    refused(
        ValueError,
        "Deferred",
        "GatedCell",
        cell=MinGRU(4),
        args=(case.params, case.xs),
        strategy=Deferred(),
    )


def test_reverse_that_is_not_static(case):
    refused(TypeError, "reverse", "True or False", args=(case.params, case.xs), reverse=1)


def test_inputs(case):
    refused(TypeError, "xs", "str", args=(case.params, "abc"))
    refused(ValueError, "xs", "no arrays", args=(case.params, ()))
    refused(ValueError, "xs", "[T, *batch, *features]", args=(case.params, case.xs[0, 0]))
    refused(ValueError, "3 features", "got 2", args=(case.params, case.xs[..., :2]))


def test_mask_and_reset(case):
    args = (case.params, case.xs)
    for name in ("mask", "reset"):
        ones = jnp.ones((7, 3))
        refused(TypeError, name, "bool", "float32", args=args, **{name: ones})
        refused(
            ValueError, name, "(7, 3)", "time comes first", args=args, **{name: ones.T.astype(bool)}
        )
        refused(ValueError, name, "(7, 3)", args=args, **{name: jnp.ones(7, bool)})
        refused(TypeError, name, "jnp.asarray", args=args, **{name: [True] * 7})
    refused(TypeError, "lengths_to_mask", args=args, mask=jnp.array([3, 2, 1]))


def test_carry_of_another_structure(case):
    args = (case.params, case.xs)
    plain = tuple(case.carry)
    refused(TypeError, "carry", "LSTMCarry", "initial_carry", args=(*args, plain))
    refused(TypeError, "carry", "LSTMCarry", args=(*args, case.carry.h))


def test_carry_of_another_shape_or_dtype_names_the_leaf(case):
    args = (case.params, case.xs)
    c, h = case.carry
    refused(ValueError, "carry.h", "(3, 4)", "(3, 5)", args=(*args, LSTMCarry(c, jnp.ones((3, 5)))))
    half = LSTMCarry(c.astype(jnp.bfloat16), h)
    refused(TypeError, "carry.c", "float32", "bfloat16", "wider", args=(*args, half))


def test_a_cell_that_changes_its_carry_is_refused_before_the_loop(case):
    @dataclasses.dataclass(frozen=True)
    class Drifting(rnnlab.Cell):
        features: int

        def init(self, key, in_features):
            return jnp.ones((in_features, self.features))

        def initial_carry(self, params, batch_shape=()):
            return jnp.zeros((*batch_shape, self.features))

        def project(self, params, x):
            return x @ params

        def recur(self, params, carry, z):
            return (carry + z).astype(jnp.bfloat16)

        def readout(self, params, carry, z):
            return carry

    refused(
        TypeError,
        "after one step of Drifting",
        "float32",
        "bfloat16",
        cell=Drifting(4),
        args=(jnp.ones((3, 4)), case.xs),
    )


def test_overriding_a_derived_method_is_refused():
    with pytest.raises(TypeError, match="overrides 'step'"):

        class Stepping(GRU):
            def step(self, params, carry, x):
                return carry, x

    with pytest.raises(TypeError, match=r"overrides 'recur'.*GatedCell"):

        class Recurring(GRU):
            def recur(self, params, carry, z):
                return carry


def test_the_same_errors_inside_jit(case):
    with pytest.raises(ValueError, match="3 features"):
        jax.jit(lambda p, x: rnnlab.unroll(LSTM(4), p, x))(case.params, case.xs[..., :2])


def test_chunk_and_unroll_must_be_positive():
    with pytest.raises(ValueError, match="chunk"):
        rnnlab.strategies.Remat(chunk=0)
    with pytest.raises(ValueError, match="unroll"):
        Scan(unroll=0)
    with pytest.raises(ValueError, match="unroll"):
        Deferred(unroll=-1)


def test_a_cell_with_state_outside_its_fields_is_refused(case):
    class Leaky(GRU):  # not decorated: its instances would all be equal
        def __init__(self, features, decay):
            super().__init__(features)
            object.__setattr__(self, "decay", decay)

    refused(TypeError, "['decay']", "fields", cell=Leaky(4, 0.5), args=(case.params, case.xs))


def test_a_mixin_cannot_override_either():
    class Mix:
        def recur(self, params, carry, z):
            return carry

    with pytest.raises(TypeError, match="overrides 'recur'"):

        class Sneaky(Mix, GRU):
            pass


def test_lists_and_foreign_params(case):
    refused(TypeError, "xs", "jnp.asarray", args=(case.params, [[1.0, 2.0]]))
    refused(TypeError, "one array", "list", args=(case.params, [case.xs]))
    refused(TypeError, "real inputs", args=(case.params, case.xs.astype(jnp.complex64)))
    other = LSTM(5).init(jax.random.key(0), 3)
    refused(ValueError, "recurrent_kernel", "those of this cell", args=(other, case.xs))


def test_deferred_refuses_a_carry_that_has_no_gradient(case):
    @dataclasses.dataclass(frozen=True)
    class Counting(GRU):
        def initial_carry(self, params, batch_shape=()):
            return super().initial_carry(params, batch_shape), jnp.zeros(batch_shape, jnp.int32)

        def hidden(self, carry):
            return carry[0]

        def gate(self, params, carry, z, u):
            return super().gate(params, carry[0], z, u), carry[1] + 1

        def readout(self, params, carry, z):
            return carry[0]

    params = GRU(4).init(jax.random.key(0), 3)
    refused(
        ValueError,
        "carry[1]",
        "int32",
        "Use Scan()",
        cell=Counting(4),
        args=(params, case.xs),
        strategy=Deferred(),
    )
    (_, count), _ = rnnlab.unroll(Counting(4), params, case.xs)
    assert count.tolist() == [7, 7, 7]


@dataclasses.dataclass(frozen=True)
class Decaying(rnnlab.LinearCell):
    """h_t = decay * h_{t-1} + x_t, the decay where it should not be: not one entry a step."""

    in_z: bool

    def init(self, key, in_features):
        return jnp.full(in_features, 0.5, jnp.float32)

    def initial_carry(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, *params.shape), params.dtype)

    def project(self, params, x):
        return (x, params) if self.in_z else (x,)

    def coefficients(self, params, z):
        return params, z[0]

    def readout(self, params, carry, z):
        return carry


@pytest.mark.parametrize("length", [2, 4, 5])
def test_what_is_no_entry_a_step_is_not_taken_apart(length):
    """At T = 4 a loop over time would give each step one entry of the decay."""
    case = testing.example(Decaying(True), in_features=4, length=length, batch=())
    parts = "Decaying.project", "led by the axes of time and batch", "(4,) at [1]", "Broadcast"
    refused(ValueError, *parts, cell=Decaying(True), args=(case.params, case.xs))


def test_coefficients_that_have_no_entry_a_step():
    cell = Decaying(False)
    case = testing.example(cell, in_features=4, length=5, batch=())
    parts = "Decaying.coefficients", "got shape (4,) at [0]"
    refused(ValueError, *parts, cell=cell, args=(case.params, case.xs), strategy=Associative())


def test_a_refusal_names_strategies_that_can_run_the_cell():
    cell = rnnlab.cells.mamba(4)
    params = cell.init(jax.random.key(0), 3)
    parts = "AffineCell", "Scan()", "rnnlab.sequences.stack"
    xs = jnp.ones((5, 3))
    refused(ValueError, *parts, cell=cell, args=(params, xs), strategy=Associative())
    with pytest.raises(TypeError, match="expected an array, got float"):
        rnnlab.sequences.stack((cell,), (params,), [[1.0, 2.0, 3.0]])
