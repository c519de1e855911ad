"""Names that become files, and texts that become lines of files, which may come from anywhere."""

import os
import unicodedata
from collections.abc import Collection

LONGEST = 200
"""Bytes of a file's name; with what is added while it is written, a file system takes 255."""

LONGEST_PATH = 3500
"""Bytes of a directory's path; with the files of a checkpoint in it, a system takes 4096."""

_BREAKS = ("Cc", "Cs", "Zl", "Zp")  # control characters, half characters, ends of lines


def check_line(what: str, text: str) -> None:
    """Refuses a text that a file of lines would not give back: `flags.txt` has a flag in each."""
    if text != text.strip() or any(unicodedata.category(c) in _BREAKS for c in text):
        raise ValueError(
            f"{what}: expected one line, without control characters and without spaces around it,"
            f" got {text!r}."
        )


def check_file_name(what: str, name: str, taken: Collection[str] = ()) -> None:
    """Refuses a name that could leave its folder, or write over a file of ours.

    Args:
      what: whose name it is, for the message.
      name: a name without a folder.
      taken: the names that are ours, in whatever case.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what}: expected a file name, got {name!r}.")
    problems = {
        "is empty or nothing but dots": not name.strip("."),
        "has a slash or a backslash": "/" in name or "\\" in name,
        "has a control character": any(unicodedata.category(c) in _BREAKS for c in name),
        "has spaces around it": name != name.strip(),
        f"has over {LONGEST} bytes": len(name.encode(errors="replace")) > LONGEST,
        "ends in .tmp, as half a file does": name.casefold().endswith(".tmp"),
    }
    for problem, found in problems.items():
        if found:
            raise ValueError(f"{what}: expected a plain file name, got {name!r}, which {problem}.")
    if unicodedata.normalize("NFKC", name).casefold() in {one.casefold() for one in taken}:
        raise ValueError(f"{what}: expected another name than {name!r}, which the run itself has.")


def check_directory(what: str, path: str | os.PathLike[str]) -> None:
    """Refuses a path at which there can be no directory, or none that `flags.txt` could name."""
    text = os.fspath(path)
    check_line(what, text)
    parts = [len(part.encode()) for part in text.split(os.sep)]
    if not text or max(parts) > 255 or len(os.path.abspath(text).encode()) > LONGEST_PATH:
        raise ValueError(
            f"{what}: expected a path with parts of at most 255 bytes, {LONGEST_PATH} in all, got"
            f" {text!r}."
        )
