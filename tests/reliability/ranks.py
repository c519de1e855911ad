"""Runs of two processes under `rnnlab.launch`, to be signalled, killed and compared."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.reliability.runs import FAMILIES, PATIENCE, ROOT, ending

HEARTBEAT = 10
"""Seconds of silence after which a process is dead, in these tests."""

RUN = [sys.executable, "-m", "experiments.language_model", f"--heartbeat_seconds={HEARTBEAT}"]
RUN += FAMILIES["language_model"].split()
LAUNCH = [sys.executable, "-m", "rnnlab.launch", "--nproc=2", "--"]


def shared_environment(cache: pathlib.Path) -> dict[str, str]:
    """All runs share their compiled programs."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
    }


class Launched:
    """A launcher, and the two ranks that it has started."""

    def __init__(self, command: list[str], log: pathlib.Path, environment: dict[str, str]):
        self._log = log
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
        try:
            with open(log, "wb") as output:
                self.process = subprocess.Popen(
                    [*LAUNCH, *command],
                    cwd=ROOT,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        finally:
            signal.signal(signal.SIGINT, before)

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def says(self, text: str) -> bool:
        """Waits for a text; whether it came before the end."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.output():
            if self.process.poll() is not None:
                return text in self.output()
            if time.monotonic() > deadline:
                raise TimeoutError(self.output())
            time.sleep(0.005)
        return True

    def ranks(self) -> list[int]:
        """The process numbers of the ranks, in their order."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in sorted(children, key=_rank)]

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(seconds)


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
    for run in started:
        if run.process.poll() is None:  # a test failed on the way
            run.process.kill()
            run.process.wait()


@pytest.fixture(scope="session")
def pair_ending(launch_pair, tmp_path_factory):
    """What two processes leave that nothing happened to."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    run = launch_pair(workdir)
    assert run.wait() == 0, run.output()
    return ending(workdir)
