"""Where a run begins: at its newest checkpoint that is whole, or at step 0."""

import dataclasses
import logging
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.config import NO_CHECKPOINT, FitConfig
from rnnlab.training.run import RunDirectory, check_identity
from rnnlab.training.task import PyTree

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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_table(value: Any, is_entry: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(is_entry, value.values()))


_FITS: Mapping[Any, Callable[[Any], bool]] = {
    int: _is_count,
    int | None: lambda value: value is None or _is_count(value),
    bool: lambda value: isinstance(value, bool),
    dict[str, str]: lambda value: _is_table(value, lambda text: isinstance(text, str)),
    dict[str, dict[str, float]]: lambda value: _is_table(
        value, lambda metrics: _is_table(metrics, _is_number)
    ),
    dict[str, tuple[float, float]]: lambda value: _is_table(
        value, lambda pair: isinstance(pair, list) and list(map(_is_number, pair)) == [True, True]
    ),
}
"""Type -> whether a value that was read from JSON is of it."""

_META: Mapping[str, Mapping[str, Any]] = {
    "identity": dict.fromkeys(("flags", "data", "assets"), dict[str, str]),
    "progress": {field.name: field.type for field in dataclasses.fields(Progress)},
}


def read_meta(meta: Mapping[str, Any]) -> tuple[dict[str, Any], Progress]:
    """The identity and the progress that a checkpoint holds; it may come from anywhere.

    Raises:
      ValueError: they are not what a run saves.
    """
    for part, fields in _META.items():
        saved = meta.get(part)
        if not isinstance(saved, dict) or saved.keys() - fields.keys():
            raise ValueError(f"meta: expected {part} with {', '.join(fields)}, got {saved!r:.100}.")
        for name, value in saved.items():
            if not _FITS[fields[name]](value):
                raise ValueError(f"meta: expected {name}: {fields[name]}, got {value!r:.100}.")
    if meta["identity"].keys() != _META["identity"].keys():
        raise ValueError(f"meta: expected flags, data and assets, got {list(meta['identity'])}.")
    return meta["identity"], Progress(**meta["progress"])


def begin(
    shapes: tuple[PyTree, PyTree],
    checkpoints: Checkpoints,
    run: RunDirectory,
    config: FitConfig,
    identity: Mapping[str, Any],
    say: Callable[[str], None],
) -> tuple[int, Progress, tuple[PyTree, PyTree]]:
    """Reads the newest checkpoint that is whole: its step, its progress and its two trees.

    Where there is no checkpoint the trees are the `shapes` that were asked for.

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
            saved, progress = read_meta(checkpoints.meta(step))
        except Exception as error:  # whatever a damaged file leads to
            bad[step] = _problem(error)
            continue
        check_identity(run, saved, identity)
        if step > config.steps:
            raise ValueError(
                f"steps: expected at least the {step} that {run.path} has done, got {config.steps}."
            )
        try:
            parts = checkpoints.restore(step, *shapes)
        except Exception as error:
            bad[step] = _problem(error)
            continue
        for other, problem in bad.items():
            say(f"checkpoint of step {other} is not usable: {problem}")
            say(f"it was moved to {checkpoints.set_aside(other)}")
        say(f"resumed at step {step}")
        return step, progress, parts
    if bad:
        tried = "\n".join(f"  step {step}: {problem}" for step, problem in bad.items())
        say(f"error: {run.checkpoints}: none of the checkpoints is usable:\n{tried}")
        say("Restore one from a backup, or start again with another --workdir.")
        raise SystemExit(NO_CHECKPOINT)
    return 0, Progress(), shapes


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
