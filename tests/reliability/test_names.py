"""R20: whatever a run, a set or a file is called, it is refused or stays in its folder."""

import os
import pathlib
import random
import shutil

import optax
import pytest

from experiments import common
from rnnlab.cli.trials import directory_name
from rnnlab.data import registry
from rnnlab.data.registry import DataFile, Dataset
from rnnlab.training import Task
from rnnlab.training.run import RUN_FILES, RunDirectory

pytestmark = pytest.mark.promise("R20")

COUNT = 500
PIECES = [
    *("..", "/", "\\", ".", "~", "-", " ", ":", "*", "?", "|", "&&", "$(touch x)", "`id`", "'"),
    *("\0", "\n", "\r", "\t", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u202e", "\u200b", "\ufeff"),
    *("\ud800", "\udcff", "é", "e\u0301", "\u2024", "\uff0f", "\u2215", "\U0001f480", "%2e%2e%2f"),
    *("a", "valid", "CON", "NUL.txt", "COM1", ".tmp", "x" * 300, "é" * 120, "--workdir=", "a=b"),
]
HAND_MADE = [
    *("", "..", ".", "...", "../evil", "../../evil", "/evil", "//evil", "a/../../evil", "./evil"),
    *("..\\evil", "C:\\evil", "C:evil", "~", "~root", "~/evil", "-rf", "--help", "evil\0.txt"),
    *("a\n--seed=7", "a\r--seed=7", "a\x0b--seed=7", "a\x1e--seed=7", "a\u2029--seed=7", "\n"),
    *("evil.", "evil ", " evil", ".evil", "evil..", "evil. .", "\u202egnp.exe", "x" * 255),
    *("x" * 256, "x" * 5000, "é" * 200, "a/" * 3000, "CON", "aux.txt", "\uff0e\uff0e\uff0fevil"),
    *(case(name) for name in sorted(RUN_FILES) for case in (str, str.upper, str.title)),
    *(
        "flags.txt.tmp",
        "ＦＬＡＧＳ.txt",
        "run.json ",
        "run.json\0",
        "checkpoints/20",
        "eval/../run.json",
    ),
]


def hostile_names():
    """Those made by hand, and random strings of what they are made of."""
    draw, names = random.Random(0), dict.fromkeys(HAND_MADE)
    while len(names) < COUNT:
        names["".join(draw.choices(PIECES, k=draw.randint(1, 6)))] = None
    return list(names)


def make_task(**fields):
    empty = {"init": None, "loss": None, "optimizer": optax.sgd(1.0), "train_batches": None}
    return Task(**{**empty, "eval_batches": {}, **fields})


def asset(run, name):
    make_task(assets={name: "content"})
    run.write(name, "content")


def eval_set(run, name):
    make_task(eval_batches={name: list})
    run.write_artifacts(1, name, {"text.txt": "content"})


def eval_set_unasked(run, name):
    run.write_artifacts(1, name, {"text.txt": "content"})


def artifact(run, name):
    run.write_artifacts(1, "valid", {name: "content"})


def trial(run, name):
    (run.path / directory_name({"prompt": name})).mkdir(exist_ok=True)


def data_directory(run):
    (run.path / "data").mkdir(exist_ok=True)
    return run.path / "data"


def data_file(run, name):
    entry = Dataset("things", "folder", "", "", (DataFile(name, "0" * 64, "http://x"),))
    registry.read_file(entry, name, str(data_directory(run)))


def data_folder(run, name):
    entry = Dataset("things", name, "", "", (DataFile("file", "0" * 64, "http://x"),))
    registry.read_file(entry, "file", str(data_directory(run)))


def flag_value(run, name):
    """Another flag must not be slipped in."""
    run.write_flags({"seed": 1, "mesh": name})
    assert run.read_flags() == {"seed": "1", "mesh": name}


ENTRIES = [asset, eval_set, eval_set_unasked, artifact, trial, data_file, data_folder, flag_value]


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Makes run directories in the middle of what is precious."""
    monkeypatch.delenv("RNNLAB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("evil", "inner/evil", "inner/precious"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious")

    def download(url, target, sha256):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"content")
        return b"content"

    def make(name):
        run = RunDirectory(tmp_path / "inner" / name)
        run.write_summary({"mine": True})
        return run

    monkeypatch.setattr(registry, "download", download)
    return make


def outside(top, inside):
    """Everything but what is in the folder, with its content."""
    found = {}
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if pathlib.Path(folder, name) != inside]
        found |= {f"{folder}/{name}": pathlib.Path(folder, name).read_bytes() for name in names}
        found |= dict.fromkeys(f"{folder}/{name}" for name in folders)
    return found


def ends_well(entry, run, name):
    """Whether it was done, or refused by an error of ours: any other is no answer."""
    try:
        entry(run, name)
    except ValueError as error:
        return " expected " in str(error)
    return True


@pytest.mark.filterwarnings("error")
def test_no_name_escapes(make_run, tmp_path, counted):
    names, escaped = hostile_names(), []
    for entry in ENTRIES:
        run = make_run(entry.__name__)
        before = outside(tmp_path, run.path)
        for name in names:
            if not ends_well(entry, run, name) or outside(tmp_path, run.path) != before:
                escaped.append((entry.__name__, name))
        assert run.read_summary() == {"mine": True}
        shutil.rmtree(run.path)
    counted(len(names) - len({name for _, name in escaped}), len(names))
    assert escaped == []
    assert len(names) == COUNT


def test_no_workdir_is_another_than_it_says(tmp_path, monkeypatch, capsys):
    """A run goes where the user says, with these words in `flags.txt`, or nowhere."""
    values = common.define_shared_flags({"steps": 1, "batch_size": 1, "features": 1})
    refused = 0
    for number, name in enumerate(hostile_names()):
        home = tmp_path / str(number)
        home.mkdir()
        monkeypatch.chdir(home)
        if not os.path.abspath(name.replace("\0", "")).startswith(str(home)):
            continue  # somebody else's directory, which is not to be tried here
        try:
            common.parse(values, ["program", f"--workdir={name}"])
        except SystemExit as exit_:
            assert str(exit_.code).startswith("error: ")
            refused += 1
            continue
        run = RunDirectory(values.workdir)
        run.write_flags(common.run_flags(values))
        assert (home / name / "flags.txt").is_file()
        assert run.read_flags()["workdir"] == name
    assert refused > 100


@pytest.mark.parametrize("flag", ["mesh", "data_dir", "optimizer_options"])
def test_a_line_break_in_a_flag_is_an_error_that_names_it(flag):
    values = common.define_shared_flags({"workdir": "w", "steps": 1, "batch_size": 1})
    common.parse(values, ["program", "--features=1", f"--{flag}=a\n--seed=7"])
    with pytest.raises(SystemExit, match=f"error: --{flag}: expected one line"):
        common.run_flags(values)
