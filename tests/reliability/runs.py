"""Runs of the real experiments in processes of their own: to kill, to stop, and to compare."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from rnnlab.training.checkpoint import Checkpoints, named_leaves
from rnnlab.training.run import RunDirectory

ROOT = pathlib.Path(__file__).parents[2]
STEPS, EVAL_EVERY = 80, 10
COMMON = (
    f"--steps={STEPS} --eval_every={EVAL_EVERY} --save_every=8 --log_every=7 --strategy=scan"
    " --dropout=0.1 --batch_size=32"
)
FAMILIES = {
    "language_model": f"{COMMON} --features=64 --embedding_features=16 --seq_length=32"
    " --eval_streams=16 --warmup_steps=5 --length=20",  # with carried state
    "classifier": f"{COMMON} --features=24 --eval_batch_size=300",  # stateless
}
PLACES = {"-": "start", "c": "compile", "t": "step", "e": "eval", "s": "save", ".": "end"}
PATIENCE = 300.0
"""Seconds after which a process that says nothing is given up: only a failing test takes them."""


class Run:
    """A process of an experiment; what it prints and what it is doing lie beside its `workdir`."""

    def __init__(self, family: str, workdir: pathlib.Path, flags: str, environment: dict[str, str]):
        self._log, self._place = workdir.with_suffix(".log"), workdir.with_suffix(".place")
        self._place.write_text("-")
        watched = [sys.executable, "-m", "tests.reliability.watched", str(self._place)]
        own = [f"experiments.{family}", f"--workdir={workdir}", *FAMILIES[family].split()]
        # A background job ignores SIGINT, and so would every child of it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with open(self._log, "wb") as log:
                self.process = subprocess.Popen(
                    [*watched, *own, *flags.split()],
                    cwd=ROOT,
                    env={**os.environ, **environment},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        finally:
            signal.signal(signal.SIGINT, before)

    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def place(self) -> str:
        """What it is doing, one of `PLACES`, or was doing when it ended."""
        return PLACES[self._place.read_text()]

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """Whether that came before the end of the process."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            if self.process.poll() is not None:
                return reached()
            if time.monotonic() > deadline:
                raise TimeoutError(f"at {self.place()}:\n{self.output()}")
            time.sleep(0.002)
        return True

    def says(self, text: str) -> bool:
        """Waits for a text; whether it came."""
        return self.wait_until(lambda: text in self.output())

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE)


@pytest.fixture(scope="session")
def launch(tmp_path_factory):
    """`(family, workdir, flags, **environment) -> Run`; all share their compiled programs."""
    cache, runs = tmp_path_factory.mktemp("compiled"), []

    def start(family: str, workdir: pathlib.Path, flags: str = "", **environment: str) -> Run:
        shared = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        runs.append(Run(family, workdir, flags, {**shared, **environment}))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:  # a test failed on the way
            run.process.kill()
            run.process.wait()


class Reference(NamedTuple):
    """A run that nothing happened to."""

    ending: dict[str, object]
    seconds: float  # of training, once all is compiled


@pytest.fixture(scope="session")
def uninterrupted(launch, tmp_path_factory):
    """`family -> Reference`, made once."""
    references: dict[str, Reference] = {}

    def reference(family: str) -> Reference:
        if family not in references:
            workdir = tmp_path_factory.mktemp("uninterrupted") / family
            run = launch(family, workdir)
            times = [time.monotonic() for text in ("valid at", "test at") if run.says(text)]
            assert run.wait() == 0, run.output()
            seconds = (times[1] - times[0]) * STEPS / (STEPS - EVAL_EVERY)
            references[family] = Reference(ending(workdir), seconds)
        return references[family]

    return reference


def ending(workdir: pathlib.Path) -> dict[str, object]:
    """All that a run left that has to be the same every time, by name, bit for bit."""
    run = RunDirectory(workdir)
    with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
        step = checkpoints.latest()
        leaves = named_leaves(checkpoints.restore_raw(step))
        progress = checkpoints.meta(step)["progress"]
    summary = run.read_summary()
    return {
        **{name: (leaf.dtype, leaf.shape, leaf.tobytes()) for name, leaf in leaves},
        **{f"progress.{name}": value for name, value in progress.items()},
        **{name: summary[name] for name in ("step", "best_step", "metrics", "stop_reason")},
        **{path.name: path.read_bytes() for path in run.path.glob("samples.txt")},
        "metrics.jsonl": run.read("metrics.jsonl"),
    }


def differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    """The names of what is not the same."""
    names = sorted(found.keys() | expected.keys())
    return [name for name in names if found.get(name) != expected.get(name)]


def logged_once(workdir: pathlib.Path) -> bool:
    """Whether no step of a split is twice in `metrics.jsonl`."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    names = [(line["step"], line["split"]) for line in lines]
    return len(names) == len(set(names))
