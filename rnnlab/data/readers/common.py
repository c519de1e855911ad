"""What the readers share: errors that say where, decoding, lines, numbers."""

import contextlib
import json
import math
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Puts `where` before the message of a ValueError raised inside."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def decode(content: bytes, encoding: str = "utf-8") -> str:
    """The text of `content`; bytes that are not text are an error that names their line."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line}: expected {encoding.upper()}, got byte 0x{content[error.start]:02x}"
            f" at offset {error.start}."
        ) from error


def lines_of(content: bytes, encoding: str = "utf-8") -> list[str]:
    r"""The lines of a text, without their ends: `\n` or `\r\n`, and nothing else ends a line."""
    lines = decode(content, encoding).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def cells_of(line: str, separator: str, count: int) -> list[str]:
    """The `count` cells of a line."""
    cells = line.split(separator)
    if len(cells) != count:
        raise ValueError(
            f"expected {count} cells separated by {separator!r}, got {len(cells)} in {shown(line)}."
        )
    return cells


def finite(cell: str) -> float:
    """The finite number in a cell."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {shown(cell)}.")
    return value


def integer(cell: str) -> int:
    """The whole number in a cell, in the digits 0 to 9."""
    if not (cell.removeprefix("-").isdecimal() and cell.isascii()):
        raise ValueError(f"expected a whole number, got {shown(cell)}.")
    return int(cell)


def parse_json(text: str) -> Any:
    """The value of a JSON text, in which NaN and Infinity, which JSON does not know, are errors."""

    def refuse(constant: str):
        raise ValueError(f"expected JSON, which has no {constant}.")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("expected JSON that is not nested this deeply.") from error


def expect(condition: object, what: str, got: object) -> None:
    """An error unless `condition` holds: `what` was expected."""
    if not condition:
        raise ValueError(f"expected {what}, got {shown(got)}.")


def shown(value: object) -> str:
    """The start of a value, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
