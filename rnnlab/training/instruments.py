"""What may look on while a task is trained: TensorBoard and jax's profiler."""

import os
import pathlib
from collections.abc import Mapping

import jax

from rnnlab.training.task import PyTree

PROFILED = range(5, 10)
"""Updates that `--profile` traces, counted from the first of the process: past all warming up."""


class TensorBoard:
    """Scalars for TensorBoard, under `SPLIT/METRIC`. A context manager.

    Args:
      directory: where its event files go.
      first_step: of a resumed run; what an earlier process wrote from here on is hidden.
    """

    def __init__(self, directory: str | os.PathLike, first_step: int = 0):
        try:
            from tensorboardX import SummaryWriter  # an optional extra
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "--tensorboard needs tensorboardX: pip install 'rnnlab[tensorboard]'",
                name=error.name,
            ) from error
        self._writer = SummaryWriter(str(directory), purge_step=first_step + 1)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Adds a point to the curve of every metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)
        self._writer.flush()


class Profiler:
    """Traces the steps `PROFILED` of this process with jax's profiler. A context manager."""

    def __init__(self, directory: str | os.PathLike):
        self.directory = pathlib.Path(directory)
        self._step, self._tracing = 0, False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
        self._tracing = False

    def step(self, results: PyTree) -> None:
        """Counts an update, whose `results` the trace waits for before it ends."""
        self._step += 1
        if self._step == PROFILED.start:
            jax.block_until_ready(results)
            jax.profiler.start_trace(str(self.directory))
            self._tracing = True
        if self._tracing and self._step == PROFILED.stop:
            jax.block_until_ready(results)
            self.__exit__()
