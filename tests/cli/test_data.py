import gzip
import hashlib

import pytest

from rnnlab.cli import data, main
from rnnlab.data import verify
from rnnlab.data.registry import DATASETS, DataFile, Dataset

LINES = b"one line\nanother line\n"


def entry(name, *files):
    return Dataset(
        name=name, folder=name, licence="none", citation="us", title=f"the {name}", files=files
    )


def lines_file(name, **fields):
    return DataFile(
        name=name, sha256=hashlib.sha256(LINES).hexdigest(), format="lines", records=2, **fields
    )


@pytest.fixture(autouse=True)
def two_datasets(monkeypatch, tmp_path):
    """A registry of two small data sets, and no other place to look in."""
    known = {
        "here": entry("here", lines_file("a.txt"), lines_file("b.txt")),
        "there": entry("there", lines_file("c.txt", made="by hand")),
    }
    for module in (data, verify):
        monkeypatch.setattr(module, "DATASETS", known)
    monkeypatch.delenv("RNNLAB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data_dir(tmp_path):
    """A data directory with the files of one of the two, one of them packed."""
    folder = tmp_path / "data" / "here"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_bytes(LINES)
    (folder / "b.txt.gz").write_bytes(gzip.compress(LINES))
    return tmp_path / "data"


def test_list_says_what_is_here_and_what_is_not(data_dir, capsys):
    assert main(["data", "list", f"--data_dir={data_dir}"]) == 0
    header, _, here, there = filter(str.strip, capsys.readouterr().out.splitlines())
    assert header.split() == ["name", "title", "records", "files", "in", "licence"]
    assert here.split() == f"here the here 4 2 of 2 {data_dir / 'here'} none".split()
    assert there.split() == ["there", "the", "there", "2", "0", "of", "1", "none"]


def test_list_of_the_real_registry(monkeypatch, capsys):
    monkeypatch.setattr(data, "DATASETS", DATASETS)
    assert main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in DATASETS)


def test_get_prints_where_files_are(data_dir, capsys):
    assert main(["data", "get", "here", f"--data_dir={data_dir}"]) == 0
    folder = data_dir / "here"
    printed = capsys.readouterr().out
    assert printed == f"here: {folder / 'a.txt'}\nhere: {folder / 'b.txt.gz'}\n"


def test_get_of_what_cannot_be_downloaded(data_dir, refused):
    assert "by hand" in refused("data", "get", "there", f"--data_dir={data_dir}")


def test_get_of_an_unknown_name_fetches_nothing(data_dir, refused):
    message = refused("data", "get", "here", "their", f"--data_dir={data_dir}")
    assert "expected names of data sets, got their. 'rnnlab data list' has them" in message


def test_verify_counts_records(data_dir, capsys):
    (data_dir / "there").mkdir()
    (data_dir / "there" / "c.txt").write_bytes(LINES)
    assert main(["data", "verify", f"--data_dir={data_dir}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"good     here/a.txt: 2 records, {data_dir / 'here' / 'a.txt'}"
    assert lines[-1] == "3 good with 6 records, 0 missing, 0 bad"


def test_a_missing_file_is_bad_where_the_directory_was_named(data_dir, capsys, monkeypatch):
    assert main(["data", "verify", f"--data_dir={data_dir}"]) == 1
    assert "missing  there/c.txt\n" in capsys.readouterr().out
    monkeypatch.setenv("RNNLAB_DATA", str(data_dir))
    assert main(["data", "verify"]) == 0
    assert capsys.readouterr().out.endswith("2 good with 4 records, 1 missing, 0 bad\n")


def test_a_changed_file_is_bad(data_dir, capsys, monkeypatch):
    (data_dir / "here" / "a.txt").write_bytes(LINES + b"!")
    monkeypatch.setenv("RNNLAB_DATA", str(data_dir))
    assert main(["data", "verify"]) == 1
    printed = capsys.readouterr().out
    assert "bad      here/a.txt: " in printed
    assert printed.endswith("1 good with 2 records, 1 missing, 1 bad\n")


@pytest.mark.parametrize("action", [["list"], ["verify"], ["get", "here"]])
def test_a_mistyped_data_dir_is_refused(action, tmp_path, refused):
    message = refused("data", *action, f"--data_dir={tmp_path / 'gone'}")
    assert "data_dir: expected an existing directory" in message
