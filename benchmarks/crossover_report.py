"""Tables, a heat map and a judgement of `Auto`, from the rows of `benchmarks.strategies`."""

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks import markdown
from benchmarks.layers import label
from benchmarks.strategy_report import STYLES, Row, cell_name, mebibytes, run_time, table
from rnnlab.cells import CELLS
from rnnlab.plot import new_figure
from rnnlab.select import select_strategy

TOLERATED = 0.1  # what `Auto` may lose against the fastest strategy, of its time
PASSES = {True: "forward+backward", False: "forward"}
OTHER = "#BBBBBB"  # the colour of a strategy with options


class Verdict(NamedTuple):
    """What `Auto` is worth at one point of the grid, in one pass."""

    cell: str
    features: int
    batch: int
    length: int
    backward: bool
    chosen: str
    best: str
    loss: float  # 0.1: 10 % slower than the best; infinite if the chosen one was not measured

    @property
    def within(self) -> bool:
        return self.loss <= TOLERATED


def judge(rows: Iterable[Row], platform: str) -> list[Verdict]:
    """Compares, at every point, what `select_strategy` names today with the fastest one measured.

    Args:
      rows: what was measured.
      platform: where, "cpu" or "gpu".
    """
    points: dict[tuple, dict[str, float]] = {}
    for row in rows:
        point = tuple(row[k] for k in ("cell", "features", "batch", "length", "backward"))
        points.setdefault(point, {})[row["strategy"]] = row["run_seconds"]
    verdicts = []
    for (cell, features, batch, length, backward), seconds in points.items():
        chosen = label(select_strategy(CELLS[cell](features), length, batch, platform))
        best = min(seconds, key=lambda name: seconds[name])
        loss = seconds.get(chosen, math.inf) / seconds[best] - 1
        verdicts.append(Verdict(cell, features, batch, length, backward, chosen, best, loss))
    return verdicts


def share_within(verdicts: Sequence[Verdict], backward: bool) -> float:
    """The share of the points of a pass at which `Auto` is within 10 % of the best; NaN of none."""
    within = [verdict.within for verdict in verdicts if verdict.backward == backward]
    return sum(within) / len(within) if within else math.nan


def judgement(verdicts: Sequence[Verdict]) -> str:
    """Markdown: the share for every cell and pass, and every point at which `Auto` loses more."""
    cells = list(dict.fromkeys(verdict.cell for verdict in verdicts))
    lines = [["cell", "points", *PASSES.values()]]
    for name in [*cells, "all"]:
        of_cell = [v for v in verdicts if name in (v.cell, "all")]
        shares = [share_within(of_cell, backward) for backward in PASSES]
        shown = ["-" if math.isnan(share) else f"{share:.0%}" for share in shares]
        lines.append([name, str(sum(v.backward for v in of_cell)), *shown])
    parts = [
        "## Auto: the share of the grid where it is within 10 % of the fastest strategy",
        markdown.table(lines),
    ]
    for backward, name in PASSES.items():
        lost = [v for v in verdicts if v.backward == backward and not v.within]
        lost.sort(key=lambda verdict: -verdict.loss)
        header = ["cell", "H", "B", "T", "Auto names", "fastest", "loss"]
        missed = [[*v[:4], v.chosen, v.best, f"{v.loss:.0%}"] for v in lost]
        text = markdown.table([header, *missed]) if missed else "Nowhere."
        parts += [f"### Where it loses more, {name}", text]
    return "\n\n".join(parts)


def tables(rows: Sequence[Row]) -> str:
    """Markdown tables of one cell: points of the grid down, strategies across."""
    rows = [{**row, "H": row["features"], "B": row["batch"], "T": row["length"]} for row in rows]
    both, keys = "forward / forward+backward", ("H", "B", "T")
    title = "Compile time, s, of the least and greatest H and B"
    corners = [row for row in rows if _is_corner(row, rows)]
    return "\n\n".join(
        [
            f"## {cell_name(rows[0])}",
            table(f"Run time, us per step: {both}", rows, run_time, "-", keys),
            table(f"{title}: {both}", corners, lambda r: f"{r['compile_seconds']:.2f}", "-", keys),
            table(f"Peak temporary memory, MiB: {both}", rows, mebibytes, "-", keys),
        ]
    )


def _is_corner(row: Row, rows: Sequence[Row]) -> bool:
    """Whether the point is the first or last of its length: shapes hardly move compile times."""
    points = sorted((r["H"], r["B"]) for r in rows if r["T"] == row["T"])
    return (row["H"], row["B"]) in (points[0], points[-1])


def draw(rows: Sequence[Row], verdicts: Sequence[Verdict], path: str | os.PathLike) -> None:
    """The fastest strategy at every point by colour, with its speed-up over `Scan` written on it.

    A red frame stands where `Auto` is more than 10 % slower than that.
    """
    from matplotlib.patches import Patch  # an optional extra, and slow to import

    cells = list(dict.fromkeys(verdict.cell for verdict in verdicts))
    figure = new_figure(1.5 + 2.1 * len(cells), 8)
    axes = figure.subplots(len(PASSES), len(cells), squeeze=False)
    for line, (backward, name) in zip(axes, PASSES.items(), strict=True):
        line[0].set_ylabel(f"{name}\nH, B")
        for panel, cell in zip(line, cells, strict=True):
            chosen = [v for v in verdicts if (v.cell, v.backward) == (cell, backward)]
            _draw_panel(panel, chosen, [r for r in rows if r["cell"] == cell])
    for panel, cell in zip(axes[0], cells, strict=True):
        panel.set_title(cell_name({"cell": cell}), fontsize=10)
    for panel in axes[-1]:
        panel.set_xlabel("T")
    fastest = dict.fromkeys(verdict.best for verdict in verdicts)
    handles = [Patch(color=_colour(name), label=name) for name in fastest]
    handles.append(Patch(fill=False, edgecolor="red", label="Auto more than 10 % slower"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle("The fastest strategy, and how many times as fast as Scan it is")
    figure.savefig(path, dpi=150)


def _draw_panel(panel: Any, verdicts: Sequence[Verdict], rows: Sequence[Row]) -> None:
    from matplotlib.patches import Rectangle  # an optional extra, and slow to import

    lengths = sorted({verdict.length for verdict in verdicts})
    sizes = sorted({(verdict.features, verdict.batch) for verdict in verdicts})
    for verdict in sorted(verdicts, key=lambda verdict: not verdict.within):  # frames on top
        x, y = lengths.index(verdict.length), sizes.index((verdict.features, verdict.batch))
        colour, frame = _colour(verdict.best), "white" if verdict.within else "red"
        style = {"facecolor": colour, "edgecolor": frame, "linewidth": 1 if verdict.within else 2}
        panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **style))
        dark = colour in ("#000000", "#0072B2", "#882255")
        style = {"color": "white" if dark else "black", "fontsize": 7}
        panel.text(x, y, f"{_speedup(verdict, rows):.2g}", ha="center", va="center", **style)
    panel.set(xlim=(-0.5, len(lengths) - 0.5), ylim=(len(sizes) - 0.5, -0.5))
    panel.set_xticks(range(len(lengths)), map(str, lengths), fontsize=7)
    panel.set_yticks(range(len(sizes)), [f"{h}, {b}" for h, b in sizes], fontsize=7)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)


def _colour(strategy: str) -> str:
    return STYLES[strategy][0] if strategy in STYLES else OTHER


def _speedup(verdict: Verdict, rows: Sequence[Row]) -> float:
    """How many times as fast as `Scan` the fastest strategy of a point is."""
    point = {
        "features": verdict.features,
        "batch": verdict.batch,
        "length": verdict.length,
        "backward": verdict.backward,
        "strategy": verdict.best,
    }
    return next(row["scan_over"][0] for row in rows if point.items() <= row.items())
