"""Starts several processes of one run on this machine, and says which of them died, and of what.

    python -m rnnlab.launch --nproc=2 -- python -m experiments.language_model --workdir=runs/demo

Each process learns its rank from JAX_PROCESS_ID, JAX_NUM_PROCESSES and JAX_COORDINATOR_ADDRESS;
each line that it prints is shown with the rank in front. SIGTERM and SIGINT go on to every rank; a
second one kills them. The first rank that fails ends the others: how it died, its last words and
the command that goes on are printed. The exit code is that of this rank (128 + n for signal n),
75 when the ranks were stopped and have saved, 0 when all are done.

On Linux the ranks die with a launcher that is killed; elsewhere they outlive it.
"""

import argparse
import collections
import contextlib
import ctypes
import dataclasses
import math
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, cast

PREEMPTED = 75  # the exit codes of rnnlab.training, which costs jax; a test compares the two
MEANINGS = {
    3: "its losses or gradients were no longer finite",
    4: "it has checkpoints, none of them whole",
    5: "its disk is full",
    6: "its memory is full",
}
HINTS: dict[int, str] = {
    signal.SIGKILL: "perhaps by the kernel because memory ran out: see dmesg",
    signal.SIGTERM: "before it could save",
    signal.SIGINT: "before it could save",
}
SIGNALS: dict[int, str] = {number: number.name for number in signal.Signals}  # not real-time ones
LAST_SECONDS = 5.0  # in which the others may end by themselves after a rank has failed
LAST_LINES = 5  # of the stderr of the rank that failed, shown again
LONGEST_LINE = 1 << 16  # bytes; a longer line is shown in pieces, so that memory is bounded
LINE_END = re.compile(rb"\r*\n|(?<=[^\r\n])\r+(?=[^\r\n])")
"""A newline, or the carriage return before the next state of a progress bar."""


@dataclasses.dataclass
class Stream:
    """One output of a rank, on its way to the same output of the launcher."""

    prefix: bytes
    source: IO[bytes]
    target: IO[bytes]
    last: collections.deque[bytes]
    rest: bytes = b""  # a line that has not ended
    open: bool = True

    def fileno(self) -> int:
        """What `select` waits for."""
        return self.source.fileno()

    def forward(self) -> bool:
        """Shows the lines that have come; False if nothing has."""
        data = self.source.read(LONGEST_LINE)
        self.open = data != b""  # None: nothing yet
        self._show(data or b"")
        return bool(data)

    def finish(self) -> None:
        """Shows all that is left, a line without an end included."""
        while self.forward():
            pass
        self._show(b"\n" if self.rest else b"")
        self.source.close()

    def _show(self, data: bytes) -> None:
        *lines, self.rest = LINE_END.split(self.rest + data)
        if len(self.rest) > LONGEST_LINE:
            lines.append(self.rest)
            self.rest = b""
        lines = [line.strip(b"\r") for line in lines]
        self.last.extend(lines)
        shown = b"".join(self.prefix + line + b"\n" for line in lines)
        while shown:  # under PYTHONUNBUFFERED a signal ends a write before all is written
            shown = shown[self.target.write(shown) :]
        self.target.flush()


@dataclasses.dataclass
class Rank:
    """One process of the run."""

    number: int
    process: subprocess.Popen[bytes]
    streams: list[Stream]  # stdout, stderr
    killed: str = ""  # why the launcher killed it

    def kill(self, reason: str = "") -> None:
        """Kills it and what it has started."""
        self.killed = self.killed or reason
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def describe(self) -> str:
        """How it ended."""
        code = self.process.returncode
        if self.killed:
            how, why = "was killed by the launcher", self.killed
        elif code < 0:
            how, why = f"was killed by {SIGNALS.get(-code, f'signal {-code}')}", HINTS.get(-code)
        else:
            how, why = f"ended with exit code {code}", MEANINGS.get(code)
        return f"rank {self.number} (pid {self.process.pid}) {how}" + (f" ({why})" if why else "")


def _run(
    command: Sequence[str], environments: Sequence[Mapping[str, str]], grace_seconds: float
) -> int:
    """Runs a command once for each environment, and returns the exit code of the whole."""
    ranks: list[Rank] = []
    try:
        with _caught_signals() as signals:
            for number, environment in enumerate(environments):
                ranks.append(_start(number, command, environment))
            failed = _watch(ranks, signals, grace_seconds)
    finally:
        for rank in ranks:
            rank.kill()
            rank.process.wait()
    codes = [rank.process.returncode for rank in failed[:1] or ranks]
    _report(failed, stopped=PREEMPTED in codes)
    code = max(codes)  # that of the cause, or the larger of 0 and 75
    return 128 - code if code < 0 else code


def _start(number: int, command: Sequence[str], environment: Mapping[str, str]) -> Rank:
    """Starts a rank, in a session of its own: Ctrl-C reaches it through the launcher alone."""
    try:
        process = subprocess.Popen(
            command,
            bufsize=0,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )
    except OSError as error:
        raise ValueError(f"{command[0]!r} cannot be started: {error.strerror}.") from error
    streams = []
    for source, target, lines in (
        (process.stdout, sys.stdout.buffer, 0),
        (process.stderr, sys.stderr.buffer, LAST_LINES),
    ):
        source, last = cast(IO[bytes], source), collections.deque[bytes](maxlen=lines)
        os.set_blocking(source.fileno(), False)
        streams.append(Stream(b"[%d] " % number, source, target, last))
    return Rank(number, process, streams)


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a child runs first, so that the kernel kills it with its parent; None: not here.

    It runs between fork and exec, where Python is safe as long as the launcher has one thread.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc, pr_set_pdeathsig = ctypes.CDLL(None), 1

    def first():
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it had gone already
            os._exit(1)

    return first


@contextlib.contextmanager
def _caught_signals() -> Iterator[socket.socket]:
    """Signals become bytes in a socket, so that one loop can wait for them and for output."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    caught = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    before = {number: signal.signal(number, lambda *_: None) for number in caught}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        with reader, writer:
            yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(ranks: Sequence[Rank], signals: socket.socket, grace_seconds: float) -> list[Rank]:
    """Shows output and passes signals on until all have ended; returns who failed, in order."""
    running, failed = list(ranks), []
    stopped, deadline, why = False, math.inf, ""
    while running:
        streams = [stream for rank in running for stream in rank.streams if stream.open]
        wait = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        for ready in select.select([signals, *streams], [], [], wait)[0]:
            if isinstance(ready, Stream):
                ready.forward()
                continue
            for number in set(ready.recv(4096)) - {signal.SIGCHLD}:
                _stop(running, signal.Signals(number), again=stopped)
                stopped = True
        for rank in _ended(running):
            running.remove(rank)
            code = rank.process.returncode
            if code not in (0, PREEMPTED):
                failed.append(rank)
            seconds, how = _patience(code, grace_seconds)
            if time.monotonic() + seconds < deadline:
                deadline = time.monotonic() + seconds
                why = f"it went on for {seconds:g} s after rank {rank.number} {how}"
        if time.monotonic() >= deadline:
            deadline = math.inf
            for rank in running:
                rank.kill(why)
    return failed


def _stop(running: Sequence[Rank], number: signal.Signals, again: bool) -> None:
    """Passes a signal on to the ranks, or kills them when it is not the first."""
    for rank in running:
        if again:
            rank.kill(f"{number.name} was the second signal")
        else:
            rank.process.send_signal(number)


def _ended(running: Sequence[Rank]) -> list[Rank]:
    """The ranks that have ended, the rest of their output shown, what they started gone.

    Of two found dead at once the killed one is first: the other may have failed because of it.
    """
    ended = [rank for rank in running if rank.process.poll() is not None]
    for rank in ended:
        rank.kill()
        for stream in rank.streams:
            stream.finish()
    return sorted(ended, key=lambda rank: rank.process.returncode)


def _patience(code: int, grace_seconds: float) -> tuple[float, str]:
    """How many seconds the others may go on after a rank has ended so, and how it ended."""
    if code == 0:  # rank 0 may still write the report; jax tells whoever waits for one that left
        return math.inf, "was done"
    if code == PREEMPTED:  # they save in step
        return grace_seconds, "had saved"
    return LAST_SECONDS, "had failed"  # without it they can only fail, and save nothing


def _report(failed: Sequence[Rank], stopped: bool) -> None:
    """Prints the cause with its last words, what followed, and the command that goes on."""
    lines = ["the ranks were stopped and have saved"] if stopped else []
    if failed:
        last = failed[0].streams[1].last
        lines = [failed[0].describe() + ("; the last lines of its stderr:" if last else "")]
        lines += [f"  {line.decode(errors='replace')}" for line in last]
        lines += [f"then {rank.describe()}" for rank in failed[1:]]
    if lines:
        lines += ["to go on from the newest checkpoint:", f"  {shlex.join(sys.orig_argv)}"]
        print("", *lines, sep="\n", file=sys.stderr)


def _make_environments(
    nproc: int, gpus_per_process: int, environment: Mapping[str, str]
) -> list[dict[str, str]]:
    """The environment of each rank: that of the launcher, with its place among the others."""
    needed, visible = nproc * gpus_per_process, environment.get("CUDA_VISIBLE_DEVICES")
    gpus = list(map(str, range(needed))) if visible is None else visible.split(",") * bool(visible)
    if len(gpus) < needed:
        raise ValueError(
            f"expected {needed} GPUs ({nproc} processes, {gpus_per_process} each), but"
            f" CUDA_VISIBLE_DEVICES={visible} names {len(gpus)}; lower --nproc or"
            " --gpus_per_process."
        )
    shared = {
        **environment,
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}",
        "JAX_NUM_PROCESSES": str(nproc),
        "PYTHONUNBUFFERED": "1",
    }
    own = [{"JAX_PROCESS_ID": str(rank)} for rank in range(nproc)]
    for rank in range(nproc if gpus_per_process else 0):
        first = rank * gpus_per_process
        own[rank]["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + gpus_per_process])
    return [shared | one for one in own]


def _free_port() -> int:
    """A port that was free a moment ago; if another program takes it, jax says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The launcher's own flags, and the command after `--`."""
    parser = argparse.ArgumentParser(
        prog="python -m rnnlab.launch",
        usage="%(prog)s --nproc=N [--gpus_per_process=K] [--grace_seconds=S] -- COMMAND ...",
        description="Starts N processes of one run on this machine.",
        allow_abbrev=False,
    )
    for name, default, text in (
        ("nproc", None, "processes"),
        ("gpus_per_process", 0, "GPUs that each sees; 0: all there are"),
        ("grace_seconds", 30, "for the rest to end after a rank was stopped and has saved"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, required=default is None, help=text
        )
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, command = parser.parse_args(arguments[:split]), list(arguments[split + 1 :])
    for name, least in (("nproc", 1), ("gpus_per_process", 0), ("grace_seconds", 0)):
        if (value := getattr(options, name)) < least:
            raise ValueError(f"--{name}: expected at least {least}, got {value}.")
    if not command:
        raise ValueError("expected a command after --, as in: -- python -m experiments.classifier")
    return options, command


def main(arguments: Sequence[str]) -> int:
    """Parses the command line, runs the command, and returns the exit code."""
    try:
        options, command = _parse(arguments)
        environments = _make_environments(options.nproc, options.gpus_per_process, os.environ)
        return _run(command, environments, options.grace_seconds)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # nobody reads any more, as after `| head`; the ranks are gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
