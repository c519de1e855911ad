"""Which strategy is the fastest where, and does `Auto` name it?

    python -m benchmarks.strategies --out=benchmarks/results/strategies.json

Every strategy that can run a cell, over a grid of features H, batch B and length T: time to compile
and to run, and the peak of temporary memory, forward and forward+backward (gradients of parameters
and inputs through all outputs), float32. Then the share of the grid where the strategy that
`rnnlab.select.select_strategy` names is within 10 % of the fastest one. It does not know whether a
gradient will be taken, so what counts is forward+backward; forward stands beside it.

Left out are points whose forward+backward has more floating-point operations in its matmuls than
--max_gflops, or whose carries take more than --max_carry_mebibytes over all steps, and `Unrolled`
beyond --unrolled_length steps, where it takes too long to compile. Results are compared with
those of `Scan` before anything is timed. About thirteen minutes on two cores; --out writes the rows
after each point, then a report and a heat map beside them.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from absl import app, flags

from benchmarks import command, crossover_report, markdown
from benchmarks.layers import Case, catalogue, compile_all, label, measure_programs
from rnnlab.cells import CELLS
from rnnlab.select import select_strategy
from rnnlab.strategies import Strategy

TOLERANCE = 1e-4  # between two float32 programs: small gradients cancel; tests use float64

_CELLS = command.names_list(
    "cells", "lstm,gru,elman,reset_before_gru,min_gru,lru,gated_delta_net", list(CELLS)
)
_LENGTHS = command.positive_list("lengths", "8,32,128,512", "Lengths T.")
_FEATURES = command.positive_list("features", "32,128,512", "Features H, of input and state.")
_BATCHES = command.positive_list("batches", "1,8,64", "Examples B in a batch.")
_GFLOPS = flags.DEFINE_float("max_gflops", 4.0, "Of the matmuls of a point.", 0.0)
_CARRY = flags.DEFINE_float("max_carry_mebibytes", 8.0, "Of all carries of a point.", 0.0)
_UNROLLED = flags.DEFINE_integer("unrolled_length", 16, "The last for Unrolled.", lower_bound=0)


def grid(cell: str) -> Iterator[Case]:
    """The points of a cell that are neither too long to run nor too large."""
    sizes = (command.numbers(flag) for flag in (_FEATURES, _BATCHES, _LENGTHS))
    for features, batch, length in itertools.product(*sizes):
        case = Case(cell, features, batch, length, backward=True)
        small = case.carry_bytes() <= _CARRY.value * 2**20
        if small and case.matmul_flops() <= _GFLOPS.value * 1e9:
            yield case


def strategies(case: Case) -> dict[str, Strategy]:
    """Those of the catalogue that can run the case, and what `Auto` would run."""
    able = case.able(catalogue())
    if case.length > _UNROLLED.value:
        able.pop("Unrolled", None)
    cell = CELLS[case.cell](case.features)
    chosen = select_strategy(cell, case.length, case.batch, jax.default_backend())
    return able | {label(chosen): chosen}


def measure(case: Case) -> list[dict[str, Any]]:
    """The rows of a point, of both passes."""
    arguments, rows = case.arguments(), []
    for backward in (False, True):
        case = dataclasses.replace(case, backward=backward)
        programs = compile_all(case, strategies(case), arguments)
        expected = jax.device_get(programs["Scan"].call(*arguments))
        of_pass = measure_programs(
            case,
            programs,
            arguments,
            expected,
            TOLERANCE,
            command.BLOCKS.value,
            command.BLOCK_SECONDS.value,
        )
        rows += of_pass.values()
    return rows


def describe(rows: list[dict[str, Any]]) -> str:
    """A line about a point: the fastest strategy of each pass, and whether `Auto` is near it."""
    parts = ["{cell:>16}  H {features:4d}  B {batch:3d}  T {length:4d}".format_map(rows[0])]
    for verdict in crossover_report.judge(rows, jax.default_backend()):
        of_pass = {r["strategy"]: r for r in rows if r["backward"] == verdict.backward}
        speedup = of_pass[verdict.best]["scan_over"][0]
        auto = "" if verdict.within else f" (Auto, {verdict.chosen}, +{verdict.loss:.0%})"
        name = crossover_report.PASSES[verdict.backward]
        parts.append(f"{name}: {verdict.best} {speedup:.2f}x{auto}")
    return " | ".join(parts)


def report(rows: list[dict[str, Any]], verdicts: list[crossover_report.Verdict]) -> str:
    """The Markdown file: the judgement of `Auto`, then the tables of every cell."""
    by_cell: Mapping[str, list] = {v.cell: [] for v in verdicts}
    for row in rows:
        by_cell[row["cell"]].append(row)
    return markdown.document(
        "Which strategy is the fastest where, and does Auto name it?",
        "python -m benchmarks.strategies --out=benchmarks/results/strategies.json",
        [
            f"float32; medians of {command.BLOCKS.value} interleaved blocks.",
            crossover_report.judgement(verdicts),
            *map(crossover_report.tables, by_cell.values()),
        ],
    )


def main(argv: list[str]) -> None:
    command.start(argv)
    rows = []
    for case in itertools.chain.from_iterable(map(grid, _CELLS.value)):
        of_point = measure(case)
        rows += of_point
        command.log(describe(of_point))
        command.save_rows(rows)
    if not rows:
        raise app.UsageError("every point of the grid is above --max_gflops or the other limit.")
    verdicts = crossover_report.judge(rows, jax.default_backend())
    print(f"\n{crossover_report.judgement(verdicts)}")
    command.save_report(
        report(rows, verdicts), lambda path: crossover_report.draw(rows, verdicts, path)
    )


if __name__ == "__main__":
    app.run(main)
