"""Timing on a noisy machine: arms interleaved in one process, medians, ratios block by block."""

import dataclasses
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Program(NamedTuple):
    """A compiled function and what it took to make."""

    call: Callable[..., Any]
    trace_seconds: float  # Python to StableHLO: trace and lower
    compile_seconds: float
    temporary_bytes: int  # peak, besides arguments and results


def compile_program(function: Callable[..., Any], *args: Any) -> Program:
    """Compiles `function` for `args`; no trace or program in jax's memory is used again."""
    jax.clear_caches()
    start = time.perf_counter()
    lowered = jax.jit(function).trace(*args).lower()
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    memory: Any = compiled.memory_analysis()
    return Program(compiled, traced - start, done - traced, memory.temp_size_in_bytes)


def prepare(threads: int) -> None:
    """To be called before jax does anything: few cores, as far as the system can, and no cache.

    jax looks only once whether its persistent compilation cache is on. With it, compile times would
    be those of reading a file.
    """
    jax.config.update("jax_enable_compilation_cache", False)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds per call of one arm, one entry a block."""

    blocks: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.blocks)

    def ratio_to(self, other: "Timing") -> tuple[float, float, float]:
        """Median, smallest and largest of the block-by-block ratios of this arm to `other`."""
        ratios = [a / b for a, b in zip(self.blocks, other.blocks, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def measure(
    arms: Mapping[str, Callable[[], Any]], blocks: int = 7, block_seconds: float = 0.2
) -> dict[str, Timing]:
    """Times functions against one another.

    Every block runs all arms, in an order that is reversed from block to block (ABBA), so that a
    drift of the machine's speed falls on all of them alike.

    Args:
      arms: name -> a function of no arguments; its result is waited for.
      blocks: how often each arm is timed.
      block_seconds: about how long one timing of one arm lasts.

    Returns:
      name -> its timing.
    """
    calls = {}
    for name, arm in arms.items():
        jax.block_until_ready(arm())  # warm-up: compiles
        calls[name] = max(1, round(block_seconds / _seconds_per_call(arm, 1)))
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    for block in range(blocks):
        for name in names if block % 2 == 0 else reversed(names):
            seconds[name].append(_seconds_per_call(arms[name], calls[name]))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _seconds_per_call(arm: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(arm())
    return (time.perf_counter() - start) / calls


def matmul_flops_per_second(size: int = 1024) -> float:
    """What a large float32 matmul reaches here: no model can be faster than its matmuls at that."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / min(measure({"matmul": lambda: product(a, a)})["matmul"].blocks)


def largest_deviation(tree: Any, reference: Any) -> float:
    """The largest difference between two trees, relative to the size of each reference array.

    NaN where either holds one, infinite where the shapes differ.
    """
    worst = 0.0
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True):
        wide = np.complex128 if np.iscomplexobj(b) else np.float64
        a, b = np.asarray(a, wide), np.asarray(b, wide)
        if a.shape != b.shape:
            return float("inf")
        deviation = np.max(np.abs(a - b), initial=0) / (np.max(np.abs(b), initial=0) + 1e-12)
        worst = float(np.maximum(worst, deviation))  # the built-in max would lose a NaN
    return worst


def require_parity(name: str, deviation: float, tolerance: float) -> None:
    """Refuses to time what computes something else."""
    if not deviation <= tolerance:  # a NaN fails too
        raise SystemExit(
            f"{name}: expected results within {tolerance:.0e} of the reference, got"
            f" {deviation:.1e}. Nothing was timed: mend it first."
        )


def machine() -> dict[str, str | int]:
    """What a number is worth: processor, cores, platform and versions."""
    model = platform.processor()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return {
        "processor": model or platform.machine(),
        "cores": os.cpu_count() or 0,
        "threads": _threads(),
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0


def save(path: pathlib.Path, result: Mapping[str, Any]) -> None:
    """Writes a result as JSON, with the machine it was measured on; a line for every row.

    What was written before stands until all of the new text is there.
    """

    def text(value: Any) -> str:
        if not isinstance(value, list):
            return json.dumps(value)
        return "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in value) + "\n ]"

    entries = {"machine": machine(), **result}.items()
    lines = ",\n".join(f" {json.dumps(name)}: {text(value)}" for name, value in entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".tmp")
    whole.write_text(f"{{\n{lines}\n}}\n")
    whole.replace(path)
