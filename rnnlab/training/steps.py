"""The compiled parts of training: one update, and the evaluation of one set."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnnlab.training.mesh import batch_sharding, replicated
from rnnlab.training.task import Mean, Metrics, PyTree, Ratio, Task


class TrainState(NamedTuple):
    """What changes from step to step, all of it."""

    step: jax.Array  # int32 [], updates done
    params: PyTree  # float32 master weights
    opt_state: optax.OptState
    state: PyTree  # [B, ...], the task's own: the carry of truncated BPTT


def state_shardings(mesh: jax.sharding.Mesh) -> TrainState:
    """The task's state is split like the batch it belongs to; the rest is on every device."""
    copied: Any = replicated(mesh)
    return TrainState(step=copied, params=copied, opt_state=copied, state=batch_sharding(mesh))


def initial_train_state(
    task: Task, key: jax.Array, batch_size: int, mesh: jax.sharding.Mesh
) -> TrainState:
    """The state before the first step; consumes `key`."""

    def init(key):
        params = task.init(key)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=task.optimizer.init(params),
            state=task.initial_state(params, batch_size),
        )

    return jax.jit(init, out_shardings=state_shardings(mesh))(key)


def compute_params(params: PyTree, dtype: str) -> PyTree:
    """A copy of the floating-point leaves in the compute dtype; gradients flow to the original."""

    def cast(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, params)


def make_train_step(task: Task, dtype: str, key: jax.Array) -> Callable:
    """`(train_state, batch) -> (train_state, metrics)`, to be compiled.

    The randomness of a step is `fold_in(key, step)`, so that it depends on nothing before it.
    """

    def train_step(train: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(key, train.step)

        def objective(params):
            params = compute_params(params, dtype)
            loss, (state, metrics) = task.loss(params, train.state, batch, step_key)
            return loss.value, (state, {"loss": loss, **metrics})

        gradients, (state, metrics) = jax.grad(objective, has_aux=True)(train.params)
        updates, opt_state = task.optimizer.update(gradients, train.opt_state, train.params)
        params = optax.apply_updates(train.params, updates)
        metrics["gnorm"] = Ratio(optax.tree.norm(gradients), 1.0)
        return TrainState(train.step + 1, params, opt_state, state), metrics

    return train_step


def compile_train_step(
    task: Task,
    dtype: str,
    key: jax.Array,
    train: TrainState,
    batch: PyTree,
    mesh: jax.sharding.Mesh,
) -> Callable:
    """Compiles the train step for the shapes of `batch`; it donates the state it is given."""
    train_step = make_train_step(task, dtype, key)
    after, _ = jax.eval_shape(train_step, train, batch)
    before = jax.eval_shape(lambda: train)
    if after != before:
        raise ValueError(
            "loss: expected a new state of the structure, shapes and dtypes of the old one,"
            f" {before.state}, got {after.state}."
        )
    shardings = state_shardings(mesh)
    return (
        jax.jit(
            train_step,
            in_shardings=(shardings, batch_sharding(mesh)),
            out_shardings=(shardings, replicated(mesh)),
            donate_argnums=0,
        )
        .lower(train, batch)
        .compile()
    )


def make_evaluate(task: Task, dtype: str) -> Callable[[PyTree, Iterable], dict[str, float]]:
    """`(params, batches) -> metrics`, averaged over all batches with the state carried along."""

    @jax.jit
    def step(params, state, batch):
        loss, (state, metrics) = task.loss(compute_params(params, dtype), state, batch, None)
        return state, {"loss": loss, **metrics}

    def evaluate(params: PyTree, batches: Iterable) -> dict[str, float]:
        mean, state = Mean(), None
        for batch in batches:
            if state is None:
                state = task.initial_state(params, len(jax.tree.leaves(batch)[0]))
            state, metrics = step(params, state, batch)
            mean.add(metrics)
        if state is None:
            raise ValueError("eval_batches: expected at least one batch, got none.")
        return task.derive(mean.values())

    return evaluate
