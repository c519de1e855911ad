"""The launcher with ranks of a few lines each, none of which needs jax."""

import collections
import io
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

from rnnlab import launch
from rnnlab.training import config

ROOT = pathlib.Path(__file__).parents[2]
ENOUGH = 60  # seconds after which a test that waits for a process has failed
PREAMBLE = """
import os, signal, sys, time
rank = int(os.environ["JAX_PROCESS_ID"])
def ready():
    print("ready", os.getpid(), flush=True)
def on(number, action):
    signal.signal(number, lambda *_: action())
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG")


def command(body, *flags):
    python = (sys.executable, "-c", PREAMBLE + body)
    return [sys.executable, "-m", "rnnlab.launch", "--nproc=2", *flags, "--", *python]


def finish(body, *flags, **variables):
    environment = {**os.environ, **variables}
    return subprocess.run(
        command(body, *flags), capture_output=True, cwd=ROOT, env=environment, timeout=ENOUGH
    )


class Running:
    """A launcher whose two ranks have said that they are ready."""

    def __init__(self, body, *flags):
        self.command = command(body, *flags)
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.pids = {}
        while len(self.pids) < 2:
            rank, *words = self.process.stdout.readline().split()
            if words[0] == "ready":
                self.pids[int(rank[1:-1])] = int(words[1])

    def end(self):
        """Waits for the end: exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=ENOUGH)
        return self.process.returncode, out, err


@pytest.fixture
def start():
    launchers = []

    def start(body, *flags):
        launchers.append(Running(body, *flags))
        return launchers[-1]

    yield start
    for launcher in launchers:
        with launcher.process as process:  # closes its pipes
            process.kill()


def is_gone(pid):
    """Whether a process has ended, within a generous time; a zombie has."""
    for _ in range(ENOUGH * 20):
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


# Output


def test_every_line_has_its_rank_and_stays_on_its_stream():
    result = finish("print('out', rank); print('next'); print('err', rank, file=sys.stderr)")
    assert result.returncode == 0
    assert sorted(result.stdout.splitlines()) == [
        b"[0] next",
        b"[0] out 0",
        b"[1] next",
        b"[1] out 1",
    ]
    assert sorted(result.stderr.splitlines()) == [b"[0] err 0", b"[1] err 1"]


def lines_of(written):
    """What is shown of bytes that rank 0 writes."""
    result = finish(f"rank or sys.stdout.buffer.write({written})")
    assert result.returncode == 0
    return result.stdout


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"no end", b"[0] no end\n"),
        (b"a\n\nb\n", b"[0] a\n[0] \n[0] b\n"),
        (b"a\r\nb\r\n", b"[0] a\n[0] b\n"),
        (b"\r 1%\r 2%\r 3%\n", b"[0]  1%\n[0]  2%\n[0]  3%\n"),
        (b"before\n\r 1%\r 2%", b"[0] before\n[0]  1%\n[0]  2%\n"),
        (b"\xff\xfe \xc3\n", b"[0] \xff\xfe \xc3\n"),
    ],
)
def test_what_is_shown_of_unusual_lines(written, shown):
    assert lines_of(written) == shown


def test_a_very_long_line_comes_in_pieces_and_whole():
    shown = lines_of("b'x' * 1_000_000 + b'end'")
    pieces = shown.splitlines()
    assert len(pieces) > 2
    assert all(piece.startswith(b"[0] ") for piece in pieces)
    assert b"".join(piece[4:] for piece in pieces) == b"x" * 1_000_000 + b"end"


def test_a_write_that_a_signal_ends_goes_on():
    class Unbuffered(io.BytesIO):  # as stdout is under PYTHONUNBUFFERED
        def write(self, data):
            return super().write(data[:3])

    source, target = io.BytesIO(b"a longer line\nb\n"), Unbuffered()
    launch.Stream(b"[0] ", source, target, collections.deque()).finish()
    assert target.getvalue() == b"[0] a longer line\n[0] b\n"


def test_output_is_shown_while_the_ranks_run(start):
    launcher = start("print('ready', os.getpid()); time.sleep(1000)")  # no flush of its own
    assert set(launcher.pids) == {0, 1}


def test_a_rank_may_leave_a_process_that_holds_its_output():
    """It is ended with its rank, and the launcher does not wait for it."""
    body = "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid, end='')"
    result = finish(body)
    assert result.returncode == 0
    left = [int(line.split()[1]) for line in result.stdout.splitlines()]
    assert len(left) == 2
    assert all(is_gone(pid) for pid in left)


def test_nobody_reads_any_more(start):
    body = "ready(); [print('x') or time.sleep(0.01) for _ in range(100_000)]"
    launcher = start(body)
    launcher.process.stdout.close()
    assert launcher.process.wait(ENOUGH) == 128 + signal.SIGPIPE
    assert all(is_gone(pid) for pid in launcher.pids.values())


# What a rank is told


def test_each_rank_knows_its_place_and_one_coordinator():
    names = ("JAX_PROCESS_ID", "JAX_NUM_PROCESSES", "JAX_COORDINATOR_ADDRESS", "OWN")
    result = finish(f"print(*(os.environ[name] for name in {names}))", OWN="kept")
    zero, one = sorted(line.split()[1:] for line in result.stdout.decode().splitlines())
    assert (zero[:2], one[:2]) == (["0", "2"], ["1", "2"])
    assert zero[2:] == one[2:]
    host, port = zero[2].split(":")
    assert host == "127.0.0.1" and 1024 <= int(port) < 65536
    assert zero[3] == "kept"


@pytest.mark.parametrize(
    ("flags", "visible", "seen"),
    [
        ((), "5,6", ["5,6", "5,6"]),
        (("--gpus_per_process=1",), "5,GPU-ab", ["5", "GPU-ab"]),
        (("--gpus_per_process=2",), "3,2,1,0", ["3,2", "1,0"]),
        (("--gpus_per_process=2",), None, ["0,1", "2,3"]),
    ],
)
def test_gpus_of_each_rank(monkeypatch, flags, visible, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    variables = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    result = finish("print(os.environ['CUDA_VISIBLE_DEVICES'])", *flags, **variables)
    assert sorted(result.stdout.decode().splitlines()) == [f"[{i}] {seen[i]}" for i in (0, 1)]


# How it ends


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((75, 75), 75), ((0, 75), 75), ((75, 0), 75)]
)
def test_exit_codes_that_are_no_failure(codes, code):
    result = finish(f"sys.exit({codes}[rank])")
    assert result.returncode == code
    assert (b"rnnlab.launch" in result.stderr) == (code == 75)


def test_stopped_ranks_have_saved_and_the_command_goes_on():
    result = finish("sys.exit(75)")
    report = result.stderr.decode()
    assert report.startswith("\nthe ranks were stopped and have saved\n")
    *_, last = report.split("to go on from the newest checkpoint:\n  ")
    assert shlex.split(last) == command("sys.exit(75)")


def test_one_rank_that_is_done_leaves_the_other_its_time():
    result = finish("rank and sys.exit(); time.sleep(1); print('report')", "--grace_seconds=0")
    assert (result.returncode, result.stdout) == (0, b"[0] report\n")


def test_a_rank_that_does_not_save_in_step_is_killed(start):
    launcher = start("ready(); rank and sys.exit(75); time.sleep(1000)", "--grace_seconds=1")
    code, _, err = launcher.end()
    assert code == 128 + signal.SIGKILL
    why = "was killed by the launcher (it went on for 1 s after rank 1 had saved)"
    assert f"rank 0 (pid {launcher.pids[0]}) {why}" in err


def test_a_killed_rank_is_named_with_its_last_words_and_the_other_ends(start):
    launcher = start("ready(); print('word', rank, file=sys.stderr, flush=True); time.sleep(1000)")
    assert {launcher.process.stderr.readline() for _ in range(2)} == {
        "[0] word 0\n",
        "[1] word 1\n",
    }
    os.kill(launcher.pids[1], signal.SIGKILL)
    code, _, err = launcher.end()
    assert code == 128 + signal.SIGKILL
    assert err.splitlines() == [
        "",
        f"rank 1 (pid {launcher.pids[1]}) was killed by SIGKILL (perhaps by the kernel because"
        " memory ran out: see dmesg); the last lines of its stderr:",
        "  word 1",
        f"then rank 0 (pid {launcher.pids[0]}) was killed by the launcher (it went on for 5 s"
        " after rank 1 had failed)",
        "to go on from the newest checkpoint:",
        *f"  {shlex.join(launcher.command)}".splitlines(),
    ]
    assert all(is_gone(pid) for pid in launcher.pids.values())


def test_the_first_failure_is_the_cause(tmp_path):
    """Rank 1 fails, rank 0 because of it, within the time it is given."""
    body = """
if rank:
    for i in range(9):
        print("line", i, file=sys.stderr)
    open(os.environ["FAILED"], "w").close()
    sys.exit(5)
while not os.path.exists(os.environ["FAILED"]):
    time.sleep(0.01)
time.sleep(1)
sys.exit("peer is gone")
"""
    result = finish(body, FAILED=str(tmp_path / "failed"))
    assert result.returncode == 5
    report = result.stderr.decode().split("\nrank 1 ")[1]
    assert "ended with exit code 5 (its disk is full); the last lines" in report
    assert report.splitlines()[1:6] == [f"  line {i}" for i in range(4, 9)]
    assert "then rank 0" in report and "ended with exit code 1\n" in report


def test_of_two_that_are_found_dead_at_once_the_killed_one_is_the_cause():
    class Process:
        def __init__(self, code):
            self.pid, self.returncode = 2**22 + 1, code  # no such process

        def poll(self):
            return self.returncode

    ranks = [launch.Rank(i, Process(code), []) for i, code in enumerate((1, -6, None, -9, 0))]
    assert [rank.number for rank in launch._ended(ranks)] == [3, 1, 4, 0]


def test_real_time_signals_have_no_name():
    result = finish("os.kill(os.getpid(), 40)")
    assert result.returncode == 128 + 40
    assert b"was killed by signal 40\n" in result.stderr


def test_exit_codes_are_those_of_the_trainer():
    assert launch.PREEMPTED == config.PREEMPTED
    full = {config.DISK_FULL, config.OUT_OF_MEMORY}
    assert set(launch.MEANINGS) == {config.NOT_FINITE, config.NO_CHECKPOINT} | full


# Signals

HEARS = """
on(signal.SIGTERM, act)
on(signal.SIGINT, act)
ready()
while True:
    time.sleep(1)
"""
SAVES = "act = lambda: print('saved') or sys.exit(75)" + HEARS
DEAF = "act = lambda: print('heard', flush=True)" + HEARS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_rank(start, number):
    launcher = start(SAVES)
    launcher.process.send_signal(number)
    code, out, err = launcher.end()
    assert code == 75
    assert sorted(out.splitlines()) == ["[0] saved", "[1] saved"]
    assert "the ranks were stopped and have saved" in err


def test_a_second_signal_kills_at_once(start):
    launcher = start(DEAF, "--grace_seconds=1000")
    launcher.process.send_signal(signal.SIGTERM)
    heard = {launcher.process.stdout.readline() for _ in range(2)}
    assert heard == {"[0] heard\n", "[1] heard\n"}
    launcher.process.send_signal(signal.SIGINT)
    code, _, err = launcher.end()
    assert code == 128 + signal.SIGKILL
    assert "was killed by the launcher (SIGINT was the second signal)" in err
    assert all(is_gone(pid) for pid in launcher.pids.values())


def test_ctrl_c_reaches_the_ranks_once(start):
    """A terminal sends it to the whole group of the launcher, which the ranks are not in."""
    launcher = start("ready(); time.sleep(1000)")
    assert all(os.getsid(pid) == pid for pid in launcher.pids.values())


def test_a_rank_that_dies_of_the_signal_has_not_saved(start):
    launcher = start("ready(); time.sleep(1000)")
    launcher.process.send_signal(signal.SIGTERM)
    code, _, err = launcher.end()
    assert code == 128 + signal.SIGTERM
    assert "was killed by SIGTERM (before it could save)" in err


@linux
def test_ranks_do_not_outlive_a_killed_launcher(start):
    launcher = start(DEAF)
    launcher.process.kill()
    assert all(is_gone(pid) for pid in launcher.pids.values())


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nproc=2"], "expected a command after --, as in: -- python -m experiments.classifier"),
        (["--nproc=2", "--"], "expected a command after --"),
        (["--nproc=0", "--", "true"], "--nproc: expected at least 1, got 0."),
        (["--nproc=1", "--grace_seconds=-1", "--", "true"], "--grace_seconds: expected at least 0"),
        (["--nproc=2", "--", "no-such-program"], "'no-such-program' cannot be started: No such"),
        (["--nproc=2", "--", str(ROOT)], "cannot be started: Permission denied."),
    ],
)
def test_errors_in_one_line(arguments, message, capfd):
    assert launch.main(arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ") and message in error
    assert error.count("\n") == 1


def test_too_few_gpus(monkeypatch, capfd):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert launch.main(["--nproc=2", "--gpus_per_process=2", "--", "true"]) == 2
    error = capfd.readouterr().err
    assert "expected 4 GPUs (2 processes, 2 each)" in error
    assert "CUDA_VISIBLE_DEVICES=0,1,2 names 3" in error
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert launch.main(["--nproc=1", "--gpus_per_process=1", "--", "true"]) == 2
    assert "names 0" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["--", "true"], ["--nproc=two"], ["--nproc=2", "true"]])
def test_wrong_flags_end_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        launch.main(arguments)
    assert stopped.value.code == 2
    assert "--nproc=N" in capsys.readouterr().err


def test_the_launcher_starts_without_jax():
    code = "import sys, rnnlab.launch; print(*{name.split('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert not {"jax", "numpy", "flax", "absl", "rich"} & set(result.stdout.split())
