"""Where Flax's `RNN` is wrong and ours is right.

What Flax does is asserted for the versions it was seen in, so that a Flax that mends a fault
breaks nothing here; what we do is asserted always.
"""

from itertools import chain

import flax
import flax.linen as fl
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fx
from jax.extend.core import jaxprs_in_params

from rnnlab.cells import LSTM, Elman
from rnnlab.nn import linen, nnx
from tests.nn import flax_oracle as oracle
from tests.nn.flax_oracle import F, H, flax_settings, normal

B, T = 2, 5
KEY = jax.random.key(0)
flax_fault = pytest.mark.skipif(
    flax.__version__ not in ("0.12.8", "0.12.12"),
    reason="a fault of Flax, seen in 0.12.8 and 0.12.12",
)


class Nnx:
    """The same questions for both of Flax's APIs: functions of params and inputs."""

    @staticmethod
    def ours(cell):
        graphdef, params = fx.split(nnx.RNN(cell, F, rngs=fx.Rngs(0)))
        return params, lambda params, *args, **kwargs: fx.merge(graphdef, params)(*args, **kwargs)

    @staticmethod
    def flax(name, **options):
        rnn = fx.RNN(oracle.NNX[name][0](F, H, rngs=fx.Rngs(0), **options), rngs=fx.Rngs(0))
        graphdef, params, rest = fx.split(rnn, fx.Param, ...)
        return params, lambda params, *args, **kwargs: fx.merge(graphdef, params, rest, copy=True)(
            *args, **kwargs
        )


class Linen:
    @staticmethod
    def ours(cell):
        rnn = linen.RNN(cell)
        return rnn.init(KEY, normal(B, T, F)), rnn.apply

    @staticmethod
    def flax(name, **options):
        cell = oracle.LINEN[name][0](H, **options)
        params = fl.RNN(oracle.LINEN[name][0](H)).init(KEY, normal(B, T, F))
        return params, fl.RNN(cell).apply


both_apis = pytest.mark.parametrize("api", [Nnx, Linen])


# --- a sequence of length 0 ---


@both_apis
def test_length_zero_returns_the_initial_carry(api):
    params, call = api.ours(Elman(H))
    first = normal(B, H)
    options = {"seq_lengths": jnp.array([0, T]), "return_carry": True}
    carry, ys = call(params, normal(B, T, F), initial_carry=first, **options)
    np.testing.assert_array_equal(carry[0], first[0])
    assert not np.any(ys[0])
    assert np.all(carry[1] != first[1])


@flax_fault
@both_apis
def test_flax_returns_the_carry_after_all_steps_for_length_zero(api):
    first, x = normal(B, H), normal(B, T, F)
    with flax_settings():
        params, call = api.flax("SimpleCell")
        options = {"seq_lengths": jnp.array([0, T]), "return_carry": True}
        carry, ys = call(params, x, initial_carry=first, **options)
    np.testing.assert_array_equal(carry[0], ys[0, -1])  # of this cell, y_t is h_t
    assert np.all(carry[0] != first[0])


# --- lengths and the carry of a batch with two axes ---


@both_apis
def test_lengths_and_carry_go_with_two_batch_axes(api):
    params, call = api.ours(Elman(H))
    x, lengths = normal(2, 3, T, F), jnp.array([[5, 1, 0], [2, 3, 4]])
    carry, ys = call(params, x, seq_lengths=lengths, return_carry=True)
    want_carry, want = call(
        params, x.reshape(6, T, F), seq_lengths=lengths.reshape(6), return_carry=True
    )
    np.testing.assert_allclose(carry.reshape(6, H), want_carry, atol=1e-6)
    np.testing.assert_allclose(ys.reshape(6, T, H), want, atol=1e-6)


@flax_fault
@both_apis
def test_flax_cannot_take_lengths_with_two_batch_axes(api):
    x, lengths = normal(2, 3, T, F), jnp.array([[5, 1, 1], [2, 3, 4]])
    with flax_settings():
        params, call = api.flax("SimpleCell")
        call(params, x, return_carry=True)  # fine without lengths
        call(params, x, seq_lengths=lengths)  # and without the carry
        with pytest.raises(ValueError, match="broadcast"):
            call(params, x, seq_lengths=lengths, return_carry=True)


# --- NaN in padding ---


def gradients(params, call, padding):
    lengths = jnp.array([T, 2])
    valid = (jnp.arange(T)[None] < lengths[:, None])[..., None]
    x = jnp.where(valid, normal(B, T, F), padding)

    def loss(params, x, lengths):
        carry, ys = call(params, x, seq_lengths=lengths, return_carry=True)
        total = jnp.sum(jnp.where(valid, ys, jnp.zeros((), ys.dtype)))
        return total + sum(map(jnp.sum, jax.tree.leaves(carry)))

    return jax.tree.leaves(jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x, lengths))


@both_apis
def test_nan_in_padding_changes_no_gradient(api):
    params, call = api.ours(Elman(H))
    clean = gradients(params, call, 0.0)
    assert all(np.any(g) for g in clean)
    for padding in (jnp.nan, jnp.inf, 1e30):
        for got, want in zip(gradients(params, call, padding), clean, strict=True):
            np.testing.assert_array_equal(got, want)


@flax_fault
@both_apis
def test_flax_parameter_gradients_are_nan_for_nan_in_padding(api):
    with flax_settings():
        params, call = api.flax("SimpleCell")
        *weights, _ = gradients(params, call, jnp.nan)
        assert all(np.all(np.isfinite(g)) for g in gradients(params, call, 0.0))
    assert any(np.any(np.isnan(g)) for g in weights)


# --- bfloat16 ---


@both_apis
def test_a_simple_cell_runs_in_bfloat16(api):
    params, call = api.ours(Elman(H))
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    carry, ys = call(half, normal(B, T, F), return_carry=True)
    assert ys.dtype == jnp.bfloat16 and carry.dtype == jnp.float32
    want = call(params, normal(B, T, F))
    np.testing.assert_allclose(ys.astype(jnp.float32), want, atol=0.05)


@flax_fault
@both_apis
def test_flax_cannot_run_its_simple_cell_in_bfloat16(api):
    with flax_settings():
        params, call = api.flax("SimpleCell", dtype=jnp.bfloat16)
        with pytest.raises(TypeError, match="carry"):
            call(params, normal(B, T, F))


# --- what the loop holds ---


def loops(jaxpr):
    """The scans of a jaxpr, wherever they are in it."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
        else:
            for inner in jaxprs_in_params(equation.params):
                yield from loops(inner)


def matmuls(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from matmuls(inner)


def loop_of(params, call):
    """(arrays stacked over time, matmuls with the inputs per step) of the one loop."""

    def outputs(params, x, lengths):
        return jax.tree.leaves(call(params, x, seq_lengths=lengths, return_carry=True))

    jaxpr = jax.make_jaxpr(outputs)(params, normal(B, T, F), jnp.array([T, 2]))
    (loop,) = loops(jaxpr.jaxpr)
    stacked = [v for v in loop.outvars if v.aval.shape[:1] == (T,)]
    bodies = jaxprs_in_params(loop.params)
    of_inputs = [m for m in chain(*map(matmuls, bodies)) if m.invars[0].aval.shape == (B, F)]
    return len(stacked), len(of_inputs)


@both_apis
def test_the_loop_stacks_outputs_alone_and_multiplies_no_inputs(api):
    assert loop_of(*api.ours(LSTM(H))) == (1, 0)


@flax_fault
@both_apis
def test_flax_stacks_all_carries_and_multiplies_inputs_in_the_loop(api):
    with flax_settings():
        stacked, of_inputs = loop_of(*api.flax("OptimizedLSTMCell"))
    assert stacked == 3 and of_inputs >= 1  # c and h of every step besides the outputs
