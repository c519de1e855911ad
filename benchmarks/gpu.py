"""How fast are recurrent layers on a GPU? Strategies, flags of XLA, and cuDNN beside them.

    python -m benchmarks.gpu --out=benchmarks/results/gpu.json

In one run of under eight minutes on a CUDA machine: the strategy contract is checked on the
device; every strategy is timed beside torch's cuDNN layers and `jax.experimental.rnn`, interleaved;
flags of XLA are tried, each set in a process of its own. The Markdown file beside the JSON file
says what the columns mean.

Work is done in order of priority until `--seconds` are over. Both files are written after every
step, and what was not reached stands in them as "not measured"; `--cases` takes it up in another
run. A failure is a row with its message.

--tiny runs all of it at sizes of a few features, on a CPU too: a dry run, whose times say nothing.
"""

import functools
import importlib.metadata
import os
import pathlib
import re
import shlex
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
from absl import app, flags

from benchmarks import gpu_report, gpu_torch, timing
from benchmarks.gpu_contract import CELL_NAMES, check_contract, contract_rows
from benchmarks.gpu_flags import TRIALS, trial_rows, try_flags
from benchmarks.gpu_measure import Session, measure_entry
from benchmarks.gpu_plan import NotMeasured, Row, plan, tiny
from rnnlab.cells import CELLS

PACKAGES = re.compile(r"(jax(lib|[-_]cuda.*)?|torch|nvidia[-_](cudnn|cublas).*)$")

_OUT = flags.DEFINE_string("out", "", "JSON file to write, and .md beside it; empty writes none.")
_SECONDS = flags.DEFINE_float("seconds", 450.0, "When to begin nothing more.", 0.0)
_BLOCKS = flags.DEFINE_integer("blocks", 7, "Interleaved blocks.", lower_bound=1)
_BLOCK_SECONDS = flags.DEFINE_float("block_seconds", 0.05, "Of one arm in a block.", 0.0)
_TINY = flags.DEFINE_bool("tiny", False, "A dry run: sizes of a few features, on any machine.")
_CASES = flags.DEFINE_list("cases", [], "Which of the cases, from 0 in order of priority; or all.")
_CELLS = flags.DEFINE_list("contract_cells", list(CELL_NAMES), "Cells of the contract.")
_TRIALS = flags.DEFINE_multi_string("trial", TRIALS, "Flags of XLA to try; again for another set.")


flags.register_validator(
    _CASES,
    lambda cases: set(cases) <= {str(i) for i in range(len(plan()))},
    f"expected numbers from 0 to {len(plan()) - 1}",
)
flags.register_validator(
    _CELLS, lambda names: set(names) <= set(CELLS), f"expected names among {sorted(CELLS)}"
)


class Job(NamedTuple):
    """Rows, and what fills them in."""

    rows: list[Row]
    run: Callable[[list[Row], Session], None]


def jobs() -> list[Job]:
    """The contract, the most important case, the flags at that case, and all other cases."""
    entries = [tiny(entry) if _TINY.value else entry for entry in plan()]
    chosen = [int(number) for number in _CASES.value] or range(len(entries))
    layers = [Job(entries[i].rows(i), functools.partial(measure_entry, entries[i])) for i in chosen]
    trials = [Job(trial_rows(entries[0].case, each), try_flags) for each in _TRIALS.value]
    return [Job(contract_rows(_CELLS.value), check_contract), *layers[:1], *trials, *layers[1:]]


def head() -> Row:
    """What stands before the rows."""
    cpu = jax.default_backend() == "cpu"
    dry = "CPU dry run: tiny sizes, and torch's CPU in place of cuDNN. These times say nothing."
    small = "Dry run: tiny sizes. These times say nothing."
    return {
        "dry_run": (dry if cpu else small) if _TINY.value else "",
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
        "machine": timing.machine() | _versions(),
        "protocol": {"seconds": _SECONDS.value, "blocks": _BLOCKS.value},
    }


def _versions() -> Row:
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    chosen = {name: found[name] for name in sorted(found) if PACKAGES.match(name)}
    try:
        return chosen | gpu_torch.versions(gpu_torch.load(dry=True))
    except NotMeasured as reason:
        return chosen | {"torch": str(reason)}


def main(argv: list[str]) -> None:
    """Fills in all rows, and writes them after every step."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    deadline = time.monotonic() + _SECONDS.value
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory too
    jax.config.update("jax_enable_compilation_cache", False)
    if jax.default_backend() == "cpu" and not _TINY.value:
        raise SystemExit("jax sees no GPU here; --tiny makes a dry run on a CPU.")
    work, top = jobs(), head()
    rows = [row for job in work for row in job.rows]

    def save() -> None:
        if _OUT.value:
            gpu_report.save(pathlib.Path(_OUT.value), top, rows)

    block_seconds = 0.0 if _TINY.value else _BLOCK_SECONDS.value
    dry = _TINY.value and jax.default_backend() == "cpu"
    session = Session(deadline, _BLOCKS.value, block_seconds, dry, save)
    save()
    for job in work:
        if time.monotonic() >= deadline:
            break
        try:
            job.run(job.rows, session)
        except Exception as error:  # what failed before any of its rows was begun
            print(f"{type(error).__name__}: {error}", flush=True)
        print(*map(gpu_report.line, job.rows), sep="\n", flush=True)
    print(gpu_report.markdown(top, rows))


if __name__ == "__main__":
    app.run(main)
