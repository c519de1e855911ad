"""R9, R10, R14: two processes train as one; a stop of one stops both, a death ends both."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.reliability.counting import BATCH_SIZE, EXAMPLES
from tests.reliability.logged import ROOT, Logged, end_all
from tests.reliability.ranks import HEARTBEAT, LAUNCH, RUN, shared_environment
from tests.reliability.runs import differences, ending

needs_proc = pytest.mark.skipif(
    not pathlib.Path("/proc/self/environ").exists(), reason="finds the ranks through /proc"
)


def times(quick, full):
    """So many seeds in the quick form, the others in the full one."""
    return [
        pytest.param(seed, marks=[pytest.mark.slow] + [pytest.mark.full] * (seed >= quick))
        for seed in range(full)
    ]


def somewhere(run, seed):
    """Waits until training is under way, and a little longer."""
    assert run.says("valid at step 10"), run.output()
    time.sleep(random.Random(seed).uniform(0, 0.8))


@needs_proc
@pytest.mark.promise("R9")
@pytest.mark.parametrize("seed", times(0, 10))  # quick: tests/launch/test_scripts.py
def test_a_stop_of_one_rank_stops_both_at_one_step(launch_pair, pair_ending, tmp_path, seed):
    workdir = tmp_path / "run"
    run = launch_pair(workdir)
    somewhere(run, seed)
    number = (signal.SIGTERM, signal.SIGINT)[seed // 2 % 2]
    os.kill(run.ranks()[(seed + 1) % 2], number)
    assert run.wait() == 75, run.output()
    (line,) = [line for line in run.output().splitlines() if "saved step" in line]
    step = int(line.split("saved step ")[1].split(";")[0])
    assert step == max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert "the ranks were stopped and have saved" in run.output()
    again = launch_pair(workdir)
    assert again.wait() == 0, again.output()
    assert f"resumed at step {step}" in again.output()
    assert differences(ending(workdir), pair_ending) == []


@needs_proc
@pytest.mark.promise("R10")
@pytest.mark.parametrize("seed", times(1, 18))
def test_a_killed_rank_is_named_and_the_restart_is_exact(launch_pair, pair_ending, tmp_path, seed):
    workdir, victim = tmp_path / "run", (seed + 1) % 2
    run = launch_pair(workdir)
    somewhere(run, seed)
    ranks = run.ranks()
    os.kill(ranks[victim], signal.SIGKILL)
    assert run.wait(HEARTBEAT + 5) == 128 + signal.SIGKILL, run.output()
    assert f"rank {victim} (pid {ranks[victim]}) was killed by SIGKILL" in run.output()
    assert "to go on from the newest checkpoint:" in run.output()
    assert f"--workdir={workdir}" in run.output().splitlines()[-1]
    assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in ranks)
    again = launch_pair(workdir)
    assert again.wait() == 0, again.output()
    assert differences(ending(workdir), pair_ending) == []


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.promise("R10")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_without_a_launcher_the_others_end_within_a_heartbeat(tmp_path, how):
    """A worker that was killed closes its connections; one that hangs is only silent."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    shared = shared_environment(tmp_path / "cache")
    shared |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    command = [*RUN, f"--workdir={tmp_path / 'run'}", "--steps=100000", "--eval_every=100000"]
    ranks = []
    try:
        for rank in range(2):
            environment = {**shared, "JAX_PROCESS_ID": str(rank)}
            ranks.append(Logged(command, tmp_path / f"{rank}.log", environment))
        assert ranks[0].says("step 14/"), ranks[0].output()
        ranks[1].process.send_signal(how)
        assert ranks[0].wait(HEARTBEAT + 5) not in (0, 75)
        if how == signal.SIGKILL:
            assert "another process of this run has gone" in ranks[0].output()
    finally:
        end_all(ranks)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.promise("R10")
def test_an_exit_code_of_the_first_is_that_of_all(launch_pair, tmp_path):
    """Only the first knows that no checkpoint is whole; both leave with 4, and in order."""
    workdir = tmp_path / "run"
    run = launch_pair(workdir)
    assert run.wait() == 0, run.output()
    for path in (workdir / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    again = launch_pair(workdir)
    assert again.wait() == 4, again.output()
    assert "none of the checkpoints is usable" in again.output()
    assert "ended with exit code 4 (it has checkpoints, none of them whole)" in again.output()


@pytest.mark.slow
@pytest.mark.promise("R14")
def test_one_process_or_two_show_every_example_as_often(tmp_path):
    """Five epochs: two batches, three, and three, by one process and by two in turn."""
    workdir = tmp_path / "run"
    environment = {**os.environ, **shared_environment(tmp_path / "cache")}
    for steps, launcher in ((2, []), (5, LAUNCH), (8, []), (10, LAUNCH)):
        command = [sys.executable, "-m", "tests.reliability.counting", str(workdir), str(steps)]
        subprocess.run(
            [*launcher, *command], cwd=ROOT, env=environment, check=True, capture_output=True
        )
        counts = np.load(workdir / "counts.npy")
        shown = steps * BATCH_SIZE
        assert counts.sum() == shown
        assert set(counts) <= {shown // EXAMPLES, -(-shown // EXAMPLES)}
    assert set(counts) == {4}
