"""Where a run begins: at its newest checkpoint that is whole, or at step 0."""

import dataclasses
import logging
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.config import NO_CHECKPOINT, FitConfig
from rnnlab.training.run import RunDirectory, check_identity
from rnnlab.training.trainer import Trainer

LONGEST = 300
"""Characters of what is said about a checkpoint that is not whole."""


@dataclasses.dataclass
class Progress:
    """What a resumed run has to know besides the train state, as JSON."""

    batches: int = 0  # taken from the stream; as many as steps, without `collect`
    best_step: int | None = None
    best_metrics: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    stale: int = 0  # evaluations since the best one
    evaluated: int = 0  # step of the last evaluation
    evaluation_due: bool = False  # at this step, and broken off
    skips: int = 0  # updates skipped in a row
    window: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)  # open sums
    metrics_size: int = 0  # bytes of metrics.jsonl


def begin(
    trainer: Trainer,
    checkpoints: Checkpoints,
    run: RunDirectory,
    config: FitConfig,
    identity: Mapping[str, Any],
    say: Callable[[str], None],
) -> tuple[int, Progress]:
    """Takes up the newest checkpoint that is whole; the step, and what goes with it.

    Newer ones that are not whole are named and set aside, in `bad_checkpoints/`, so that the steps
    they stood for are trained and saved again.

    Raises:
      FileNotFoundError: `resume="must"` and no checkpoint.
      ValueError: `resume="never"` and a checkpoint; other flags or data; more steps than asked for.
      SystemExit: 4, none of the checkpoints is whole.
    """
    steps = checkpoints.steps()
    _check_wish(config.resume, steps, run)
    bad: dict[int, str] = {}
    for step in reversed(steps):
        try:
            meta = checkpoints.meta(step)
        except Exception as error:  # whatever a damaged file leads to
            bad[step] = _problem(error)
            continue
        check_identity(run, meta["identity"], identity)
        if step > config.steps:
            raise ValueError(
                f"steps: expected at least the {step} that {run.path} has done, got {config.steps}."
            )
        try:
            trainer.restore(checkpoints, step)
        except Exception as error:
            bad[step] = _problem(error)
            continue
        for other, problem in bad.items():
            say(f"checkpoint of step {other} is not usable: {problem}")
            say(f"it was moved to {checkpoints.set_aside(other)}")
        say(f"resumed at step {step}")
        return step, Progress(**meta["progress"])
    if bad:
        tried = "\n".join(f"  step {step}: {problem}" for step, problem in bad.items())
        say(f"error: {run.checkpoints}: none of the checkpoints is usable:\n{tried}")
        say("Restore one from a backup, or start again with another --workdir.")
        raise SystemExit(NO_CHECKPOINT)
    return 0, Progress()


def _check_wish(resume: str, steps: list[int], run: RunDirectory) -> None:
    if not steps and resume == "must":
        raise FileNotFoundError(
            f"{run.checkpoints}: expected a checkpoint for --resume=must, found none."
        )
    if steps and resume == "never":
        raise ValueError(
            f"{run.checkpoints}: found a checkpoint of step {steps[-1]}, and --resume=never will"
            f" not write over it. Name another --workdir, or remove this one."
        )


def _problem(error: Exception) -> str:
    """An error in one line: orbax's run over pages, and its abandoned reads would print more."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return textwrap.shorten(f"{type(error).__name__}: {error}", LONGEST, placeholder=" ...")
