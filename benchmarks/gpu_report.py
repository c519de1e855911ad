"""The rows of `benchmarks.gpu` as JSON and as Markdown tables."""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.gpu_contract import RESULT, TOLERANCE
from benchmarks.gpu_plan import PASSES, PRECISIONS, Row

Notes = list[str]

READING = f"""All columns: {" / ".join(PASSES)}.

- us a step: the median of the interleaved blocks over T, whatever the number of layers; what a call
  costs besides counts in, which shows where T is small. Forward+backward computes the outputs and
  the gradients of all parameters and inputs.
- / cuDNN: how many times the time of torch's cuDNN layer at the same precision: median of the
  blocks (least .. most). Above 1 is slower.
- MB: results and the peak of temporary memory, besides arguments: reported by the compiled program,
  and for torch by its allocator.
- deviation: of outputs, and of the gradients of inputs and of the first recurrent kernel, from the
  first arm of the table, as a share of the largest entry.
- precision: {", ".join(f"{name} ({text})" for name, text in PRECISIONS.items())}.
  TF32 is on or off on both sides: jax's default or `jax_default_matmul_precision` "highest", and
  `torch.backends.cudnn.allow_tf32`."""


def save(path: pathlib.Path, head: Row, rows: Sequence[Row]) -> None:
    """Writes the JSON file and the Markdown beside it, each whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result = json.dumps({**head, "rows": rows}, indent=1) + "\n"
    for target, text in ((path, result), (path.with_suffix(".md"), markdown(head, rows))):
        part = target.with_suffix(f"{target.suffix}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, target)


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """The whole report."""
    lines = ["# Recurrent layers on a GPU", ""]
    if head["dry_run"]:
        lines += [f"**{head['dry_run']}**", ""]
    lines += [f"    {head['command']}", ""]
    lines += [f"- {name}: {value}" for name, value in head["machine"].items()]
    parts = {
        f"Contract: values and gradients in float32 within {TOLERANCE:.0e} of a plain loop": (
            "contract",
            contract_table,
        ),
        "Layers": ("layers", layer_tables),
        "Flags of XLA": ("flags", flag_table),
    }
    for title, (section, table) in parts.items():
        chosen = [row for row in rows if row["section"] == section]
        lines += ["", f"## {title}", "", *(table(chosen) if chosen else ["Not asked for."])]
    return "\n".join(lines) + "\n"


def contract_table(rows: Sequence[Row]) -> list[str]:
    """A line for each cell and strategy."""
    notes: Notes = []

    def cells(row: Row) -> list[str]:
        values = _cell(row[RESULT], lambda r: f"{r['values']:.1e} / {r['gradients']:.1e}", notes)
        return [row["cell"], row["strategy"], values]

    table = _table(("cell", "strategy", "deviation: values / gradients"), map(cells, rows))
    return [*table, *notes]


def layer_tables(rows: Sequence[Row]) -> list[str]:
    """A table for each case that was begun, and the others in one list."""
    lines: list[str] = [READING, ""]
    unmeasured: list[str] = []
    for number in dict.fromkeys(row["number"] for row in rows):
        chosen = [row for row in rows if row["number"] == number]
        title = f"Case {number}: {_title(chosen[0])}"
        if any(measured(row[key]) or "error" in row[key] for row in chosen for key in PASSES):
            lines += [f"### {title}", "", *_layer_table(chosen), ""]
        else:
            reasons = dict.fromkeys(r[key]["not_measured"] for r in chosen for key in PASSES)
            unmeasured.append(f"- {title}: not measured: {'; '.join(reasons)}")
    return [*lines, *(["### Left", "", *unmeasured] if unmeasured else [])]


def _layer_table(rows: Sequence[Row]) -> list[str]:
    notes: Notes = []
    columns: dict[str, Callable[[Row], str]] = {
        "us a step": lambda entry: f"{entry['us_per_step']:.2f}",
        "/ cuDNN": _over_cudnn,
        "MB": lambda entry: f"{entry['bytes'] / 1e6:.1f}" if "bytes" in entry else "-",
        "compile s": lambda e: f"{e['compile_seconds']:.1f}" if "compile_seconds" in e else "-",
        "deviation": lambda entry: f"{entry['deviation']:.0e}",
    }

    def cells(row: Row) -> list[str]:
        first, *others = columns.values()
        entries = [row[key] for key in PASSES]
        shown = [" / ".join(_cell(entry, first, notes) for entry in entries)]
        shown += [" / ".join(f(e) if measured(e) else "-" for e in entries) for f in others]
        return [row["arm"], *shown]

    return [*_table(("arm", *columns), map(cells, rows)), *notes]


def flag_table(rows: Sequence[Row]) -> list[str]:
    """A line for each set of flags and strategy, with how it compares with no flags."""
    notes: Notes = []
    plain = {row["arm"]: row for row in rows if not row["flags"]}

    def cells(row: Row) -> list[str]:
        def show(key: str) -> str:
            base = plain.get(row["arm"], {}).get(key, {})

            def times(entry: Row) -> str:
                us = entry["us_per_step"]
                ratio = f" ({us / base['us_per_step']:.2f})" if measured(base) else ""
                return f"{us:.2f}{ratio}"

            return _cell(row[key], times, notes)

        flags = f"`{row['flags']}`" if row["flags"] else "none"
        return [flags, row["arm"], " / ".join(map(show, PASSES))]

    header = ("flags", "strategy", f"us a step (over no flags): {' / '.join(PASSES)}")
    table = _table(header, map(cells, rows))
    return [f"{_title(rows[0])}; each set of flags in a process of its own.", "", *table, *notes]


def line(row: Row) -> str:
    """A row for a terminal."""
    if row["section"] == "contract":
        return f"contract: {row['cell']}, {row['strategy']}: {_short(row[RESULT])}"
    where = f"{_title(row)} {row.get('flags', '')}".strip()
    return f"{where}: {row['arm']}: {' / '.join(_short(row[key]) for key in PASSES)}"


def _short(entry: Row) -> str:
    if not measured(entry):
        return "; ".join(f"{k}: {entry[k]}" for k in ("error", "not_measured") if k in entry)
    if "us_per_step" in entry:
        return f"{entry['us_per_step']:.2f} us a step"
    return f"{entry['values']:.1e}, {entry['gradients']:.1e}"


def measured(entry: Row) -> bool:
    """Whether an entry holds a measurement, and not why there is none."""
    return bool(entry) and not {"error", "not_measured"} & set(entry)


def _title(row: Row) -> str:
    case = row["case"]
    shape = ", ".join(str(size) for size in case["shape"].values())
    return f"{case['cell']}, {case['variant']}, {case['precision']}, (H, B, T) = ({shape})"


def _over_cudnn(entry: Row) -> str:
    if "over_cudnn" not in entry:
        return "-"
    return "{:.2f} ({:.2f} .. {:.2f})".format(*entry["over_cudnn"])


def _cell(entry: Row, show: Callable[[Row], str], notes: Notes) -> str:
    """What to show of an entry; a reason that there is nothing to show becomes a note."""
    if measured(entry):
        return show(entry)
    kind, reason = next((k, entry[k]) for k in ("error", "not_measured") if k in entry)
    note = f"{'failed' if kind == 'error' else 'not measured'}: {reason}"
    if not notes:
        notes.append("")
    lines = [line.split(" ", 1)[1] for line in notes[1:]]
    if note not in lines:
        lines.append(note)
        notes.append(f"{len(lines)}. {note}")
    return f"{note.split(':')[0]} ({lines.index(note) + 1})"


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return [f"| {' | '.join(line)} |" for line in lines]
