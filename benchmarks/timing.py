"""Timing on a noisy machine: arms interleaved in one process, medians, ratios block by block."""

import dataclasses
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


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


def largest_deviation(tree: Any, reference: Any) -> float:
    """The largest difference between two trees, relative to the size of the reference."""
    worst = 0.0
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        worst = max(worst, float(np.max(np.abs(a - b)) / (np.max(np.abs(b)) + 1e-12)))
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
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def save(path: pathlib.Path, result: Mapping[str, Any]) -> None:
    """Writes a result as JSON, with the machine it was measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
