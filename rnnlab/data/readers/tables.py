"""Plain texts, lines, tables and JSON lines."""

import csv as csv_module
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data.readers.common import (
    cells_of,
    decode,
    expect,
    finite,
    lines_of,
    located,
    parse_json,
)


class Labelled(NamedTuple):
    """A text and its class."""

    text: str
    label: str


class Series(NamedTuple):
    """One series among many of different lengths."""

    name: str
    values: np.ndarray  # float64 [T]


def text(content: bytes) -> str:
    """A whole text in UTF-8; its characters are the records, line ends are as they are."""
    return decode(content)


def lines(content: bytes) -> list[str]:
    """The lines of a text in UTF-8, empty ones included."""
    return lines_of(content)


def csv(content: bytes) -> list[dict[str, str]]:
    """A table whose first row names its columns: a row is `{column: cell}`, cells are text.

    `numbers` turns columns into an array.
    """
    rows = _rows(content)
    with located("line 1"):
        _, header = next(rows, (1, []))
        expect(header and all(header), "a row that names every column", header)
        expect(len(set(header)) == len(header), "distinct columns", header)
    records = []
    for line, row in rows:
        with located(f"line {line}"):
            expect(len(row) == len(header), f"{len(header)} cells", row)
        records.append(dict(zip(header, row, strict=True)))
    return records


def numbers(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], *, missing: Sequence[str] = ()
) -> np.ndarray:
    r"""Columns of a table that `csv` read, as an array.

    Args:
      rows: R rows.
      columns: the names of C columns.
      missing: the cells that stand for a missing value, such as "NA"; they become NaN.

    Returns:
      float64 `[R, C]`.

    Raises:
      ValueError: no such column, or a cell that is neither missing nor a finite number, with its
        line in the file.

    Example:
        >>> rows = csv(b"day,rain\n1,0.5\n2,NA\n")
        >>> numbers(rows, ["rain"], missing=["NA"])
        array([[0.5],
               [nan]])
    """
    values = np.empty((len(rows), len(columns)))
    line = 1  # of the header
    for index, row in enumerate(rows):
        line += 1 + sum(cell.count("\n") for cell in row.values())
        for place, column in enumerate(columns):
            with located(f"line {line}, column {column!r}"):
                expect(column in row, f"one of the columns {', '.join(row)}", column)
                cell = row[column]
                values[index, place] = np.nan if cell in missing else finite(cell)
    return values


def matrix(content: bytes) -> np.ndarray:
    """Rows of numbers with commas between them and no names: float64 `[rows, columns]`."""
    text_lines = lines_of(content)
    columns = text_lines[0].count(",") + 1 if text_lines else 0
    rows = []
    for number, line in enumerate(text_lines, start=1):
        with located(f"line {number}"):
            rows.append([finite(cell) for cell in cells_of(line, ",", columns)])
    return np.array(rows, np.float64)


def m4(content: bytes) -> list[Series]:
    """M4's tables: a name and then the values of a series in each row, empty cells at its end."""
    rows = _rows(content)
    _, header = next(rows, (1, []))
    series = []
    for line, (name, *cells) in rows:
        with located(f"line {line}"):
            expect(len(cells) + 1 == len(header), f"{len(header)} cells", [name, *cells])
            while cells and not cells[-1]:
                cells.pop()
            expect(name and cells, "a name and at least one value", name)
            series.append(Series(name, np.array([finite(cell) for cell in cells])))
    return series


def jsonl(content: bytes) -> list[dict[str, Any]]:
    """One JSON object a line."""
    records = []
    for number, line in enumerate(lines_of(content), start=1):
        with located(f"line {number}"):
            record = parse_json(line)
            expect(isinstance(record, dict), "a JSON object", record)
            records.append(record)
    return records


def labelled(content: bytes) -> list[Labelled]:
    """`text<TAB>label` lines."""
    records = []
    for number, line in enumerate(lines_of(content), start=1):
        with located(f"line {number}"):
            record = Labelled(*cells_of(line, "\t", 2))
            expect(all(record), "a text and a label", line)
            records.append(record)
    return records


def _rows(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, with the line on which each ends."""
    reader = csv_module.reader(io.StringIO(decode(content), newline=""), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv_module.Error as error:
            raise ValueError(f"line {reader.line_num}: expected CSV, got {error}.") from error
        with located(f"line {reader.line_num}"):
            expect(row, "a row", "an empty line")
        yield reader.line_num, row
