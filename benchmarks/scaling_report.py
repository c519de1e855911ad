"""Tables and a picture from the rows of `benchmarks.scaling`."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import markdown
from benchmarks.strategy_report import STYLES, Row, cell_name, mebibytes, table
from rnnlab.plot import new_figure

AXES = {"length": "T", "batch": "B", "features": "H"}


def along(rows: Sequence[Row], axis: str, base: Mapping[str, int]) -> list[Row]:
    """The rows of one axis: those whose other sizes are the base's."""
    others = {name: base[name] for name in AXES if name != axis}
    chosen = [row for row in rows if others.items() <= row.items()]
    return sorted(chosen, key=lambda row: row[axis])


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """k of the power law values = c * sizes^k: a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def memory_exponent(line: Sequence[Row]) -> float:
    """How the temporary memory of a strategy grows with T; NaN of fewer than two lengths.

    Taken are the longest, a quarter of it and so on, four at most, where constants no longer count.
    With the longest a square they all are, and the chunks of `Remat` fill: where a rest remains,
    it copies an input and an output whole.
    """
    longest = line[-1]["length"]
    taken = [row for row in line[-7:] if math.log2(longest / row["length"]) % 2 == 0]
    if len(taken) < 2:
        return math.nan
    return exponent(
        [row["length"] for row in taken], [row["temporary_bytes"] or 1 for row in taken]
    )


def further_step(line: Sequence[Row]) -> float:
    """Seconds of a further step between the two longest lengths; NaN of fewer than two."""
    if len(line) < 2:
        return math.nan
    short, long = line[-2:]
    return (long["run_seconds"] - short["run_seconds"]) / (long["length"] - short["length"])


def summary(rows: Sequence[Row], base: Mapping[str, int]) -> str:
    """Markdown: what every strategy costs for long sequences, a line for each cell and strategy."""
    header = ["cell", "strategy", "us per further step", "memory grows with T to the power"]
    lines = [[*header, "MiB at the longest", "times as fast as Scan there"]]
    for cell in dict.fromkeys(row["cell"] for row in rows):
        of_cell = along([row for row in rows if row["cell"] == cell], "length", base)
        for name in dict.fromkeys(row["strategy"] for row in of_cell):
            line = [row for row in of_cell if row["strategy"] == name]
            numbers = [f"{1e6 * further_step(line):.3g}", f"{memory_exponent(line):.2f}"]
            longest = [mebibytes(line[-1]), f"{line[-1]['scan_over'][0]:.2f}"]
            lines.append([cell, name, *numbers, *longest])
    return markdown.table(lines)


def tables(rows: Sequence[Row], base: Mapping[str, int]) -> str:
    """Markdown tables of one cell: an axis at a time, strategies across."""
    parts = [f"## {cell_name(rows[0])}"]
    for axis, letter in AXES.items():
        others = ", ".join(f"{AXES[name]} = {base[name]}" for name in AXES if name != axis)
        line = [{**row, letter: row[axis]} for row in along(rows, axis, base)]
        title = f"Against {letter}, with {others}: run time, ms / peak temporary memory, MiB"
        parts.append(table(title, line, _time_and_memory, "-", (letter,)))
    return "\n\n".join(parts)


def _time_and_memory(row: Row) -> str:
    return f"{1e3 * row['run_seconds']:.3g} / {mebibytes(row)}"


def draw(rows: Sequence[Row], base: Mapping[str, int], path: str | os.PathLike) -> None:
    """Time and memory against every axis, for every cell, on logarithmic axes."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    figure = new_figure(1.5 + 3.2 * len(cells), 15)
    axes = figure.subplots(2 * len(AXES), len(cells), sharex="row", sharey="row", squeeze=False)
    for column, cell in zip(axes.T, cells, strict=True):
        of_cell = [row for row in rows if row["cell"] == cell]
        column[0].set_title(cell_name(of_cell[0]))
        for index, axis in enumerate(AXES):
            line = along(of_cell, axis, base)
            _draw_lines(column[2 * index], line, axis, lambda row: 1e3 * row["run_seconds"])
            _draw_lines(
                column[2 * index + 1], line, axis, lambda row: row["temporary_bytes"] / 2**20
            )
        _draw_guide(column[1], along(of_cell, "length", base))
    for time, memory in axes[:, 0].reshape(-1, 2):
        time.set_ylabel("run time, ms")
        memory.set_ylabel("temporary memory, MiB")
    lines = {line.get_label(): line for panel in axes[1] for line in panel.get_lines()}
    figure.legend(
        lines.values(), lines, loc="outside lower center", ncols=len(lines), frameon=False
    )
    sizes = ", ".join(f"{letter} = {base[name]}" for name, letter in AXES.items())
    figure.suptitle(f"Forward + backward around {sizes}, float32")
    figure.savefig(path, dpi=120)


def _draw_lines(panel: Any, line: Sequence[Row], axis: str, value: Callable[[Row], float]) -> None:
    from matplotlib.ticker import LogLocator  # an optional extra, and slow to import

    for name in dict.fromkeys(row["strategy"] for row in line):
        points = [(row[axis], value(row)) for row in line if row["strategy"] == name]
        colour, marker = STYLES.get(name, ("#888888", "."))
        panel.plot(
            *zip(*points, strict=True), color=colour, marker=marker, label=name, ms=4, lw=1.2
        )
    panel.set(xscale="log", yscale="log", xlabel=AXES[axis])
    sizes = sorted({row[axis] for row in line})[:: 2 if axis == "length" else 1]
    panel.set_xticks(sizes, map(str, sizes), minor=False)
    panel.set_xticks([], minor=True)
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def _draw_guide(panel: Any, line: Sequence[Row]) -> None:
    """Growth with the square root of T, through the longest sequence of `Remat`."""
    of_remat = [row for row in line if row["strategy"] == "Remat"]
    if not of_remat:
        return
    lengths, last = [row["length"] for row in of_remat], of_remat[-1]
    memory = [
        last["temporary_bytes"] / 2**20 * math.sqrt(length / last["length"]) for length in lengths
    ]
    panel.plot(lengths, memory, color="0.4", linestyle=":", label="square root of T")
