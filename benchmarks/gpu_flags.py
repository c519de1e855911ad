"""Does a flag of XLA make the loop faster? Each set of flags in a process of its own.

XLA reads its flags once, and one that it does not know is fatal. Such a process is

    XLA_FLAGS=... python -m benchmarks.gpu_flags REQUEST

and prints its rows as JSON in its last line; REQUEST is what `_run` puts together.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks.cases import Shape
from benchmarks.gpu_measure import OVER, Session, measure_entry, noted
from benchmarks.gpu_plan import FEW, PASSES, Case, Entry, NotMeasured, Row

GRAPHS = "--xla_gpu_enable_command_buffer=+WHILE --xla_gpu_graph_min_graph_size=1"
TRIALS = (
    "",
    GRAPHS,  # loops in CUDA graphs
    f"{GRAPHS} --xla_gpu_command_buffer_unroll_loops=true",
    "--xla_gpu_enable_while_loop_unrolling=WHILE_LOOP_UNROLLING_DOUBLE_BUFFER",
)
GRACE = 20  # seconds that a process gets to end by itself
COMPLAINT = re.compile(r"unknown flag|illegal value|check failed|error", re.IGNORECASE)


def trial_rows(case: Case, flags: str) -> list[Row]:
    """One for each strategy."""
    return [row | {"section": "flags", "flags": flags} for row in Entry(case, FEW).rows()]


def try_flags(rows: list[Row], session: Session) -> None:
    """Fills in the rows of one set of flags."""
    result: Row = {}
    with noted(result, "failure"):
        result["rows"] = _run(rows[0], session)
    failed = dict.fromkeys(PASSES, result.get("failure"))
    for row, measured in zip(rows, result.get("rows", [failed] * len(rows)), strict=True):
        row.update({key: measured[key] for key in PASSES})
    session.save()


def _run(row: Row, session: Session) -> list[Row]:
    """What a process with the flags of `row` measured for its case."""
    left = session.left()
    request = {"case": row["case"], "seconds": left, "blocks": session.blocks}
    request |= {"block_seconds": session.block_seconds, "dry": session.dry}
    flags = f"{os.environ.get('XLA_FLAGS', '')} {row['flags']}".strip()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.gpu_flags", json.dumps(request)],
            env=os.environ | {"XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            timeout=left + GRACE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotMeasured(OVER) from error
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}: {complaint(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


def complaint(stderr: str) -> str:
    """The first line that says what is wrong, or else the last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines if COMPLAINT.search(line)), lines[-1])


def main(arguments: Sequence[str]) -> None:
    request: dict[str, Any] = json.loads(arguments[0])
    jax.config.update("jax_enable_compilation_cache", False)
    about = request["case"]
    entry = Entry(Case(**about | {"shape": Shape(**about["shape"])}), FEW)
    deadline = time.monotonic() + request["seconds"]
    options = [request[key] for key in ("blocks", "block_seconds", "dry")]
    rows = entry.rows()
    measure_entry(entry, rows, Session(deadline, *options, save=lambda: None))
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
