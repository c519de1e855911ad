"""A task in training: what computes, without a file or a word."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.config import FitConfig
from rnnlab.training.evaluation import make_evaluate
from rnnlab.training.mesh import data_mesh, like, replicated
from rnnlab.training.steps import (
    TrainState,
    compile_train_step,
    initial_train_state,
    make_train_step,
    updates_per_batch,
)
from rnnlab.training.task import PackedMetrics, PyTree, Task


class Program(NamedTuple):
    """A compiled update for batches of one shape."""

    call: Callable[[TrainState, PyTree], tuple[TrainState, PackedMetrics]]
    updates: int  # 1, or as many as `collect` makes of a batch


class Trainer:
    """A task, its train state, and the compiled functions that change and score it.

    Attributes:
      state: after the updates done so far.
      evaluate: `(params, set name, step, watch) -> Evaluation`.
    """

    def __init__(self, task: Task, config: FitConfig):
        init_key, step_key, eval_key = jax.random.split(jax.random.key(config.seed), 3)
        mesh = data_mesh(config.mesh, config.batch_size // config.microbatches)
        self.task, self.mesh = task, mesh
        self.state = initial_train_state(task, init_key, config.batch_size, mesh)
        self.evaluate = make_evaluate(task, config.dtype, eval_key)
        self._train_step = make_train_step(task, config.dtype, step_key, config.microbatches)
        self._programs: dict[Any, Program] = {}

    @property
    def eval_params(self) -> PyTree:
        """The parameters that are evaluated: the trained ones, or an average of them."""
        return self.task.eval_params(self.state.params, self.state.opt_state)

    def program(self, batch: PyTree) -> tuple[Program, float]:
        """The program for the shapes of `batch`, and the seconds it took to compile, mostly 0."""
        leaves, structure = jax.tree.flatten(batch)
        key = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if key in self._programs:
            return self._programs[key], 0.0
        start = time.perf_counter()
        updates = updates_per_batch(self.task, self.state, batch)
        call = compile_train_step(self._train_step, self.state, batch, self.mesh)
        self._programs[key] = Program(call, updates)
        return self._programs[key], time.perf_counter() - start

    def update(self, program: Program, batch: PyTree) -> PackedMetrics:
        """The updates of one batch; their metrics, added up."""
        self.state, metrics = program.call(self.state, batch)
        return metrics

    def observe(self, score: float) -> None:
        """Tells the optimizer of a new score on "valid", lower is better."""
        copied = replicated(self.mesh)
        self.state = self.state._replace(
            score=jax.device_put(jnp.asarray(score, jnp.float32), copied),
            evaluations=jax.device_put(self.state.evaluations + 1, copied),
        )

    def saved_parts(self) -> tuple[PyTree, TrainState]:
        """What a checkpoint holds: the evaluated parameters, and whatever else training needs."""
        params = self.eval_params
        shared = params is self.state.params
        return params, self.state._replace(params=() if shared else self.state.params)

    def restore(self, checkpoints: Checkpoints, step: int) -> None:
        """Takes the state of a checkpoint."""
        shared = self.eval_params is self.state.params
        params, rest = checkpoints.restore(step, *map(like, self.saved_parts()))
        self.state = rest._replace(params=params) if shared else rest
