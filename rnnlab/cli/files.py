"""Reads run directories with nothing but the standard library, whatever state they are in.

`rnnlab.training.run` writes them, and brings jax and orbax along; looking must be quick, and must
not fail over a run that is still going or was cut off.
"""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LARGEST_SUMMARY = 2**24  # bytes; what is larger was not written by a run


def find_runs(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Every directory with a `run.json`, in order of name; links are not followed."""
    if not directory.is_dir():
        raise FileNotFoundError(
            f"expected a directory with runs in it, got {directory}, which is none."
        )
    for folder, folders, names in os.walk(directory):
        folders.sort()
        if "run.json" in names:
            folders.clear()  # there is no run inside a run
            yield pathlib.Path(folder)


def check_run(run: pathlib.Path) -> None:
    """Refuses what is no run directory."""
    if not (run / "run.json").is_file():
        raise FileNotFoundError(f"expected a run directory, with run.json in it, got {run}.")


def read_summary(run: pathlib.Path) -> dict[str, Any]:
    """`run.json`; a ValueError where it is not what a run writes."""
    path = run / "run.json"
    if path.stat().st_size > LARGEST_SUMMARY:
        raise ValueError(f"{path}: expected less than {LARGEST_SUMMARY} bytes.")
    try:
        summary = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON ({error}).") from error
    if not isinstance(summary, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(summary).__name__}.")
    return summary


def is_finished(summary: Mapping[str, Any]) -> bool:
    """Whether a run ended of its own accord, not for having been told to stop."""
    return bool(summary.get("finished", summary.get("stop_reason")))


def read_flags(run: pathlib.Path) -> dict[str, str]:
    """`flags.txt`; empty where there is none."""
    path = run / "flags.txt"
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return dict(line.removeprefix("--").split("=", 1) for line in lines if "=" in line)


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The objects of a `.jsonl` file, without a last line that is still being written."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}:{number}: expected a line of JSON ({error}).") from error
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise ValueError(f"{path}:{number}: expected an object with an integer step.")
        records.append(record)
    return records


def elapsed(timing: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[float]]:
    """Steps, and the seconds of training and evaluation that had passed at each of them.

    Args:
      timing: lines of `timing.jsonl`. Compilation is not among them.
    """
    steps, seconds = [0], [0.0]
    for record in timing:
        new_steps = max(record["step"] - steps[-1], 0)  # a resumed run may go back
        spent = record.get("seconds_per_step", 0.0) * new_steps + record.get("seconds", 0.0)
        steps.append(max(record["step"], steps[-1]))
        seconds.append(seconds[-1] + spent)
    return steps, seconds


def lookup(tree: Any, name: str) -> Any:
    """What is at a dotted name, such as `valid.loss`, in nested objects; None where nothing is."""
    for part in name.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a whole file; a reader sees the old one or the new one."""
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_bytes(content)
    os.replace(scratch, path)
