"""How do time and memory grow with the length, the batch and the features?

    python -m benchmarks.scaling --out=benchmarks/results/scaling.json

Forward and backward (gradients of parameters and inputs through all outputs), float32. One size at
a time is doubled from a base point on: the length up to 65,536, the batch and the features less
far. The report tells what a further step costs between the two longest sequences, and the power of
T with which the peak of temporary memory grows, besides arguments and results: 0.5 for `Remat`.
Results are compared with those of `Scan` before anything is timed.

About eight minutes on two cores; --out writes the rows after each point, then a report and a
picture beside them. With a batch of one, XLA on a CPU lays out inputs and outputs anew for `Remat`,
which takes memory in proportion to T; so the base has a batch of two.
"""

from typing import Any

import jax
from absl import app, flags

from benchmarks import command, markdown, scaling_report
from benchmarks.layers import Case, catalogue, compile_all, measure_programs
from rnnlab.cells import CELLS

TOLERANCE = 1e-4  # between two float32 programs; tests compare strategies in float64

_CELLS = command.names_list("cells", "lstm,min_gru,lru", list(CELLS))
_BASE = {
    "length": flags.DEFINE_integer("base_length", 256, "T of the base.", lower_bound=1),
    "batch": flags.DEFINE_integer("base_batch", 2, "B of the base.", lower_bound=1),
    "features": flags.DEFINE_integer("base_features", 32, "H of the base.", lower_bound=1),
}
_MOST = {
    "length": flags.DEFINE_integer("max_length", 65536, "The longest T.", lower_bound=1),
    "batch": flags.DEFINE_integer("max_batch", 64, "The largest B.", lower_bound=1),
    "features": flags.DEFINE_integer("max_features", 256, "The largest H.", lower_bound=1),
}


def base() -> dict[str, int]:
    """The sizes of the base point."""
    return {name: flag.value for name, flag in _BASE.items()}


def points() -> list[dict[str, int]]:
    """The base, then every size in turn doubled up to its largest."""
    found = [base()]
    for axis, most in _MOST.items():
        point = base()
        while 2 * point[axis] <= most.value:
            point = point | {axis: 2 * point[axis]}
            found.append(point)
    return found


def measure(case: Case) -> list[dict[str, Any]]:
    """A row for each strategy that can run the cell; a program of `Unrolled` would be too long."""
    strategies = case.able(catalogue())
    strategies.pop("Unrolled")
    arguments = case.arguments()
    programs = compile_all(case, strategies, arguments)
    expected = jax.device_get(programs["Scan"].call(*arguments))
    rows = measure_programs(
        case,
        programs,
        arguments,
        expected,
        TOLERANCE,
        command.BLOCKS.value,
        command.BLOCK_SECONDS.value,
    )
    return list(rows.values())


def describe(rows: list[dict[str, Any]]) -> str:
    """A line about a point: time and memory of every strategy."""
    parts = ["{cell:>8}  H {features:4d}  B {batch:3d}  T {length:6d}".format_map(rows[0])]
    for row in rows:
        memory = row["temporary_bytes"] / 2**20
        parts.append(f"{row['strategy']} {1e3 * row['run_seconds']:.3g} ms {memory:.3g} MiB")
    return " | ".join(parts)


def report(rows: list[dict[str, Any]]) -> str:
    """The Markdown file: the summary, then the tables of every cell."""
    of_cells = [[row for row in rows if row["cell"] == cell] for cell in _CELLS.value]
    return markdown.document(
        "How do time and memory grow with the length, the batch and the features?",
        "python -m benchmarks.scaling --out=benchmarks/results/scaling.json",
        [
            f"Forward and backward, float32; medians of {command.BLOCKS.value} interleaved blocks."
            " Memory is the peak besides arguments and results. Its power of T is fitted to the"
            " longest length, a quarter of it and so on. Between those, `Remat` has a shorter chunk"
            " left over where the length is no square, and copies an input and an output whole.",
            scaling_report.summary(rows, base()),
            *(scaling_report.tables(of_cell, base()) for of_cell in of_cells),
        ],
    )


def main(argv: list[str]) -> None:
    command.start(argv)
    rows = []
    for cell in _CELLS.value:
        for point in points():
            of_point = measure(Case(cell=cell, backward=True, **point))
            rows += of_point
            command.log(describe(of_point))
            command.save_rows(rows, base=base())
    print(f"\n{scaling_report.summary(rows, base())}")
    command.save_report(report(rows), lambda path: scaling_report.draw(rows, base(), path))


if __name__ == "__main__":
    app.run(main)
