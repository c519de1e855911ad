"""Runs of two processes under `rnnlab.launch`, to be signalled, killed and compared."""

import pathlib
import sys

import pytest

from tests.reliability.logged import Logged, end_all, kept_programs
from tests.reliability.runs import FAMILIES, ending

HEARTBEAT = 10
"""Seconds of silence after which a process is dead, in these tests."""

RUN = [sys.executable, "-m", "experiments.language_model", f"--heartbeat_seconds={HEARTBEAT}"]
RUN += FAMILIES["language_model"].split()
LAUNCH = [sys.executable, "-m", "rnnlab.launch", "--nproc=2", "--"]


def shared_environment(cache: pathlib.Path) -> dict[str, str]:
    """All runs share their compiled programs."""
    return {**kept_programs(cache), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}


class Launched(Logged):
    """A launcher, and the two ranks that it has started."""

    def __init__(self, command: list[str], log: pathlib.Path, environment: dict[str, str]):
        super().__init__([*LAUNCH, *command], log, environment)

    def ranks(self) -> list[int]:
        """The process numbers of the ranks, in their order."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in sorted(children, key=_rank)]


def _rank(pid: str) -> int:
    variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(int(v.split(b"=")[1]) for v in variables if v.startswith(b"JAX_PROCESS_ID="))


@pytest.fixture(scope="session")
def launch_pair(tmp_path_factory):
    """`workdir -> Launched`, a language model trained by two processes."""
    cache, started = tmp_path_factory.mktemp("compiled_by_two"), []

    def start(workdir: pathlib.Path) -> Launched:
        command = [*RUN, f"--workdir={workdir}"]
        started.append(Launched(command, workdir.with_suffix(".log"), shared_environment(cache)))
        return started[-1]

    yield start
    end_all(started)


@pytest.fixture(scope="session")
def pair_ending(launch_pair, tmp_path_factory):
    """What two processes leave that nothing happened to."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    run = launch_pair(workdir)
    assert run.wait() == 0, run.output()
    return ending(workdir)
