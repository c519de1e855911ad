"""Which data sets there are, where their files come from, and how to find them on this machine.

The entries are data, in `datasets.toml`. A file is looked for as `FOLDER/NAME`, then
`FOLDER/NAME.gz`, in `--data_dir`, then in `$RNNLAB_DATA`, then in the user's cache; what is nowhere
is downloaded into the first of these. Whatever the source, its bytes are verified before anybody
sees them.
"""

import dataclasses
import importlib.resources
import os
import pathlib
import tomllib
from collections.abc import Mapping

from rnnlab.cache import user_cache
from rnnlab.data.download import download, read_verified
from rnnlab.names import check_file_name


@dataclasses.dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
      name: file name, without the `.gz` it may be stored with.
      sha256: of its content, after gunzip.
      url: where it can be downloaded, at a fixed commit; None where it was made by hand. What a
        `url` that ends in `.gz` gives is stored as it comes, as `NAME.gz`.
      made: how it was made, where there is no URL.
      format: which of `rnnlab.data.readers.READERS` reads it.
      records: how many records that reader finds.
    """

    name: str
    sha256: str
    url: str | None = None
    made: str = ""
    format: str = ""
    records: int | None = None

    def __post_init__(self):
        check_file_name("name", self.name)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An entry of the registry.

    Attributes:
      name: how flags call it.
      folder: where its files lie under a data directory.
      licence: of the data, not of our code.
      citation: whom to cite.
      files: every file it needs.
      title: what it is, in a line.
    """

    name: str
    folder: str
    licence: str
    citation: str
    files: tuple[DataFile, ...]
    title: str = ""

    def __post_init__(self):
        for part in self.folder.split("/"):
            check_file_name("folder", part)

    def file(self, name: str) -> DataFile:
        """The file called `name`."""
        for file in self.files:
            if file.name == name:
                return file
        known = ", ".join(file.name for file in self.files)
        raise ValueError(f"data set {self.name!r} has no file {name!r}; it has {known}.")


def parse_registry(content: str) -> dict[str, Dataset]:
    """Flag name -> entry, of a TOML text in the form of `datasets.toml`."""
    return {
        name: Dataset(name, **entry | {"files": tuple(DataFile(**f) for f in entry["files"])})
        for name, entry in tomllib.loads(content).items()
    }


DATASETS: Mapping[str, Dataset] = parse_registry(
    importlib.resources.files("rnnlab.data").joinpath("datasets.toml").read_text("utf-8")
)
"""Flag name -> entry. Adding a data set is one table in `datasets.toml`."""


def read_file(dataset: Dataset, name: str, data_dir: str | None = None) -> bytes:
    """The verified content of one file of a data set, downloaded where it is missing.

    Args:
      dataset: an entry of `DATASETS`.
      name: one of its files.
      data_dir: where to look first, the `--data_dir` of an experiment.

    Returns:
      The content, after gunzip.

    Raises:
      ValueError: a file whose content is not the one the registry names.
      FileNotFoundError: a file that is nowhere and cannot be downloaded, or no such `data_dir`.
    """
    file = dataset.file(name)
    path = find_file(dataset, name, data_dir)
    if path is not None:
        return read_verified(path, file.sha256)
    if file.url is None:
        reason = f"it has no URL ({file.made})" if file.made else "it has no URL"
        raise FileNotFoundError(_missing(dataset, file, data_dir, reason))
    suffix = ".gz" if file.url.endswith(".gz") and not name.endswith(".gz") else ""
    target = search_path(data_dir)[0] / dataset.folder / (name + suffix)
    try:
        return download(file.url, target, file.sha256)
    except (OSError, ModuleNotFoundError) as error:
        raise FileNotFoundError(_missing(dataset, file, data_dir, str(error))) from error


def find_file(dataset: Dataset, name: str, data_dir: str | None = None) -> pathlib.Path | None:
    """Where a file lies on this machine, plain or gzipped; None if it is nowhere.

    Args:
      dataset: an entry of `DATASETS`.
      name: one of its files.
      data_dir: where to look first.

    Raises:
      ValueError: a name that is not one of its files.
      FileNotFoundError: no such `data_dir`.
    """
    dataset.file(name)
    for root in search_path(data_dir):
        for path in (root / dataset.folder / name, root / dataset.folder / (name + ".gz")):
            if path.is_file():
                return path
    return None


def get(dataset: Dataset, data_dir: str | None = None) -> list[pathlib.Path]:
    """Where the files of a data set lie, each verified, and downloaded where it is missing.

    Raises as `read_file` does, at the first file that cannot be had.
    """
    paths = []
    for file in dataset.files:
        read_file(dataset, file.name, data_dir)
        paths.append(find_file(dataset, file.name, data_dir))
    return paths


def search_path(data_dir: str | None = None) -> list[pathlib.Path]:
    """The directories a file is looked for in, in order; `data_dir` has to exist.

    Without a home directory there is no cache to look in.
    """
    if data_dir and not pathlib.Path(data_dir).expanduser().is_dir():
        raise FileNotFoundError(f"data_dir: expected an existing directory, got {data_dir!r}.")
    named = [root for root in (data_dir, os.environ.get("RNNLAB_DATA")) if root]
    places = [pathlib.Path(root).expanduser() for root in named]
    try:
        return [*places, user_cache()]
    except RuntimeError as error:
        if places:
            return places
        raise FileNotFoundError(
            f"data_dir: expected --data_dir or $RNNLAB_DATA, for without them data sets are kept in"
            f" the home directory, and there is none ({error})."
        ) from error


def _missing(dataset: Dataset, file: DataFile, data_dir: str | None, reason: str) -> str:
    looked = ", ".join(str(root / dataset.folder) for root in search_path(data_dir))
    return (
        f"{dataset.name}: expected {file.name} or {file.name}.gz in one of {looked}; found none,"
        f" and {reason}. Put the file there, or name its parent with --data_dir or $RNNLAB_DATA."
    )
