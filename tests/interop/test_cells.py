"""Other libraries' cells, run by `unroll`: equal to their own loop, and with what it lacks."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rnnlab
from rnnlab import testing
from rnnlab.interop.cells import from_equinox, from_haiku, from_linen, from_nnx

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("x64")]

F, H, T, B = 3, 4, 5, 2


def linen(name):
    nn = pytest.importorskip("flax.linen")
    module = getattr(nn, name)(H)

    def loop(params, xs, carry):
        return lax.scan(lambda c, x: module.apply({"params": params}, c, x), carry, xs)

    return from_linen(module, F), loop


def make_nnx_lstm(rngs):
    from flax import nnx

    return nnx.LSTMCell(F, H, rngs=rngs)


def make_nnx_gru(rngs):
    from flax import nnx

    return nnx.GRUCell(F, H, rngs=rngs)


def nnx_cell(make):
    from flax import nnx

    def loop(params, xs, carry):
        graph, state = nnx.split(make(nnx.Rngs(1)))
        nnx.replace_by_pure_dict(state, params)
        module = nnx.merge(graph, state)
        return lax.scan(lambda c, x: module(c, x), carry, xs)

    return from_nnx(make, F), loop


def haiku(name):
    hk = pytest.importorskip("haiku")

    def loop(params, xs, carry):
        def run(xs, carry):
            return hk.dynamic_unroll(getattr(hk, name)(H), xs, carry)

        ys, carry = hk.without_apply_rng(hk.transform(run)).apply(params, xs, carry)
        return carry, ys

    return from_haiku(functools.partial(_haiku_core, name), F), loop


def _haiku_core(name):
    import haiku as hk

    return getattr(hk, name)(H)


def _equinox_cell(name, key):
    import equinox as eqx

    return getattr(eqx.nn, name)(F, H, key=key)


def equinox(name, carry_features):
    eqx = pytest.importorskip("equinox")
    make = functools.partial(_equinox_cell, name)

    def loop(params, xs, carry):
        module = eqx.combine(params, make(jax.random.key(7)))

        def step(carry, x):
            carry = jax.vmap(module)(x, carry)
            return carry, carry[0] if isinstance(carry, tuple) else carry

        return lax.scan(step, carry, xs)

    return from_equinox(make, F, carry_features), loop


CASES = {
    "linen LSTMCell": lambda: linen("LSTMCell"),
    "linen GRUCell": lambda: linen("GRUCell"),
    "nnx LSTMCell": lambda: nnx_cell(make_nnx_lstm),
    "nnx GRUCell": lambda: nnx_cell(make_nnx_gru),
    "haiku LSTM": lambda: haiku("LSTM"),
    "haiku GRU": lambda: haiku("GRU"),
    "equinox LSTMCell": lambda: equinox("LSTMCell", (H, H)),
    "equinox GRUCell": lambda: equinox("GRUCell", H),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_librarys_own_loop(name):
    cell, loop = CASES[name]()
    case = testing.example(cell, F, length=T, batch=(B,), dtype=jnp.float64)

    def ours(params, xs, carry):
        carry, ys = rnnlab.unroll(cell, params, xs, case.carry._replace(inner=carry))
        return carry.inner, ys

    arguments = case.params, case.xs, case.carry.inner
    got, expected = (jax.jit(functools.partial(jax.vjp, f))(*arguments) for f in (ours, loop))
    assert testing.largest_difference(got[0], expected[0]) < 1e-12
    weights = jax.tree.map(lambda a: jnp.sin(1.0 + jnp.arange(a.size)).reshape(a.shape), got[0])
    gradients = got[1](weights), expected[1](weights)
    assert testing.largest_difference(*gradients) < 1e-12
    assert max(float(jnp.abs(a).max()) for a in jax.tree.leaves(gradients[0])) > 1e-3


@pytest.mark.parametrize("name", ["linen LSTMCell", "nnx GRUCell", "haiku LSTM", "equinox GRUCell"])
def test_masks_resets_and_strategies_serve_it(name):
    cell, _ = CASES[name]()
    testing.check_static(cell)
    with jax.numpy_dtype_promotion("standard"):
        testing.check_types(cell, F, jnp.bfloat16)
        testing.check_padding(cell, rnnlab.strategies.Scan(), F)
        testing.check_strategy(cell, rnnlab.strategies.Remat(), F)


def test_a_length_of_zero_returns_the_initial_carry():
    cell, _ = CASES["linen GRUCell"]()
    params = cell.init(jax.random.key(0), F)
    mask = rnnlab.lengths_to_mask(jnp.array([0, 3]), T)
    carry, _ = rnnlab.unroll(cell, params, jnp.full((T, B, F), jnp.nan).at[:3, 1].set(1), mask=mask)
    assert not np.any(carry.inner[0]) and np.all(np.isfinite(carry.inner[1]))


def test_equal_cells_share_one_trace():
    first, second = (CASES["nnx GRUCell"]()[0] for _ in range(2))
    assert first == second and hash(first) == hash(second)


def test_errors_name_what_came():
    cell, _ = CASES["linen GRUCell"]()
    with pytest.raises(ValueError, match="expected in_features=3"):
        cell.init(jax.random.key(0), 5)
    params = cell.init(jax.random.key(0), F)
    with pytest.raises(ValueError, match=r"expected 3 features .* got 5"):
        rnnlab.unroll(cell, params, jnp.ones((T, B, 5)))


@pytest.mark.parametrize(("library", "wrap"), [("haiku", from_haiku), ("equinox", from_equinox)])
def test_a_missing_library_is_named(library, wrap, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=f"from_{library} needs"):
        wrap(lambda *_: None, F, *([H] if library == "equinox" else []))
