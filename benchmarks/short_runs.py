"""Short trainings to compare: one run by the trainer, and the learning rate that does best."""

import dataclasses
import itertools
import json
import math
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from rnnlab.training import FitConfig, Task, fit
from rnnlab.training.config import NOT_FINITE


class Run(NamedTuple):
    """How a run ended, and its speed: compilation and evaluations left out."""

    params: Any  # of the step that was best on the validation set
    loss: float  # there
    step: int  # that step
    seconds: float
    seconds_per_step: float
    cpu_seconds_per_step: float  # of all threads: hardly moves with what else the machine does
    course: list[tuple[int, float, float]]  # step, seconds of training, loss of the validation set


def train(
    task: Task, steps: int, batch: int, evaluations: int, logs: int | None = None
) -> Run | None:
    """Trains a task; None where it does not stay finite.

    Args:
      task: what to learn.
      steps: updates.
      batch: rows of a batch.
      evaluations: points of the course.
      logs: points where the speed is read; None for those of the course.
    """
    clock = CPUClock()
    task = dataclasses.replace(task, train_batches=clock.watch(task.train_batches))
    with tempfile.TemporaryDirectory() as workdir:
        config = FitConfig(
            workdir,
            steps,
            batch,
            log_every=max(1, steps // (logs or evaluations)),
            eval_every=steps // evaluations,
            save_every=steps,
        )
        try:
            result = fit(task, config)
        except (FloatingPointError, SystemExit) as stopped:
            if isinstance(stopped, SystemExit) and stopped.code != NOT_FINITE:
                raise
            return None
        metrics, times = (_lines(workdir, name) for name in ("metrics", "timing"))
    if result is None:
        raise SystemExit("expected a result, got a dry run.")
    rate = f"{task.unit}_per_second"
    speeds = {line["step"]: line["seconds_per_step"] for line in times if rate in line}
    seconds, passed, before = {}, 0.0, 0
    for step, of_step in sorted(speeds.items()):
        passed, before = passed + (step - before) * of_step, step
        seconds[step] = passed
    losses = {line["step"]: line["loss"] for line in metrics if line["split"] == "valid"}
    both = sorted(seconds.keys() & losses.keys())
    return Run(
        params=result.params,
        loss=result.metrics["valid"]["loss"],
        step=result.best_step,
        seconds=passed,
        seconds_per_step=statistics.median(speeds.values()),
        cpu_seconds_per_step=clock.median,
        course=[(step, seconds[step], losses[step]) for step in both],
    )


class CPUClock:
    """Processor time from one training batch to the next.

    The few gaps that hold a compilation or an evaluation do not move the median.
    """

    def __init__(self):
        self._times: list[float] = []

    def watch(self, batches: Callable[[int], Iterator]) -> Callable[[int], Iterator]:
        """The same batches, with a look at the clock before each."""

        def watched(first_step: int) -> Iterator:
            for batch in batches(first_step):
                self._times.append(time.process_time())
                yield batch

        return watched

    @property
    def median(self) -> float:
        """Seconds; NaN of a single batch."""
        gaps = [after - before for before, after in itertools.pairwise(self._times)]
        return statistics.median(gaps) if gaps else math.nan


def _lines(workdir: str, name: str) -> list[dict[str, Any]]:
    lines = (pathlib.Path(workdir) / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def best_rate(
    task_of: Callable[[float], Task], rates: Sequence[float], steps: int, batch: int
) -> tuple[float, dict[str, float | None]]:
    """The learning rate with the least loss of the validation set after a short run.

    Args:
      task_of: learning rate -> what to learn.
      rates: to try; of one, none is tried.
      steps: of each trial.
      batch: rows of a batch.

    Returns:
      The rate; rate -> loss, None where it did not stay finite.
    """
    if len(rates) == 1:
        return rates[0], {}
    trials = {}
    for rate in rates:
        found = train(task_of(rate), steps, batch, 1)
        trials[rate] = found.loss if found else None
    best = min(rates, key=lambda rate: math.inf if (loss := trials[rate]) is None else loss)
    return best, {str(rate): loss for rate, loss in trials.items()}
