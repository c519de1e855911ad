"""The training loop: one for every task."""

import collections
import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import plot
from rnnlab.training import log
from rnnlab.training.checkpoint import Checkpoints, DiskFull
from rnnlab.training.config import (
    DISK_FULL,
    NO_CHECKPOINT,
    NOT_FINITE,
    OUT_OF_MEMORY,
    PREEMPTED,
    FitConfig,
    FitResult,
)
from rnnlab.training.instruments import Profiler, TensorBoard
from rnnlab.training.memory import is_out_of_memory, out_of_memory
from rnnlab.training.optimizers import learning_rate_of
from rnnlab.training.processes import end_at_once, is_first, on_first, to_host
from rnnlab.training.resume import Progress, begin
from rnnlab.training.run import RunDirectory, attempt, environment, identity
from rnnlab.training.signals import Interrupted, StopRequest
from rnnlab.training.task import Mean, PackedMetrics, PyTree, Task
from rnnlab.training.trainer import Trainer

AHEAD = 2
"""Updates that may wait for the device: more would delay a stop, none would leave it idle."""


class Loop:
    """One run of `fit`, from the first or the restored step to the last.

    Of several processes each runs it; `checkpoints` are those of the first, the others have none.
    """

    def __init__(
        self,
        task: Task,
        config: FitConfig,
        run: RunDirectory,
        checkpoints: Checkpoints | None,
        console: log.Console,
        trainer: Trainer,
        stop: StopRequest,
    ):
        self.task, self.config, self.trainer = task, config, trainer
        self.run_directory, self.console = run, console
        self.checkpoints: Any = checkpoints  # asked for by the first process only, in `on_first`
        self.identity = identity(config.flags, config.data, task.assets)
        self.step, self.progress = 0, Progress()
        self.saved: int | None = 0  # the step whose state is on disk; 0 needs none
        self.window = Mean()  # of the training metrics since the last line
        self.timed_steps, self.clock = 0, time.perf_counter()
        self.board: TensorBoard | None = None
        self.stop = stop
        self.in_flight: collections.deque[PackedMetrics] = collections.deque()
        self.batch: PyTree = None  # at hand
        if config.patience and "valid" not in task.eval_batches:
            raise ValueError(
                'patience: expected a set called "valid" to judge by, got'
                f" {', '.join(task.eval_batches) or 'none'}."
            )

    def run(self) -> FitResult:
        with self.stop.interruptible():
            self._begin()
        with contextlib.ExitStack() as stack:
            path = self.run_directory.path
            if self.config.tensorboard and is_first():
                self.board = stack.enter_context(TensorBoard(path / "tensorboard", self.step))
            profiler = None
            if self.config.profile and is_first():
                profiler = stack.enter_context(Profiler(path / "profile"))
            try:
                self._train(profiler)
                result = self._finish()
                if self.stop.requested():
                    self._leave()
                return result
            except Interrupted:
                self._save()
                self._leave()
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._give_up(out_of_memory(error, self.batch, self.config), OUT_OF_MEMORY)

    def _train(self, profiler: Profiler | None) -> None:
        batches = iter(self.task.train_batches(self.progress.batches))
        self.clock = time.perf_counter()
        if self.progress.evaluation_due:
            improved = self._evaluate_or_save()
            self.saved = None  # what is on disk does not know of this evaluation
            if improved or self._done():
                self._save()
        while not self._done():
            before = self.step
            self._update(self._next(batches))
            if profiler:
                profiler.step(self.trainer.state.step)
            if self._passed(self.config.log_every, before):
                self._log_window()
            self.progress.evaluation_due = self._passed(self.config.eval_every, before)
            improved = self.progress.evaluation_due and self._evaluate_or_save()
            due = self._passed(self.config.save_every, before) or self._done()
            stopping = self.stop.requested()
            if improved or due or stopping:
                self._save()
            if stopping and not self._done():
                self._leave()

    def _next(self, batches: Iterator[PyTree]) -> PyTree:
        try:
            with self.stop.interruptible():
                return next(batches)
        except StopIteration:
            raise ValueError(
                f"train_batches: expected batches without end, got {self.progress.batches}."
            ) from None

    def _evaluate_or_save(self) -> bool:
        """Evaluates; where that fails or is interrupted, what was trained is saved first.

        The evaluation is then made up for when the run goes on.
        """
        size = self.run_directory.metrics_size()
        try:
            return self._evaluate()
        except FloatingPointError:  # nothing that is worth keeping
            raise
        except (Exception, Interrupted):
            self.run_directory.truncate_metrics(size)
            self._save()
            raise

    def _passed(self, every: int, before: int) -> bool:
        """Whether a multiple of `every` was passed since the step `before`."""
        return self.step // every > before // every

    def _stopped_early(self) -> bool:
        return 0 < self.config.patience <= self.progress.stale

    def _done(self) -> bool:
        return self.step >= self.config.steps or self._stopped_early()

    def _leave(self) -> NoReturn:
        saved = f"saved step {self.step}; the same command goes on from there"
        self.console.say(
            f"{self.stop.name}: {saved if self.step else 'nothing to save before step 1'}"
        )
        self._write_summary(f"preempted by {self.stop.name}", finished=False, step=self.step)
        if self.stop.abandoned:  # Python cannot end in order around a compiler at work
            end_at_once(PREEMPTED)
        raise SystemExit(PREEMPTED)

    def _begin(self) -> None:
        run, config = self.run_directory, self.config
        parts = self.trainer.shapes()

        def take_up() -> dict[str, Any]:
            nonlocal parts
            step, progress, parts = begin(
                parts, self.checkpoints, run, config, self.identity, self.console.say
            )
            run.truncate_metrics(progress.metrics_size)
            return {"step": step, "progress": dataclasses.asdict(progress)}

        found = on_first(take_up)
        self.step = self.saved = found["step"]
        self.progress = Progress(**found["progress"])
        if self.step:
            self.trainer.take(parts)
        self.window = Mean(self.progress.window)
        run.write_flags(config.flags)
        for name, content in self.task.assets.items():
            run.write(name, content)
        if not self._done():
            self._write_summary(None, finished=False)

    def _update(self, batch: PyTree) -> None:
        self.batch = batch
        program, seconds = self.trainer.program(batch, self.stop.wait_for)
        if seconds:
            self._check_steps(program.updates)
            self.console.say(f"compiled in {seconds:.1f} s")
            self.clock += seconds
        metrics = self.trainer.update(program, batch)
        self.window.add(metrics)
        self.in_flight.append(metrics)
        self._await(AHEAD)
        self.progress.batches += 1
        self.step += program.updates
        self.timed_steps += program.updates
        self.console.advance(self.step)

    def _await(self, ahead: int) -> None:
        """Waits until at most `ahead` updates are under way; counts the skipped ones in a row."""
        while len(self.in_flight) > ahead:
            metrics = self.in_flight.popleft()
            skipped, updates = np.asarray(metrics.values)[metrics.names.index("skipped")]
            self.progress.skips = self.progress.skips + int(skipped) if skipped == updates else 0
            if self.progress.skips >= self.config.max_skips:
                self._not_finite(f"{self.progress.skips} updates in a row were not finite")

    def _not_finite(self, reason: str) -> NoReturn:
        advice = (
            "Every checkpoint is older and finite; try a lower --learning_rate, or look for NaN in"
            " the data."
        )
        self._give_up(reason, NOT_FINITE, advice)

    def _give_up(self, reason: str, code: int, advice: str = "") -> NoReturn:
        self.console.say(f"error: step {self.step}: {reason}. {advice}".rstrip())
        self._write_summary(reason, finished=False, step=self.step)
        if code == OUT_OF_MEMORY and jax.process_count() > 1:  # the others need not be
            end_at_once(code)
        raise SystemExit(code)

    def _check_steps(self, updates: int) -> None:
        """A batch is worked off whole, so `collect` has to reach the last step exactly."""
        if (self.config.steps - self.step) % updates:
            raise ValueError(
                f"steps: expected {self.step} and a multiple of {updates}, the updates that"
                f" `collect` makes of a batch, got {self.config.steps}."
            )

    def _record(self, split: str, step: int, metrics: dict[str, float]) -> None:
        """Deterministic values only, so that two runs can be compared byte by byte."""
        self.run_directory.append("metrics.jsonl", {"step": step, "split": split, **metrics})
        if self.board:
            self.board.write(step, split, metrics)

    def _log_window(self) -> None:
        sums = self.window.sums()
        metrics = self.window.values()
        if "loss" in metrics:  # or every update was skipped
            metrics = self.task.derive("train", metrics)
        metrics = {**self._finite(metrics), "skipped": int(sums["skipped"][0])}
        learning_rate = learning_rate_of(self.trainer.state.opt_state)
        if learning_rate is not None:
            metrics["learning_rate"] = float(learning_rate)
        self._record("train", self.step, metrics)
        if self.timed_steps:
            passed = max(time.perf_counter() - self.clock, 1e-9)  # a clock may be set back
            seconds = passed / self.timed_steps
            rate = sums["loss"][1] / sums["skipped"][1] / seconds
            line = log.train_line(
                self.step, self.config.steps, metrics, rate, self.task.unit, seconds
            )
            self.console.say(line)
            timing = {"seconds_per_step": seconds, f"{self.task.unit}_per_second": rate}
            self.run_directory.append("timing.jsonl", {"step": self.step, **timing})
        self.window, self.timed_steps, self.clock = Mean(), 0, time.perf_counter()

    def _finite(self, metrics: dict[str, float]) -> dict[str, float]:
        """Of the task's own metrics; an update whose loss is not finite never gets here."""
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(
                f"step {self.step}: {' and '.join(bad)} not finite, though the loss is. The last"
                f" checkpoint is older than that."
            )
        return metrics

    @contextlib.contextmanager
    def _untimed(self) -> Iterator[None]:
        jax.block_until_ready(self.trainer.state.step)
        start = time.perf_counter()
        yield
        self.clock += time.perf_counter() - start

    def _evaluate(self) -> bool:
        """Evaluates every set but "test"; tells whether "valid" is the best so far."""
        progress, sets = self.progress, {}
        with self._untimed():
            params = self.trainer.eval_params
            for name in self.task.eval_batches:
                if name != "test":
                    sets[name] = self._evaluate_set(name, params, self.step)
        progress.evaluated = self.step
        if "valid" not in sets:
            progress.best_step, progress.best_metrics = None, sets
            progress.evaluation_due = False
            return False
        score = self._score(sets)
        improved = not progress.best_metrics or score < self._score(progress.best_metrics)
        progress.stale = 0 if improved else progress.stale + 1
        if improved:
            progress.best_step, progress.best_metrics = self.step, sets
        self.trainer.observe(score)
        progress.evaluation_due = False
        return improved

    def _score(self, sets: dict[str, dict[str, float]]) -> float:
        """What `select` asks for, lower is better."""
        metric, mode = self.task.select
        if metric not in sets["valid"]:
            raise ValueError(
                f"select: expected one of the metrics of valid, {', '.join(sets['valid'])}, got"
                f" {metric!r}."
            )
        return sets["valid"][metric] if mode == "min" else -sets["valid"][metric]

    def _evaluate_set(self, name: str, params: PyTree, step: int) -> dict[str, float]:
        start = time.perf_counter()
        with self.stop.interruptible():
            found, artifacts = self.trainer.evaluate(params, name, step, self.stop.watch)
        metrics = on_first(lambda: dict(found))  # what is decided by them, all decide alike
        self.run_directory.write_artifacts(step, name, artifacts)
        seconds = time.perf_counter() - start
        self.console.say(f"{name} at step {step} | {log.describe(metrics)} | {seconds:.1f} s")
        self._record(name, step, metrics)
        timing = {"step": step, "split": name, "seconds": seconds}
        self.run_directory.append("timing.jsonl", timing)
        return metrics

    def _save(self) -> None:
        if self.step == self.saved:
            return
        with self._untimed():
            self._await(0)
            self._finite(self.window.values())
            self.progress.window = self.window.sums()
            self.progress.metrics_size = self.run_directory.metrics_size()
            parts = self.trainer.host_parts()
            on_first(lambda: self._write_checkpoint(*parts))
        self.saved = self.step

    def _write_checkpoint(self, params: PyTree, training: PyTree) -> None:
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
            self._not_finite("the parameters are not finite")  # overflown, by a finite gradient
        meta = {"identity": self.identity, "progress": dataclasses.asdict(self.progress)}
        try:
            self.checkpoints.save(self.step, params, training, meta, self.progress.best_step)
        except DiskFull as error:
            self.console.say(f"error: {error}")
            raise SystemExit(DISK_FULL) from error

    def _best_params(self, best: int) -> PyTree:
        if best == self.step:
            return self.trainer.eval_params
        params, _ = self.trainer.shapes()

        def read() -> None:
            nonlocal params
            try:
                params = self.checkpoints.restore_params(best, params)
            except Exception as error:  # whatever a damaged file leads to
                self.console.say(f"error: the best checkpoint cannot be read: {error}")
                raise SystemExit(NO_CHECKPOINT) from error

        on_first(read)
        return self.trainer.placed_params(params)

    def _finish(self) -> FitResult:
        """What is not on schedule comes after the last save, so that more steps can follow."""
        stop_reason = "all steps done"
        if self.step < self.config.steps:
            stop_reason = f"no improvement in {self.progress.stale} evaluations"
        if self.window.sums():
            self._log_window()
        if self.progress.evaluated != self.step:
            self._evaluate()
        best = self.progress.best_step or self.step
        params = self._best_params(best)
        metrics = dict(self.progress.best_metrics)
        if "test" in self.task.eval_batches:
            metrics["test"] = self._evaluate_set("test", params, best)
        outcome: dict[str, Any] = {"step": self.step, "best_step": best, "metrics": metrics}
        attempt("run.json", lambda: self._write_summary(stop_reason, finished=True, **outcome))
        if is_first():
            picture = self.run_directory.path / "loss.png"
            records = self.run_directory.read_metrics()
            attempt("loss.png", lambda: plot.loss_curve(records, picture))
        if jax.process_count() > 1:
            params = jax.tree.map(jnp.asarray, to_host(params))
        return FitResult(params, metrics, self.step, best, stop_reason)

    def _write_summary(self, stop_reason: str | None, finished: bool, **outcome: Any) -> None:
        self.run_directory.write_summary(
            {
                **environment(),
                "data": dict(self.config.data),
                "parameters": log.parameter_count(self.trainer.state.params),
                "finished": finished,
                "stop_reason": stop_reason,
                **outcome,
            }
        )
