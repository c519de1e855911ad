"""When to scan, when to unroll? Every strategy, over the length of the sequence.

    python -m benchmarks.scan_vs_unrolled --out=benchmarks/results/scan_vs_unrolled.json

For each cell and length: time to trace, to compile and to run, and the peak of temporary memory,
forward and forward+backward (gradients of parameters and inputs through all outputs), float32.
Every strategy is compared with `Scan` in float64 before anything is timed. `Unrolled` is dropped at
the first length whose compilation takes longer than `--max_compile_seconds`.

--out also draws a picture beside the JSON file. --quick takes two minutes.
"""

import dataclasses
import multiprocessing
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks import strategy_report, timing
from benchmarks.layers import Case, measure_programs
from rnnlab.cells import CELLS
from rnnlab.strategies import Associative, Deferred, Remat, Scan, Strategy, Unrolled

STRATEGIES: dict[str, Strategy] = {
    "Unrolled": Unrolled(),
    "Scan": Scan(),
    "Scan 4": Scan(unroll=4),
    "Scan 16": Scan(unroll=16),
    "Remat": Remat(),
    "Deferred": Deferred(),
    "Associative": Associative(),
}
TOLERANCE = 1e-5

_CELLS = flags.DEFINE_list("cells", "elman,lstm,gru,min_gru", "Names of cells.")
_LENGTHS = flags.DEFINE_list("lengths", "8,16,32,64,128,256,512", "Lengths T.")
_FEATURES = flags.DEFINE_integer("features", 128, "Features of input and state.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 16, "Examples in the batch.", lower_bound=1)
_BLOCKS = flags.DEFINE_integer("blocks", 7, "Interleaved blocks.", lower_bound=1)
_BLOCK_SECONDS = flags.DEFINE_float("block_seconds", 0.03, "Of one arm in a block.", 0.0)
_LIMIT = flags.DEFINE_float("max_compile_seconds", 60.0, "Patience with Unrolled.", 0.0)
_THREADS = flags.DEFINE_integer("threads", 2, "Cores to run on.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "JSON file to write, and .png beside it; empty writes none.")
_QUICK = flags.DEFINE_bool("quick", False, "Other defaults: --lengths=8,32 --blocks=3.")

flags.register_validator(
    _CELLS, lambda names: set(names) <= set(CELLS), f"expected names among {sorted(CELLS)}"
)
flags.register_validator(
    _LENGTHS, lambda lengths: all(t.isdigit() and int(t) > 0 for t in lengths), "expected T >= 1"
)


def reference(case: Case, arguments: Any) -> Any:
    """What all strategies should compute: `Scan` in float64."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype(jnp.float64), arguments)
        return jax.device_get(jax.jit(case.function(Scan()))(*wide))


def compiles_within(seconds: float, case: Case, strategy: Strategy) -> bool:
    """Compiles in a process of its own, which is ended when its time is over."""
    context = multiprocessing.get_context("spawn")
    traced = context.Event()
    child = context.Process(target=_compile_alone, args=(case, strategy, traced), daemon=True)
    child.start()
    while child.is_alive() and not traced.wait(0.1):
        pass
    child.join(seconds)
    late = child.is_alive()
    if late:
        child.kill()
        child.join()
    elif child.exitcode:
        raise SystemExit(f"compiling {case} with {strategy} failed; its error is above.")
    return not late


def _compile_alone(case: Case, strategy: Strategy, traced: Any) -> None:
    jax.config.update("jax_enable_compilation_cache", False)
    lowered = jax.jit(case.function(strategy)).trace(*jax.eval_shape(case.arguments)).lower()
    traced.set()
    lowered.compile()


@dataclasses.dataclass
class Patience:
    """Says when `Unrolled` takes too long to compile, before much time is lost on it.

    Doubling the length at least doubles the program, so from the last length follows how long the
    next takes at least. It may be much longer: where the square of the length would pass the limit,
    compilation is tried in a process that can be ended.
    """

    limit: float
    length: int = 1
    seconds: float = 0.1  # a guess, for the first length

    def allows(self, case: Case, strategy: Strategy) -> bool:
        """Whether to compile this length."""
        growth = case.length / self.length
        if self.seconds * growth > self.limit:
            return False
        if self.seconds * growth**2 <= self.limit:
            return True
        allowed = compiles_within(self.limit, case, strategy)
        if not allowed:
            self.note(case.length, self.limit)
        return allowed

    def note(self, length: int, seconds: float) -> None:
        """Learns what a length took."""
        self.length, self.seconds = length, seconds


def compile_strategies(case: Case, arguments: Any, patience: Patience) -> dict[str, timing.Program]:
    """A program for each strategy that can run the case; `Unrolled` only if it is not too slow."""
    programs = {}
    for name, strategy in case.able(STRATEGIES).items():
        unrolled = isinstance(strategy, Unrolled)
        if unrolled and not patience.allows(case, strategy):
            continue
        programs[name] = timing.compile_program(case.function(strategy), *arguments)
        if unrolled:
            patience.note(case.length, programs[name].compile_seconds)
    return programs


def measure(case: Case, patience: Patience) -> Iterator[dict[str, Any]]:
    """Compiles, compares and times the strategies for one case; yields one row for each."""
    arguments = case.arguments()
    expected = reference(case, arguments)
    programs = compile_strategies(case, arguments, patience)
    rows = measure_programs(
        case, programs, arguments, expected, TOLERANCE, _BLOCKS.value, _BLOCK_SECONDS.value
    )
    unfinished = dataclasses.asdict(case) | {"compile_seconds_over": patience.limit}
    for name in case.able(STRATEGIES):
        yield rows.get(name, unfinished | {"strategy": name})


def main(argv: list[str]) -> None:
    """Measures, prints a table for each cell as it is done, and writes the results."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _QUICK.value:
        flags.FLAGS.set_default("lengths", "8,32")
        flags.FLAGS.set_default("blocks", 3)
    timing.prepare(_THREADS.value)
    started, rows = time.perf_counter(), []
    protocol = {"blocks": _BLOCKS.value, "max_compile_seconds": _LIMIT.value}
    peak = timing.matmul_flops_per_second()
    print(timing.machine() | {"matmul_gflops": round(peak / 1e9)})
    for cell in _CELLS.value:
        patience = {backward: Patience(_LIMIT.value) for backward in (False, True)}
        for length in sorted(map(int, _LENGTHS.value)):
            for backward in (False, True):
                case = Case(cell, _FEATURES.value, _BATCH.value, length, backward)
                rows += measure(case, patience[backward])
            print(f"{time.perf_counter() - started:5.0f} s: {cell}, T = {length}", flush=True)
        print(strategy_report.tables([row for row in rows if row["cell"] == cell], peak))
        if _OUT.value:
            path = pathlib.Path(_OUT.value)
            result = {"protocol": protocol, "matmul_flops_per_second": peak, "rows": rows}
            timing.save(path, result)
            strategy_report.draw(rows, path.with_suffix(".png"))


if __name__ == "__main__":
    app.run(main)
