"""R25: a long run takes no more memory, files and threads in its second half than in its first."""

import pathlib
import re
import signal
import statistics
import time
from collections import Counter

import pytest

WARM_UP = 0.25
"""The part of the time that is not looked at."""

FORMS = [
    # The quick form is too short to tell warming up from growing, and a pool's last thread of some
    # thirty may come in it, so it allows more and is no proof of the promise.
    pytest.param(8, (200, 40), 0.05, marks=pytest.mark.slow, id="quick"),
    pytest.param(
        1200,
        (1000, 2000),
        0.02,
        marks=[pytest.mark.slow, pytest.mark.full, pytest.mark.promise("R25")],
        id="full",
    ),
]
"""Seconds, steps between evaluations and saves, and how much growth is allowed."""

COMPILED = re.compile(r"Compiling (.+) with global shapes and types (.+)\. Argument mapping")


def usage(process):
    """Kilobytes of memory, open files, threads."""
    proc = pathlib.Path("/proc", str(process.pid))
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    files = len(list((proc / "fd").iterdir()))
    return int(status["VmRSS"].split()[0]), files, int(status["Threads"])


def samples(run, seconds):
    """The usage at even times after the warm-up; and what had been compiled by its end."""
    start = time.monotonic()
    time.sleep(WARM_UP * seconds)
    compiled, found = Counter(COMPILED.findall(run.output())), []
    while time.monotonic() < start + seconds:
        found.append(usage(run.process))
        time.sleep(seconds / 400)
    return compiled, found


def growth(values, typical):
    """How much is typical of the second half, beside the first."""
    half = len(values) // 2
    return typical(values[half:]) / typical(values[:half]) - 1


def persistent(values):
    """The growth of what a save takes and lets go again: a leak is in the least and the most."""
    return min(growth(values, min), growth(values, max))


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(("seconds", "every", "most"), FORMS)
def test_nothing_grows(launch, tmp_path, seconds, every, most, record_property):
    flags = "--steps=1000000000 --log_every=50 --eval_every={} --save_every={}".format(*every)
    run = launch("language_model", tmp_path / "run", flags, JAX_LOG_COMPILES="1")
    assert run.says("valid at")
    compiled, found = samples(run, seconds)
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 75, run.output()
    memory, files, threads = zip(*found, strict=True)
    figures = {
        "memory": growth(memory, statistics.median),
        "files": persistent(files),
        "threads": persistent(threads),
    }
    record_property("growth", figures)
    last = re.findall(r"step (\d+)/", run.output())[-1]
    print(f"{seconds} s, {last} steps, growth {figures}, last {found[-1]}")
    assert max(figures.values()) < most, figures
    steps = [name for name, _ in compiled.elements() if "packed" in name or name == "jit(step)"]
    assert len(steps) == len(set(steps)) == 2  # of training and of evaluation
    assert Counter(COMPILED.findall(run.output())) == compiled
