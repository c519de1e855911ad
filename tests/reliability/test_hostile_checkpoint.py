"""R21: a checkpoint from anywhere runs nothing, leaves the rest alone, takes no endless memory."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal

import jax
import pytest

from rnnlab.cli import main
from rnnlab.training import fit, load_best
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.resume import begin
from rnnlab.training.run import RunDirectory, identity
from rnnlab.training.trainer import Trainer
from tests.reliability.hostile import ATTACKS

pytestmark = pytest.mark.promise("R21")

CLEAR = (ValueError, FileNotFoundError)
"""Errors that say what was expected; any other would be an accident."""


@contextlib.contextmanager
def little_memory():
    """Half a gigabyte more than now, and no more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**29
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def no_hanging():
    def ring(number, frame):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def share():
    """Every attack; of 4 it would be every fourth."""
    return 1


@pytest.fixture
def attacks(share, make_task, make_config, tmp_path, no_hanging):
    """One attack after another, each on a good run of its own: its name, and the run."""
    config = make_config("good")
    fit(make_task(), config)
    outside = tmp_path / "outside"
    shutil.copytree(pathlib.Path(config.workdir, "checkpoints", "20"), outside / "good")
    (outside / "precious").write_text("precious")

    def one_by_one():
        for name, attack in list(ATTACKS.items())[::share]:
            run = tmp_path / "run"
            shutil.copytree(config.workdir, run)
            attack(run / "checkpoints" / "20", outside)
            before = content(outside)
            yield name, run
            assert content(outside) == before, name
            shutil.rmtree(run)

    return one_by_one()


def content(folder):
    paths = sorted(folder.rglob("*"))
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


def accidents(attacks, attempt):
    """Attack -> the error that was no clear one."""
    found = {}
    for name, run in attacks:
        try:
            with little_memory():
                attempt(run)
        except CLEAR as error:
            if not str(error):
                found[name] = repr(error)
        except Exception as error:
            found[name] = repr(error)[:300]
    return found


def test_resuming(attacks, make_task, make_config, counted, capsys):
    config = make_config("run")
    ours = identity(config.flags, config.data, make_task().assets)
    shapes = Trainer(make_task(), config).shapes()
    taken = []

    def attempt(run):
        directory = RunDirectory(run)
        with Checkpoints(run / "checkpoints") as checkpoints:
            step, progress, _ = begin(shapes, checkpoints, directory, config, ours, print)
            taken.append(step)
            assert isinstance(progress.metrics_size, int) and progress.metrics_size >= 0

    found = accidents(attacks, attempt)
    counted(len(ATTACKS) - len(found), len(ATTACKS))
    assert found == {}
    assert set(taken) <= {14, 15, 20}
    assert sum(step < 20 for step in taken) > len(ATTACKS) / 2


def test_taking_the_best(attacks, make_task, make_config, counted):
    config = make_config("run")
    expected = identity(config.flags, config.data, make_task().assets)
    found = accidents(attacks, lambda run: load_best(make_task().init, run, expected))
    counted(len(ATTACKS) - len(found), len(ATTACKS))
    assert found == {}


@pytest.mark.slow
@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.full)])
def test_looking_at_it(share, attacks, counted, tmp_path, capsys):
    pytest.importorskip("safetensors")
    out = [f"--out={tmp_path / 'out'}", "--force", "--step=20"]

    def attempt(run):
        for command, options in (("ls", []), ("verify", []), ("export", out)):
            code = main(["ckpt", command, str(run), *options])
            captured = capsys.readouterr()
            if code not in (0, 1, 2) or "Traceback" in captured.err:
                raise RuntimeError(f"exit code {code}: {captured.err}")

    found, tried = accidents(attacks, attempt), len(list(ATTACKS)[::share])
    counted(tried - len(found), tried)
    assert found == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["another step that is a link", "best step that leads out"])
def test_training_on_to_the_end(make_task, make_config, tmp_path, name):
    config = make_config("run", keep=1, steps=25)
    fit(make_task(), make_config("run", keep=1))
    outside = tmp_path / "outside"
    shutil.copytree(tmp_path / "run" / "checkpoints" / "20", outside / "good")
    ATTACKS[name](tmp_path / "run" / "checkpoints" / "20", outside)
    before = content(outside)
    assert fit(make_task(), config).step == 25
    assert content(outside) == before
    for folder, _, _ in os.walk(tmp_path / "run" / "eval"):
        assert pathlib.Path(folder).is_relative_to(tmp_path / "run")
    assert jax.tree.leaves(load_best(make_task().init, config.workdir, {})[0])
