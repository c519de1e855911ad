"""R8: SIGTERM or SIGINT anywhere: saved and exit 75 at once; the same command goes on bitwise."""

import itertools
import json
import os
import pathlib
import signal
import sys
import threading
import time

import jax
import pytest

from rnnlab.training import Evaluation, fit
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.trainer import Trainer
from tests.reliability.runs import differences, ending, logged_once

SIGNALS = [signal.SIGTERM, signal.SIGINT]
HANGS = {"data wait", "sampling", "compile"}  # what would go on for long, the rest is over soon
PLACES = ["step", "eval", "save", *sorted(HANGS)]
STRAIGHT = {}  # what a run without a signal leaves, made once


class Trap:
    """Sends a signal at the n-th visit of a place, and counts what is done in all and after it."""

    def __init__(self, place, nth, number):
        self.place, self.nth, self.number = place, nth, number
        self.updates = self.late_updates = self.late_saves = 0
        self.sent = self.overslept = False
        self.over = threading.Event()

    def visit(self, place):
        self.nth -= place == self.place
        if self.nth == 0 and not self.sent:
            if place in HANGS:
                self._hang()
            else:
                self._send()

    def _send(self):
        self.sent = True
        os.kill(os.getpid(), self.number)

    def _hang(self):
        threading.Timer(0.1, self._send).start()
        self.overslept = not self.over.wait(20)

    def updated(self):
        self.updates += 1
        self.late_updates += self.sent

    def saved(self):
        self.late_saves += self.sent


@pytest.fixture
def set_trap(monkeypatch):
    traps = []

    def after(owner, name, trap, place, done=lambda: None):
        method = getattr(owner, name)

        def trapped(*args, **kwargs):
            trap.visit(place)
            result = method(*args, **kwargs)
            done()
            return result

        monkeypatch.setattr(owner, name, trapped)

    def build(*args):
        trap = Trap(*args)
        traps.append(trap)
        after(Trainer, "update", trap, "step", trap.updated)
        after(Checkpoints, "save", trap, "save", trap.saved)
        after(jax.stages.Lowered, "compile", trap, "compile")
        monkeypatch.setattr(os, "_exit", sys.exit)  # how a run ends beside a compiler at work
        return trap

    yield build
    for trap in traps:
        trap.over.set()


@pytest.fixture
def sampling_task(make_task):
    """A task that also draws, from what a step's key gives; with a trap where there is one."""

    def make(trap=None, **fields):
        visit = trap.visit if trap else lambda place: None

        def train_batches(first_step):
            for batch in make_task(**fields).train_batches(first_step):
                visit("data wait")
                yield batch

        def held_out():
            for batch in make_task().eval_batches["valid"]():
                visit("eval")
                yield batch

        def evaluate(params, batches, key):
            visit("sampling")
            return Evaluation({"drawn": jax.random.uniform(key)}, {"sample.txt": "drawn"})

        sets = {"valid": held_out, "test": held_out}
        return make_task(train_batches=train_batches, eval_batches=sets, evaluate=evaluate)

    return make


def left_by(config, saved_bytes, task):
    metrics = pathlib.Path(config.workdir, "metrics.jsonl").read_bytes()
    return saved_bytes(task, config), metrics


def latest(config):
    folder = pathlib.Path(config.workdir, "checkpoints")
    with Checkpoints(folder) as checkpoints:
        return checkpoints.latest() or 0


def cases():
    """Six places, two signals, five times: the second visit, then others in the full form."""
    for place, number, nth in itertools.product(PLACES, SIGNALS, (2, 1, 3, 4, 5)):
        marks = [pytest.mark.slow, pytest.mark.full] if nth != 2 else []
        yield pytest.param(place, number, nth, marks=marks, id=f"{place}-{number.name}-{nth}")


@pytest.mark.promise("R8")
@pytest.mark.parametrize(("place", "number", "nth"), list(cases()))
def test_within_one_step_and_one_save(
    sampling_task, make_config, saved_bytes, set_trap, place, number, nth
):
    straight = make_config("straight", eval_every=4)
    if not STRAIGHT:
        fit(sampling_task(), straight)
        STRAIGHT["left"] = left_by(straight, saved_bytes, sampling_task())
    config, begin = make_config(eval_every=4), 0
    if place == "compile" and nth > 1:  # a program is compiled once in every start
        with pytest.raises(KeyboardInterrupt):
            fit(sampling_task(interrupt_at=3 * nth), config)
        nth, begin = 1, latest(config)
    trap = set_trap(place, nth, number)
    with pytest.raises(SystemExit) as exit_:
        fit(sampling_task(trap), config)
    assert exit_.value.code == 75
    assert trap.sent and not trap.overslept
    assert trap.late_updates <= 1 and trap.late_saves <= 1
    assert latest(config) == begin + trap.updates  # nothing that was trained is lost
    run = json.loads(pathlib.Path(config.workdir, "run.json").read_text())
    assert (run["finished"], run["stop_reason"]) == (False, f"preempted by {number.name}")
    fit(sampling_task(), config)
    assert left_by(config, saved_bytes, sampling_task()) == STRAIGHT["left"]
    assert logged_once(pathlib.Path(config.workdir))


def stop(run, number):
    """Sends one signal; the process has to say 75."""
    run.process.send_signal(number)
    assert run.wait() == 75, run.output()


def check_end(launch, uninterrupted, family, workdir):
    """The same command again, to its end."""
    again = launch(family, workdir)
    assert again.wait() == 0, again.output()
    assert differences(ending(workdir), uninterrupted(family).ending) == []
    assert logged_once(workdir)


REAL = [
    pytest.param("language_model", "save", signal.SIGTERM, marks=pytest.mark.full),
    ("classifier", "eval", signal.SIGINT),
    pytest.param("language_model", "step", signal.SIGINT, marks=pytest.mark.full),
]


@pytest.mark.slow
@pytest.mark.promise("R8")
@pytest.mark.parametrize(("family", "place", "number"), REAL)
def test_experiments_stop_and_go_on(launch, uninterrupted, tmp_path, family, place, number):
    run = launch(family, tmp_path / "run")
    assert run.says("valid at step 20")
    assert run.wait_until(lambda: run.place() == place)
    stop(run, number)
    assert f"{number.name}: saved step " in run.output()
    check_end(launch, uninterrupted, family, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.promise("R8")
def test_an_experiment_stops_while_it_compiles(launch, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    run = launch("language_model", workdir, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "empty"))
    assert run.wait_until(lambda: run.place() == "compile")
    stop(run, signal.SIGTERM)
    assert "compiled in" not in run.output()
    assert list((workdir / "checkpoints").iterdir()) == []
    check_end(launch, uninterrupted, "language_model", workdir)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.promise("R8")
def test_an_experiment_stops_while_it_samples(launch, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    run = launch("language_model", workdir, "--length=10000000")
    assert run.says("sample at temperature")
    stop(run, signal.SIGINT)
    assert not (workdir / "samples.txt").exists()
    check_end(launch, uninterrupted, "language_model", workdir)


@pytest.mark.slow
@pytest.mark.promise("R8")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_an_experiment_at_once(launch, tmp_path, number):
    """In a save that never ends; two that come together may be heard as one, so it goes on."""
    run = launch("classifier", tmp_path / "run", HOLD="s")
    assert run.wait_until(lambda: run.place() == "save")
    sent = 0
    while run.process.poll() is None and sent < 20:
        run.process.send_signal(number)
        sent += 1
        time.sleep(0.5)
    assert sent > 1
    assert run.wait() == -number
    assert run.place() == "save" or number == signal.SIGINT  # that one unwinds
