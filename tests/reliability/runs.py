"""Runs of the real experiments in processes of their own: to kill, to stop, and to compare."""

import json
import pathlib
import sys
import time
from typing import NamedTuple

import pytest

from rnnlab.training.checkpoint import Checkpoints, named_leaves
from rnnlab.training.run import RunDirectory
from tests.reliability.logged import Logged, end_all, kept_programs

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


class Run(Logged):
    """A process of an experiment; what it prints and what it is doing lie beside its `workdir`."""

    def __init__(self, family: str, workdir: pathlib.Path, flags: str, environment: dict[str, str]):
        self._place = workdir.with_suffix(".place")
        self._place.write_text("-")
        watched = [sys.executable, "-m", "tests.reliability.watched", str(self._place)]
        own = [f"experiments.{family}", f"--workdir={workdir}", *FAMILIES[family].split()]
        command = [*watched, *own, *flags.split()]
        super().__init__(command, workdir.with_suffix(".log"), environment)

    def place(self) -> str:
        """What it is doing, one of `PLACES`, or was doing when it ended."""
        return PLACES[self._place.read_text()]


@pytest.fixture(scope="session")
def launch(tmp_path_factory):
    """`(family, workdir, flags, **environment) -> Run`; all share their compiled programs."""
    cache, runs = tmp_path_factory.mktemp("compiled"), []

    def start(family: str, workdir: pathlib.Path, flags: str = "", **environment: str) -> Run:
        runs.append(Run(family, workdir, flags, {**kept_programs(cache), **environment}))
        return runs[-1]

    yield start
    end_all(runs)


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
