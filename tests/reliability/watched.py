"""Runs an experiment, and keeps what it is doing in a file, which outlives a SIGKILL.

    python -m tests.reliability.watched FILE experiments.NAME [FLAG ...]

FILE, which is there, gets one of the letters of `tests.reliability.runs.PLACES`; HOLD=LETTER in the
environment keeps the process at that place for good.
"""

import functools
import os
import runpy
import sys
import time

from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.loop import Loop
from rnnlab.training.trainer import Trainer


def watch(file: int, owner: type, name: str, during: bytes, after: bytes | None = None) -> None:
    """Notes `during` while a method runs; then `after`, or what was noted before."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def watched(*args, **kwargs):
        before = os.pread(file, 1, 0)
        os.pwrite(file, during, 0)
        while os.environ.get("HOLD") == during.decode():
            time.sleep(0.01)
        try:
            return method(*args, **kwargs)
        finally:
            os.pwrite(file, after or before, 0)

    setattr(owner, name, watched)


def main(path: str, module: str, *flags: str) -> None:
    """Runs `module` with `flags`."""
    file = os.open(path, os.O_RDWR)
    watch(file, Trainer, "program", b"c", b"t")  # from the first step on, all else is training
    watch(file, Trainer, "update", b"t", b"t")
    watch(file, Loop, "_evaluate_set", b"e")
    watch(file, Checkpoints, "save", b"s")
    watch(file, Loop, "_finish", b".", b".")
    sys.argv = [module, *flags]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
