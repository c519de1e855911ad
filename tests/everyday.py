"""What `make test` leaves to `make test-all`: most cases of tests that run over many cells.

Each of them runs with a quarter of its cases every day, another quarter than the test before it,
so that every cell meets a quarter of the tests and every test a quarter of the cells.
"""

import collections

import pytest

OVER_MANY_CELLS = (
    "tests/cells/",
    "tests/engine/test_chunkwise.py",
    "tests/engine/test_compile.py",
    "tests/engine/test_edges.py",
    "tests/engine/test_export.py",
    "tests/engine/test_transforms.py",
    "tests/interop/",
    "tests/models/",
)
SHARE = 4
FEW = 3
"""Cases up to which a test runs with all."""


def thin_out(items):
    """Marks as `full` what is not for every day."""
    groups = collections.defaultdict(list)
    for item in items:
        if item.nodeid.startswith(OVER_MANY_CELLS) and hasattr(item, "callspec"):
            groups[item.nodeid.split("[")[0]].append(item)
    for number, group in enumerate(group for group in groups.values() if len(group) > FEW):
        for place, item in enumerate(group):
            if (place + number) % SHARE:
                item.add_marker(pytest.mark.full)
