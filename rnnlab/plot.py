"""Pictures. matplotlib is an optional extra, imported when something is drawn."""

import os
from collections.abc import Mapping, Sequence
from typing import Any


def new_figure(width: float = 7.0, height: float = 4.0):
    """A matplotlib figure of its own: no global state, no window, no display needed."""
    try:
        from matplotlib.figure import Figure  # an optional extra, and slow to import
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "drawing needs matplotlib: pip install 'rnnlab[plot]'", name=error.name
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def loss_curve(records: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Draws the loss of every split over the steps.

    Args:
      records: lines of `metrics.jsonl`, each with `step`, `split` and `loss`.
      path: of the picture; the ending says its format.
    """
    figure = new_figure()
    axes = figure.subplots()
    splits = dict.fromkeys(record["split"] for record in records)
    for split in splits:
        steps = [record["step"] for record in records if record["split"] == split]
        losses = [record["loss"] for record in records if record["split"] == split]
        marker = "." if len(steps) < 50 else ""
        axes.plot(steps, losses, marker=marker, label=f"{split} {losses[-1]:.3f}")
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
