"""Checks that the files of the registry are here, whole and readable."""

from collections.abc import Iterator
from typing import NamedTuple

from rnnlab.data.download import read_verified
from rnnlab.data.readers import parse
from rnnlab.data.registry import DATASETS, DataFile, Dataset, find_file, search_path


class Verified(NamedTuple):
    """What was found out about one file."""

    dataset: str
    file: str
    path: str | None  # None where the file is missing
    records: int | None  # None where it could not be read
    problem: str | None  # None where all is well


def verify(data_dir: str | None = None) -> Iterator[Verified]:
    """Checks every file of the registry, one after another: hash, format and number of records.

    Nothing is downloaded. A problem is reported in the result, not raised.

    Args:
      data_dir: where to look first.

    Raises:
      FileNotFoundError: no such `data_dir`.
    """
    search_path(data_dir)  # at once, not when the first result is asked for
    return (
        verify_file(dataset, file, data_dir)
        for dataset in DATASETS.values()
        for file in dataset.files
    )


def verify_file(dataset: Dataset, file: DataFile, data_dir: str | None = None) -> Verified:
    """Checks one file, as `verify` does."""
    path = find_file(dataset, file.name, data_dir)
    if path is None:
        return Verified(dataset.name, file.name, None, None, "missing")
    result = Verified(dataset.name, file.name, str(path), None, None)
    try:
        content = read_verified(path, file.sha256)
        records = len(parse(content, file.format, str(path)))
    except (ValueError, OSError) as error:
        return result._replace(problem=str(error))
    if records != file.records:
        problem = f"{path}: expected {file.records} records, got {records}."
        return result._replace(records=records, problem=problem)
    return result._replace(records=records)
