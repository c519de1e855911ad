"""R26: clocks that jump, places that cannot be written, no home, no network."""

import pathlib
import pwd
import socket
import subprocess
import time

import pytest

from experiments import classifier, language_model
from rnnlab.data.registry import DATASETS, read_file, search_path
from rnnlab.training import fit
from rnnlab.training.compilation import enable_compilation_cache

pytestmark = pytest.mark.promise("R26")

YEAR = 365 * 86400.0
CLOCKS = ("time", "perf_counter", "monotonic")


@pytest.mark.parametrize("jump", [YEAR, -YEAR, None], ids=["ahead", "back", "stands still"])
def test_a_clock_that_jumps_changes_nothing(make_task, make_config, saved_bytes, monkeypatch, jump):
    straight, jumped = make_config("straight"), make_config("jumped")
    fit(make_task(), straight)

    def batches(first_step):
        for step, batch in enumerate(make_task().train_batches(first_step), first_step):
            if step == 6:
                for name in CLOCKS:
                    monkeypatch.setattr(time, name, shifted(getattr(time, name), jump))
            if step == 13 and first_step == 0:
                raise KeyboardInterrupt
            yield batch

    for _ in range(2):  # the second goes on where the first was cut off
        try:
            fit(make_task(train_batches=batches), jumped)
        except KeyboardInterrupt:
            monkeypatch.undo()
    assert saved_bytes(make_task(), jumped) == saved_bytes(make_task(), straight)
    one, two = (pathlib.Path(run.workdir, "metrics.jsonl") for run in (straight, jumped))
    assert one.read_bytes() == two.read_bytes()


def shifted(clock, jump):
    stopped = clock()
    return lambda: stopped if jump is None else clock() + jump


@pytest.fixture
def read_only_disk(tmp_path):
    """A disk that nobody may write on, root included."""
    mount = tmp_path / "disk"
    mount.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(mount)],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a read-only disk takes the right to mount one")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


EXPECTED = r"workdir: expected a directory to write in, got .*Name another --workdir"


def test_a_read_only_disk_is_named_before_anything_is_trained(
    make_task, make_config, read_only_disk
):
    with pytest.raises(OSError, match=EXPECTED):
        fit(make_task(interrupt_at=0), make_config(str(read_only_disk / "run")))


def test_a_file_in_the_way_is_named(make_task, make_config, tmp_path):
    (tmp_path / "file").touch()
    for place in ("file", "file/run"):
        with pytest.raises(OSError, match=EXPECTED):
            fit(make_task(interrupt_at=0), make_config(place))


def test_missing_parents_are_made(make_task, make_config):
    assert fit(make_task(), make_config("not/there/yet")).step == 20


@pytest.fixture
def homeless(monkeypatch):
    """No $HOME, and nobody whom the system knows."""

    def nobody(number):
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME", "RNNLAB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


def test_without_a_home_programs_are_not_kept_and_data_has_to_be_named(
    homeless, no_cache_chosen, tmp_path, monkeypatch
):
    with pytest.warns(UserWarning, match="compiled programs are not kept"):
        assert enable_compilation_cache() is None
    assert search_path(str(tmp_path)) == [tmp_path]
    with pytest.raises(FileNotFoundError, match=r"expected --data_dir or \$RNNLAB_DATA"):
        read_file(DATASETS["tiny_shakespeare"], "input.txt")
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    assert search_path() == [tmp_path]


def test_a_cache_that_cannot_be_written_is_a_warning(no_cache_chosen, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="compiled programs are not kept"):
        assert enable_compilation_cache() is None


@pytest.fixture
def no_network(monkeypatch):
    def unreachable(*args, **options):
        raise OSError("Network is unreachable")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)


def test_without_a_network_a_download_says_where_to_put_the_file(no_network, tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.delenv("RNNLAB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flags = [f"--workdir={tmp_path / 'run'}", "--dataset=tiny_shakespeare"]
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded .*Put the file there, or"
    ):
        language_model.main(["program", *flags])
    assert [path.name for path in tmp_path.rglob("*")] == ["rnnlab", "tinyshakespeare"]


def test_without_a_network_or_a_home_the_demo_trains(no_network, homeless, tmp_path, capsys):
    flags = [f"--workdir={tmp_path / 'run'}", "--steps=1", "--features=4", "--eval_batch_size=300"]
    classifier.main(["program", *flags])
    assert "test: loss" in capsys.readouterr().out
