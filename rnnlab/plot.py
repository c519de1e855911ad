"""Pictures. matplotlib is an optional extra, imported when something is drawn."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LINE_STYLES = ("-", "--", ":", "-.")
LONGEST_NAME = 80  # letters of a run's name in a legend
FEW_VALUES = 6  # of a flag: so few find room to be written out
MOST_ROWS = 12  # of a heat map that have their step beside them
FEW_POINTS = 50  # so few are marked, or a line of one point would not be seen


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
    for split in dict.fromkeys(record["split"] for record in records):
        steps, losses = _curve(records, split, "step", "loss")
        if losses:
            _line(axes, steps, losses, label=f"{split} {losses[-1]:.3f}")
    _style(axes, "step", "loss")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def compare(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike,
    *,
    metric: str = "loss",
    splits: Sequence[str] = ("valid",),
    x: str = "step",
    mode: str = "min",
    log: bool = False,
) -> None:
    """Draws a metric of several runs: a colour for each run, a line style for each split.

    The legend stands beside the curves, with the last value of each and its best.

    Args:
      runs: name -> lines of its `metrics.jsonl`.
      path: of the picture; the ending says its format.
      metric: what is drawn.
      splits: whose; a run without one of them goes without that curve.
      x: the key of a line that is drawn against: "step", or "seconds" where the lines have it.
      mode: "min" or "max", what is best.
      log: whether the metric's axis is logarithmic.

    Raises:
      ValueError: no run has the metric in any of the splits.
    """
    figure = new_figure()
    axes = figure.subplots()
    for run, (name, records) in enumerate(runs.items()):
        for number, split in enumerate(splits):
            xs, values = _curve(records, split, x, metric)
            if values:
                label = _label(name if len(splits) == 1 else f"{name} {split}", xs, values, mode)
                style = LINE_STYLES[number % len(LINE_STYLES)]
                _line(axes, xs, values, label=label, color=_color(run, len(runs)), linestyle=style)
    if not axes.lines:
        raise ValueError(
            f"expected {metric} of {' or '.join(splits)} in the metrics of a run; there are"
            f" {', '.join(_known(runs)) or 'none'}."
        )
    ylabel = f"{splits[0]} {metric}" if len(splits) == 1 else metric
    _style(axes, "step" if x == "step" else x.replace("seconds", "seconds of training"), ylabel)
    if log:
        _log_axis(axes)
    legend = figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    labels = [entry.get_text() for entry in legend.get_texts()]
    width, height = figure.get_size_inches()  # of the curves; the legend comes on top of that
    figure.set_size_inches(width + 0.08 * max(map(len, labels)), max(height, 0.2 * len(labels)))
    figure.savefig(path, dpi=150)


def search(
    trials: Sequence[tuple[Mapping[str, str], float]],
    path: str | os.PathLike,
    *,
    metric: str,
    mode: str = "min",
) -> None:
    """Draws the score of every trial against each of the flags that were searched, side by side.

    Args:
      trials: the values of the flags, as text, and the score; one trial or more.
      path: of the picture; the ending says its format.
      metric: what the score is.
      mode: "min" or "max", what is best.
    """
    names = list(trials[0][0])
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = new_figure(0.8 + 3.4 * columns, 0.5 + 2.9 * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    scores = [score for _, score in trials]
    best = scores.index(min(scores) if mode == "min" else max(scores))
    for number, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        xs = _positions(axes, [values[name] for values, _ in trials])
        axes.scatter(xs, scores, s=28, alpha=0.7, linewidths=0)
        axes.scatter(xs[best], scores[best], s=90, facecolors="none", edgecolors="C3", linewidths=2)
        _style(axes, name, metric if number % columns == 0 else "")
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    chosen = ", ".join(f"{name}={value}" for name, value in trials[best][0].items())
    figure.suptitle(
        f"best: {metric} {scores[best]:.4g} with {chosen}", fontsize="medium", wrap=True
    )
    figure.savefig(path, dpi=150)


def confusion(table: np.ndarray, names: Sequence[str]):
    """A figure of what was taken for what.

    Args:
      table: counts `[C, C]`, a row for every true class and a column for every guess.
      names: of the C classes.
    """
    figure = new_figure(1.6 + 0.7 * len(names), 1.2 + 0.6 * len(names))
    axes = figure.subplots()
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        color = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="guess", ylabel="true class")
    return figure


def losses_by_position(rows: Mapping[int, Sequence[float]]):
    """A figure of the loss by tokens read, a row for each evaluation, the last at the top.

    Args:
      rows: step -> losses `[T]`, all of one length; one step or more.
    """
    figure = new_figure(8.0, 4.0)
    axes = figure.subplots()
    steps = sorted(rows)
    table = np.array([rows[step] for step in steps])
    image = axes.imshow(
        table,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0.5, table.shape[1] + 0.5, -0.5, len(steps) - 0.5),
    )
    shown = range(0, len(steps), -(-len(steps) // MOST_ROWS))
    axes.set_yticks(shown, [str(steps[row]) for row in shown])
    axes.set(xlabel="tokens read since a fresh start", ylabel="step")
    figure.colorbar(image, label="loss (nats)")
    return figure


def _curve(records: Sequence[Mapping[str, Any]], split: str, x: str, metric: str):
    """What to draw of a split: xs and values."""
    chosen = [line for line in records if line["split"] == split and metric in line]
    return [line[x] for line in chosen], [line[metric] for line in chosen]


def _line(axes, xs: Sequence[float], values: Sequence[float], **style: Any) -> None:
    axes.plot(xs, values, marker="." if len(xs) < FEW_POINTS else "", **style)


def _log_axis(axes) -> None:
    """A logarithmic axis with 1.5 at its ticks, not 1.5 x 10^0."""
    from matplotlib.ticker import LogFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.grid(alpha=0.15, which="minor")


def _label(name: str, xs: Sequence[float], values: Sequence[float], mode: str) -> str:
    """`name  2.31 (best 2.25 at 400)`."""
    finite = [(value, x) for value, x in zip(values, xs, strict=True) if math.isfinite(value)]
    if not finite:
        return f"{name}  not finite"
    best, where = min(finite) if mode == "min" else max(finite, key=lambda pair: pair[0])
    name = name if len(name) <= LONGEST_NAME else f"…{name[-LONGEST_NAME:]}"
    last = f"{name}  {values[-1]:.4g}"
    return last if best == values[-1] else f"{last} (best {best:.4g} at {where:.0f})"


def _color(number: int, count: int):
    """Ten colours that are told apart at once, or as many as it takes."""
    import matplotlib

    if count <= 10:
        return matplotlib.colormaps["tab10"](number)
    return matplotlib.colormaps["turbo"]((number + 0.5) / count)


def _known(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What could have been drawn, as SPLIT.METRIC."""
    lines = [line for records in runs.values() for line in records]
    found = {
        f"{line['split']}.{key}"
        for line in lines
        for key in line.keys() - {"step", "split", "seconds"}
    }
    return sorted(found)


def _positions(axes, texts: Sequence[str]) -> list[float]:
    """Where values stand: many numbers by size, few values or words side by side."""
    distinct = list(dict.fromkeys(texts))
    numbers = _numbers(distinct)
    if numbers:
        distinct.sort(key=float)
    if numbers and len(distinct) > FEW_VALUES:
        if min(numbers) > 0 and max(numbers) >= 8 * min(numbers):
            axes.set_xscale("log")
        return [float(text) for text in texts]
    shown = [text if len(text) <= 14 else f"…{text[-13:]}" for text in distinct]
    crowded = sum(map(len, shown)) > 30
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(distinct)), shown, **turned)
    axes.set_xlim(-0.5, len(distinct) - 0.5)
    return [distinct.index(text) for text in texts]


def _numbers(texts: Sequence[str]) -> list[float]:
    """The texts as finite numbers; none where one is something else."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def _style(axes, xlabel: str, ylabel: str) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if xlabel == "step":
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
