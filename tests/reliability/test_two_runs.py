"""R18: a second process on one run directory is refused, and named; a dead one holds nothing."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from rnnlab.training import fit
from rnnlab.training.lock import RunLock

pytestmark = pytest.mark.promise("R18")

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import pathlib, sys
from rnnlab.training.lock import RunLock
with RunLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(make_config):
    workdir = make_config().workdir
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, workdir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused_with_the_number_of_the_first(make_task, make_config, holder):
    with pytest.raises(RuntimeError, match=f"process {holder.pid} is training here"):
        fit(make_task(), make_config())
    assert [path.name for path in pathlib.Path(make_config().workdir).iterdir()] == ["lock"]


def test_a_killed_run_holds_nothing(make_task, make_config, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert fit(make_task(), make_config()).step == 20


def test_the_lock_is_free_after_a_run_that_failed(make_task, make_config):
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(interrupt_at=3), make_config())
    with RunLock(pathlib.Path(make_config().workdir)):
        pass
