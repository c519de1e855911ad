"""Our cells against other libraries' own: values and gradients, in float64.

A peer takes (library, params, xs, carry) laid out as ours, converts them to its own layout with
operations that its library differentiates, and gives (carry, ys) laid out as ours. The gradients
of both can then be compared leaf by leaf.
"""

import functools
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rnnlab
from rnnlab.cells import GRU, LSTM, MGU, Elman, LSTMCarry, ResetBeforeGRU
from rnnlab.core import Cell
from tests.cells.variants import FEATURES, IN_FEATURES, random_arguments, random_like

os.environ["KERAS_BACKEND"] = "jax"  # read when keras is imported

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("x64")]

LENGTH, BATCH = 5, 2


def by_gate(packed, names):
    return dict(zip(names, jnp.split(packed, len(names), axis=-1), strict=True))


def reordered(packed, ours, theirs):
    """Gates side by side in the order `ours`, put into the order `theirs`."""
    parts = by_gate(packed, ours)
    return jnp.concatenate([parts[name] for name in theirs], axis=-1)


def two_biases(bias):
    """Two that add up to one, where a library has one for x and one for h."""
    return 0.25 * bias, 0.75 * bias


# torch: i, f, g, o and r, z, n as ours; matrices transposed; two biases; (h, c); a layer axis.


def torch_recurrent(torch, layer, params, biases, xs, carry, **options):
    module = getattr(torch.nn, layer)(IN_FEATURES, FEATURES, dtype=torch.float64, **options)
    weights = {
        "weight_ih_l0": params.kernel.T,
        "weight_hh_l0": params.recurrent_kernel.T,
        "bias_ih_l0": biases[0],
        "bias_hh_l0": biases[1],
    }
    if getattr(params, "projection", None) is not None:
        weights["weight_hr_l0"] = params.projection.T
    ys, carry = torch.func.functional_call(module, weights, (xs, carry))
    return jax.tree.map(lambda a: a[0], carry), ys


def torch_rnn(activation):
    def run(torch, params, xs, h):
        biases = two_biases(params.bias)
        return torch_recurrent(torch, "RNN", params, biases, xs, h[None], nonlinearity=activation)

    return run


def torch_lstm(torch, params, xs, carry):
    size = 0 if params.projection is None else params.projection.shape[1]
    theirs = (carry.h[None], carry.c[None])
    biases = two_biases(params.bias)
    (h, c), ys = torch_recurrent(torch, "LSTM", params, biases, xs, theirs, proj_size=size)
    return LSTMCarry(c, h), ys


def torch_gru(torch, params, xs, h):
    of_x, of_h = two_biases(params.bias[: 2 * FEATURES])
    biases = (
        torch.cat([of_x, params.bias[2 * FEATURES :]]),
        torch.cat([of_h, params.recurrent_bias]),
    )
    return torch_recurrent(torch, "GRU", params, biases, xs, h[None])


# keras: batch before time; i, f, c, o and z, r, h; z keeps the old state; [h, c]. Its own tanh
# computes in float32 whatever comes, so it is given another.


def keras_recurrent(keras, layer, weights, xs, carry, activation=jnp.tanh, **options):
    layer = getattr(keras.layers, layer)(
        FEATURES,
        activation=activation,
        return_sequences=True,
        return_state=True,
        dtype="float64",
        **options,
    )
    layer.build((None, None, IN_FEATURES))
    trainable = [weights[variable.name] for variable in layer.trainable_variables]
    rest = [variable.value for variable in layer.non_trainable_variables]
    (ys, *carry), _ = layer.stateless_call(trainable, rest, xs.swapaxes(0, 1), initial_state=carry)
    return carry, ys.swapaxes(0, 1)


def keras_simple_rnn(activation):
    def run(keras, params, xs, h):
        weights = params._asdict()
        [h], ys = keras_recurrent(keras, "SimpleRNN", weights, xs, [h], activation=activation)
        return h, ys

    return run


def keras_lstm(keras, params, xs, carry):
    [h, c], ys = keras_recurrent(keras, "LSTM", params._asdict(), xs, [carry.h, carry.c])
    return LSTMCarry(c, h), ys


def keras_gru(reset_after):
    def run(keras, params, xs, h):
        weights = {
            name: reordered(getattr(params, name), "rzn", "zrn") for name in params._fields[:3]
        }
        if reset_after:
            of_x, of_h = two_biases(weights["bias"][: 2 * FEATURES])
            of_x = jnp.concatenate([of_x, weights["bias"][2 * FEATURES :]])
            of_h = jnp.concatenate([of_h, params.recurrent_bias])
            weights["bias"] = jnp.stack([of_x, of_h])
        [h], ys = keras_recurrent(keras, "GRU", weights, xs, [h], reset_after=reset_after)
        return h, ys

    return run


# haiku: i, g, f, o with 1 added to f; z, r, a, where z takes in the new value; matrices of x and
# h one above the other in its LSTM.


def haiku_recurrent(hk, core, weights, xs, carry):
    def run(xs, carry):
        return hk.dynamic_unroll(getattr(hk, core)(FEATURES), xs, carry)

    ys, carry = hk.without_apply_rng(hk.transform(run)).apply(weights, xs, carry)
    return carry, ys


def haiku_vanilla_rnn(hk, params, xs, h):
    of_x, of_h = two_biases(params.bias)
    weights = {
        "vanilla_rnn/linear": {"w": params.kernel, "b": of_x},
        "vanilla_rnn/linear_1": {"w": params.recurrent_kernel, "b": of_h},
    }
    return haiku_recurrent(hk, "VanillaRNN", weights, xs, h)


def haiku_lstm(hk, params, xs, carry):
    both = jnp.concatenate([params.kernel, params.recurrent_kernel])
    bias = by_gate(params.bias, "ifgo")
    weights = {
        "lstm/linear": {
            "w": reordered(both, "ifgo", "igfo"),
            "b": jnp.concatenate([bias["i"], bias["g"], bias["f"] - 1, bias["o"]]),
        }
    }
    carry, ys = haiku_recurrent(hk, "LSTM", weights, xs, hk.LSTMState(carry.h, carry.c))
    return LSTMCarry(carry.cell, carry.hidden), ys


def haiku_gru(hk, params, xs, h):
    def theirs(packed):  # 1 - sigmoid(a) = sigmoid(-a)
        gates = by_gate(packed, "rzn")
        return jnp.concatenate([-gates["z"], gates["r"], gates["n"]], axis=-1)

    names = ("w_i", "w_h", "b")
    weights = {"gru": dict(zip(names, map(theirs, params), strict=True))}
    return haiku_recurrent(hk, "GRU", weights, xs, h)


# equinox: as torch, but one bias and one of n; no batch; (x, carry) -> carry.


def equinox_recurrent(equinox, cell, weights, xs, carry):
    cell = getattr(equinox.nn, cell)(IN_FEATURES, FEATURES, key=jax.random.key(0))
    names = tuple(weights)
    cell = equinox.tree_at(
        lambda cell: [getattr(cell, name) for name in names], cell, list(weights.values())
    )

    def step(carry, x):
        carry = jax.vmap(cell)(x, carry)
        return carry, carry

    return lax.scan(step, carry, xs)


def equinox_lstm(equinox, params, xs, carry):
    weights = {
        "weight_ih": params.kernel.T,
        "weight_hh": params.recurrent_kernel.T,
        "bias": params.bias,
    }
    (h, c), (ys, _) = equinox_recurrent(equinox, "LSTMCell", weights, xs, (carry.h, carry.c))
    return LSTMCarry(c, h), ys


def equinox_gru(equinox, params, xs, h):
    weights = {
        "weight_ih": params.kernel.T,
        "weight_hh": params.recurrent_kernel.T,
        "bias": params.bias,
        "bias_n": params.recurrent_bias,
    }
    return equinox_recurrent(equinox, "GRUCell", weights, xs, h)


# flax linen: a Dense for every gate, ii, hi and so on; the bias of a gate is on one of its two.


def linen_scan(cell, weights, xs, carry):
    return lax.scan(lambda carry, x: cell.apply({"params": weights}, carry, x), carry, xs)


def linen_gates(params, names, biased):
    """A `Dense` of every gate for x and for h; the biases go to the x or to the h ones."""
    weights = {}
    for side, packed in (("i", params.kernel), ("h", params.recurrent_kernel)):
        for name, kernel in by_gate(packed, names).items():
            weights[side + name] = {"kernel": kernel}
    for name, bias in by_gate(params.bias, names).items():
        weights[biased + name]["bias"] = bias
    return weights


def linen_simple(linen, params, xs, h):
    weights = {
        "i": {"kernel": params.kernel, "bias": params.bias},
        "h": {"kernel": params.recurrent_kernel},
    }
    return linen_scan(linen.SimpleCell(FEATURES), weights, xs, h)


def linen_lstm(name):
    def run(linen, params, xs, carry):
        weights = linen_gates(params, "ifgo", biased="h")
        carry, ys = linen_scan(getattr(linen, name)(FEATURES), weights, xs, tuple(carry))
        return LSTMCarry(*carry), ys

    return run


def linen_gru(linen, params, xs, h):
    weights = linen_gates(params, "rzn", biased="i")
    weights["hn"]["bias"] = params.recurrent_bias
    return linen_scan(linen.GRUCell(FEATURES), weights, xs, h)


def linen_mgu(linen, params, xs, h):
    weights = linen_gates(params, "fn", biased="i")
    weights["hn"]["bias"] = params.recurrent_bias
    return linen_scan(linen.MGUCell(FEATURES), weights, xs, h)


# jax.experimental.rnn: torch's layout, a dict over layers; batch before time.


def lstm_ref(rnn, params, xs, carry):
    weights = (params.kernel.T, params.recurrent_kernel.T, *two_biases(params.bias))
    ys, h, c = rnn.lstm_ref(
        xs.swapaxes(0, 1),
        carry.h[None],
        carry.c[None],
        *({0: w} for w in weights),
        jnp.full(xs.shape[1], xs.shape[0], jnp.int32),
        *(IN_FEATURES, FEATURES, 1, 0.0, False),  # layers, dropout, bidirectional
    )
    return LSTMCarry(c[0], h[0]), ys.swapaxes(0, 1)


class Peer(NamedTuple):
    library: str  # what to import; the test is skipped where it is missing
    name: str
    cell: Cell  # ours
    run: Callable  # (library, params, xs, carry) -> (carry, ys)


PEERS = (
    Peer("torch", "RNN tanh", Elman(FEATURES), torch_rnn("tanh")),
    Peer("torch", "RNN relu", Elman(FEATURES, activation="relu"), torch_rnn("relu")),
    Peer("torch", "LSTM", LSTM(FEATURES), torch_lstm),
    Peer("torch", "LSTM proj_size", LSTM(FEATURES, projection=2), torch_lstm),
    Peer("torch", "GRU", GRU(FEATURES), torch_gru),
    Peer("keras", "SimpleRNN tanh", Elman(FEATURES), keras_simple_rnn(jnp.tanh)),
    Peer("keras", "SimpleRNN relu", Elman(FEATURES, activation="relu"), keras_simple_rnn("relu")),
    Peer(
        "keras",
        "SimpleRNN leaky relu",
        Elman(FEATURES, activation="leaky_relu"),
        keras_simple_rnn(jax.nn.leaky_relu),
    ),
    Peer("keras", "LSTM", LSTM(FEATURES), keras_lstm),
    Peer("keras", "GRU reset_after", GRU(FEATURES), keras_gru(reset_after=True)),
    Peer("keras", "GRU reset_before", ResetBeforeGRU(FEATURES), keras_gru(reset_after=False)),
    Peer("haiku", "VanillaRNN", Elman(FEATURES, activation="relu"), haiku_vanilla_rnn),
    Peer("haiku", "LSTM", LSTM(FEATURES), haiku_lstm),
    Peer("haiku", "GRU", ResetBeforeGRU(FEATURES), haiku_gru),
    Peer("equinox", "LSTMCell", LSTM(FEATURES), equinox_lstm),
    Peer("equinox", "GRUCell", GRU(FEATURES), equinox_gru),
    Peer("flax.linen", "SimpleCell", Elman(FEATURES), linen_simple),
    Peer("flax.linen", "LSTMCell", LSTM(FEATURES), linen_lstm("LSTMCell")),
    Peer("flax.linen", "OptimizedLSTMCell", LSTM(FEATURES), linen_lstm("OptimizedLSTMCell")),
    Peer("flax.linen", "GRUCell", GRU(FEATURES), linen_gru),
    Peer("flax.linen", "MGUCell", MGU(FEATURES), linen_mgu),
    Peer("jax.experimental.rnn", "lstm_ref", LSTM(FEATURES), lstm_ref),
)


def jax_values_and_gradients(run, arguments, weights):
    """What `run` gives, and the gradients of its sum with `weights` by each of its arguments."""

    @jax.jit
    def both(arguments):
        values, pullback = jax.vjp(run, *arguments)
        return values, pullback(weights)

    return both(arguments)


def torch_values_and_gradients(torch, run, arguments, weights):
    arguments = jax.tree.map(lambda a: torch.tensor(a, requires_grad=True), arguments)
    leaves, structure = jax.tree.flatten(arguments)
    values = run(*arguments)
    gradients = torch.autograd.grad(
        jax.tree.leaves(values), leaves, [torch.tensor(w) for w in jax.tree.leaves(weights)]
    )
    return jax.tree.map(lambda a: a.detach().numpy(), (values, structure.unflatten(gradients)))


@functools.cache
def ours(cell):
    """Arguments, weights of every output and of the last carry, and what we make of them."""
    arguments = random_arguments(cell, LENGTH, (BATCH,))
    run = functools.partial(rnnlab.unroll, cell)
    weights = random_like(jax.eval_shape(run, *arguments), seed=6)
    return arguments, weights, jax_values_and_gradients(run, arguments, weights)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.library} {peer.name}")
def test_peer(peer):
    library = pytest.importorskip(peer.library)
    arguments, weights, got = ours(peer.cell)
    run = functools.partial(peer.run, library)
    if peer.library == "torch":
        expected = torch_values_and_gradients(library, run, arguments, weights)
    else:
        expected = jax_values_and_gradients(run, arguments, weights)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
