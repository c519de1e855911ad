"""The trials of a sweep: each a run of its own, in a process of its own."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import IO

from rnnlab.cli import files
from rnnlab.cli.space import Values

GRACE = 60.0  # seconds in which a trial that is told to stop may save


@dataclasses.dataclass(frozen=True)
class Trial:
    """How a trial ended.

    Attributes:
      values: of the searched flags.
      path: its run directory.
      score: None where there is none.
      problem: why there is none.
    """

    values: Values
    path: pathlib.Path
    score: float | None
    problem: str | None

    def record(self) -> dict[str, object]:
        """As a line of `sweep.jsonl`."""
        return {
            "values": dict(self.values),
            "name": self.path.name,
            "score": self.score,
            "problem": self.problem,
        }


def directory_name(values: Values) -> str:
    """A file name for values: readable, the same every time, and never a path.

    Whatever is not plain is replaced, and a digest tells apart what then looks the same.
    """
    readable = ",".join(f"{name}={value}" for name, value in values.items())
    plain = re.sub(r"[^A-Za-z0-9_=,+.-]", "_", readable)[:80]
    digest = hashlib.sha256(json.dumps(sorted(values.items())).encode()).hexdigest()
    return f"{plain}-{digest[:8]}"


class Runner:
    """Runs `python -m MODULE FLAGS --NAME=VALUE --workdir=...` for one set of values after another.

    A trial whose run has ended is not run again; one that was cut off is, and resumes.

    Args:
      workdir: of the sweep; each trial has a folder in it.
      command: the module, and the flags that all trials share.
      metric: the score, a dotted name in the metrics of `run.json`.
      jobs: trials at a time.
      note: called with a trial when it has ended.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        command: Sequence[str],
        metric: str,
        jobs: int,
        note: Callable[[Trial], None],
    ):
        self.workdir, self.command, self.metric = workdir, list(command), metric
        self.jobs, self.note = jobs, note
        self.ended: dict[str, Trial] = {}  # directory name -> trial
        self._running: dict[subprocess.Popen, Values] = {}

    def evaluate(self, batch: Sequence[Values]) -> list[float | None]:
        """The scores of some trials, in their order; None for one that failed."""
        named = {directory_name(values): values for values in batch}
        waiting = [values for name, values in named.items() if name not in self.ended]
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.jobs:
                    self._begin(waiting.pop(0))
                self._take_ended()
                if self._running:
                    time.sleep(0.05)
        finally:
            self._stop()
        return [self.ended[directory_name(values)].score for values in batch]

    def _begin(self, values: Values) -> None:
        if self._has_ended(values):
            self._end(values, 0)
        else:
            self._running[self._start(values)] = values

    def _take_ended(self) -> None:
        for process in [process for process in self._running if process.poll() is not None]:
            self._end(self._running.pop(process), process.returncode)

    def _end(self, values: Values, code: int) -> None:
        trial = self._outcome(values, code)
        self.ended[trial.path.name] = trial
        self.note(trial)

    def _has_ended(self, values: Values) -> bool:
        try:
            return files.is_finished(files.read_summary(self.workdir / directory_name(values)))
        except (OSError, ValueError):
            return False

    def _start(self, values: Values) -> subprocess.Popen:
        path = self.workdir / directory_name(values)
        path.mkdir(parents=True, exist_ok=True)
        flags = [f"--{name}={value}" for name, value in values.items()]
        command = [sys.executable, "-m", *self.command, *flags, f"--workdir={path}"]
        with open(path / "log.txt", "ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we tell a trial to stop, once
            )

    def _outcome(self, values: Values, code: int) -> Trial:
        path = self.workdir / directory_name(values)
        if code:
            how = f"exit code {code}" if code > 0 else f"killed by {_signal_name(-code)}"
            return Trial(values, path, None, f"{how}: {_last_line(path / 'log.txt')}")
        try:
            summary = files.read_summary(path)
        except (OSError, ValueError) as error:
            return Trial(values, path, None, str(error))
        if not files.is_finished(summary):
            return Trial(values, path, None, "its run.json says that it has not ended")
        score = files.lookup(summary.get("metrics"), self.metric)
        if isinstance(score, int | float) and math.isfinite(score):
            return Trial(values, path, float(score), None)
        known = ", ".join(_metric_names(summary.get("metrics")))
        problem = f"expected a finite {self.metric} in run.json, got {score}; it has {known}"
        return Trial(values, path, None, problem)

    def _stop(self) -> None:
        """Tells what is still running to save and stop, then waits, then kills."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        try:
            for process in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(deadline - time.monotonic(), 0))
        finally:  # also when told again
            for process in self._running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            self._running.clear()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(path: pathlib.Path, window: int = 4096) -> str:
    """The last line of a log, which in Python's tracebacks says what happened."""
    with open(path, "rb") as log:
        _seek_near_end(log, window)
        lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")[:300]


def _seek_near_end(file: IO[bytes], window: int) -> None:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - window, 0))


def _metric_names(metrics: object) -> Iterable[str]:
    """What there is to choose from, as SET.METRIC."""
    if not isinstance(metrics, dict):
        return ["no metrics"]
    return [
        f"{split}.{name}"
        for split, found in metrics.items()
        if isinstance(found, dict)
        for name in found
    ]
