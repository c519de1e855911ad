"""Tables on the console, and how values are written in them."""

from collections.abc import Iterable, Sequence

MINUTE, HOUR = 60, 3600
UNITS = ("B", "kB", "MB", "GB", "TB")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; a column of nothing but numbers is flush right.

    Args:
      columns: their names.
      rows: a value for each; None leaves its place empty.
    """
    import rich.box
    import rich.console
    import rich.table
    import rich.text

    rows = [list(row) for row in rows]
    table = rich.table.Table(box=rich.box.SIMPLE, pad_edge=False)
    for index, column in enumerate(columns):
        values = [row[index] for row in rows if row[index] is not None]
        numeric = bool(values) and all(isinstance(value, int | float) for value in values)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(rich.text.Text(text(value)) for value in row))
    console = rich.console.Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        console.width = 10_000
    console.print(table)


def text(value: object) -> str:
    """A value as it stands in a table, on one line and without control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"
    line = " ".join(str(value).split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def size(count: float) -> str:
    """Bytes, readably: 1536 -> 1.5 kB."""
    power = 0
    while count >= 1000 and power < len(UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.{1 if power else 0}f} {UNITS[power]}"


def duration(seconds: float | None) -> str | None:
    """Seconds, readably: 4.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds is None:
        return None
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min {seconds % MINUTE:02.0f} s"
    return f"{seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:02.0f} min"
