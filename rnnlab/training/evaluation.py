"""Scores of held-out sets: averages of the loss, and whatever a task decodes, samples or draws."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax

from rnnlab.training.steps import compute_params, make_loss_step
from rnnlab.training.task import Evaluation, Mean, PyTree, Ratio, Task

Watch = Callable[[Iterable], Iterable]


def make_evaluate(
    task: Task, dtype: str, key: jax.Array, mesh: jax.sharding.Mesh
) -> Callable[..., Evaluation]:
    """`(params, set name, step, watch) -> Evaluation`, its metrics plain numbers and finite.

    The batches go through `watch`, which may raise to break off.

    Args:
      task: gives the sets, the loss and what else there is to find out.
      dtype: of the computation.
      key: its `fold_in` with the step is what `task.evaluate` gets, so the same step of the same
        run is always scored alike.
      mesh: where the parameters lie.

    Raises:
      ValueError: a set without batches or without weight, or a metric named twice. (Of the function
        returned.)
      FloatingPointError: a metric that is not finite. (Of the function returned.)
    """
    loss_step = make_loss_step(task, dtype, mesh)

    def evaluate(params: PyTree, name: str, step: int, watch: Watch = iter) -> Evaluation:
        metrics: dict[str, float] = {}
        if task.collect is None:
            metrics = _mean_loss(loss_step, params, watch(task.eval_batches[name]()))
            if "loss" not in metrics:
                raise ValueError(f"eval_batches: expected some weight in {name}, got 0.")
        extra = Evaluation({})
        if task.evaluate is not None:
            # Of the same dtype as in the loss, whose metrics stand beside its own.
            cast, step_key = compute_params(params, dtype), jax.random.fold_in(key, step)
            extra = task.evaluate(cast, watch(task.eval_batches[name]()), step_key)
        twice = metrics.keys() & extra.metrics.keys()
        if twice:
            raise ValueError(f"evaluate: expected names that the loss has not, got {twice}.")
        metrics |= {metric: _number(value) for metric, value in extra.metrics.items()}
        metrics = task.derive(name, metrics)
        if not all(map(math.isfinite, metrics.values())):
            raise FloatingPointError(f"step {step}: {name} metrics are not finite: {metrics}.")
        return Evaluation(metrics, extra.artifacts)

    return evaluate


def _mean_loss(loss_step: Callable, params: PyTree, batches: Iterable) -> dict:
    """The loss and its metrics, averaged over all batches, with the state carried along."""
    mean, state = Mean(), None
    for batch in batches:
        state, metrics = loss_step(params, state, batch)
        mean.add(metrics)
    if not mean.sums():
        raise ValueError("eval_batches: expected at least one batch, got none.")
    return mean.values()


def _number(value: Any) -> float:
    return float(value.value if isinstance(value, Ratio) else value)
