"""The compiled parts of training: the updates from one batch, and the loss of a held-out one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnnlab.models.partition import MODEL
from rnnlab.training.mesh import (
    DATA,
    batch_sharding,
    param_shardings,
    place,
    replicated,
    shardings_like,
)
from rnnlab.training.task import Metrics, PackedMetrics, PyTree, Ratio, Task

RESERVED = frozenset({"loss", "gnorm", "learning_rate", "skipped", "step", "split"})
"""Names in a line of the log that a task's own metrics cannot have."""


class TrainState(NamedTuple):
    """What changes from step to step, all of it."""

    step: jax.Array  # int32 [], updates done
    params: PyTree  # float32 master weights
    opt_state: optax.OptState
    state: PyTree  # [B, ...], the task's own: the carry of truncated BPTT
    score: jax.Array  # float32 [], the last one on "valid", lower is better; infinity before
    evaluations: jax.Array  # int32 [], how often there was a score


def initial_train_state(
    task: Task, key: jax.Array, batch_size: int, mesh: jax.sharding.Mesh
) -> tuple[TrainState, TrainState]:
    """The state before the first step, and where its arrays lie; consumes `key`."""

    def init(key):
        params = task.init(key)
        state = task.initial_state(params, batch_size)
        if any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state)):
            raise TypeError(
                "initial_state: expected arrays of numbers, got a typed PRNG key, which cannot be"
                " saved. Carry jax.random.key_data(key), or use the key that `collect` gets."
            )
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=task.optimizer.init(params),
            state=state,
            score=jnp.full((), jnp.inf, jnp.float32),
            evaluations=jnp.zeros((), jnp.int32),
        )

    shardings = state_shardings(task, jax.eval_shape(init, key), mesh)
    return jax.jit(init, out_shardings=shardings)(key), shardings


def state_shardings(task: Task, shapes: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
    """The task's state is split like the batch it belongs to; parameters as the task says.

    The state of the optimizer lies like the parameters it goes with. The rest is on every device.
    """
    copied: Any = replicated(mesh)
    specs = task.partition(shapes.params, mesh.shape[MODEL]) if task.partition else None
    params = param_shardings(mesh, shapes.params, specs)
    return TrainState(
        step=copied,
        params=params,
        opt_state=shardings_like(shapes.opt_state, shapes.params, params, copied),
        state=jax.tree.map(lambda leaf: batch_sharding(mesh), shapes.state),
        score=copied,
        evaluations=copied,
    )


def compute_params(params: PyTree, dtype: str) -> PyTree:
    """A copy of the floating-point leaves in the compute dtype; gradients flow to the original."""

    def cast(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, params)


def make_gradients(task: Task, dtype: str, microbatches: int) -> Callable:
    """`(params, state, batch, key) -> (gradients, state, metrics)` of the mean loss of a batch.

    Of several microbatches the gradients of the totals are added up and divided once by the whole
    weight, so that they are those of the whole batch however the weights are spread.
    """

    def total(params, state, batch, key):
        loss, (state, metrics) = task.loss(compute_params(params, dtype), state, batch, key)
        metrics = jax.tree.map(jnp.asarray, _named(loss, metrics))
        return metrics["loss"].total, (state, metrics)

    gradient = jax.grad(total, has_aux=True)

    def accumulated(params, state, batch, key):
        def add(sums, microbatch):
            index, state, batch = microbatch
            gradients, (state, metrics) = gradient(
                params, state, batch, jax.random.fold_in(key, index)
            )
            return jax.tree.map(jnp.add, sums, (gradients, metrics)), state

        inputs = jnp.arange(microbatches), _split(state, microbatches), _split(batch, microbatches)
        first = jax.tree.map(lambda leaf: leaf[0], inputs)
        shapes = jax.eval_shape(lambda first: gradient(params, *first[1:], key), first)
        shapes = shapes[0], shapes[1][1]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (gradients, metrics), state = jax.lax.scan(add, zeros, inputs)
        return gradients, (_join(state), metrics)

    def gradients_of_mean(params, state, batch, key):
        function = gradient if microbatches == 1 else accumulated
        gradients, (state, metrics) = function(params, state, batch, key)
        weight = _weight(metrics["loss"])
        return jax.tree.map(lambda leaf: leaf / weight, gradients), state, metrics

    return gradients_of_mean


def make_train_step(task: Task, dtype: str, key: jax.Array, microbatches: int = 1) -> Callable:
    """`(train_state, batch) -> (train_state, metrics)`, to be compiled.

    The randomness of a step is `fold_in(key, step)`, so that it depends on nothing before it.
    """
    optimizer = optax.with_extra_args_support(task.optimizer)
    gradients_of_mean = make_gradients(task, dtype, microbatches)
    update_key, collect_key = jax.random.split(key)
    collect: Any = task.collect

    def update(train: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(update_key, train.step)
        gradients, state, metrics = gradients_of_mean(train.params, train.state, batch, step_key)
        weight = _weight(metrics["loss"])
        updates, opt_state = optimizer.update(
            gradients,
            train.opt_state,
            train.params,
            value=metrics["loss"].total / weight,
            weight=weight,
            score=train.score,
            evaluations=train.evaluations,
        )
        params = optax.apply_updates(train.params, updates)
        after = train._replace(params=params, opt_state=opt_state, state=state)
        _check_alike(train, after)
        metrics["gnorm"] = Ratio(optax.tree.norm(gradients), jnp.ones(()))
        finite = jnp.isfinite(metrics["loss"].total + metrics["gnorm"].total)
        # A step that is not finite happens, but changes nothing and counts in no mean.
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, train)
        metrics = jax.tree.map(lambda leaf: jnp.where(finite, leaf, 0), metrics)
        metrics["skipped"] = Ratio(jnp.where(finite, 0.0, 1.0), jnp.ones(()))
        return after._replace(step=train.step + 1), metrics

    def collect_and_update(train: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(collect_key, train.step)
        params = compute_params(train.params, dtype)
        state, minibatches = collect(params, train.state, batch, step_key)
        train, metrics = jax.lax.scan(update, train._replace(state=state), minibatches)
        return train, jax.tree.map(lambda leaf: jnp.sum(leaf, 0), metrics)

    return collect_and_update if collect else update


def updates_per_batch(task: Task, train: TrainState, batch: PyTree) -> int:
    """How many updates come from one batch: as many as `collect` makes minibatches."""
    if task.collect is None:
        return 1
    _, minibatches = jax.eval_shape(
        task.collect, train.params, train.state, batch, jax.random.key(0)
    )
    counts = {leaf.shape[0] if leaf.shape else 0 for leaf in jax.tree.leaves(minibatches)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            "collect: expected minibatches whose leaves all have one first axis of at least 1,"
            f" got {jax.tree.map(lambda leaf: leaf.shape, minibatches)}."
        )
    return counts.pop()


def lower_train_step(
    train_step: Callable,
    train: TrainState,
    batch: PyTree,
    shardings: TrainState,
    mesh: jax.sharding.Mesh,
) -> jax.stages.Lowered:
    """The train step for the shapes of `batch`, to be compiled; it donates the state it is given.

    The program gives its metrics as `PackedMetrics`.
    """

    def packed(train, batch):
        train, metrics = train_step(train, batch)
        return train, PackedMetrics.of(metrics)

    return jax.jit(
        packed,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    ).lower(train, batch)


def make_loss_step(task: Task, dtype: str, mesh: jax.sharding.Mesh) -> Callable:
    """`(params, state, batch) -> (state, metrics)` of a held-out batch; the first has no state.

    Devices share the batch where its rows divide; where not, each has all of it.
    """

    def step(params, state, batch):
        loss, (state, metrics) = task.loss(compute_params(params, dtype), state, batch, None)
        return state, PackedMetrics.of(_named(loss, metrics))

    def programs(rows):
        start = jax.jit(task.initial_state, static_argnums=1, out_shardings=rows)
        shardings = {"in_shardings": (None, rows, rows), "out_shardings": (rows, replicated(mesh))}
        return rows, start, jax.jit(step, **shardings)

    copied, split = programs(replicated(mesh)), programs(batch_sharding(mesh))

    def loss_step(params, state, batch):
        sizes = [len(leaf) for leaf in jax.tree.leaves(batch)]
        shared = all(size % mesh.shape[DATA] == 0 for size in sizes)
        rows, start, next_step = split if shared else copied
        if state is None:
            state = start(params, sizes[0])
        if jax.process_count() > 1:
            batch = place(batch, rows)
        return next_step(params, state, batch)

    return loss_step


def _check_alike(before: TrainState, after: TrainState) -> None:
    """Refuses an update after which the next one would have to be compiled anew."""
    for name, source in (("state", "loss"), ("opt_state", "optimizer"), ("params", "optimizer")):
        old, new = _described(getattr(before, name)), _described(getattr(after, name))
        if old != new:
            raise ValueError(
                f"{source}: expected new {name} of the structure, shapes, dtypes and weak types of"
                f" the old, {old}, got {new}."
            )


def _described(tree: PyTree) -> PyTree:
    """Shapes, dtypes and weak types."""
    return jax.eval_shape(lambda: tree)


def _named(loss: Ratio, metrics: Metrics) -> dict[str, Ratio]:
    """The loss among its metrics."""
    taken = sorted(RESERVED & metrics.keys())
    if taken:
        raise ValueError(f"metrics: expected other names than {', '.join(taken)}, which are ours.")
    return {"loss": loss, **metrics}


def _weight(loss: Ratio) -> jax.Array:
    """What to divide by: 1 for a batch of filling only, whose gradient is then 0 and not NaN."""
    return jnp.where(loss.weight == 0, 1, loss.weight)


def _split(tree: PyTree, parts: int) -> PyTree:
    """`[B, ...] -> [parts, B / parts, ...]`; part i is i::parts, so every device keeps its rows."""
    return jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0), tree
    )


def _join(tree: PyTree) -> PyTree:
    """Undoes `_split`."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(-1, *leaf.shape[2:]), tree)
