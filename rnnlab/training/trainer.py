"""A task in training: what computes, without a file or a word."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnlab.training.config import FitConfig
from rnnlab.training.evaluation import make_evaluate
from rnnlab.training.mesh import batch_sharding, make_mesh, place
from rnnlab.training.processes import from_first, to_host
from rnnlab.training.steps import (
    TrainState,
    initial_train_state,
    lower_train_step,
    make_train_step,
    updates_per_batch,
)
from rnnlab.training.task import Evaluation, PackedMetrics, PyTree, Task

Wait = Callable[[Callable[[], Any]], Any]


def _call(function: Callable[[], Any]) -> Any:
    return function()


def build_evaluate(task: Task, config: FitConfig) -> Callable[..., Evaluation]:
    """`(params, set name, step, watch) -> Evaluation`, as in training with this configuration."""
    *_, eval_key = _keys(config)
    return make_evaluate(task, config.dtype, eval_key, _mesh(config))


def _keys(config: FitConfig) -> jax.Array:
    """Of initialisation, of updates, of evaluations."""
    return jax.random.split(jax.random.key(config.seed), 3)


def _mesh(config: FitConfig) -> jax.sharding.Mesh:
    return make_mesh(config.mesh, config.batch_size // config.microbatches)


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
        init_key, step_key, _ = _keys(config)
        mesh = _mesh(config)
        self.task, self.mesh = task, mesh
        self.state, self.shardings = initial_train_state(task, init_key, config.batch_size, mesh)
        self.evaluate = build_evaluate(task, config)
        self._train_step = make_train_step(task, config.dtype, step_key, config.microbatches)
        self._programs: dict[Any, Program] = {}

    @property
    def eval_params(self) -> PyTree:
        """The parameters that are evaluated: the trained ones, or an average of them."""
        return self.task.eval_params(self.state.params, self.state.opt_state)

    def program(self, batch: PyTree, wait: Wait = _call) -> tuple[Program, float]:
        """The program for the shapes of `batch`, and the seconds it took to compile, mostly 0.

        The compiler runs as `wait(function)`, which may break off.
        """
        leaves, structure = jax.tree.flatten(batch)
        key = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if key in self._programs:
            return self._programs[key], 0.0
        start = time.perf_counter()
        updates = updates_per_batch(self.task, self.state, batch)
        lowered = lower_train_step(
            self._train_step, self.state, self._placed(batch), self.shardings, self.mesh
        )
        self._programs[key] = Program(wait(lowered.compile), updates)
        return self._programs[key], time.perf_counter() - start

    def update(self, program: Program, batch: PyTree) -> PackedMetrics:
        """The updates of one batch; their metrics, added up."""
        self.state, metrics = program.call(self.state, self._placed(batch))
        return metrics

    def _placed(self, batch: PyTree) -> PyTree:
        """This process's rows on its devices; of one process, the program itself sees to that."""
        return place(batch, batch_sharding(self.mesh)) if jax.process_count() > 1 else batch

    def observe(self, score: float) -> None:
        """Tells the optimizer of a new score on "valid", lower is better."""
        self.state = self.state._replace(
            score=place(np.float32(score), self.shardings.score),
            evaluations=place(
                np.asarray(self.state.evaluations) + np.int32(1), self.shardings.evaluations
            ),
        )

    def saved_parts(self) -> tuple[PyTree, TrainState]:
        """What a checkpoint holds: the evaluated parameters, and whatever else training needs."""
        params = self.eval_params
        shared = params is self.state.params
        return params, self.state._replace(params=() if shared else self.state.params)

    def shapes(self) -> tuple[PyTree, TrainState]:
        """The shapes and dtypes of `saved_parts`."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self.saved_parts()
        )

    def host_parts(self) -> tuple[PyTree, TrainState]:
        """`saved_parts` as numpy arrays, whole in every process."""
        return to_host(self.saved_parts())

    def take(self, parts: tuple[PyTree, TrainState]) -> None:
        """Goes on from `host_parts`; of several processes, from those of the first."""
        params, rest = from_first(parts)
        if self.eval_params is self.state.params:
            rest = rest._replace(params=params)
        self.state = place(rest, self.shardings)

    def placed_params(self, params: PyTree) -> PyTree:
        """Numpy parameters, those of the first process, where parameters lie."""
        return place(from_first(params), self.shardings.params)
