import itertools
import json
import os
import pathlib
import signal
import threading

import pytest

from rnnlab.training import fit
from rnnlab.training.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_and_the_run_goes_on_bitwise(
    make_task, make_config, saved_bytes, number
):
    def signalled(first_step):
        for step in itertools.count(first_step):
            if step == 8:
                os.kill(os.getpid(), number)
            yield next(make_task().train_batches(step))

    straight, stopped = make_config("straight"), make_config("stopped")
    fit(make_task(), straight)
    with pytest.raises(SystemExit) as exit_:
        fit(make_task(train_batches=signalled), stopped)
    assert exit_.value.code == 75
    run = json.loads(pathlib.Path(stopped.workdir, "run.json").read_text())
    assert (run["finished"], run["step"]) == (False, 9)
    assert run["stop_reason"] == f"preempted by {signal.Signals(number).name}"
    fit(make_task(), stopped)
    assert saved_bytes(make_task(), stopped) == saved_bytes(make_task(), straight)
    assert (
        pathlib.Path(stopped.workdir, "metrics.jsonl").read_bytes()
        == pathlib.Path(straight.workdir, "metrics.jsonl").read_bytes()
    )


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_signal_acts_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        _interrupt_twice()
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt_twice():
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.name == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)


def test_outside_the_main_thread_nothing_changes():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def enter():
        with StopRequest() as stop:
            seen.append((stop.name, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
