import gzip
import hashlib
import re

import pytest

from rnnlab.data.readers import READERS
from rnnlab.data.registry import (
    DATASETS,
    DataFile,
    Dataset,
    find_file,
    parse_registry,
    read_file,
    search_path,
)

pytestmark = pytest.mark.usefixtures("nowhere")

CONTENT = b"some text\n" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def dataset(url=None, sha256=SHA256):
    return Dataset(
        name="things",
        folder="folder",
        licence="none",
        citation="nobody",
        files=(DataFile("things.txt", sha256, url),),
    )


def put(root, name, content):
    (root / "folder").mkdir(parents=True, exist_ok=True)
    (root / "folder" / name).write_bytes(content)


@pytest.mark.parametrize("name", ["things.txt", "things.txt.gz"])
def test_finds_a_file_plain_or_gzipped(tmp_path, name):
    content = gzip.compress(CONTENT) if name.endswith(".gz") else CONTENT
    put(tmp_path, name, content)
    assert read_file(dataset(), "things.txt", str(tmp_path)) == CONTENT


def test_looks_in_data_dir_then_environment_then_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path / "environment"))
    given, environment, cache = search_path(str(tmp_path / "given"))
    assert cache == tmp_path / "cache" / "rnnlab"
    wrong = b"not it"
    put(cache, "things.txt", CONTENT)
    assert read_file(dataset(), "things.txt", str(given)) == CONTENT
    put(environment, "things.txt", wrong)  # comes before the cache, and is not passed over
    with pytest.raises(ValueError, match="environment"):
        read_file(dataset(), "things.txt", str(given))
    put(given, "things.txt", CONTENT)
    assert read_file(dataset(), "things.txt", str(given)) == CONTENT


def test_wrong_content_names_the_file_and_both_hashes(tmp_path):
    put(tmp_path, "things.txt", b"tampered")
    with pytest.raises(ValueError, match=r"folder.things\.txt: expected content") as error:
        read_file(dataset(), "things.txt", str(tmp_path))
    assert SHA256 in str(error.value)
    assert hashlib.sha256(b"tampered").hexdigest() in str(error.value)


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"", lambda b: b"\0" + b])
def test_broken_gzip_is_an_error(tmp_path, damage):
    put(tmp_path, "things.txt.gz", damage(gzip.compress(CONTENT)))
    with pytest.raises(ValueError, match=r"things\.txt\.gz"):
        read_file(dataset(), "things.txt", str(tmp_path))


def test_missing_file_says_where_it_was_looked_for_and_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--data_dir or \$RNNLAB_DATA") as error:
        read_file(dataset(), "things.txt", str(tmp_path / "given"))
    assert str(tmp_path / "given" / "folder") in str(error.value)
    assert str(tmp_path / "cache" / "rnnlab" / "folder") in str(error.value)


def test_a_mistyped_data_dir_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_dir: expected an existing directory"):
        read_file(dataset(url="http://127.0.0.1:9/"), "things.txt", str(tmp_path / "gven"))
    assert not (tmp_path / "gven").exists()


def test_unknown_file_of_a_data_set():
    with pytest.raises(ValueError, match=r"no file 'other\.txt'; it has things\.txt"):
        read_file(dataset(), "other.txt")


def test_every_entry_is_complete():
    for name, entry in DATASETS.items():
        assert name == entry.name
        assert name.isidentifier()
        assert name == name.lower()
        assert entry.title
        assert entry.licence
        assert entry.citation
        assert entry.files
        for file in entry.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert bool(file.url) != bool(file.made)
            assert file.format in READERS
            assert file.records
            assert not file.name.endswith(".gz")


def test_no_two_entries_have_the_same_file():
    places = [f"{entry.folder}/{file.name}" for entry in DATASETS.values() for file in entry.files]
    assert len(places) == len(set(places))


def test_urls_name_a_commit():
    urls = [file.url for entry in DATASETS.values() for file in entry.files if file.url]
    commit = r"https://raw\.githubusercontent\.com/[\w-]+/[\w.-]+/[0-9a-f]{40}/[\w./-]+"
    assert [url for url in urls if not re.fullmatch(commit, url)] == []


def test_a_misspelt_key_of_the_registry_is_an_error():
    table = 'title = ""\nfolder = ""\nlicence = ""\ncitation = ""\n[[a.files]]\nname = "b"\n'
    with pytest.raises(TypeError, match="sha265"):
        parse_registry(f"[a]\n{table}sha265 = '00'\n")


def test_find_file_says_where_or_that_it_is_nowhere(tmp_path):
    assert find_file(dataset(), "things.txt", str(tmp_path)) is None
    put(tmp_path, "things.txt.gz", gzip.compress(CONTENT))
    path = tmp_path / "folder" / "things.txt"
    assert find_file(dataset(), "things.txt", str(tmp_path)) == path.with_name("things.txt.gz")
    put(tmp_path, "things.txt", CONTENT)
    assert find_file(dataset(), "things.txt", str(tmp_path)) == path
    with pytest.raises(ValueError, match="no file 'other'"):
        find_file(dataset(), "other", str(tmp_path))


def test_a_file_without_url_says_how_it_was_made(tmp_path):
    entry = Dataset("x", "x", "", "", (DataFile("x.csv", SHA256, made="by hand"),))
    with pytest.raises(FileNotFoundError, match=r"it has no URL \(by hand\)"):
        read_file(entry, "x.csv", str(tmp_path))
