"""What is no pure function of parameters, carry and input is refused when it is wrapped."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import rnnlab
from rnnlab.interop.cells import from_equinox, from_haiku, from_linen, from_nnx

eqx = pytest.importorskip("equinox")
hk = pytest.importorskip("haiku")

pytestmark = pytest.mark.peers

F, H, T = 3, 4, 5


class Cell(nnx.GRUCell):
    """A GRU with what a test adds before and does in a step."""

    def __init__(self, *, rngs, add=lambda cell, rngs: None, act=lambda cell: None):
        super().__init__(F, H, rngs=rngs)
        add(self, rngs)
        self.act = act

    def __call__(self, carry, x):
        out = super().__call__(carry, x)
        self.act(self)
        return out


def dropout(cell, rngs, **options):
    cell.drop = nnx.Dropout(0.5, rngs=rngs, **options)


def count(cell, rngs):
    cell.count = nnx.BatchStat(jnp.zeros(()))


def reservoir(cell, rngs):
    cell.reservoir = nnx.Variable(jax.random.normal(rngs.params(), (F,)))


def plain_array(cell, rngs):
    cell.scale = jnp.ones(F)


def attribute(cell):
    cell.in_features += 1


def parameter(cell):
    cell.dense_h.kernel[...] = 0.9 * cell.dense_h.kernel[...]


def test_state_of_nnx_is_refused_by_its_path():
    for add, name in (
        (count, "count (BatchStat)"),
        (reservoir, "reservoir (Variable)"),
        (plain_array, "scale (array)"),
    ):
        with pytest.raises(ValueError, match=f"only state is nnx.Param, got {re.escape(name)}"):
            from_nnx(functools.partial(_make, add=add), F)


def _make(rngs, **options):
    return Cell(rngs=rngs, **options)


def test_randomness_in_a_step_of_nnx_is_refused_by_its_path():
    make = functools.partial(_make, add=dropout, act=lambda cell: cell.drop(jnp.ones(H)))
    with pytest.raises(ValueError, match=r"draws from drop\.rngs\.count, drop\.rngs\.key"):
        from_nnx(make, F)


def test_what_a_step_of_nnx_changes_is_refused():
    for act, name in ((parameter, r"dense_h\.kernel"), (attribute, "attributes of the module")):
        with pytest.raises(ValueError, match=f"changes {name}, an update that would be lost"):
            from_nnx(functools.partial(_make, act=act), F)


@pytest.mark.filterwarnings("ignore:keep_rngs")
@pytest.mark.parametrize(
    "make",
    [
        lambda rngs: nnx.LSTMCell(F, H, keep_rngs=True, rngs=rngs),
        lambda rngs: nnx.GRUCell(F, H, keep_rngs=True, rngs=rngs),
        lambda rngs: _make(
            rngs,
            add=functools.partial(dropout, deterministic=True),
            act=lambda cell: cell.drop(jnp.ones(H)),
        ),
    ],
)
def test_generators_that_no_step_reads_are_allowed(make):
    cell, module = from_nnx(make, F), make(nnx.Rngs(7))
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    _, ys = rnnlab.unroll(cell, params, jnp.ones((1, F)))
    _, y = module(module.initialize_carry((F,), nnx.Rngs(0)), jnp.ones(F))
    np.testing.assert_allclose(ys[0], y, atol=1e-6)


class LearnedStart(nnx.GRUCell):
    def __init__(self, *, rngs):
        super().__init__(F, H, rngs=rngs)
        self.first = nnx.Param(jax.random.normal(rngs.params(), (H,)))

    def initialize_carry(self, *_):
        return self.first[...]


class LearnedCore(hk.RNNCore):
    def __init__(self):
        super().__init__()
        self.core = hk.GRU(H)

    def initial_state(self, batch_size):
        return hk.get_parameter("first", (H,), init=jnp.ones)

    def __call__(self, x, carry):
        return self.core(x, carry)


def test_a_learned_first_carry_is_that_of_the_params():
    for cell, path in (
        (from_nnx(lambda rngs: LearnedStart(rngs=rngs), F), ()),
        (from_haiku(lambda: LearnedCore(), F), ("learned_core",)),
    ):
        params = cell.init(jax.random.key(3), F)
        functools.reduce(dict.__getitem__, path, params)["first"] = jnp.arange(1.0, 1 + H)
        start = cell.initial_carry(params, (2,)).inner
        np.testing.assert_array_equal(start, np.tile(np.arange(1.0, 1 + H), (2, 1)))

        def total(params, cell=cell):
            return jnp.sum(rnnlab.unroll(cell, params, jnp.ones((T, F)))[1])

        gradient = jax.grad(total)(params)
        first = functools.reduce(dict.__getitem__, path, gradient)["first"]
        assert float(jnp.abs(first).min()) > 1e-4


def test_params_that_lack_an_array_are_refused():
    cell = from_nnx(lambda rngs: nnx.GRUCell(F, H, rngs=rngs), F)
    params = cell.init(jax.random.key(0), F)
    del params["dense_h"]
    with pytest.raises(ValueError, match="params: expected 3 arrays, as init draws, got 2"):
        rnnlab.unroll(cell, params, jnp.ones((T, F)))


class Shuffled(eqx.Module):
    cell: eqx.nn.GRUCell
    order: jax.Array
    key: jax.Array

    def __init__(self, key):
        self.cell, self.key = eqx.nn.GRUCell(F, H, key=key), key
        self.order = jax.random.permutation(key, F)

    def __call__(self, x, carry):
        return self.cell(x[self.order], carry)


def test_arrays_of_equinox_that_are_no_floats_are_refused_by_name():
    with pytest.raises(ValueError, match=r"got order \(int32\), key \(key<fry>\)"):
        from_equinox(Shuffled, F, H)


def test_no_step_makes_the_module_again():
    made = []

    def counted(make):
        return lambda given: made.append(1) or make(given)

    for cell in (
        from_nnx(counted(lambda rngs: nnx.GRUCell(F, H, rngs=rngs)), F),
        from_equinox(counted(lambda key: eqx.nn.GRUCell(F, H, key=key)), F, H),
    ):
        params = cell.init(jax.random.key(0), F)
        made.clear()
        rnnlab.unroll(cell, params, jnp.ones((T, F)))
        assert not made


class Mean(linen.RNNCellBase):
    """A cell without parameters."""

    num_feature_axes = 1

    def __call__(self, carry, x):
        return 0.9 * carry + x, carry

    def initialize_carry(self, rng, input_shape):
        return jnp.zeros(input_shape)


class TwoOutputs(linen.GRUCell):
    def __call__(self, carry, x):
        carry, y = super().__call__(carry, x)
        return carry, (y, y)


class Growing(linen.GRUCell):
    def __call__(self, carry, x):
        carry, y = super().__call__(carry, x)
        return jnp.concatenate([carry, y]), y


def _lstm(key):
    return eqx.nn.LSTMCell(F, H, key=key)


def _gru(key):
    return eqx.nn.GRUCell(F, H, key=key)


CASES = {
    "a linen class": (TypeError, "GRUCell: call it", lambda: from_linen(linen.GRUCell, F)),
    "no linen module": (TypeError, "flax.linen module, got int", lambda: from_linen(3, F)),
    "spatial axes": (
        ValueError,
        "one feature axis, got ConvLSTMCell with 3",
        lambda: from_linen(linen.ConvLSTMCell(H, (3, 3)), F),
    ),
    "no parameters": (ValueError, "at least one array of floats", lambda: from_linen(Mean(), F)),
    "two outputs": (
        ValueError,
        "output is .*, not one array",
        lambda: from_linen(TwoOutputs(H), F),
    ),
    "a carry that grows": (
        ValueError,
        "takes the carry .* returns",
        lambda: from_linen(Growing(H), F),
    ),
    "an nnx module": (
        TypeError,
        r"function make\(rngs\) .* got GRUCell",
        lambda: from_nnx(nnx.GRUCell(F, H, rngs=nnx.Rngs(0)), F),
    ),
    "no nnx module": (TypeError, "return an nnx.Module, got 3", lambda: from_nnx(lambda _: 3, F)),
    "another nnx input": (
        ValueError,
        r"reads inputs \[7\] .* first step raised",
        lambda: from_nnx(lambda rngs: nnx.GRUCell(F, H, rngs=rngs), 7),
    ),
    "no haiku function": (TypeError, r"function make\(\) .* got str", lambda: from_haiku("x", F)),
    "haiku dropout": (
        ValueError,
        "draws no random numbers, but its first step raised",
        lambda: from_haiku(
            lambda: hk.DeepRNN([hk.GRU(H), lambda x: hk.dropout(hk.next_rng_key(), 0.5, x)]), F
        ),
    ),
    "an equinox module": (
        TypeError,
        r"function make\(key\) .* got GRUCell",
        lambda: from_equinox(_gru(jax.random.key(0)), F, H),
    ),
    "another equinox input": (
        ValueError,
        r"reads inputs \[7\].*first step raised",
        lambda: from_equinox(_gru, 7, H),
    ),
    "another carry": (ValueError, "carry_features=9", lambda: from_equinox(_gru, F, 9)),
    "one size for an LSTM": (
        ValueError,
        "a tuple of one a part",
        lambda: from_equinox(_lstm, F, H),
    ),
    "a list of sizes": (TypeError, r"whole number, got \[4\]", lambda: from_equinox(_gru, F, [H])),
}


def test_what_does_not_fit_is_refused_when_it_is_wrapped():
    for error, message, wrap in CASES.values():
        with pytest.raises(error, match=message):
            wrap()


def test_a_tree_of_inputs_is_refused():
    cell = from_linen(linen.GRUCell(H), F)
    xs = jnp.ones((T, F))
    with pytest.raises(TypeError, match=r"expected one array .* got tuple"):
        rnnlab.unroll(cell, cell.init(jax.random.key(0), F), (xs, xs))
