"""Curves of several runs in one picture, with the last and the best value of each."""

import argparse
import bisect
import os
import pathlib
from typing import Any

from rnnlab import plot
from rnnlab.cli import files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories")
    parser.add_argument("--out", metavar="FILE", default="loss.png", help="default: loss.png")
    parser.add_argument("--metric", metavar="NAME", default="loss", help="default: loss")
    parser.add_argument("--mode", choices=("min", "max"), default="min", help="what is best")
    parser.add_argument("--split", metavar="NAME,...", default="valid", help="default: valid")
    parser.add_argument("--x", choices=("step", "seconds"), default="step", help="default: step")
    parser.add_argument("--log", action="store_true", help="a logarithmic axis for the metric")


def run(arguments: argparse.Namespace) -> int:
    """Draws the picture."""
    paths = [pathlib.Path(name) for name in dict.fromkeys(arguments.runs)]
    records = {name: read(path) for name, path in zip(short_names(paths), paths, strict=True)}
    plot.compare(
        records,
        arguments.out,
        metric=arguments.metric,
        splits=arguments.split.split(","),
        x=arguments.x,
        mode=arguments.mode,
        log=arguments.log,
    )
    print(f"wrote {arguments.out}")
    return 0


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """The metrics of a run, each line with the seconds that had passed by then."""
    files.check_run(path)
    steps, seconds = files.elapsed(files.read_lines(path / "timing.jsonl"))
    records = files.read_lines(path / "metrics.jsonl")
    for record in records:
        place = min(bisect.bisect_left(steps, record["step"]), len(steps) - 1)
        record["seconds"] = seconds[place]
    return records


def short_names(paths: list[pathlib.Path]) -> list[str]:
    """The paths without the folders that all of them are in."""
    absolute = [path.absolute() for path in paths]
    common = os.path.commonpath([path.parent for path in absolute])
    return [os.path.relpath(path, common) for path in absolute]
