"""The training loop: one for every task."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from rnnlab import plot
from rnnlab.training import log
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.config import FitConfig, FitResult
from rnnlab.training.mesh import batch_sharding, like
from rnnlab.training.optimizers import learning_rate_of
from rnnlab.training.run import RunDirectory, attempt, check_identity, environment, identity
from rnnlab.training.steps import TrainState, compile_train_step, make_evaluate
from rnnlab.training.task import Mean, PyTree, Task


@dataclasses.dataclass
class Progress:
    """What a resumed run has to know besides the train state, as JSON."""

    best_step: int | None = None
    best_metrics: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    stale: int = 0  # evaluations since the best one
    evaluated: int = 0  # step of the last evaluation
    window: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)  # open sums
    metrics_size: int = 0  # bytes of metrics.jsonl


def timed_compile(
    task: Task,
    config: FitConfig,
    key: jax.Array,
    train: TrainState,
    batch: PyTree,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
) -> Callable:
    """The compiled train step, and a line that says how long it took."""
    start = time.perf_counter()
    compiled = compile_train_step(task, config.dtype, key, train, batch, mesh)
    say(f"compiled in {time.perf_counter() - start:.1f} s")
    return compiled


class Loop:
    """One run of `fit`, from the first or the restored step to the last."""

    def __init__(
        self,
        task: Task,
        config: FitConfig,
        run: RunDirectory,
        checkpoints: Checkpoints,
        console: log.Console,
        train: TrainState,
        key: jax.Array,
        mesh: jax.sharding.Mesh,
    ):
        self.task, self.config, self.key, self.mesh = task, config, key, mesh
        self.run_directory, self.checkpoints, self.console = run, checkpoints, console
        self.train, self.step = train, 0
        self.identity = identity(config.flags, config.data, task.assets)
        self.evaluate_set = make_evaluate(task, config.dtype)
        self.train_step: Callable | None = None  # compiled at the first batch
        self.progress = Progress()
        self.window = Mean()  # of the training metrics since the last line
        self.timed_steps, self.clock = 0, time.perf_counter()

    def run(self) -> FitResult:
        self._restore_or_start()
        batches = self.task.train_batches(self.step)
        self.clock = time.perf_counter()
        while not self._done():
            self._update(next(batches))
            if self._due(self.config.log_every):
                self._log_window()
            improved = self._due(self.config.eval_every) and self._evaluate()
            if improved or self._due(self.config.save_every) or self._done():
                self._save()
        return self._finish()

    def _due(self, every: int) -> bool:
        return self.step % every == 0

    def _stopped_early(self) -> bool:
        return 0 < self.config.patience <= self.progress.stale

    def _done(self) -> bool:
        return self.step >= self.config.steps or self._stopped_early()

    def _restore_or_start(self) -> None:
        latest, resume = self.checkpoints.latest(), self.config.resume
        run = self.run_directory
        if latest is None and resume == "must":
            raise FileNotFoundError(
                f"{run.checkpoints}: expected a checkpoint for --resume=must, found none."
            )
        if latest is not None and resume == "never":
            raise ValueError(
                f"{run.checkpoints}: found a checkpoint of step {latest}, and --resume=never will"
                f" not write over it. Name another --workdir, or remove this one."
            )
        if latest is not None:
            self._restore(latest)
        run.truncate_metrics(self.progress.metrics_size)
        run.write_flags(self.config.flags)
        for name, content in self.task.assets.items():
            run.write(name, content)
        self._write_summary(stop_reason=None)

    def _restore(self, step: int) -> None:
        meta = self.checkpoints.meta(step)
        check_identity(self.run_directory, meta["identity"], self.identity)
        if step > self.config.steps:
            raise ValueError(
                f"steps: expected at least the {step} that {self.run_directory.path} has done, got"
                f" {self.config.steps}."
            )
        rest = self.train._replace(params=())
        params, rest = self.checkpoints.restore(step, like(self.train.params), like(rest))
        self.train, self.step = rest._replace(params=params), step
        self.progress = Progress(**meta["progress"])
        self.window = Mean(self.progress.window)
        self.console.say(f"resumed at step {step}")

    def _update(self, batch: PyTree) -> None:
        batch = jax.device_put(batch, batch_sharding(self.mesh))
        if self.train_step is None:
            self.train_step = timed_compile(
                self.task, self.config, self.key, self.train, batch, self.mesh, self.console.say
            )
            self.clock = time.perf_counter()
        self.train, metrics = self.train_step(self.train, batch)
        self.window.add(metrics)
        self.step += 1
        self.timed_steps += 1
        self.console.advance(self.step)

    def _log_window(self) -> None:
        sums = self._finite(self.window.sums())
        metrics = self.window.values()
        learning_rate = learning_rate_of(self.train.opt_state)
        if learning_rate is not None:
            metrics["learning_rate"] = float(learning_rate)
        self.run_directory.append("metrics.jsonl", {"step": self.step, "split": "train", **metrics})
        if self.timed_steps:
            seconds = (time.perf_counter() - self.clock) / self.timed_steps
            rate = sums["loss"][1] / sums["gnorm"][1] / seconds
            line = log.train_line(
                self.step, self.config.steps, metrics, rate, self.task.unit, seconds
            )
            self.console.say(line)
            timing = {"seconds_per_step": seconds, f"{self.task.unit}_per_second": rate}
            self.run_directory.append("timing.jsonl", {"step": self.step, **timing})
        self.window, self.timed_steps, self.clock = Mean(), 0, time.perf_counter()

    def _finite(self, sums: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        bad = [name for name, pair in sums.items() if not all(map(math.isfinite, pair))]
        if bad:
            raise FloatingPointError(
                f"step {self.step}: {' and '.join(bad)} not finite. The last checkpoint is older"
                f" than that; try a lower --learning_rate, or clip the gradients harder."
            )
        return sums

    @contextlib.contextmanager
    def _untimed(self) -> Iterator[None]:
        jax.block_until_ready(self.train.step)
        start = time.perf_counter()
        yield
        self.clock += time.perf_counter() - start

    def _evaluate(self) -> bool:
        """Evaluates every set but "test"; tells whether "valid" is the best so far."""
        progress, sets = self.progress, {}
        with self._untimed():
            for name in self.task.eval_batches:
                if name != "test":
                    sets[name] = self._evaluate_set(name, self.train.params, self.step)
        progress.evaluated = self.step
        if "valid" not in sets:
            progress.best_step, progress.best_metrics = None, sets
            return False
        metric, mode = self.task.select
        score = sets["valid"][metric]
        best = progress.best_metrics["valid"][metric] if progress.best_metrics else None
        improved = best is None or (score < best if mode == "min" else score > best)
        progress.stale = 0 if improved else progress.stale + 1
        if improved:
            progress.best_step, progress.best_metrics = self.step, sets
        return improved

    def _evaluate_set(self, name: str, params: PyTree, step: int) -> dict[str, float]:
        start = time.perf_counter()
        metrics = self.evaluate_set(params, self.task.eval_batches[name]())
        seconds = time.perf_counter() - start
        if not all(map(math.isfinite, metrics.values())):
            raise FloatingPointError(f"step {step}: {name} metrics are not finite: {metrics}.")
        self.console.say(f"{name} at step {step} | {log.describe(metrics)} | {seconds:.1f} s")
        self.run_directory.append("metrics.jsonl", {"step": step, "split": name, **metrics})
        timing = {"step": step, "split": name, "seconds": seconds}
        self.run_directory.append("timing.jsonl", timing)
        return metrics

    def _save(self) -> None:
        with self._untimed():
            self.progress.window = self._finite(self.window.sums())
            self.progress.metrics_size = self.run_directory.metrics_size()
            self.checkpoints.save(
                self.step,
                params=self.train.params,
                training=self.train._replace(params=()),
                meta={"identity": self.identity, "progress": dataclasses.asdict(self.progress)},
                best=self.progress.best_step,
            )

    def _finish(self) -> FitResult:
        """What is not on schedule comes after the last save, so that more steps can follow."""
        if self.window.sums():
            self._log_window()
        if self.progress.evaluated != self.step:
            self._evaluate()
        best, params = self.progress.best_step or self.step, self.train.params
        if best != self.step:
            params = self.checkpoints.restore_params(best, like(params))
        metrics = dict(self.progress.best_metrics)
        if "test" in self.task.eval_batches:
            metrics["test"] = self._evaluate_set("test", params, best)
        stop_reason = "all steps done"
        if self._stopped_early():
            stop_reason = f"no improvement in {self.progress.stale} evaluations"
        self._write_summary(stop_reason, step=self.step, best_step=best, metrics=metrics)
        picture = self.run_directory.path / "loss.png"
        records = self.run_directory.read_metrics()
        attempt("loss.png", lambda: plot.loss_curve(records, picture))
        return FitResult(params, metrics, self.step, best, stop_reason)

    def _write_summary(self, stop_reason: str | None, **outcome: Any) -> None:
        self.run_directory.write_summary(
            {
                **environment(),
                "data": dict(self.config.data),
                "parameters": log.parameter_count(self.train.params),
                "stop_reason": stop_reason,
                **outcome,
            }
        )
