"""Tables and a picture from the rows of `scan_vs_unrolled`."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import markdown
from rnnlab.cells import CELLS
from rnnlab.plot import new_figure

Row = Mapping[str, Any]
"""What was measured of one cell, length, strategy and pass; no times where it was given up."""

STYLES = {  # colours that the colour-blind can tell apart (Okabe and Ito), and a marker each
    "Unrolled": ("#000000", "X"),
    "Scan": ("#0072B2", "o"),
    "Scan 4": ("#56B4E9", "s"),
    "Scan 16": ("#CC79A7", "D"),
    "Remat": ("#E69F00", "v"),
    "Deferred": ("#D55E00", "^"),
    "Associative": ("#009E73", "P"),
    "Chunkwise": ("#F0E442", "*"),
    "Fused": ("#882255", "p"),
}


def tables(rows: Sequence[Row], peak: float) -> str:
    """Markdown tables of one cell: lengths down, strategies across.

    Args:
      rows: all of one cell.
      peak: matmul floating-point operations a second, for the share of the roofline.
    """
    first, both = rows[0], "forward / forward+backward"
    over = next((f"> {r['compile_seconds_over']:g} s" for r in rows if "run_seconds" not in r), "-")
    others = [row for row in rows if row["strategy"] != "Scan"]
    lengths = sorted({row["length"] for row in rows})

    def share(row: Row) -> str:
        return f"{run_time(row)} ({row['matmul_flops'] / peak / row['run_seconds']:.0%})"

    parts = [
        f"## {cell_name(first)}, H = {first['features']}, B = {first['batch']}",
        table(f"Run time, us per step: {both}", rows, run_time, f"{over} to compile"),
    ]
    if len(lengths) > 1:
        title = "us per further step from T = {} to {} (share that matmuls at peak would take)"
        title = f"{title.format(*lengths[-2:])}: {both}"
        parts.append(table(title, _further_steps(rows, *lengths[-2:]), share, "-"))
    for backward, name in enumerate(both.split(" / ")):
        title = f"How many times as fast as Scan, {name}: median of blocks (least .. most)"
        parts.append(table(title, [r for r in others if r["backward"] == backward], _speedup, "-"))
    parts += [
        table(f"Compile time, s: {both}", rows, lambda r: f"{r['compile_seconds']:.2f}", over),
        table(f"Trace time, s: {both}", rows, lambda r: f"{r['trace_seconds']:.3f}", "-"),
        table(f"Peak temporary memory, MiB: {both}", rows, mebibytes, "-"),
    ]
    return "\n\n".join(parts) + "\n"


def cell_name(row: Row) -> str:
    return type(CELLS[row["cell"]](1)).__name__


def run_time(row: Row) -> str:
    microseconds = 1e6 * row["run_seconds"] / row["length"]
    return f"{microseconds:.0f}" if microseconds >= 100 else f"{microseconds:.3g}"


def _speedup(row: Row) -> str:
    return "{:.2f} ({:.2f} .. {:.2f})".format(*row["scan_over"])


def mebibytes(row: Row) -> str:
    return f"{row['temporary_bytes'] / 2**20:.2f}"


def _further_steps(rows: Sequence[Row], short: int, long: int) -> list[Row]:
    """What `long` takes beyond `short`, as rows again: overhead that is paid once drops out."""
    further = []
    for row in rows:
        if row["length"] != long:
            continue
        same = {name: row[name] for name in ("strategy", "backward")}
        start = next(r for r in rows if r["length"] == short and same.items() <= r.items())
        known = [n for n in ("run_seconds", "matmul_flops") if n in row and n in start]
        further.append(same | {name: row[name] - start[name] for name in ("length", *known)})
    return further


def table(
    title: str,
    rows: Sequence[Row],
    show: Callable[[Row], str],
    missing: str,
    keys: Sequence[str] = ("length",),
) -> str:
    """A Markdown table with strategies across.

    Args:
      title: stands above it.
      rows: of one cell, those of a pass in the order in which passes are shown.
      show: what is written for a row that was measured.
      missing: what is written for any other.
      keys: what tells the lines of the table apart.
    """
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    lines = [[*keys, *names]]
    for point in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        line = [str(value) for value in point]
        for name in names:
            passes = [r for r in rows if (*(r[k] for k in keys), r["strategy"]) == (*point, name)]
            shown = [show(row) if "run_seconds" in row else missing for row in passes]
            line.append(missing if set(shown) <= {missing} else " / ".join(shown))
        lines.append(line)
    return f"{title}\n\n{markdown.table(lines)}"


def draw(rows: Sequence[Row], path: str | os.PathLike) -> None:
    """Run time per step and compile time of forward+backward against length, for every cell."""
    rows = [row for row in rows if row["backward"]]
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    figure = new_figure(1.5 + 3.2 * len(cells), 7)
    axes = figure.subplots(2, len(cells), sharex=True, sharey="row", squeeze=False)
    for column, cell in zip(axes.T, cells, strict=True):
        of_cell = [row for row in rows if row["cell"] == cell]
        column[0].set_title(cell_name(of_cell[0]))
        _draw_cell(column[0], column[1], of_cell)
    axes[0, 0].set_ylabel("run time, µs per step")
    axes[1, 0].set_ylabel("compile time, s")
    lines = {line.get_label(): line for panel in axes[0] for line in panel.get_lines()}
    lines = {name: lines[name] for name in STYLES if name in lines}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=7, frameon=False)
    sizes = "{features} features, batch {batch}".format_map(rows[0])
    figure.suptitle(f"Forward + backward, {sizes}, float32")
    figure.savefig(path, dpi=150)


def _draw_cell(run_time: Any, compile_time: Any, rows: Sequence[Row]) -> None:
    from matplotlib.ticker import LogLocator  # an optional extra, and slow to import

    for name, (colour, marker) in STYLES.items():
        line = [row for row in rows if row["strategy"] == name and "run_seconds" in row]
        if not line:
            continue
        style = {"color": colour, "marker": marker, "label": name, "linewidth": 1.4}
        style |= {"markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.5}
        lengths = [row["length"] for row in line]
        per_step = [1e6 * row["run_seconds"] / row["length"] for row in line]
        run_time.plot(lengths, per_step, **style)
        compile_time.plot(lengths, [row["compile_seconds"] for row in line], **style)
    lengths = sorted({row["length"] for row in rows})
    for panel in (run_time, compile_time):
        panel.set(xscale="log", yscale="log")
        panel.set_xticks(lengths, map(str, lengths), minor=False)
        panel.set_xticks([], minor=True)
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    compile_time.set_xlabel("length T")
    over = next((row for row in rows if "run_seconds" not in row), None)
    if over:
        limit = over["compile_seconds_over"]
        note = f"{over['strategy']} from {over['length']}:\n> {limit:g} s to compile"
        compile_time.axhline(limit, color="0.5", linestyle=":", linewidth=1)
        compile_time.text(lengths[-1], 1.1 * limit, note, ha="right", va="bottom", fontsize=9)
        compile_time.set_ylim(top=3.5 * limit)  # room for the note
