"""Flax's own recurrent modules as oracles, and their weights in rnnlab's layout.

Flax runs under jax's defaults: its modules promote dtypes and ranks implicitly.
"""

import contextlib
import dataclasses
from typing import ClassVar

import flax.linen as fl
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx as fx

import rnnlab
from rnnlab.cells import GRU, LSTM, Elman
from rnnlab.cells.elman import ElmanParams
from rnnlab.cells.gru import GRUParams
from rnnlab.cells.lstm import LSTMParams

F, H = 3, 4


@contextlib.contextmanager
def flax_settings():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _join(weights, names, leaf):
    return jnp.concatenate([weights[name][leaf] for name in names], axis=-1)


def _lstm_by_gate(weights):
    weights = {name.rstrip("_"): layer for name, layer in weights.items()}  # nnx has `if_`
    inner, hidden = ("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho")
    return LSTMParams(
        _join(weights, inner, "kernel"),
        _join(weights, hidden, "kernel"),
        _join(weights, hidden, "bias"),
    )


def _gru_by_gate(weights):
    return GRUParams(
        _join(weights, ("ir", "iz", "in"), "kernel"),
        _join(weights, ("hr", "hz", "hn"), "kernel"),
        _join(weights, ("ir", "iz", "in"), "bias"),
        weights["hn"]["bias"],
    )


def _lstm_fused(weights):
    inner, hidden = weights["dense_i"], weights["dense_h"]
    return LSTMParams(inner["kernel"], hidden["kernel"], hidden["bias"])


def _gru_fused(weights):
    inner, hidden = weights["dense_i"], weights["dense_h"]
    no_bias = jnp.zeros(H, inner["bias"].dtype)  # nnx has no hidden bias of n
    return GRUParams(inner["kernel"], hidden["kernel"], inner["bias"], no_bias)


def _elman(inner, hidden):
    return lambda weights: ElmanParams(
        weights[inner]["kernel"], weights[hidden]["kernel"], weights[inner]["bias"]
    )


# Flax's cell class, rnnlab's cell, the conversion of weights (linear, so it converts gradients too)
NNX = {
    "LSTMCell": (fx.LSTMCell, LSTM(H), _lstm_by_gate),
    "OptimizedLSTMCell": (fx.OptimizedLSTMCell, LSTM(H), _lstm_fused),
    "GRUCell": (fx.GRUCell, GRU(H), _gru_fused),
    "SimpleCell": (fx.SimpleCell, Elman(H), _elman("dense_i", "dense_h")),
}
LINEN = {
    "OptimizedLSTMCell": (fl.OptimizedLSTMCell, LSTM(H), _lstm_by_gate),
    "GRUCell": (fl.GRUCell, GRU(H), _gru_by_gate),
    "SimpleCell": (fl.SimpleCell, Elman(H), _elman("i", "h")),
}


def normal(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


def drawn(tree, seed):
    """A tree of float64 normal numbers shaped like `tree` of arrays or shapes, biases included."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(0.7 * random.normal(size=a.shape)), tree)


def weighed(tree):
    """A scalar that every element of a tree moves in its own way."""
    return sum(
        jnp.sum(leaf * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape))
        for leaf in jax.tree.leaves(tree)
    )


def deviation(ours, theirs):
    """The largest difference between the arrays of two trees, in order."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    differences = []
    for a, b in pairs:
        assert a.shape == b.shape and a.dtype == b.dtype
        differences.append(float(jnp.max(jnp.abs(a - b), initial=0)))
    return max(differences)


def outputs_and_gradients(call, params, inputs, carry, fields, arguments):
    """Valid ys and the carry; gradients of params, inputs and initial carry through both.

    Args:
      call: of params and inputs, a module's or Linen's `apply`.
      params: what to differentiate first.
      inputs: in the layout that `time_major` says.
      carry: the initial carry, or None.
      fields: options that the module was made with.
      arguments: options of the call.
    """
    options = {**fields, **arguments}
    arguments = dict(arguments)
    lengths = arguments.pop("seq_lengths", None)
    time_axis = 0 if options.get("time_major") else 1
    length, batch = inputs.shape[time_axis], inputs.shape[1 - time_axis]
    valid = np.arange(length) < np.asarray(lengths or [length] * batch)[:, None]
    valid = jnp.asarray(valid.T if options.get("time_major") else valid)[..., None]

    def loss(params, inputs, carry, lengths):
        out = call(params, inputs, initial_carry=carry, seq_lengths=lengths, **arguments)
        last, ys = out if options.get("return_carry") else (None, out)
        out = (jax.tree.leaves(last), jnp.where(valid, ys, jnp.zeros((), ys.dtype)))
        return weighed(out), out

    compute = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (_, out), gradients = compute(
        params, inputs, carry, None if lengths is None else jnp.array(lengths)
    )
    return out, gradients


@dataclasses.dataclass(frozen=True)
class Counted(rnnlab.Cell):
    """A cell whose parameters are one bare array, and which counts its traces."""

    features: int
    traces: ClassVar[list] = []

    def init(self, key, in_features):
        return jax.random.normal(key, (in_features, self.features))

    def initial_carry(self, params, batch_shape=()):
        return jnp.zeros((*batch_shape, self.features))

    def project(self, params, x):
        self.traces.append(x.shape)
        return x @ params

    def recur(self, params, carry, z):
        return 0.5 * carry + z

    def readout(self, params, carry, z):
        return carry
