import functools
import gzip
import hashlib
import http.server
import sys
import threading

import pytest

from rnnlab.data.registry import DATASETS, DataFile, Dataset, read_file, search_path

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


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No environment: neither $RNNLAB_DATA nor a filled cache."""
    monkeypatch.delenv("RNNLAB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "given").mkdir()


@pytest.fixture
def server(tmp_path):
    """A web server of the files under `tmp_path / "web"`: its address."""
    (tmp_path / "web").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


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


def test_missing_pooch_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'rnnlab\[data\]'"):
        read_file(dataset(url="http://127.0.0.1:9/things.txt"), "things.txt", str(tmp_path))


def test_downloads_once_into_the_first_directory(tmp_path, server):
    pytest.importorskip("pooch")
    (tmp_path / "web" / "source.txt").write_bytes(CONTENT)
    entry = dataset(url=f"{server}/source.txt")
    assert read_file(entry, "things.txt", str(tmp_path / "given")) == CONTENT
    assert [p.name for p in (tmp_path / "given" / "folder").iterdir()] == ["things.txt"]
    (tmp_path / "web" / "source.txt").unlink()
    assert read_file(entry, "things.txt", str(tmp_path / "given")) == CONTENT


def test_a_wrong_download_is_refused_and_leaves_nothing(tmp_path, server):
    pytest.importorskip("pooch")
    (tmp_path / "web" / "source.txt").write_bytes(b"<html>sorry</html>")
    entry = dataset(url=f"{server}/source.txt")
    with pytest.raises(ValueError, match=r"source\.txt: expected content") as error:
        read_file(entry, "things.txt", str(tmp_path / "given"))
    assert SHA256 in str(error.value)
    assert list((tmp_path / "given" / "folder").iterdir()) == []


def test_a_failed_download_names_the_url_and_leaves_nothing(tmp_path, server):
    pytest.importorskip("pooch")
    entry = dataset(url=f"{server}/nowhere.txt")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt could not be downloaded"):
        read_file(entry, "things.txt", str(tmp_path / "given"))
    assert list((tmp_path / "given" / "folder").iterdir()) == []


def test_every_entry_is_complete():
    for name, entry in DATASETS.items():
        assert name == entry.name
        assert entry.licence
        assert entry.citation
        for file in entry.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.url or file.made
