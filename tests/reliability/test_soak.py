"""R25: a long run takes no more memory, files and threads in its second half than in its first."""

import pathlib
import re
import signal
import statistics
import time
from collections import Counter

import pytest

from tests.reliability.runs import FAMILIES

WARM_UP = 0.2
"""The part of the time that is not looked at."""

BUSY = "--steps=1000000000 --eval_every=200 --log_every=50"
FULL = [pytest.mark.slow, pytest.mark.full, pytest.mark.promise("R25")]
FORMS = [
    # The quick form is too short to tell warming up from growing, and a pool's last thread of some
    # thirty may come in it, so it allows more and is no proof of the promise.
    pytest.param("language_model", 8, 40, 0.05, marks=pytest.mark.slow, id="quick"),
    *(pytest.param(family, 600, 500, 0.02, marks=FULL, id=f"full-{family}") for family in FAMILIES),
]
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


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(("family", "seconds", "save_every", "most"), FORMS)
def test_nothing_grows(launch, tmp_path, family, seconds, save_every, most, record_property):
    run = launch(
        family, tmp_path / "run", f"{BUSY} --save_every={save_every}", JAX_LOG_COMPILES="1"
    )
    assert run.says("valid at")
    compiled, found = samples(run, seconds)
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 75, run.output()
    memory, files, threads = zip(*found, strict=True)
    figures = {
        "memory": growth(memory, statistics.median),
        "files": growth(files, min),  # a save opens some, and starts threads, and lets them go
        "threads": growth(threads, min),
    }
    record_property("growth", figures)
    last = re.findall(r"step (\d+)/", run.output())[-1]
    print(f"{family}: {seconds} s, {last} steps, growth {figures}, last {found[-1]}")
    assert max(figures.values()) < most
    steps = [name for name, _ in compiled.elements() if "packed" in name or name == "jit(step)"]
    assert len(steps) == len(set(steps)) == 2  # of training and of evaluation
    assert Counter(COMPILED.findall(run.output())) == compiled
