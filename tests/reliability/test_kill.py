"""R1, R2: kill -9 at a random time, and the same command again: nothing shows that it happened."""

import shutil
import signal
import time

import numpy as np
import pytest

from tests.reliability.runs import FAMILIES, differences, ending, logged_once

AGAIN = 0.3
"""How often a run that goes on is killed again."""

CHUNKS = [range(1), range(1, 10), *(range(first, first + 10) for first in range(10, 100, 10))]
"""The first is the quick form, all of them are the full one."""
QUICK_FIRST = [
    pytest.param(name, marks=[pytest.mark.full] * (n > 0)) for n, name in enumerate(FAMILIES)
]


def kill(run, delay):
    """Kills a run some time after its first step; whether it was still there."""
    run.says("compiled in")
    time.sleep(delay)
    run.process.kill()
    return run.wait() == -signal.SIGKILL


def survive(launch, family, workdir, seconds, generator):
    """Runs a command until it ends by itself; where it was killed, once or more."""
    killed = []
    while True:
        run = launch(family, workdir)
        if not killed or generator.random() < AGAIN:
            if kill(run, generator.uniform(0, seconds)):
                killed.append(run.place())
                continue
            if not killed:  # it was quicker
                shutil.rmtree(workdir)
                continue
        assert run.wait() == 0, run.output()
        return killed


def chunk(numbers):
    marks = [pytest.mark.slow, *([pytest.mark.full] if numbers.start else [])]
    return pytest.param(numbers, marks=marks, id=f"{numbers.start}-{numbers.stop - 1}")


@pytest.mark.promise("R1", "R2")
@pytest.mark.parametrize("family", QUICK_FIRST)
@pytest.mark.parametrize("numbers", [chunk(numbers) for numbers in CHUNKS])
def test_a_killed_run_ends_as_one_that_was_not(
    launch, uninterrupted, tmp_path, family, numbers, counted, record_property
):
    expected, seconds = uninterrupted(family)
    killed, wrong = [], {}
    for number in numbers:
        workdir = tmp_path / str(number)
        generator = np.random.default_rng([number, list(FAMILIES).index(family)])
        killed += survive(launch, family, workdir, seconds, generator)
        found = differences(ending(workdir), expected)
        if found or not logged_once(workdir):
            wrong[number] = found
        else:
            shutil.rmtree(workdir)
    counts = {place: killed.count(place) for place in sorted(set(killed))}
    record_property("killed_in", counts)
    print(f"{family}: {len(killed)} kills of {len(numbers)} runs, in {counts}")
    counted(len(numbers) - len(wrong), len(numbers))
    assert not wrong
