"""Convolutional cells against keras and flax: values and gradients, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnnlab.cells import ConvLSTM, LSTMCarry
from tests.cells.test_peers import Peer, by_gate, jax_values_and_gradients, ours

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("x64")]


def keras_conv_lstm(cell):
    dims = len(cell.spatial_shape)

    def run(keras, params, xs, carry):
        layer = getattr(keras.layers, f"ConvLSTM{dims}D")(
            cell.features,
            cell.window,
            padding="same",
            data_format="channels_last",
            activation=jnp.tanh,
            recurrent_activation=jax.nn.sigmoid,
            return_sequences=True,
            return_state=True,
            dtype="float64",
        )
        layer.build((None, None, *cell.spatial_shape, xs.shape[-1]))
        weights = params._asdict()  # i, f, c, o as ours
        trainable = [weights[variable.name] for variable in layer.trainable_variables]
        rest = [variable.value for variable in layer.non_trainable_variables]
        theirs = [carry.h, carry.c]
        out, _ = layer.stateless_call(trainable, rest, xs.swapaxes(0, 1), initial_state=theirs)
        ys, h, c = out
        return LSTMCarry(c, h), ys.swapaxes(0, 1)

    return run


def linen_conv_lstm(cell):
    """Flax has one convolution of all gates i, g, f, o for x and one for h."""

    def run(linen, params, xs, carry):
        module = linen.ConvLSTMCell(cell.features, cell.window)

        def theirs(packed):
            gates = by_gate(packed, "ifgo")
            return jnp.concatenate([gates[name] for name in "igfo"], axis=-1)

        # It adds 1 to f, and has two biases.
        bias = params.bias - jnp.repeat(jnp.asarray([0.0, 1, 0, 0]), cell.features)
        weights = {
            "ih": {"kernel": theirs(params.kernel), "bias": theirs(0.25 * bias)},
            "hh": {"kernel": theirs(params.recurrent_kernel), "bias": theirs(0.75 * bias)},
        }

        def step(carry, x):
            return module.apply({"params": weights}, carry, x)

        carry, ys = lax.scan(step, tuple(carry), xs)
        return LSTMCarry(*carry), ys

    return run


LINE, IMAGE = ConvLSTM(2, (5,), window=3), ConvLSTM(2, (4, 3), window=(3, 2))
FILM = ConvLSTM(2, (2, 3, 2), window=2)
PEERS = (
    Peer("keras", "ConvLSTM1D", LINE, keras_conv_lstm(LINE)),
    Peer("keras", "ConvLSTM2D", IMAGE, keras_conv_lstm(IMAGE)),
    Peer("keras", "ConvLSTM3D", FILM, keras_conv_lstm(FILM)),
    Peer("flax.linen", "ConvLSTMCell 1d", LINE, linen_conv_lstm(LINE)),
    Peer("flax.linen", "ConvLSTMCell 2d", IMAGE, linen_conv_lstm(IMAGE)),
)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.library} {peer.name}")
def test_peer(peer):
    library = pytest.importorskip(peer.library)
    arguments, weights, got = ours(peer.cell)
    expected = jax_values_and_gradients(lambda *a: peer.run(library, *a), arguments, weights)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
