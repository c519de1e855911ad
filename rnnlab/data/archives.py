"""Zip and tar archives, which may be hostile: nothing is written outside, nothing grows unseen.

The standard library's own extraction trusts more than we do (on Python 3.11 a tar member may leave
the target). Here a member is a plain file or a folder with a harmless name, or the whole archive is
refused; what it unpacks to is counted while it is read, whatever its headers say.
"""

import functools
import gzip
import io
import lzma
import os
import pathlib
import re
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from tarfile import HeaderError, ReadError
from typing import NamedTuple, Protocol

MAX_BYTES = 2**30
MAX_MEMBERS = 100_000

_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error),
    *(EOFError, NotImplementedError, OSError, OverflowError, RuntimeError, UnicodeError),
)


class Member(NamedTuple):
    """One plain file of an archive."""

    name: str  # with "/" between its parts
    content: bytes


def read_members(
    archive: bytes | str | os.PathLike[str],
    *,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
) -> Iterator[Member]:
    """The files of a zip, tar or tar.gz archive, one after another and in memory.

    Args:
      archive: its bytes, or where it lies.
      max_bytes: what it may unpack to, altogether; for a tar its headers count too.
      max_members: how many members it may have.

    Yields:
      `Member(name, content)`, in the order of the archive, without folders.

    Raises:
      ValueError: a broken archive, one over these limits, or one with a member that is a link or a
        device, is encrypted, leaves the folder it is unpacked in, or has the name of another. What
        was yielded before is to be thrown away.
    """
    raw = io.BytesIO(archive if isinstance(archive, bytes) else pathlib.Path(archive).read_bytes())
    budget = _Budget(max_bytes)
    entries = _zip_entries(raw, budget) if zipfile.is_zipfile(raw) else _tar_entries(raw, budget)
    names = _Names()
    try:
        for count, entry in enumerate(entries, start=1):
            if count > max_members:
                raise ValueError(f"archive: expected at most {max_members} members, got more.")
            if entry.problem:
                raise ValueError(f"archive member {entry.name!r}: {entry.problem}; refused.")
            name = names.add(entry.name, entry.is_folder)
            if not entry.is_folder:
                yield Member(name, entry.read())
    except _BROKEN as error:
        raise ValueError(
            "archive: expected a whole zip, tar or tar.gz file, got one that cannot be read"
            f" ({type(error).__name__}: {error})."
        ) from error


def extract(
    archive: bytes | str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
) -> list[pathlib.Path]:
    """Unpacks a whole zip, tar or tar.gz archive into a new folder, or nothing of it.

    Args:
      archive: its bytes, or where it lies.
      target: the folder to make; it appears once everything is in it.
      max_bytes: as in `read_members`.
      max_members: as in `read_members`.

    Returns:
      The files, in the order of the archive. Permissions and times of the archive are ignored.

    Raises:
      ValueError: as in `read_members`; `target` is not made.
      FileExistsError: `target` exists and is not an empty folder.
    """
    target = pathlib.Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".extract-") as scratch:
        unpacked = pathlib.Path(scratch) / "unpacked"
        unpacked.mkdir()
        names = []
        for name, content in read_members(archive, max_bytes=max_bytes, max_members=max_members):
            (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / name).write_bytes(content)
            names.append(name)
        try:
            os.rename(unpacked, target)
        except OSError as error:
            raise FileExistsError(
                f"target: expected a folder that does not exist, got {str(target)!r} ({error})."
            ) from error
    return [target / name for name in names]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Budget:
    """How many bytes may still be unpacked."""

    def __init__(self, max_bytes: int):
        self.max_bytes = self.left = max_bytes

    def read(self, source: _Readable, size: int) -> bytes:
        content = source.read(min(size, self.left + 1))  # one more than allowed, to notice
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(
                f"archive: expected at most {self.max_bytes} bytes when unpacked, got more; if you"
                " trust it, raise max_bytes."
            )
        return content


class _Names:
    """The names seen so far, as a file system that ignores case would compare them."""

    def __init__(self):
        self.files: set[str] = set()
        self.folders: set[str] = set()

    def add(self, raw: str, is_folder: bool) -> str:
        name = _safe_name(raw)
        if not name and not is_folder:
            raise ValueError(f"archive member {raw!r}: expected a name; refused.")
        parts = unicodedata.normalize("NFC", name).casefold().split("/")
        folders = {"/".join(parts[:end]) for end in range(1, len(parts) + is_folder)}
        files = set() if is_folder else {"/".join(parts)}
        if folders & self.files or files & (self.files | self.folders):
            raise ValueError(f"archive member {raw!r}: another one has its name; refused.")
        self.files |= files
        self.folders |= folders
        return name


def _safe_name(raw: str) -> str:
    """The name in its shortest form, or an error if it could lead anywhere else."""
    parts = [part for part in raw.split("/") if part not in ("", ".")]
    problems = {
        "is absolute": raw.startswith("/"),
        "has a drive letter": re.match("[A-Za-z]:", raw),
        "has a backslash": "\\" in raw,
        "leads out of the folder": ".." in parts,
        "has a control character": any(unicodedata.category(c) in ("Cc", "Cs") for c in raw),
        "is over 4000 characters": len(raw) > 4000,
        "has a part of over 255 bytes": any(len(os.fsencode(part)) > 255 for part in parts),
    }
    for problem, found in problems.items():
        if found:
            raise ValueError(f"archive member {raw!r}: its name {problem}; refused.")
    return "/".join(parts)


class _Entry(NamedTuple):
    """What an archive says about one of its members."""

    name: str
    is_folder: bool
    problem: str  # why it cannot be unpacked, or ""
    read: Callable[[], bytes]


_NOT_PLAIN = "expected a file or a folder, got a link, a device or the like"


def _zip_entries(raw: io.BytesIO, budget: _Budget) -> Iterator[_Entry]:
    with zipfile.ZipFile(raw) as archive:

        def read(info: zipfile.ZipInfo) -> bytes:
            with archive.open(info) as member:
                return b"".join(iter(lambda: budget.read(member, 2**16), b""))

        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where its maker did not say
            problem = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else _NOT_PLAIN
            if info.flag_bits & 0x1:
                problem = "it is encrypted"
            name = info.orig_filename  # `filename` is cut at a zero byte
            yield _Entry(name, name.endswith("/"), problem, functools.partial(read, info))


def _tar_entries(raw: io.BytesIO, budget: _Budget) -> Iterator[_Entry]:
    gzipped = raw.getvalue().startswith(b"\x1f\x8b")
    stream = _Counted(gzip.GzipFile(fileobj=raw) if gzipped else raw, budget)
    raw.seek(0)
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_TarHeader) as archive:

        def read(info: tarfile.TarInfo) -> bytes:
            member = archive.extractfile(info)
            return member.read() if member else b""

        for info in archive:
            plain = info.isdir() or (info.isreg() and not info.issparse())
            problem = "" if plain else _NOT_PLAIN
            yield _Entry(info.name, info.isdir(), problem, functools.partial(read, info))
    while stream.read(2**16):  # on to the checksum at the end of a gzip file
        pass


class _Counted(io.RawIOBase):
    """A stream of which every byte counts: tarfile believes the sizes that headers claim."""

    def __init__(self, source: _Readable, budget: _Budget):
        self.source = source
        self.budget = budget

    def read(self, size: int = -1) -> bytes:
        return self.budget.read(self.source, size if size >= 0 else self.budget.left + 1)


_EndOfTar = tarfile.EOFHeaderError  # pyright: ignore[reportAttributeAccessIssue]


class _TarHeader(tarfile.TarInfo):
    """A header that is read or refused; tarfile takes a broken one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tarfile)
        except _EndOfTar:
            raise
        except HeaderError as error:
            raise ReadError(str(error)) from error
