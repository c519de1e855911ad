"""What a run says on the console: plain lines, and a live bar below them on a terminal."""

import re
import sys
from collections.abc import Mapping
from typing import Any

import jax
import rich.console
import rich.progress

from rnnlab.training.task import PyTree


class Console:
    """Prints lines; on a terminal, also a bar. A context manager."""

    def __init__(self, steps: int):
        self._steps = steps
        self._bar = None
        if sys.stdout.isatty():
            self._bar = rich.progress.Progress(
                "{task.percentage:3.0f}%",
                rich.progress.BarColumn(None),
                "{task.completed}/{task.total}",
                rich.progress.TimeRemainingColumn(),
            )

    def __enter__(self) -> "Console":
        if self._bar:
            self._bar.start()
            self._bar.add_task("training", total=self._steps)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, step: int) -> None:
        """Moves the bar to `step`."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=step)

    def say(self, line: str) -> None:
        """Prints one line."""
        if self._bar:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)


def train_line(
    step: int, steps: int, metrics: dict[str, float], rate: float, unit: str, seconds: float
) -> str:
    """The line of a log window.

    Args:
      step: updates done.
      steps: updates of the whole run.
      metrics: averages over the window; `gnorm`, `learning_rate` and `skipped`, how many updates
        were not finite, get places of their own.
      rate: `unit`s per second.
      unit: "tok".
      seconds: per step.
    """
    metrics = dict(metrics)
    skipped, learning_rate = metrics.pop("skipped", 0), metrics.pop("learning_rate", None)
    gnorm = metrics.pop("gnorm", None)  # of the updates that were not skipped
    parts = [f"step {step}/{steps} {100 * step // steps}%", describe(metrics)]
    if learning_rate is not None:
        parts.append("lr " + re.sub(r"e([+-])0", r"e\1", f"{learning_rate:.1e}"))
    if gnorm is not None:
        parts.append(f"gnorm {gnorm:.2g}")
    if skipped:
        parts.append(f"skipped {skipped}")
    parts.append(f"{short(rate)} {unit}/s")
    parts.append(f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.2f} s")
    parts.append(f"ETA {clock((steps - step) * seconds)}")
    return " | ".join(parts)


def describe(metrics: Mapping[str, float]) -> str:
    """`loss 2.31 (bpc 3.33, perplexity 10.1)`."""
    others = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name != "loss")
    if "loss" not in metrics:
        return others
    return f"loss {metrics['loss']:.4g}" + (f" ({others})" if others else "")


def short(number: float) -> str:
    """41234 -> 41.2k."""
    for suffix in ("", "k", "M", "G"):
        if number < 999.5 or suffix == "G":
            break
        number /= 1000
    return f"{number:.3g}{suffix}"


def clock(seconds: float) -> str:
    """93 -> 1:33."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def parameter_count(params: PyTree) -> int:
    """How many numbers there are in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def summary(params: PyTree) -> str:
    """A table of the parameters by module: name, how many numbers, shapes."""
    modules: dict[str, list[Any]] = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path[:-1] or path, simple=True, separator=".")
        modules.setdefault(name or "params", []).append(leaf)
    rows = [
        (name, parameter_count(leaves), ", ".join(str(list(leaf.shape)) for leaf in leaves))
        for name, leaves in modules.items()
    ]
    rows.append(("total", parameter_count(params), ""))
    width = max(len(name) for name, _, _ in rows)
    lines = (f"  {name:{width}} {count:>12,}  {shapes}" for name, count, shapes in rows)
    return "\n".join(map(str.rstrip, lines))
