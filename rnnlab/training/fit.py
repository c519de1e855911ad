"""`fit` trains a task; `load_best` reads what it left."""

import contextlib
import os
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from rnnlab.training import log
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.config import PREEMPTED, FitConfig, FitResult
from rnnlab.training.lock import RunLock
from rnnlab.training.loop import Loop
from rnnlab.training.mesh import describe
from rnnlab.training.processes import on_first
from rnnlab.training.resume import read_meta
from rnnlab.training.run import RunDirectory, check_identity, identity
from rnnlab.training.signals import Interrupted, StopRequest
from rnnlab.training.task import Evaluation, PyTree, Task
from rnnlab.training.trainer import Trainer, build_evaluate


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
      FloatingPointError: a metric of an evaluation that is not finite.
      RuntimeError: another process trains in `config.workdir`.
      SystemExit: 75 after a SIGTERM or SIGINT: saved, and the same call goes on; 3 after too many
        updates that were not finite; 4 where no checkpoint is whole; 5 where the disk is full; 6
        where memory is.
    """
    with StopRequest() as stop:
        try:
            return _fit(task, config, stop)
        except Interrupted:
            print(f"{stop.name}: before training, so there is nothing to save", flush=True)
            raise SystemExit(PREEMPTED) from None


def _fit(task: Task, config: FitConfig, stop: StopRequest) -> FitResult | None:
    with stop.interruptible():
        trainer = Trainer(task, config)
    print(log.summary(trainer.state.params), flush=True)
    if trainer.mesh.size > 1:
        print(describe(trainer.mesh), flush=True)
    if config.dry_run:
        _, seconds = trainer.program(next(iter(task.train_batches(0))))
        print(f"compiled in {seconds:.1f} s", flush=True)
        return None
    run = RunDirectory(config.workdir)
    with contextlib.ExitStack() as stack:
        checkpoints = None

        def open_run() -> None:
            nonlocal checkpoints
            stack.enter_context(RunLock(run.path))
            checkpoints = stack.enter_context(Checkpoints(run.checkpoints, config.keep))

        on_first(open_run)
        out = stack.enter_context(log.Console(config.steps))
        return Loop(task, config, run, checkpoints, out, trainer, stop).run()


def score_best(task: Task, config: FitConfig) -> tuple[dict[str, Evaluation], int]:
    """Evaluates the best parameters of a finished or a running run again.

    Returns:
      Set -> its metrics and artifacts, and the step of the parameters.

    Raises:
      FileNotFoundError: no run, or none with a checkpoint.
      ValueError: a run made with other flags, data or assets.
    """
    expected = identity(config.flags, config.data, task.assets)
    params, step = load_best(task.init, config.workdir, expected)
    evaluate = build_evaluate(task, config)
    return {name: evaluate(params, name, step) for name in task.eval_batches}, step


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
        saved, progress = read_meta(checkpoints.meta(latest))
        check_identity(run, saved, expected)
        best = best or progress.best_step or latest
        if best not in checkpoints.steps():
            raise FileNotFoundError(
                f"{run.checkpoints}: expected a checkpoint of the best step, {best!r}, found those"
                f" of {', '.join(map(str, checkpoints.steps()))}."
            )
        params = checkpoints.restore_params(best, jax.eval_shape(init, jax.random.key(0)))
        return jax.tree.map(jnp.asarray, params), best
