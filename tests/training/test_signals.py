import itertools
import json
import os
import pathlib
import signal
import threading

import pytest

from rnnlab.training import fit, loop
from rnnlab.training.signals import StopRequest
from rnnlab.training.trainer import Trainer


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
    assert (run["finished"], run["step"]) == (False, 8)
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


def stop_in_evaluation(make_task, name, at):
    """A task that gets a SIGTERM at a batch of an evaluation."""
    count = 0

    def batches():
        nonlocal count
        for batch in make_task().eval_batches[name]():
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    return make_task(eval_batches={**make_task().eval_batches, name: batches})


@pytest.mark.parametrize(
    ("name", "at", "step"), [("valid", 3, 7), ("valid", 12, 14), ("test", 2, 20)]
)
def test_a_signal_in_an_evaluation_is_heard_and_the_evaluation_made_up_for(
    make_task, make_config, saved_bytes, name, at, step
):
    straight, stopped = make_config("straight"), make_config("stopped")
    result = fit(make_task(), straight)
    with pytest.raises(SystemExit) as exit_:
        fit(stop_in_evaluation(make_task, name, at), stopped)
    assert exit_.value.code == 75
    assert json.loads(pathlib.Path(stopped.workdir, "run.json").read_text())["step"] == step
    resumed = fit(make_task(), stopped)
    assert saved_bytes(make_task(), stopped) == saved_bytes(make_task(), straight)
    assert resumed.metrics == result.metrics
    assert (
        pathlib.Path(stopped.workdir, "metrics.jsonl").read_bytes()
        == pathlib.Path(straight.workdir, "metrics.jsonl").read_bytes()
    )


def test_an_error_in_an_evaluation_loses_no_training(make_task, make_config):
    def fail(params, batches, key):
        raise OSError("no disk for samples")

    config = make_config(save_every=20)
    with pytest.raises(OSError, match="no disk for samples"):
        fit(make_task(evaluate=fail), config)
    assert [path.name for path in pathlib.Path(config.workdir, "checkpoints").iterdir()] == ["7"]
    straight = make_config("straight", save_every=20)
    fit(make_task(), straight)
    fit(make_task(), config)
    assert (
        pathlib.Path(config.workdir, "metrics.jsonl").read_bytes()
        == pathlib.Path(straight.workdir, "metrics.jsonl").read_bytes()
    )


def test_the_host_does_not_run_far_ahead_of_the_device(make_task, make_config, monkeypatch):
    """What waits for the device delays a stop; at most `AHEAD` updates may."""
    made, waiting = [], []
    update = Trainer.update

    def noting(*args):
        metrics = update(*args)
        made.append(metrics.values)
        return metrics

    def train_batches(first_step):
        for step in itertools.count(first_step):
            waiting.append(sum(not leaf.is_ready() for leaf in made))
            yield next(make_task().train_batches(step))

    monkeypatch.setattr(Trainer, "update", noting)
    fit(make_task(train_batches=train_batches), make_config(log_every=20, eval_every=20))
    assert len(made) == 20
    assert max(waiting) <= loop.AHEAD
