"""How much of what a language model has read it makes use of."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.core.types import Array
from rnnlab.models.language import LanguageModel, LanguageModelParams


def loss_by_position(
    model: LanguageModel, params: LanguageModelParams, windows: Iterable
) -> np.ndarray:
    """The loss at each place of a window when every window starts anew.

    The prediction at place t knows t + 1 tokens, so the loss falls with t as far as the model makes
    use of its context.

    Args:
      model: what predicts.
      params: its parameters.
      windows: one or more, as `rnnlab.data.Streams` gives them.

    Returns:
      The mean loss in nats, float64 `[T]`; shorter where no window reaches the last places.

    Raises:
      ValueError: no window.
    """
    sums = np.zeros((2, 1))
    for window in windows:
        batch = (window.inputs.T, window.targets.T, window.weights.T)
        sums = sums + np.asarray(_sums(model, params, *batch), np.float64)
    if not sums.any():
        raise ValueError("windows: expected one or more, got none.")
    totals, weights = sums[:, sums[1] > 0]
    return totals / weights


@functools.partial(jax.jit, static_argnames="model")
def _sums(model, params, inputs, targets, weights) -> Array:
    """Totals and weights of the losses at each place, `[2, T]`."""
    carry = model.initial_carry(params, inputs.shape[1])
    _, losses, _ = model.losses(params, inputs, targets, carry)
    return jnp.stack([jnp.sum(losses * weights, axis=1), jnp.sum(weights, axis=1)])
