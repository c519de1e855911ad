"""A table of every run under a directory: how far it is, how good, how it ended."""

import argparse
import json
import pathlib
import time
from typing import Any

from rnnlab.cli import files
from rnnlab.cli.tables import duration, print_table

COLUMNS = ("name", "step", "best_step", "valid.loss", "test.loss", "parameters")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("directory", metavar="DIR", nargs="?", default="runs", help="default: runs")
    parser.add_argument("--sort", metavar="NAME", default="name", help="such as valid.loss")
    parser.add_argument("--reverse", action="store_true", help="the largest first")
    parser.add_argument(
        "--show", metavar="NAME,...", default="", help="more columns: valid.bpc,flags.features"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    """Prints the table."""
    directory = pathlib.Path(arguments.directory)
    records = [describe(path, directory) for path in files.find_runs(directory)]
    records = in_order(records, arguments.sort, arguments.reverse)
    if arguments.json:
        for record in records:
            print(json.dumps(record))
    elif not records:
        print(f"no runs under {directory}")
    else:
        columns = [*COLUMNS, *filter(None, arguments.show.split(","))]
        rows = [
            [*(value(record, name) for name in columns), duration(record["seconds"]), state(record)]
            for record in records
        ]
        print_table([*columns, "time", "state"], rows)
    return 0


def describe(path: pathlib.Path, directory: pathlib.Path) -> dict[str, Any]:
    """What is known of one run; `problem` says what could not be read.

    A run that has not ended has its newest scores, the others those of their best step.
    """
    record: dict[str, Any] = {
        "name": str(path.relative_to(directory)) if path != directory else path.resolve().name,
        "flags": files.read_flags(path),
        **dict.fromkeys(("step", "best_step", "parameters", "stop_reason", "seconds", "problem")),
        "finished": False,
        "metrics": {},
        "changed": max(file.stat().st_mtime for file in path.iterdir() if file.is_file()),
    }
    try:
        summary = files.read_summary(path)
        names = ("step", "best_step", "parameters", "stop_reason")
        record.update({name: summary.get(name) for name in names})
        record["finished"] = files.is_finished(summary)
        record["metrics"] = summary.get("metrics") or {}
        lines = files.read_lines(path / "metrics.jsonl")
        if not record["metrics"]:
            record["metrics"] = {line.get("split", ""): line for line in lines}
        if record["step"] is None and lines:
            record["step"] = lines[-1]["step"]
        record["seconds"] = files.elapsed(files.read_lines(path / "timing.jsonl"))[1][-1]
    except (OSError, ValueError, TypeError) as error:
        record["problem"] = str(error)
    return record


def value(record: dict[str, Any], name: str) -> Any:
    """A column of a record: one of its keys, a metric such as valid.loss, or flags.NAME."""
    found = files.lookup(record, name)
    return files.lookup(record["metrics"], name) if found is None else found


def state(record: dict[str, Any]) -> str:
    """How the run ended, or what is known of one that did not."""
    if record["problem"]:
        return f"broken: {record['problem']}"
    if record["stop_reason"]:
        return record["stop_reason"]
    return f"not ended, last written {duration(max(time.time() - record['changed'], 0))} ago"


def in_order(records: list[dict[str, Any]], name: str, reverse: bool) -> list[dict[str, Any]]:
    """Sorted by a column; what has no value there comes last."""
    given = [record for record in records if value(record, name) is not None]
    if records and not given:
        raise ValueError(
            f"--sort: expected something that a run has, such as {', '.join(COLUMNS)}, seconds or"
            f" flags.learning_rate, got {name}."
        )
    rest = [record for record in records if value(record, name) is None]
    return sorted(given, key=lambda record: _key(value(record, name)), reverse=reverse) + rest


def _key(found: Any) -> tuple[int, float, str]:
    """Numbers by size, also those of flags, before everything else by its text."""
    try:
        return 0, float(found), ""
    except (TypeError, ValueError):
        return 1, 0.0, str(found)
