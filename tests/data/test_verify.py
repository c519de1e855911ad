import hashlib
import pathlib

import pytest

from rnnlab.data.registry import DATASETS, DataFile, Dataset
from rnnlab.data.verify import Verified, verify, verify_file

pytestmark = pytest.mark.usefixtures("nowhere")

CONTENT = b"1\n2\n3\n"
SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def check(tmp_path):
    """Verifies a file of some content, with an entry that says what is given."""

    def check(content, format="lines", records=3):
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        file = DataFile("a.txt", sha256, format=format, records=records)
        (tmp_path / "given" / "a").mkdir()
        (tmp_path / "given" / "a" / "a.txt").write_bytes(content)
        entry = Dataset("things", "a", "", "", (file,))
        return verify_file(entry, file, str(tmp_path / "given"))

    return check


def test_a_good_file(tmp_path, check):
    path = str(tmp_path / "given" / "a" / "a.txt")
    assert check(CONTENT) == Verified("things", "a.txt", path, 3, None)


def test_a_changed_file_is_a_problem(check):
    result = check(CONTENT + b"4\n")
    assert result.records is None
    assert "expected content with SHA-256" in result.problem


def test_an_unreadable_file_is_a_problem_with_its_place(check):
    result = check(CONTENT, format="conll")
    assert result.records is None
    assert "a.txt: line 1: expected 2 cells" in result.problem


def test_another_number_of_records_is_a_problem(check):
    result = check(CONTENT, records=4)
    assert result.records == 3
    assert "expected 4 records, got 3" in result.problem


def test_missing_files_are_problems_and_nothing_is_downloaded(tmp_path):
    results = list(verify(str(tmp_path / "given")))
    assert len(results) == 98
    assert {(result.path, result.records, result.problem) for result in results} == {
        (None, None, "missing")
    }
    assert list((tmp_path / "given").iterdir()) == []


def test_a_mistyped_directory_is_an_error_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_dir: expected an existing directory"):
        verify(str(tmp_path / "gven"))


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no data in {SHARED}")
def test_every_file_of_the_registry_is_whole_and_readable():
    results = list(verify(str(SHARED)))
    assert [result for result in results if result.problem] == []
    assert len(results) == sum(len(entry.files) for entry in DATASETS.values()) == 98
    listed = {line.split("  ")[1] for line in (SHARED / "SHA256SUMS").read_text().splitlines()}
    assert {str(pathlib.Path(result.path).relative_to(SHARED)) for result in results} == listed
