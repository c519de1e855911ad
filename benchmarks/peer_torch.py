"""torch in `benchmarks.peers`: its own layers, and the loops that one writes where it has none.

A loop is a module with a step, run over time in Python and differentiated by autograd, eager.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.peer_cases import LAYERS, Arm, Data, gradient_as_ours
from benchmarks.peer_loops import LOOPS
from rnnlab.cells import LSTMCarry


class Model(NamedTuple):
    """A layer of torch with the weights of ours."""

    layer: torch.nn.Module  # (xs, *extra) -> (ys, carry)
    convert: Callable[[Any], dict[str, Any]]  # parameters of ours to a state_dict
    cell: Any  # (x, carry) -> carry; None: only whole sequences


def model(name: str, features: int, params: Any) -> Model:
    """The model of a cell by its name, filled with weights."""
    if name in LAYERS:
        kinds = {"lstm": "LSTM", "gru": "GRU", "elman": "RNN"}
        layer = getattr(torch.nn, kinds[name])(features, features)
        cell = getattr(torch.nn, f"{kinds[name]}Cell")(features, features)
        convert = _layer_weights
    else:
        make, convert = LOOPS[name]
        layer, cell = make(features), None
    state = {key: tensor(value) for key, value in jax.jit(convert)(params).items()}
    layer.load_state_dict(state)
    if cell is not None:
        cell.load_state_dict({key.removesuffix("_l0"): value for key, value in state.items()})
    return Model(layer.eval(), convert, cell)


def _layer_weights(params: Any) -> dict[str, Any]:
    """i, f, g, o and r, z, n as ours; matrices transposed; two biases that are added up."""
    of_x, of_h = 0.25 * params.bias, 0.75 * params.bias
    if hasattr(params, "recurrent_bias"):
        rest = 2 * params.recurrent_bias.size
        of_x = jnp.concatenate([of_x[:rest], params.bias[rest:]])
        of_h = jnp.concatenate([of_h[:rest], params.recurrent_bias])
    return {
        "weight_ih_l0": params.kernel.T,
        "weight_hh_l0": params.recurrent_kernel.T,
        "bias_ih_l0": of_x,
        "bias_hh_l0": of_h,
    }


def tensor(array: Any) -> torch.Tensor:
    """A copy of a jax array."""
    return torch.tensor(np.asarray(array))


def arm(model: Model, params: Any, data: Data, mode: str) -> Arm:
    """A model in one mode, run once.

    Args:
      model: of torch.
      params: its weights, laid out as ours.
      data: what it is fed.
      mode: one of `MODES`.
    """
    xs = tensor(data.xs).requires_grad_(mode == "backward")
    extra = [tensor(leaf) for leaf in jax.tree.leaves(data.extra)]
    leaves = dict(model.layer.named_parameters())
    weights, x, carry = tensor(data.weights), tensor(data.xs[0]), _from_ours(data.carry)

    def backward():
        ys, _ = model.layer(xs, *extra)
        return torch.autograd.grad(ys, [*leaves.values(), xs], weights)

    @torch.no_grad()
    def forward():
        ys, carry = model.layer(xs, *extra)
        return carry, ys

    @torch.no_grad()
    def step():
        return model.cell(x, carry)

    run = {"forward": forward, "backward": backward, "step": step}[mode]
    result = jax.tree.map(lambda a: a.detach().numpy(), run())

    def call() -> None:  # jax, which waits for results, would look at each tensor
        run()

    if mode == "backward":
        gradient = dict(zip(leaves, map(jnp.asarray, result[:-1]), strict=True))
        return Arm(call, (gradient_as_ours(model.convert, params, gradient), result[-1]), None)
    if mode == "step":
        carry_after = _as_ours(result)
        return Arm(call, (carry_after, jax.tree.leaves(carry_after)[-1]), None)
    return Arm(call, (_as_ours(result[0]), result[1]), None)


def _from_ours(carry: Any) -> Any:
    return (tensor(carry.h), tensor(carry.c)) if hasattr(carry, "c") else tensor(carry)


def _as_ours(carry: Any) -> Any:
    """Without an axis of layers, and c before h."""
    carry = jax.tree.map(lambda a: a.reshape(a.shape[-2:]), carry)
    return LSTMCarry(carry[1], carry[0]) if isinstance(carry, tuple) else carry
