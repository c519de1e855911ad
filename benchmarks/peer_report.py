"""Ratios, tables and a picture from what `benchmarks.peers` measured."""

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.timing import Timing
from rnnlab.plot import new_figure

Row = Mapping[str, Any]
"""One cell, shape and mode: its arms, and how many times as fast as the peers ours are."""

AGAINST = ("jax", "torch")  # the fastest other jax library, and torch


def speedups(times: Mapping[str, Timing], peers: Sequence[str]) -> dict[str, Any]:
    """How many times as fast as the fastest jax library, and as torch, each arm of ours is.

    Args:
      times: of all arms.
      peers: names of those that are not ours.

    Returns:
      The name of the fastest jax library, and for each arm of ours and each of `AGAINST` that was
      timed the median of the block-by-block ratios, their smallest and their largest.
    """
    others = [name for name in times if name in peers and name != "torch"]
    fastest = min(others, key=lambda name: times[name].median, default=None)
    rivals = {"jax": fastest, "torch": "torch" if "torch" in times else None}
    speedup = {
        name: {against: times[rival].ratio_to(own) for against, rival in rivals.items() if rival}
        for name, own in times.items()
        if name not in peers
    }
    return {"fastest_jax_peer": fastest, "times_as_fast": speedup}


def overall(rows: Sequence[Row], arm: str, against: str) -> tuple[float, float] | None:
    """Geometric mean and minimum over rows of an arm's ratios; None where there are none."""
    medians = [
        row["times_as_fast"][arm][against][0]
        for row in rows
        if against in row["times_as_fast"].get(arm, {})
    ]
    return (statistics.geometric_mean(medians), min(medians)) if medians else None


def at_peak(rows: Sequence[Row], against: str) -> tuple[float, float] | None:
    """As `overall`, of a program whose matmuls run at peak and that does nothing else."""
    rivals = ((row, row["fastest_jax_peer"] if against == "jax" else against) for row in rows)
    arms = [row["arms"][name] for row, name in rivals if name in row["arms"]]
    most = [1 / arm["roofline_share"] for arm in arms]
    return (statistics.geometric_mean(most), min(most)) if most else None


def line(row: Row) -> str:
    """One row in a line, for progress."""
    times = "  ".join(f"{name} {_milliseconds(arm)}" for name, arm in row["arms"].items())
    where = f"{row['cell']} {_shape(row)} {row['mode']}"
    name = "step" if row["mode"] == "step" else "auto"
    ratios = row["times_as_fast"].get(name, {}).items()
    best = "".join(f"; {name} {_ratio(ratio)} x {against}" for against, ratio in ratios)
    return f"{where}: {times} ms{best}"


def summary(rows: Sequence[Row]) -> str:
    """A table over all cells and modes: geometric mean over the shapes, and the least."""
    pairs = [(arm, against) for arm in _own(rows) for against in AGAINST]
    heads = [f"{arm} : {against}" for arm, against in pairs]
    lines = [["cell", "mode", *heads, *(f"peak : {against}" for against in AGAINST)]]
    for cell, mode, group in _groups(rows):
        figures = [overall(group, *pair) for pair in pairs]
        figures += [at_peak(group, against) for against in AGAINST]
        lines.append([cell, mode, *("{:.2f} ({:.2f})".format(*f) if f else "-" for f in figures)])
    used = [column for column in zip(*lines, strict=True) if set(column[1:]) != {"-"}]
    return _table([list(cells) for cells in zip(*used, strict=True)])


NOTES = """\
- `linen`, `nnx`: the layers of Flax around `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`. The GRU
  of `nnx` has no recurrent bias of n, so that bias is zero everywhere.
- `haiku`: its GRU resets before the matmul, so it is compared with our `ResetBeforeGRU`; its Elman
  network is a ReLU, compared with ours of that kind at weights with which no unit is near 0.
- `equinox`: its cell in `lax.scan`; it has no Elman cell.
- `keras`: its jax backend, fed with the batch before time.
- `torch`: `nn.LSTM`, `nn.GRU`, `nn.RNN` and their cells; for all other cells an `nn.Module` with a
  step, looped over time in Python, eager. What zoneout keeps is drawn before the loop.
- Gradients of all parameters and of the inputs agree as well, through the conversion of weights.
- `step` is one time step in a call of its own, `Cell.step` of ours: no strategy takes part."""


def markdown(result: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """All tables, the machine and its versions first."""
    rows, peak = result["rows"], result["matmul_flops_per_second"]
    facts = machine | result["versions"] | {"matmul GFLOP/s": round(peak / 1e9)}
    parts = [
        "# How fast is rnnlab beside other libraries?",
        ", ".join(f"{name} {value}" for name, value in facts.items()) + ".",
        f"    {result['command']}",
        "Times as fast, `ours : theirs`: geometric mean over the shapes, and the least of them."
        " `jax` is the fastest other jax library of each shape, `peak` a program that takes as long"
        " as the matmuls alone take at peak: nothing on this machine is faster beside the others.",
        summary(rows),
        NOTES,
    ]
    for cell, mode, group in _groups(rows):
        parts += [f"## {cell}, {_MODES[mode]}", *_tables(group)]
    return "\n\n".join(parts) + "\n"


_MODES = {"forward": "forward", "backward": "forward and backward", "step": "one step"}


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    """Those of one cell and mode."""
    names = list(dict.fromkeys(name for row in rows for name in row["arms"]))
    yield "Milliseconds (share of them that the matmuls take at peak)"
    yield _by_shape(rows, names, lambda row, name: _time_and_share(row["arms"][name]))
    yield "Times as fast: median of blocks (least .. most)"
    yield _ratio_table(rows)
    compiled = [name for name in names if "compile_seconds" in rows[0]["arms"][name]]
    yield "Seconds to trace and compile, and peak of temporary memory in MiB"
    yield _by_shape(rows, compiled, lambda row, name: _compilation(row["arms"][name]))


def _by_shape(rows: Sequence[Row], names: Sequence[str], show: Any) -> str:
    lines = [["H, B, T", *names]]
    lines += [[_shape(row), *(show(row, name) for name in names)] for row in rows]
    return _table(lines)


def _ratio_table(rows: Sequence[Row]) -> str:
    pairs = [
        (arm, against)
        for arm in _own(rows)
        for against in AGAINST
        if overall(rows, arm, against) is not None
    ]
    lines = [["H, B, T", "jax is", *(f"{arm} : {against}" for arm, against in pairs)]]
    for row in rows:
        ratios = (_ratio(row["times_as_fast"][arm][against]) for arm, against in pairs)
        lines.append([_shape(row), row["fastest_jax_peer"] or "-", *ratios])
    for number, title in enumerate(("geometric mean", "least")):
        figures = (overall(rows, *pair) for pair in pairs)
        lines.append([title, "", *(f"{figure[number]:.2f}" for figure in figures if figure)])
    return _table(lines)


def _own(rows: Sequence[Row]) -> list[str]:
    """Our arms, what a user gets first."""
    names = dict.fromkeys(name for row in rows for name in row["times_as_fast"])
    return sorted(names, key=lambda name: name != "auto")


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Rows by cell and mode."""
    for cell in dict.fromkeys(row["cell"] for row in rows):
        for mode in dict.fromkeys(row["mode"] for row in rows if row["cell"] == cell):
            yield cell, mode, [r for r in rows if (r["cell"], r["mode"]) == (cell, mode)]


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head, *rest = ([f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)] for cells in lines)
    rule = ["-" * (width - 1) + ":" for width in widths]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rest))


def _shape(row: Row) -> str:
    return "{features}, {batch}, {length}".format_map(row["shape"])


def _milliseconds(arm: Mapping[str, Any]) -> str:
    milliseconds = 1e3 * arm["seconds"]
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def _time_and_share(arm: Mapping[str, Any]) -> str:
    return f"{_milliseconds(arm)} ({arm['roofline_share']:.0%})"


def _compilation(arm: Mapping[str, Any]) -> str:
    seconds = arm["trace_seconds"] + arm["compile_seconds"]
    return f"{seconds:.2f}, {arm['temporary_bytes'] / 2**20:.2f}"


def _ratio(ratio: Sequence[float]) -> str:
    return "{:.2f} ({:.2f} .. {:.2f})".format(*ratio)


STYLES = {  # colours that the colour-blind can tell apart (Okabe and Ito)
    "auto": "#000000",
    "step": "#000000",
    "scan": "#0072B2",
    "deferred": "#D55E00",
    "fused": "#CC79A7",
    "associative": "#009E73",
}
OTHER = "#E69F00"
MARKERS = {"jax": "o", "torch": "^"}


def draw(rows: Sequence[Row], path: str | os.PathLike) -> None:
    """How many times as fast ours are, for every shape: a panel for each cell and mode."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    figure = new_figure(1.5 + 5 * len(modes), 1.5 + 2.8 * len(cells))
    axes = figure.subplots(len(cells), len(modes), squeeze=False)
    for panel in axes.flat:
        panel.set_visible(False)
    handles: dict[str, Any] = {}
    for cell, mode, group in _groups(rows):
        panel = axes[cells.index(cell), modes.index(mode)]
        handles |= _draw_panel(panel, group)
        panel.set_title(f"{cell}, {_MODES[mode]}")
    figure.supylabel("times as fast as the fastest other jax library (o), as torch (△)")
    columns = max(1, min(len(handles), 6))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns)
    figure.savefig(path, dpi=110)


def _draw_panel(panel: Any, rows: Sequence[Row]) -> dict[str, Any]:
    """Medians as dots with a line from least to most; returns a handle for each label."""
    handles, own = {}, _own(rows)
    for place, name in enumerate(own):
        for against, marker in MARKERS.items():
            ratios = [row["times_as_fast"].get(name, {}).get(against) for row in rows]
            points = [(x, *ratio) for x, ratio in enumerate(ratios) if ratio]
            if not points:
                continue
            xs, medians, low, high = zip(*points, strict=True)
            shift = 0.7 * ((place + 0.5) / len(own) - 0.5)
            color = STYLES.get(name, OTHER)
            xs = [x + shift for x in xs]
            panel.vlines(xs, low, high, color=color, linewidth=1, alpha=0.5)
            label = f"{name} : {against}"
            (handles[label],) = panel.plot(xs, medians, marker, color=color, markersize=5)
    _style_panel(panel, [_shape(row) for row in rows])
    return handles


def _style_panel(panel: Any, shapes: Sequence[str]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter  # an optional extra, and slow to import

    panel.set_visible(True)
    panel.axhline(1, color="0.4", linewidth=1)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xticks(range(len(shapes)), shapes, rotation=30, ha="right", fontsize=8)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
