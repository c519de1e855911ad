"""Fills in the rows of one case: builds its arms, compares them, times them interleaved."""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import gpu_torch, timing
from benchmarks.gpu_arms import Arm, cudnn_arm, rnnlab_arm
from benchmarks.gpu_plan import (
    CUDNN,
    CUDNN_HALF,
    JAX_CUDNN,
    PASSES,
    STRATEGIES,
    Case,
    Data,
    Entry,
    NotMeasured,
    Row,
)

OVER = "the time was up"


class Session(NamedTuple):
    """What all measurements of a run share."""

    deadline: float  # of time.monotonic()
    blocks: int
    block_seconds: float
    dry: bool  # on a CPU, where torch's stands in for a GPU
    save: Callable[[], None]  # called whenever a row has changed

    def left(self) -> float:
        """Seconds before the deadline.

        Raises:
          NotMeasured: there are none.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise NotMeasured(OVER)
        return left


@contextlib.contextmanager
def noted(row: Row, key: str) -> Iterator[None]:
    """Writes down why something could not be measured, so that the run goes on."""
    try:
        yield
    except NotMeasured as reason:
        row[key] = {"not_measured": str(reason)}
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        row[key] = {"error": f"{type(error).__name__}: {text}"}


def make_arm(name: str, case: Case, data: Data, backward: bool, dry: bool) -> Arm:
    """The arm of this name."""
    if name in STRATEGIES:
        return rnnlab_arm(name, case, data, backward)
    if name == JAX_CUDNN:
        if dry:
            raise NotMeasured("it needs a CUDA device")
        return cudnn_arm(case, data, backward)
    dtype = {CUDNN: case.precision, CUDNN_HALF: "float16"}[name]
    return gpu_torch.torch_arm(gpu_torch.load(dry), dtype, case, data, backward)


def measure_entry(entry: Entry, rows: list[Row], session: Session) -> None:
    """Fills in `rows`, those of `entry`, one pass after the other."""
    data = entry.case.data()
    for key in PASSES:
        arms = _build(entry.case, data, rows, key, session)
        _compare(arms, rows, key, session)
        _time(arms, rows, key, entry.case.shape.length, session)
        del arms
        gc.collect()
        gpu_torch.release()


def _build(case: Case, data: Data, rows: list[Row], key: str, session: Session) -> dict[str, Arm]:
    arms = {}
    for row in rows:
        with noted(row, key):
            session.left()
            arm = make_arm(row["arm"], case, data, key != PASSES[0], session.dry)
            arms[row["arm"]] = arm
            row[key] = {"not_measured": "made, but not timed", **arm.costs}
        session.save()
    return arms


def _compare(arms: dict[str, Arm], rows: list[Row], key: str, session: Session) -> None:
    """Runs every arm once; one that fails is dropped."""
    expected: list[np.ndarray] | None = None
    for row in rows:
        arm = arms.pop(row["arm"], None)
        if arm is None:
            continue
        with noted(row, key):
            session.left()
            got = arm.compared(arm.call())
            expected = got if expected is None else expected
            both = min(len(got), len(expected))
            row[key]["deviation"] = timing.largest_deviation(got[:both], expected[:both])
            arms[row["arm"]] = arm
        session.save()


def _time(arms: dict[str, Arm], rows: list[Row], key: str, length: int, session: Session) -> None:
    calls = {name: arm.call for name, arm in arms.items()}
    times: dict[str, timing.Timing] = {}
    for row in rows:
        if row["arm"] in arms:
            with noted(row, key):
                session.left()
                # All at once, at the first of them; a failure there is every row's.
                times = times or timing.measure(calls, session.blocks, session.block_seconds)
                row[key] = _entry(row[key], times, row["arm"], length)
    session.save()


def _entry(costs: Row, times: dict[str, timing.Timing], name: str, length: int) -> Row:
    steps = [1e6 * seconds / length for seconds in times[name].blocks]
    costs = {k: v for k, v in costs.items() if k != "not_measured"}
    entry: dict[str, Any] = {"us_per_step": float(np.median(steps)), **costs}
    entry["us_per_step_range"] = (min(steps), max(steps))
    if CUDNN in times:
        entry["over_cudnn"] = times[name].ratio_to(times[CUDNN])
    return entry
