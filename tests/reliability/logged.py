"""A process whose output is in a file, to be watched while it runs."""

import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 300.0
"""Seconds after which a process that says nothing is given up: only a failing test takes them."""


class Logged:
    """A command of the project, started; what it prints lies in `log`."""

    def __init__(self, command: Sequence[str], log: pathlib.Path, environment: Mapping[str, str]):
        self._log = log
        # A background job ignores SIGINT, and so would every child of it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with open(log, "wb") as output:
                self.process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env={**os.environ, **environment},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        finally:
            signal.signal(signal.SIGINT, before)

    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """Whether that came before the end of the process."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            if self.process.poll() is not None:
                return reached()
            if time.monotonic() > deadline:
                raise TimeoutError(self.output())
            time.sleep(0.002)
        return True

    def says(self, text: str) -> bool:
        """Waits for a text; whether it came."""
        return self.wait_until(lambda: text in self.output())

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status."""
        return self.process.wait(seconds)


def kept_programs(cache: pathlib.Path) -> dict[str, str]:
    """The variables under which runs share their compiled programs."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def end_all(processes: Iterable[Logged]) -> None:
    """Ends those that a failing test has left."""
    for logged in processes:
        if logged.process.poll() is None:
            logged.process.kill()
            logged.process.wait()
