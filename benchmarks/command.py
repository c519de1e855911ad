"""What the commands of the larger sweeps share: flags, and the files that they write."""

import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import app, flags

from benchmarks import timing

BLOCKS = flags.DEFINE_integer("blocks", 7, "Interleaved blocks.", lower_bound=1)
BLOCK_SECONDS = flags.DEFINE_float("block_seconds", 0.015, "Of one arm in a block.", 0.0)
THREADS = flags.DEFINE_integer("threads", 2, "Cores to run on.", lower_bound=1)
OUT = flags.DEFINE_string(
    "out", "", "JSON file to write, with .md, and a .png if there is a picture, beside it."
)
_STARTED = time.perf_counter()


def start(argv: Sequence[str]) -> None:
    """Refuses what is no flag, and takes the cores; before jax does anything."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    timing.prepare(THREADS.value)
    print(timing.machine(), flush=True)


def log(text: str) -> None:
    """Prints a line with the seconds since the start."""
    print(f"{time.perf_counter() - _STARTED:5.0f} s  {text}", flush=True)


def positive_list(name: str, default: str, text: str) -> flags.FlagHolder:
    """A flag of numbers from 1 on, separated by commas."""
    holder = flags.DEFINE_list(name, default, text)
    flags.register_validator(
        holder, lambda values: all(v.isdigit() and int(v) > 0 for v in values), "expected >= 1"
    )
    return holder


def numbers(holder: flags.FlagHolder) -> list[int]:
    """The values of such a flag, in ascending order."""
    return sorted(map(int, holder.value))


def rates_list(name: str, default: str) -> flags.FlagHolder:
    """A flag of learning rates to choose from, separated by commas."""
    holder = flags.DEFINE_list(name, default, "Learning rates; of one, none is tried.")
    flags.register_validator(
        holder,
        lambda rates: rates and all(map(_is_rate, rates)),
        "expected numbers above 0",
    )
    return holder


def _is_rate(text: str) -> bool:
    return bool(re.fullmatch(r"\d*\.?\d+(e-?\d+)?", text)) and float(text) > 0


def names_list(name: str, default: str, known: Sequence[str]) -> flags.FlagHolder:
    """A flag of names, separated by commas."""
    holder = flags.DEFINE_list(name, default, f"Names among {', '.join(known)}.")
    flags.register_validator(
        holder, lambda names: set(names) <= set(known), f"expected names among {sorted(known)}"
    )
    return holder


def save_rows(rows: Sequence[Mapping[str, Any]], **about: Any) -> None:
    """Writes the rows measured so far, so that a run that is interrupted keeps them."""
    if OUT.value:
        protocol = {"blocks": BLOCKS.value, "block_seconds": BLOCK_SECONDS.value}
        result = {"protocol": protocol, **about, "rows": list(rows)}
        timing.save(pathlib.Path(OUT.value), result)


def save_report(text: str, draw: Callable[[pathlib.Path], None] | None = None) -> None:
    """Writes the report, and draws the picture, beside the rows."""
    if OUT.value:
        path = pathlib.Path(OUT.value)
        path.with_suffix(".md").write_text(text)
        if draw:
            draw(path.with_suffix(".png"))
