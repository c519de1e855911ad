"""Dynamic evaluation: a model goes on learning from the text it is scored on."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from rnnlab.training.mesh import make_mesh
from rnnlab.training.steps import make_gradients, make_loss_step
from rnnlab.training.task import Mean, PyTree, Task


def score_dynamically(
    task: Task,
    params: PyTree,
    batches: Iterable,
    *,
    learning_rate: float,
    decay: float = 0.0,
    squares: PyTree | None = None,
    epsilon: float = 1e-3,
    dtype: str = "float32",
) -> dict[str, float]:
    """Scores batches one after another, and learns from each once it is scored.

        params_t = params_{t-1} - learning_rate g_t / (r + epsilon)
                   + min(decay r / mean(r), 1) (params_0 - params_{t-1}),    r = sqrt(squares)

    Without `squares` both quotients are 1: gradient descent that is pulled back to the parameters
    it began with. The loss of a batch is that of parameters which have not seen it, computed by
    the program of an ordinary evaluation, so a learning rate of 0 gives its scores exactly.

    Args:
      task: gives the loss, which is the one of evaluation, with nothing random in it.
      params: those of the trained model; they stay as they are.
      batches: in the order of the text, so with a state that is carried from one to the next. All
        rows of a batch adapt the same parameters: one stream is what the paper has.
      learning_rate: 0 or more.
      decay: 0 to 1, of what was learned, for each batch.
      squares: what `mean_squares` returned, or None.
      epsilon: added to r, more than 0.
      dtype: of the computation, "float32" or "bfloat16".

    Returns:
      Metric -> mean over all batches.

    Raises:
      ValueError: a number out of range, or batches without weight.
      FloatingPointError: a metric that is not finite: the learning rate is too high.

    References: Krause et al. 2018, "Dynamic evaluation of neural sequence models".
    """
    if not 0 <= learning_rate < math.inf:
        raise ValueError(f"learning_rate: expected at least 0, got {learning_rate}.")
    if not 0 <= decay <= 1:
        raise ValueError(f"decay: expected 0 to 1, got {decay}.")
    if not epsilon > 0:
        raise ValueError(f"epsilon: expected more than 0, got {epsilon}.")
    score = make_loss_step(task, dtype, make_mesh("", 1))
    gradients_of_mean = make_gradients(task, dtype, microbatches=1)
    scales, pulls = _scales(params, squares, epsilon), _pulls(params, squares, decay)

    @jax.jit
    def learn(adapted, state, batch, params, scales, pulls):
        gradients, _, _ = gradients_of_mean(adapted, state, batch, None)
        return jax.tree.map(
            lambda now, start, gradient, scale, pull: (
                now - learning_rate * scale * gradient + pull * (start - now)
            ),
            *(adapted, params, gradients, scales, pulls),
        )

    mean, adapted, state = Mean(), params, None
    for batch in batches:
        before = _first_state(task, params, batch) if state is None else state
        state, metrics = score(adapted, before, batch)
        mean.add(metrics)
        adapted = learn(adapted, before, batch, params, scales, pulls)
    metrics = mean.values()
    if "loss" not in metrics:
        raise ValueError("batches: expected at least one with some weight, got none.")
    if not all(map(math.isfinite, metrics.values())):
        raise FloatingPointError(
            f"learning_rate: expected one that leaves the metrics finite, got {learning_rate} and"
            f" {metrics}."
        )
    return metrics


def mean_squares(task: Task, params: PyTree, batches: Iterable, dtype: str = "float32") -> PyTree:
    """The mean square of the gradient of a batch, parameter by parameter, over training text.

    Args:
      task: gives the loss, which is the one of evaluation.
      params: those of the trained model.
      batches: at least one.
      dtype: of the computation.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: no batches.
    """
    gradients_of_mean = make_gradients(task, dtype, microbatches=1)

    @jax.jit
    def add(sums, params, state, batch):
        gradients, state, _ = gradients_of_mean(params, state, batch, None)
        return jax.tree.map(lambda total, g: total + jnp.square(g), sums, gradients), state

    sums, state, count = jax.tree.map(jnp.zeros_like, params), None, 0
    for batch in batches:
        state = _first_state(task, params, batch) if state is None else state
        sums, state = add(sums, params, state, batch)
        count += 1
    if not count:
        raise ValueError("batches: expected at least one, got none.")
    return jax.tree.map(lambda total: total / count, sums)


def _first_state(task: Task, params: PyTree, batch: PyTree) -> PyTree:
    return task.initial_state(params, len(jax.tree.leaves(batch)[0]))


def _scales(params: PyTree, squares: PyTree | None, epsilon: float) -> PyTree:
    """What the learning rate of each parameter is multiplied by."""
    if squares is None:
        return jax.tree.map(lambda leaf: 1.0, params)
    return jax.tree.map(lambda square: 1 / (jnp.sqrt(square) + epsilon), squares)


def _pulls(params: PyTree, squares: PyTree | None, decay: float) -> PyTree:
    """The share of the way back that each parameter goes: longer where gradients are larger."""
    if squares is None:
        return jax.tree.map(lambda leaf: decay, params)
    roots: Any = jax.tree.map(jnp.sqrt, squares)
    leaves = jax.tree.leaves(roots)
    mean = sum(jnp.sum(leaf) for leaf in leaves) / sum(leaf.size for leaf in leaves)
    return jax.tree.map(lambda root: jnp.minimum(decay * root / mean, 1.0), roots)
