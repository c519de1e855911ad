"""One update of a language model in rnnlab, in flax and in torch, from the same weights.

An arm is a function of a window (tokens and targets, int `[T, B]`) that updates its own parameters
and returns the loss: embedding, recurrent layers whose carry goes on from window to window, output
kernel, mean cross-entropy, clipping by the global norm, Adam.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnlab.cells import CELLS
from rnnlab.models import LanguageModel
from rnnlab.models.language import LanguageModelParams
from rnnlab.strategies import Strategy

RATE, CLIP = 1e-3, 1.0
Arm = Callable[[Any], Any]


class Size(NamedTuple):
    """A model and its batch."""

    vocabulary: int  # V
    embedding: int  # E
    features: int  # H
    batch: int  # B
    length: int  # T

    def __str__(self) -> str:
        return "V {}, E {}, H {}, B {}, T {}".format(*self)


def draw_params(cell: str, size: Size, layers: int) -> LanguageModelParams:
    """The weights that all arms start from, in rnnlab's layout, on the host."""
    cells = (CELLS[cell](size.features),) * layers
    model = LanguageModel(size.vocabulary, size.embedding, cells)
    return jax.tree.map(np.asarray, model.init(jax.random.key(0)))


def rnnlab_arm(cell: str, size: Size, params: LanguageModelParams, strategy: Strategy) -> Arm:
    """rnnlab's model under a strategy."""
    cells = (CELLS[cell](size.features),) * len(params.cells)
    model = LanguageModel(size.vocabulary, size.embedding, cells, strategy=strategy)
    return _jax_arm(params, model.initial_carry(params, size.batch), model.apply)


def flax_arm(cell: str, size: Size, params: LanguageModelParams) -> Arm:
    """The same model in flax linen."""
    layer = {"lstm": "OptimizedLSTMCell", "gru": "GRUCell"}[cell]
    model = FlaxLanguageModel(size, layer)
    start = getattr(flax.linen, layer)(size.features).initialize_carry
    shape = (size.batch, size.features)
    carry = tuple(start(jax.random.key(0), shape) for _ in params.cells)

    def apply(params, tokens, carry):
        return model.apply({"params": params}, tokens, carry)

    return _jax_arm(flax_params(cell, layer, params), carry, apply)


def _jax_arm(params: Any, carry: Any, apply: Callable[..., Any]) -> Arm:
    """An update as a user of jax and optax writes it: one program that is given its old state."""
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(RATE))

    def update(params, opt_state, carry, tokens, targets):
        def objective(params):
            after, logits = apply(params, tokens, carry)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            return losses.mean(), after

        (loss, after), gradients = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, after), loss

    update = jax.jit(update, donate_argnums=(0, 1, 2))
    params = jax.tree.map(jnp.array, params)
    state = (params, optimizer.init(params), carry)

    def arm(window):
        nonlocal state
        state, loss = update(*state, *window)
        return loss

    return arm


class FlaxLanguageModel(flax.linen.Module):
    """`rnnlab.models.LanguageModel` as flax's own parts make it."""

    size: Size
    layer: str

    @flax.linen.compact
    def __call__(self, tokens, carries):
        xs = flax.linen.Embed(self.size.vocabulary, self.size.embedding)(tokens)
        after = []
        for carry in carries:
            cell = getattr(flax.linen, self.layer)(self.size.features)
            carry, xs = flax.linen.RNN(cell, time_major=True, return_carry=True)(
                xs, initial_carry=carry
            )
            after.append(carry)
        return tuple(after), flax.linen.Dense(self.size.vocabulary)(xs)


def flax_params(cell: str, layer: str, params: LanguageModelParams) -> dict[str, Any]:
    """Weights in flax's layout: a matrix for every gate."""
    tree: dict[str, Any] = {
        "Embed_0": {"embedding": params.embedding},
        "Dense_0": {"kernel": params.kernel, "bias": params.bias},
    }
    names, biased = {"lstm": ("ifgo", "h"), "gru": ("rzn", "i")}[cell]
    for index, weights in enumerate(params.cells):
        gates: dict[str, dict[str, Any]] = {}
        for side, packed in (("i", weights.kernel), ("h", weights.recurrent_kernel)):
            for name, kernel in zip(names, np.split(packed, len(names), axis=-1), strict=True):
                gates[side + name] = {"kernel": kernel}
        for name, bias in zip(names, np.split(weights.bias, len(names)), strict=True):
            gates[biased + name]["bias"] = bias
        if cell == "gru":
            gates["hn"]["bias"] = weights.recurrent_bias
        tree[f"{layer}_{index}"] = gates
    return tree


def torch_arm(torch: Any, cell: str, size: Size, params: LanguageModelParams) -> Arm:
    """The same model in torch; it has a second bias for every gate, which starts at zero.

    Args:
      torch: the library, imported.
      cell: "lstm" or "gru".
      size: of the model.
      params: to start from.
    """
    layer, layers = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell], len(params.cells)
    embedding = torch.nn.Embedding(size.vocabulary, size.embedding)
    recurrent = layer(size.embedding, size.features, num_layers=layers)
    output = torch.nn.Linear(size.features, size.vocabulary)
    weights = {
        embedding.weight: params.embedding,
        output.weight: np.asarray(params.kernel, np.float32).T,
        output.bias: params.bias,
        **_torch_layers(recurrent, params.cells),
    }
    with torch.no_grad():
        for parameter, value in weights.items():
            parameter.copy_(torch.tensor(np.array(value)))
    optimizer = torch.optim.Adam(list(weights), lr=RATE)
    carry = None

    def arm(window):
        nonlocal carry
        tokens, targets = window
        ys, carry = recurrent(embedding(tokens), carry)
        carry = tuple(c.detach() for c in carry) if cell == "lstm" else carry.detach()
        logits = output(ys)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights), CLIP)
        optimizer.step()
        return loss.detach()

    return arm


def _torch_layers(recurrent: Any, cells: Sequence[Any]) -> dict[Any, Any]:
    """Parameters of torch's recurrent layers -> their values."""
    values = {}
    for index, weights in enumerate(cells):
        recurrent_bias = np.zeros_like(weights.bias)
        if hasattr(weights, "recurrent_bias"):  # of n alone, the last of the GRU's gates
            recurrent_bias[-len(weights.recurrent_bias) :] = weights.recurrent_bias
        values |= {
            getattr(recurrent, f"weight_ih_l{index}"): np.transpose(weights.kernel),
            getattr(recurrent, f"weight_hh_l{index}"): np.transpose(weights.recurrent_kernel),
            getattr(recurrent, f"bias_ih_l{index}"): weights.bias,
            getattr(recurrent, f"bias_hh_l{index}"): recurrent_bias,
        }
    return values
