"""Which data sets there are, where their files come from, and how to find them on this machine.

A file is looked for as `FOLDER/NAME`, then `FOLDER/NAME.gz`, in `--data_dir`, then in
`$RNNLAB_DATA`, then in the user's cache; what is nowhere is downloaded into the first of these.
Whatever the source, its bytes are verified before anybody sees them.
"""

import dataclasses
import gzip
import hashlib
import os
import pathlib
import tempfile
import zlib
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
      name: file name, without the `.gz` it may be stored with.
      sha256: of its content, after gunzip.
      url: where it can be downloaded, at a fixed commit; None where it was made by hand.
      made: how it was made, where there is no URL.
    """

    name: str
    sha256: str
    url: str | None = None
    made: str = ""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An entry of the registry.

    Attributes:
      name: how flags call it.
      folder: where its files lie under a data directory.
      licence: of the data, not of our code.
      citation: whom to cite.
      files: every file it needs.
    """

    name: str
    folder: str
    licence: str
    citation: str
    files: tuple[DataFile, ...]

    def file(self, name: str) -> DataFile:
        """The file called `name`."""
        for file in self.files:
            if file.name == name:
                return file
        known = ", ".join(file.name for file in self.files)
        raise ValueError(f"data set {self.name!r} has no file {name!r}; it has {known}.")


_TINY_SHAKESPEARE = Dataset(
    name="tiny_shakespeare",
    folder="tinyshakespeare",
    licence="public domain (the source repository states none for the text)",
    citation="Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015",
    files=(
        DataFile(
            name="input.txt",
            sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            url="https://raw.githubusercontent.com/karpathy/char-rnn/"
            "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        ),
    ),
)

DATASETS: Mapping[str, Dataset] = {entry.name: entry for entry in (_TINY_SHAKESPEARE,)}
"""Flag name -> entry. Adding a data set is one line here and one loader."""


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
    roots = search_path(data_dir)
    for root in roots:
        for path in (root / dataset.folder / name, root / dataset.folder / (name + ".gz")):
            if path.is_file():
                return _verified(path, file)
    if file.url is None:
        raise FileNotFoundError(_missing(dataset, file, roots, file.made or "it has no URL"))
    return _download(dataset, file, roots)


def search_path(data_dir: str | None = None) -> list[pathlib.Path]:
    """The directories a file is looked for in, in order; `data_dir` has to exist."""
    if data_dir and not pathlib.Path(data_dir).expanduser().is_dir():
        raise FileNotFoundError(f"data_dir: expected an existing directory, got {data_dir!r}.")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rnnlab"
    given = [data_dir, os.environ.get("RNNLAB_DATA")]
    return [*(pathlib.Path(root).expanduser() for root in given if root), cache]


def _verified(path: pathlib.Path, file: DataFile, source: str = "") -> bytes:
    """The content of `path`, or an error that names both hashes."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error}). Remove it.") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise ValueError(
            f"{source or path}: expected content with SHA-256 {file.sha256}, got {digest}"
            f" ({len(content)} bytes). "
            + ("The download was removed." if source else "Remove the file to fetch it again.")
        )
    return content


def _download(dataset: Dataset, file: DataFile, roots: list[pathlib.Path]) -> bytes:
    """Downloads into the first root: into a temporary file, verified, then moved into place."""
    try:
        import pooch  # an optional extra, and slow to import
    except ModuleNotFoundError as error:
        reason = "downloading needs pooch: pip install 'rnnlab[data]'"
        raise FileNotFoundError(_missing(dataset, file, roots, reason)) from error
    url = str(file.url)
    target = roots[0] / dataset.folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        partial = pathlib.Path(scratch) / file.name
        try:
            pooch.HTTPDownloader(timeout=60)(url, str(partial), None)
        except (OSError, ValueError) as error:  # what requests and urllib3 raise
            reason = f"{url} could not be downloaded ({error})"
            raise FileNotFoundError(_missing(dataset, file, roots, reason)) from error
        content = _verified(partial, file, source=url)
        os.replace(partial, target)
    return content


def _missing(dataset: Dataset, file: DataFile, roots: list[pathlib.Path], reason: str) -> str:
    looked = ", ".join(str(root / dataset.folder) for root in roots)
    return (
        f"{dataset.name}: expected {file.name} or {file.name}.gz in one of {looked}; found none,"
        f" and {reason}. Put the file there, or name its parent with --data_dir or $RNNLAB_DATA."
    )
