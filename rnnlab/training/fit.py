"""`fit` trains a task; `load_best` reads what it left."""

import os
from collections.abc import Callable, Mapping

import jax

from rnnlab.training import log
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.config import FitConfig, FitResult
from rnnlab.training.loop import Loop, timed_compile
from rnnlab.training.mesh import batch_sharding, data_mesh, like, replicated
from rnnlab.training.run import RunDirectory, check_identity
from rnnlab.training.steps import initial_train_state
from rnnlab.training.task import PyTree, Task


def fit(task: Task, config: FitConfig) -> FitResult | None:
    """Trains a task, or goes on with the run that is in `config.workdir`.

    The same call again resumes from the newest checkpoint, and ends bit for bit where a run that
    was never interrupted ends: parameters, optimizer state and `metrics.jsonl`.

    Args:
      task: what is learned.
      config: for how long, where, how often.

    Returns:
      The result with the best parameters; None after a dry run.

    Raises:
      ValueError: a configuration that cannot run, or a run made with other flags or data.
      FileNotFoundError: `resume="must"` and no checkpoint.
      FloatingPointError: a loss or gradient norm that is not finite.
    """
    mesh = data_mesh(config.mesh, config.batch_size)
    init_key, step_key = jax.random.split(jax.random.key(config.seed))
    train = initial_train_state(task, init_key, config.batch_size, mesh)
    print(log.summary(train.params), flush=True)
    if config.dry_run:
        batch = jax.device_put(next(task.train_batches(0)), batch_sharding(mesh))
        timed_compile(task, config, step_key, train, batch, mesh, print)
        return None
    run = RunDirectory(config.workdir)
    with Checkpoints(run.checkpoints, config.keep) as checkpoints, log.Console(config.steps) as out:
        return Loop(task, config, run, checkpoints, out, train, step_key, mesh).run()


def load_best(
    init: Callable[[jax.Array], PyTree],
    workdir: str | os.PathLike,
    expected: Mapping[str, Mapping[str, str]],
) -> tuple[PyTree, int]:
    """The best parameters of a run, and their step.

    Args:
      init: `key -> params` of the run's task; only shapes are computed.
      workdir: the run directory.
      expected: what the run has to agree with, all or a part of what `identity` gives.

    Raises:
      FileNotFoundError: no run, or none with a checkpoint.
      ValueError: a run made with other flags, data or assets.
    """
    run = RunDirectory(workdir)
    best = run.read_summary().get("best_step")  # a run that has ended knows best
    with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
        latest = checkpoints.latest()
        if latest is None:
            raise FileNotFoundError(f"{run.checkpoints}: expected a checkpoint, found none.")
        meta = checkpoints.meta(latest)
        check_identity(run, meta["identity"], expected)
        best = best or meta["progress"]["best_step"] or latest
        params = jax.eval_shape(init, jax.random.key(0))
        return checkpoints.restore_params(best, like(params, replicated(data_mesh("", 1)))), best
