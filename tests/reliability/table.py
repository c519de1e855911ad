"""The table of what was promised and what was found, put together from the tests marked `promise`.

A marked test that passes counts as one fault survived; one that injects many says how many were
through the fixture `counted`. Whatever did not pass is named, and a row without a test stands there
as not measured.
"""

import dataclasses
import datetime
import pathlib
from collections.abc import Iterable, Mapping

import pytest

from benchmarks.timing import machine
from tests.reliability.promises import PROMISES, Promise

OPTION = "--reliability_table"


def pytest_addoption(parser):
    parser.addoption(OPTION, metavar="FILE", help="write what was promised and what was found")


def mark_promises(items):
    """The rows travel with a test's report, as they have to where workers run the tests."""
    for item in items:
        rows = [row for mark in item.iter_markers("promise") for row in mark.args]
        unknown = set(rows) - PROMISES.keys()
        if unknown:
            raise pytest.UsageError(
                f"{item.nodeid}: promise: expected one of {', '.join(PROMISES)}, got {unknown}."
            )
        if rows:
            item.user_properties.append(("promises", sorted(set(rows))))
    items.sort(key=lambda item: "test_soak" not in item.nodeid)  # the longest first


@pytest.fixture
def counted(record_property):
    """`counted(good, total)`: how many of the faults that a test injected ended well."""

    def count(good: int, total: int) -> None:
        record_property("counted", [good, total])

    return count


@dataclasses.dataclass
class Found:
    """What the tests of one row came to."""

    good: int = 0
    total: int = 0
    missed: list[str] = dataclasses.field(default_factory=list)  # tests that did not pass


def collect(stats: Mapping[str, Iterable]) -> dict[str, Found]:
    """Row -> what was found.

    Args:
      stats: pytest's reports by outcome.
    """
    found: dict[str, Found] = {}
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in stats.get(outcome, ()):
            properties = dict(getattr(report, "user_properties", ()))  # a collection has none
            for row in properties.get("promises", ()):
                add(found.setdefault(row, Found()), report.nodeid, outcome, properties)
    return found


def add(found: Found, name: str, outcome: str, properties: Mapping) -> None:
    """Counts one test."""
    good, total = properties.get("counted", (1, 1))
    found.total += total
    if outcome == "passed":
        found.good += good
    else:
        found.missed.append(f"{name} {outcome}")


def verdict(promise: Promise, found: Found) -> str:
    """`met`, or by how much it was not."""
    if not found.total:
        return "not measured"
    problems = [*found.missed]
    if found.good < found.total:
        problems.insert(0, f"{found.total - found.good} did not end well")
    if found.total < promise.target:
        problems.insert(0, f"{found.total} of {promise.target} tried")
    return f"SHORT: {'; '.join(problems)}" if problems else "met"


def render(found: Mapping[str, Found], command: str, today: datetime.date) -> str:
    """The table, with what it was made by and on."""
    lines = [
        "# What training survives",
        "",
        f"Written by `{command}` on {today.isoformat()}.",
        "",
        *(f"- {name}: {value}" for name, value in machine().items()),
        "",
        "| row | promise | target | found | |",
        "|---|---|---|---|---|",
    ]
    for row, promise in PROMISES.items():
        here = found.get(row, Found())
        count = f"{here.good} of {here.total}" if here.total else ""
        end = verdict(promise, here).replace("|", "\\|")
        lines.append(f"| {row} | {promise.text} | {promise.target} | {count} | {end} |")
    met = sum(line.endswith("| met |") for line in lines)
    return "\n".join([*lines, "", f"{met} of {len(PROMISES)} promises met.", ""])


def write_table(terminalreporter) -> None:
    """Writes the table where the option asks for it, at the end of a session."""
    config = terminalreporter.config
    target = config.getoption(OPTION)
    if not target:
        return
    command = " ".join(["python -m pytest", *config.invocation_params.args])
    content = render(collect(terminalreporter.stats), command, datetime.date.today())
    pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(target).write_text(content, encoding="utf-8")
    terminalreporter.write_line(f"wrote {target}")
