"""A table and a picture from the rows of `benchmarks.forecasters`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import markdown
from rnnlab.plot import new_figure

Row = Mapping[str, Any]
COLUMNS = (
    *("model", "parameters", "test MSE", "test MAE", "validation loss", "best step"),
    *("learning rate", "training, CPU s"),
)
RECURRENT = ("gru", "lstm", "seg_rnn")


def describe(row: Row) -> str:
    """A line about a model."""
    text = f"{row['dataset']}, {row['model']}: {row['parameters']:,} parameters, test MSE"
    text += f" {number(row['mse'])}, MAE {number(row['mae'])}"
    return text + (f" in {row['seconds']:.1f} s of a processor" if "seconds" in row else "")


def number(value: float) -> str:
    """Four digits or all before the point.

    Example:
        >>> number(0.123456), number(123456.7)
        ('0.1235', '123,457')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def table(rows: Sequence[Row]) -> str:
    """Markdown, the least squared error first."""
    lines: list[Sequence[Any]] = [COLUMNS]
    for row in sorted(rows, key=lambda row: row["mse"]):
        line = [row["model"], f"{row['parameters']:,}", number(row["mse"]), number(row["mae"])]
        if "seconds" in row:
            line += [f"{row['valid_loss']:.4f}", row["step"], f"{row['rate']:g}"]
            line += [f"{row['seconds']:.0f}"]
        lines.append([*line, *[""] * (len(COLUMNS) - len(line))])
    return markdown.table(lines)


def draw(rows: Sequence[Row], path: str | os.PathLike) -> None:
    """A line of panels for each data set: the test error of each model, the time it was trained.

    The least error is at the top; recurrent models are drawn in a colour of their own.
    """
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    figure = new_figure(10, 3.2 * len(datasets))
    panels = figure.subplots(len(datasets), 2, squeeze=False)
    for (errors, times), dataset in zip(panels, datasets, strict=True):
        chosen = [row for row in rows if row["dataset"] == dataset]
        chosen.sort(key=lambda row: row["mse"], reverse=True)
        names = [row["model"].replace("_", " ") for row in chosen]
        colors = [_color(row) for row in chosen]
        bars = errors.barh(names, [row["mse"] for row in chosen], color=colors)
        errors.bar_label(bars, [number(row["mse"]) for row in chosen], padding=3, fontsize=8)
        errors.set(title=f"{dataset}: mean squared error on the test rows")
        bars = times.barh(names, [row.get("seconds", 0) for row in chosen], color=colors)
        labels = [f"{row['seconds']:.0f}" if "seconds" in row else "" for row in chosen]
        times.bar_label(bars, labels, padding=3, fontsize=8)
        times.set(title="training, seconds of a processor")
        for panel in (errors, times):
            panel.margins(x=0.12)
            panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _color(row: Row) -> str:
    if "seconds" not in row:
        return "0.75"
    return "C0" if row["model"] in RECURRENT else "C1"
