"""Markdown that reports are made of."""

from collections.abc import Sequence
from typing import Any

from benchmarks import timing


def table(lines: Sequence[Sequence[Any]]) -> str:
    """A table whose columns are aligned to the right, in the text too.

    Args:
      lines: the header first.
    """
    lines = [[str(cell) for cell in line] for line in lines]
    widths = [max(2, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * (width - 1) + ":" for width in widths])
    padded = ([f"{c:>{w}}" for c, w in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def document(title: str, command: str, sections: Sequence[str]) -> str:
    """A whole file, with the machine and the versions it was measured with.

    Args:
      title: of the file.
      command: what writes it.
      sections: its paragraphs, tables and headings.
    """
    machine = ", ".join(f"{name} {value}" for name, value in timing.machine().items())
    parts = [f"# {title}", f"    {command}", f"Machine: {machine}.", *sections]
    return "\n\n".join(parts) + "\n"
