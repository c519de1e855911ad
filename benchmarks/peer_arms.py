"""The layers of other jax libraries, as contenders of `benchmarks.peers`.

Each function takes the name of a cell and H, the features of input and state, and imports its
library, so that a missing one can be left out. Weights are those of rnnlab, converted; layouts are
tested against one another in `tests/cells/test_peers.py`.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.peer_cases import LAYERS, Contender
from rnnlab.cells import Elman, LSTMCarry, ResetBeforeGRU


def _by_gate(packed: Any, names: Sequence[str]) -> dict[str, Any]:
    return dict(zip(names, jnp.split(packed, len(names), axis=-1), strict=True))


def _reordered(packed: Any, ours: str, theirs: str) -> Any:
    """Gates side by side in the order `ours`, put into the order `theirs`."""
    parts = _by_gate(packed, ours)
    return jnp.concatenate([parts[name] for name in theirs], axis=-1)


def _flax_carry(carry: Any) -> Any:
    return LSTMCarry(*carry) if isinstance(carry, tuple) else carry


def linen(name: str, features: int) -> Contender:
    """flax.linen, the fastest cell it has of each kind."""
    from flax import linen as nn

    classes = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "elman": nn.SimpleCell}
    cell: Any = classes[name](features)
    layer = nn.RNN(cell, time_major=True, return_carry=True)

    def convert(params):
        gates, biased = {"lstm": ("ifgo", "h"), "gru": ("rzn", "i"), "elman": (("",), "i")}[name]
        weights: dict[str, Any] = {}
        for side, packed in (("i", params.kernel), ("h", params.recurrent_kernel)):
            for gate, kernel in _by_gate(packed, gates).items():
                weights[side + gate] = {"kernel": kernel}
        for gate, bias in _by_gate(params.bias, gates).items():
            weights[biased + gate]["bias"] = bias
        if name == "gru":
            weights["hn"]["bias"] = params.recurrent_bias
        return {"cell": weights}

    def sequence(weights, xs):
        carry, ys = layer.apply({"params": weights}, xs)
        return _flax_carry(carry), ys

    def step(weights, carry, x):
        carry, y = cell.apply({"params": weights["cell"]}, carry, x)
        return _flax_carry(carry), y

    return Contender(LAYERS[name](features), convert, sequence, step)


def nnx(name: str, features: int) -> Contender:
    """flax.nnx: the module is put together from its weights inside the compiled function."""
    from flax import nnx as nn

    classes = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "elman": nn.SimpleCell}
    zeros = nn.initializers.zeros_init()  # drawing kernels takes time
    options = {"kernel_init": zeros, "recurrent_kernel_init": zeros}
    cell: Any = classes[name](features, features, rngs=nn.Rngs(0), **options)
    layer = nn.RNN(cell, time_major=True, return_carry=True)
    definition, state, rest = nn.split(layer, nn.Param, ...)

    def convert(params):
        biased = "dense_h" if name == "lstm" else "dense_i"
        weights = {
            "dense_i": {"kernel": params.kernel},
            "dense_h": {"kernel": params.recurrent_kernel},
        }
        weights[biased]["bias"] = params.bias
        return {"cell": weights}

    def module(weights) -> Any:
        filled = jax.tree.map(lambda a: a, state)  # a copy
        nn.replace_by_pure_dict(filled, weights)
        return nn.merge(definition, filled, rest, copy=True)

    def sequence(weights, xs):
        carry, ys = module(weights)(xs)
        return _flax_carry(carry), ys

    def step(weights, carry, x):
        carry, y = module(weights).cell(carry, x)
        return _flax_carry(carry), y

    lacks = ("recurrent_bias",) if name == "gru" else ()
    return Contender(LAYERS[name](features), convert, sequence, step, lacks=lacks)


def haiku(name: str, features: int) -> Contender:
    """Haiku. Its GRU is our `ResetBeforeGRU`, its VanillaRNN a ReLU network."""
    import haiku as hk

    core: Any = {"lstm": hk.LSTM, "gru": hk.GRU, "elman": hk.VanillaRNN}[name]
    cell = {
        "lstm": LAYERS["lstm"](features),
        "gru": ResetBeforeGRU(features),
        "elman": Elman(features, activation="relu"),
    }[name]

    def convert(params):
        if name == "lstm":  # it adds 1 to the forget gate
            both = jnp.concatenate([params.kernel, params.recurrent_kernel])
            bias = _by_gate(params.bias, "ifgo")
            bias = [bias["i"], bias["g"], bias["f"] - 1, bias["o"]]
            both = _reordered(both, "ifgo", "igfo")
            return {"lstm/linear": {"w": both, "b": jnp.concatenate(bias)}}
        if name == "gru":
            names = ("w_i", "w_h", "b")
            return {"gru": dict(zip(names, map(_new_is_kept, params), strict=True))}
        return {
            "vanilla_rnn/linear": {"w": params.kernel, "b": 0.5 * params.bias},
            "vanilla_rnn/linear_1": {"w": params.recurrent_kernel, "b": 0.5 * params.bias},
        }

    def ours(carry):
        return LSTMCarry(carry.cell, carry.hidden) if name == "lstm" else carry

    def unrolled(xs):
        module = core(features)
        return hk.dynamic_unroll(module, xs, module.initial_state(xs.shape[1]))

    def stepped(carry, x):
        return core(features)(x, hk.LSTMState(carry.h, carry.c) if name == "lstm" else carry)

    def sequence(weights, xs):
        ys, carry = hk.without_apply_rng(hk.transform(unrolled)).apply(weights, xs)
        return ours(carry), ys

    def step(weights, carry, x):
        y, carry = hk.without_apply_rng(hk.transform(stepped)).apply(weights, carry, x)
        return ours(carry), y

    return Contender(cell, convert, sequence, step)


def _new_is_kept(packed: Any) -> Any:
    """r, z, n to z, r, n where z takes in the new value: 1 - sigmoid(a) = sigmoid(-a)."""
    gates = _by_gate(packed, "rzn")
    return jnp.concatenate([-gates["z"], gates["r"], gates["n"]], axis=-1)


def equinox(name: str, features: int) -> Contender | None:
    """Equinox, scanned; it has no Elman cell."""
    import equinox as eqx

    if name == "elman":
        return None
    maker: Any = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[name]
    empty = maker(features, features, key=jax.random.key(0))

    def convert(params):
        weights = {
            "weight_ih": params.kernel.T,
            "weight_hh": params.recurrent_kernel.T,
            "bias": params.bias,
        }
        if name == "gru":
            weights["bias_n"] = params.recurrent_bias
        return eqx.tree_at(
            lambda cell: [getattr(cell, n) for n in weights], empty, [*weights.values()]
        )

    def step(cell, carry, x):
        if name == "gru":
            h = jax.vmap(cell)(x, carry)
            return h, h
        h, c = jax.vmap(cell)(x, (carry.h, carry.c))
        return LSTMCarry(c, h), h

    def sequence(cell, xs):
        h = jnp.zeros_like(xs[0])
        carry: Any = LSTMCarry(h, h) if name == "lstm" else h
        return lax.scan(lambda carry, x: step(cell, carry, x), carry, xs)

    return Contender(LAYERS[name](features), convert, sequence, step)


def keras(name: str, features: int) -> Contender:
    """Keras with jax below it, the batch before time, as it is natively fed."""
    os.environ["KERAS_BACKEND"] = "jax"  # read when keras is imported
    import keras as library

    classes = {
        "lstm": library.layers.LSTM,
        "gru": library.layers.GRU,
        "elman": library.layers.SimpleRNN,
    }
    layer: Any = classes[name](
        features,
        return_sequences=True,
        return_state=True,
        kernel_initializer="zeros",
        recurrent_initializer="zeros",
    )
    layer.build((None, None, features))

    def convert(params):
        if name != "gru":
            return list(params[:3])  # kernel, recurrent kernel, bias: i, f, g, o as ours
        kernels = [_reordered(packed, "rzn", "zrn") for packed in params[:3]]
        of_h = jnp.concatenate([jnp.zeros(2 * features), params.recurrent_bias])
        return [*kernels[:2], jnp.stack([kernels[2], of_h])]

    def ours(carry):
        return LSTMCarry(carry[1], carry[0]) if name == "lstm" else carry[0]

    def rest(part):
        return [variable.value for variable in part.non_trainable_variables]

    def sequence(weights, xs):
        (ys, *carry), _ = layer.stateless_call(weights, rest(layer), xs)
        return ours(carry), ys

    def step(weights, carry, x):
        states = [carry.h, carry.c] if name == "lstm" else [carry]
        (y, carry), _ = layer.cell.stateless_call(weights, rest(layer.cell), x, states)
        return ours(carry), y

    return Contender(LAYERS[name](features), convert, sequence, step, batch_major=True)


JAX_PEERS: dict[str, Callable[[str, int], Contender | None]] = {
    "linen": linen,
    "nnx": nnx,
    "haiku": haiku,
    "equinox": equinox,
    "keras": keras,
}
