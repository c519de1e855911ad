import concurrent.futures
import gzip
import hashlib
import sys

import pytest

from rnnlab.data import download as download_module
from rnnlab.data.registry import DataFile, Dataset, get, read_file

pytestmark = [pytest.mark.usefixtures("nowhere"), pytest.mark.promise("R17")]

CONTENT = b"ten bytes\n" * 1024
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def dataset(url):
    return Dataset("things", "folder", "none", "nobody", (DataFile("things.txt", SHA256, url),))


@pytest.fixture
def fetch(tmp_path, server):
    """Reads things.txt from a URL that gives some bytes; what is left in its folder."""
    pytest.importorskip("pooch")

    def fetch(content, name="source.txt"):
        (tmp_path / "web" / name).write_bytes(content)
        return read_file(dataset(f"{server}/{name}"), "things.txt", str(tmp_path / "given"))

    return fetch


def left(tmp_path):
    return sorted(path.name for path in (tmp_path / "given" / "folder").iterdir())


def test_downloads_once_into_the_first_directory(tmp_path, fetch, server):
    assert fetch(CONTENT) == CONTENT
    assert left(tmp_path) == ["things.txt"]
    (tmp_path / "web" / "source.txt").unlink()
    entry = dataset(f"{server}/source.txt")
    assert read_file(entry, "things.txt", str(tmp_path / "given")) == CONTENT


def test_a_full_cache_needs_no_network_and_no_pooch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    folder = tmp_path / "cache" / "rnnlab" / "folder"
    folder.mkdir(parents=True)
    (folder / "things.txt").write_bytes(CONTENT)
    entry = dataset("http://127.0.0.1:9/things.txt")
    assert read_file(entry, "things.txt") == CONTENT
    assert get(entry) == [folder / "things.txt"]


def test_what_comes_gzipped_is_kept_gzipped(tmp_path, fetch):
    packed = gzip.compress(CONTENT, mtime=0)
    assert fetch(packed, "source.txt.gz") == CONTENT
    assert left(tmp_path) == ["things.txt.gz"]
    assert (tmp_path / "given" / "folder" / "things.txt.gz").read_bytes() == packed


@pytest.mark.parametrize(
    ("content", "name", "came"),
    [
        (b"<html>sorry</html>", "source.txt", None),
        (b"", "source.txt", None),
        (CONTENT[:-1], "source.txt", None),
        (bytes([CONTENT[0] ^ 1]) + CONTENT[1:], "source.txt", None),
        (b"<html>sorry</html>", "source.txt.gz", None),
        (gzip.compress(CONTENT, mtime=0)[:-9], "source.txt.gz", None),
        (gzip.compress(b"else", mtime=0), "source.txt.gz", b"else"),
    ],
)
def test_a_wrong_download_is_refused_with_both_hashes_and_leaves_nothing(
    tmp_path, fetch, server, content, name, came
):
    with pytest.raises(ValueError, match="The download was removed") as error:
        fetch(content, name)
    assert f"{server}/{name}" in str(error.value)
    assert SHA256 in str(error.value)
    assert hashlib.sha256(came or content).hexdigest() in str(error.value)
    assert left(tmp_path) == []


def test_a_download_shorter_than_announced_is_refused_with_both_hashes(tmp_path, fetch, server):
    with pytest.raises(FileNotFoundError, match="could not be downloaded") as error:
        fetch(CONTENT, "short.txt")
    assert f"{server}/short.txt" in str(error.value)
    assert SHA256 in str(error.value)
    assert hashlib.sha256(CONTENT[: len(CONTENT) // 2]).hexdigest() in str(error.value)
    assert left(tmp_path) == []


def test_a_missing_page_is_refused_with_the_url(tmp_path, server):
    pytest.importorskip("pooch")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt could not be downloaded .*404"):
        read_file(dataset(f"{server}/nowhere.txt"), "things.txt", str(tmp_path / "given"))
    assert left(tmp_path) == []


def test_no_network_says_what_to_do(tmp_path):
    pytest.importorskip("pooch")
    with pytest.raises(FileNotFoundError, match=r"Put the file there, or .* --data_dir"):
        read_file(dataset("http://127.0.0.1:9/a.txt"), "things.txt", str(tmp_path / "given"))
    assert left(tmp_path) == []


def test_missing_pooch_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'rnnlab\[data\]'"):
        read_file(dataset("http://127.0.0.1:9/a.txt"), "things.txt", str(tmp_path / "given"))


def test_a_directory_that_cannot_be_written_is_named(tmp_path, fetch):
    (tmp_path / "given" / "folder").write_bytes(b"a file where a folder should be")
    with pytest.raises(FileNotFoundError, match=r"exists: .*given/folder"):
        fetch(CONTENT)


def test_two_at_once_do_no_damage(tmp_path, fetch, server):
    (tmp_path / "web" / "source.txt").write_bytes(CONTENT)
    entry = dataset(f"{server}/source.txt")

    def read(_):
        return read_file(entry, "things.txt", str(tmp_path / "given"))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {CONTENT}
    assert left(tmp_path) == ["things.txt"]


def test_get_fetches_what_is_missing_and_says_where_it_is(tmp_path, server):
    pytest.importorskip("pooch")
    (tmp_path / "web" / "b.txt").write_bytes(CONTENT)
    files = (DataFile("a.txt", SHA256), DataFile("b.txt", SHA256, f"{server}/b.txt"))
    entry = Dataset("two", "folder", "", "", files)
    folder = tmp_path / "given" / "folder"
    folder.mkdir()
    (folder / "a.txt.gz").write_bytes(gzip.compress(CONTENT, mtime=0))
    assert get(entry, str(tmp_path / "given")) == [folder / "a.txt.gz", folder / "b.txt"]
    (folder / "b.txt").write_bytes(b"tampered")
    with pytest.raises(ValueError, match="Remove the file to fetch it again"):
        get(entry, str(tmp_path / "given"))


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "MAX_BYTES", 10)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"0" * 11))
    with pytest.raises(ValueError, match="not a whole gzip file"):
        download_module.read_verified(path, hashlib.sha256(b"0" * 11).hexdigest())
