"""How a task is trained, and how that ended."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rnnlab.training.task import PyTree

PREEMPTED = 75
"""Exit code of a run that was told to stop, saved, and can go on."""

NOT_FINITE = 3
"""Exit code of a run whose losses, gradients or parameters stopped being numbers."""

NO_CHECKPOINT = 4
"""Exit code of a run that has checkpoints, none of them whole."""

DISK_FULL = 5
"""Exit code of a run that found no room for a checkpoint."""

OUT_OF_MEMORY = 6
"""Exit code of a run whose batches or model did not fit into memory."""

COUNTS = (
    *("steps", "batch_size", "microbatches", "log_every", "eval_every", "save_every", "keep"),
    "max_skips",
)


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How a task is trained, in the words of the shared flags.

    Attributes:
      workdir: the run directory.
      steps: updates.
      batch_size: rows of a batch, over all devices.
      microbatches: parts that a batch is worked off in, one after another, to save memory; the
        update is that of the whole batch.
      seed: of initialisation and of whatever is random in a step.
      dtype: "float32", or "bfloat16" for bf16 compute with float32 master weights.
      log_every: steps between lines of the training loss.
      eval_every: steps between evaluations.
      save_every: steps between checkpoints; the best and the last are saved besides.
      keep: newest checkpoints kept, besides the best.
      patience: evaluations without an improvement before training stops; 0 never stops.
      max_skips: updates in a row whose loss or gradient is not finite before training gives up.
      resume: "auto" goes on where there is a checkpoint, "must" insists, "never" refuses.
      dry_run: builds everything, compiles one step, and writes nothing.
      mesh: "data:N" for N devices that share a batch, "data:N,model:M" for N groups of M that share
        the parameters which `Task.partition` names.
      profile: whether a few of the first steps are traced by jax's profiler.
      tensorboard: whether the metrics are also written for TensorBoard.
      flags: name -> value of what defines the run, for `flags.txt`, compared on resume.
      data: name -> SHA-256 of what it is trained on, compared on resume.
    """

    workdir: str
    steps: int
    batch_size: int
    microbatches: int = 1
    seed: int = 0
    dtype: str = "float32"
    log_every: int = 100
    eval_every: int = 500
    save_every: int = 500
    keep: int = 2
    patience: int = 0
    max_skips: int = 10
    resume: str = "auto"
    dry_run: bool = False
    mesh: str = ""
    profile: bool = False
    tensorboard: bool = False
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if self.batch_size % self.microbatches:
            raise ValueError(
                f"batch_size: expected a multiple of the {self.microbatches} microbatches, got"
                f" {self.batch_size}."
            )
        for name, known in (
            ("dtype", ("float32", "bfloat16")),
            ("resume", ("auto", "never", "must")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}."
                )


@dataclasses.dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
      params: of the best checkpoint.
      metrics: set -> its metrics with these params.
      step: updates done.
      best_step: the step of these params.
      stop_reason: a sentence.
    """

    params: PyTree
    metrics: dict[str, dict[str, float]]
    step: int
    best_step: int
    stop_reason: str
