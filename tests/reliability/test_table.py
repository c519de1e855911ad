"""The table of promises hides nothing: what failed, what was skipped, what nobody measured."""

import datetime
import pathlib
import types

import pytest

from tests.reliability import table
from tests.reliability.promises import PROMISES, Promise
from tests.reliability.table import Found

pytest_plugins = ["pytester"]
ROOT = pathlib.Path(__file__).parents[2]
DAY = datetime.date(2026, 1, 2)


def report(name, *rows, counted=None):
    properties = [("promises", list(rows))] + ([("counted", counted)] if counted else [])
    return types.SimpleNamespace(nodeid=name, user_properties=properties)


def row_of(text, row):
    return next(line for line in text.splitlines() if line.startswith(f"| {row} |"))


def test_counts_add_up_over_tests_and_failures_are_named():
    found = table.collect(
        {
            "passed": [report("a", "R3", counted=[60, 60]), report("b", "R3", "R5")],
            "failed": [report("c", "R3", counted=[9, 10])],
            "skipped": [report("d", "R5")],
            "deselected": [object()],
        }
    )
    assert found["R3"] == Found(61, 71, ["c failed"])
    assert found["R5"] == Found(1, 2, ["d skipped"])


def test_a_test_that_passes_and_breaks_in_its_teardown_is_not_met():
    found = table.collect({"passed": [report("a", "R5")], "error": [report("a", "R5")]})
    assert table.verdict(PROMISES["R5"], found["R5"]).startswith("SHORT: 1 did not end well; a err")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Found(200, 200), "met"),
        (Found(201, 201), "met"),
        (Found(), "not measured"),
        (Found(20, 20), "SHORT: 20 of 200 tried"),
        (Found(199, 200), "SHORT: 1 did not end well"),
        (Found(200, 201, ["x failed"]), "SHORT: 1 did not end well; x failed"),
    ],
)
def test_verdicts(found, verdict):
    assert table.verdict(Promise("text", 200), found) == verdict


def test_every_row_stands_in_the_table_with_what_it_was_made_by():
    text = table.render({"R1": Found(200, 200), "R5": Found(0, 1, ["x[a|b] failed"])}, "cmd", DAY)
    assert [row_of(text, row) for row in PROMISES]
    assert row_of(text, "R1").endswith("| 200 | 200 of 200 | met |")
    assert row_of(text, "R2").endswith("| not measured |")
    assert row_of(text, "R5").endswith(
        r"| 1 | 0 of 1 | SHORT: 1 did not end well; x[a\|b] failed |"
    )
    assert f"1 of {len(PROMISES)} promises met." in text
    for part in ("`cmd` on 2026-01-02", "- processor: ", "- cores: ", "- python: ", "- jax: "):
        assert part in text


CONFTEST = """
from tests.reliability.table import counted, pytest_addoption
from tests.reliability.table import mark_promises as pytest_collection_modifyitems
from tests.reliability.table import write_table as pytest_terminal_summary
"""
TESTS = """
import pytest

@pytest.mark.promise("R20")
def test_many(counted):
    counted(500, 500)

@pytest.mark.promise("R5")
@pytest.mark.parametrize("x", [1, 2])
def test_broken(x):
    assert x == 1

def test_else():
    pass
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_session_writes_it_with_or_without_workers(pytester, workers):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    pytester.makeini(f"[pytest]\nmarkers = promise(row)\npythonpath = {pytester.path} {ROOT}\n")
    pytester.runpytest_subprocess(f"-n{workers}", "--reliability_table=docs/table.md")
    text = (pytester.path / "docs" / "table.md").read_text()
    assert row_of(text, "R20").endswith("| 500 | 500 of 500 | met |")
    assert "1 of 2 | SHORT: 1 did not end well" in row_of(text, "R5")
    assert "test_broken[2] failed" in row_of(text, "R5")
    assert "python -m pytest" in text


def test_an_unknown_row_is_refused(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS.replace("R20", "R99"))
    pytester.makeini(f"[pytest]\nmarkers = promise(row)\npythonpath = {ROOT}\n")
    result = pytester.runpytest_subprocess()
    result.stderr.fnmatch_lines(["*promise: expected one of R1, *, got {'R99'}."])
