"""Content that is verified before anybody sees it: files on this machine, and downloads."""

import gzip
import hashlib
import io
import os
import pathlib
import tempfile
import zlib

TIMEOUT = 60
"""Seconds to wait for a connection, and then for each next piece of the content."""

MAX_BYTES = 2**30
"""The most that a file may unpack to."""


def read_verified(path: pathlib.Path, sha256: str, url: str | None = None) -> bytes:
    """The content of a file, after gunzip, or an error that names both hashes.

    Args:
      path: the file; one that ends in `.gz` is unpacked.
      sha256: what the SHA-256 of the content has to be.
      url: where the file has just been downloaded from, for the message.

    Raises:
      ValueError: content with another hash, or a broken gzip file.
    """
    content = path.read_bytes()
    what, advice = (
        (url, "The download was removed.") if url else (path, "Remove the file to fetch it again.")
    )
    raw = f"expected content with SHA-256 {sha256}, got {_digest(content)} ({len(content)} bytes)"
    if path.suffix == ".gz":
        try:
            content = _unpacked(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{what}: not a whole gzip file ({error}): {raw}. {advice}") from error
    digest = _digest(content)
    if digest != sha256:
        raise ValueError(
            f"{what}: expected content with SHA-256 {sha256}, got {digest}"
            f" ({len(content)} bytes). {advice}"
        )
    return content


def download(url: str, target: pathlib.Path, sha256: str) -> bytes:
    """Downloads a file, verifies it, and only then moves it into place.

    Two processes may download the same file at once: each works in a directory of its own, and the
    later one puts equal bytes where the earlier one put them.

    Args:
      url: where it is.
      target: where it goes; its folder is made.
      sha256: what the SHA-256 of its content has to be, after gunzip where `target` ends in `.gz`.

    Returns:
      The content, after gunzip.

    Raises:
      ValueError: what came is not the content expected; nothing of it is kept.
      OSError: it could not be downloaded or written; nothing of it is kept.
      ModuleNotFoundError: pooch is not installed.
    """
    try:
        import pooch  # an optional extra, and slow to import
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "downloading needs pooch: pip install 'rnnlab[data]'", name="pooch"
        ) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as scratch:
        partial = pathlib.Path(scratch) / target.name
        try:
            pooch.HTTPDownloader(timeout=TIMEOUT)(url, str(partial), None)
        except (OSError, ValueError) as error:  # what requests and urllib3 raise
            came = _what_came(partial, sha256)
            raise OSError(f"{url} could not be downloaded ({error}){came}") from error
        content = read_verified(partial, sha256, url)
        os.replace(partial, target)
    return content


def _unpacked(content: bytes) -> bytes:
    """Gunzip, without trust in what came: a small file may unpack to a huge one."""
    unpacked = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_BYTES + 1)
    if len(unpacked) > MAX_BYTES:
        raise OSError(f"more than {MAX_BYTES} bytes")
    return unpacked


def _what_came(partial: pathlib.Path, sha256: str) -> str:
    if not partial.is_file():
        return ""
    content = partial.read_bytes()
    return (
        f"; {len(content)} bytes came, with SHA-256 {_digest(content)}, where content with SHA-256"
        f" {sha256} was expected, and were removed"
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
