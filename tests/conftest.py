"""jax at its strictest around tests of layers 1 to 4; the figures of contract and reliability."""

import contextlib
import gc
import itertools
import pathlib

import jax
import pytest

from rnnlab.kernels import build
from tests.everyday import thin_out
from tests.reliability.table import counted as counted
from tests.reliability.table import mark_promises, write_table
from tests.reliability.table import pytest_addoption as pytest_addoption

STRICT = ("core", "cells", "engine", "sequences", "nn")


@pytest.fixture(autouse=True)
def strict_jax(request):
    """Strict dtype promotion and raising rank promotion, but not around other people's code."""
    folder = request.node.path.relative_to(request.config.rootpath).parts[1]
    if folder not in STRICT or request.node.get_closest_marker("peers"):
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


MAPS = pathlib.Path("/proc/self/maps")
TESTS = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs():
    """Lets go of compiled programs: each is some memory maps, and a process may have 65,530."""
    yield
    if next(TESTS) % 16 or not MAPS.exists():  # reading them takes as long as a small test
        return
    if MAPS.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()
        gc.collect()


def pytest_configure(config):
    """Builds the CPU kernel, once for all workers; where it cannot be its tests are skipped."""
    gc.set_threshold(100_000, 20, 100)  # collecting took up to a tenth of a test
    if not hasattr(config, "workerinput") and build.compiler():
        with contextlib.suppress(RuntimeError):
            build.build()


@pytest.hookimpl(tryfirst=True)  # before what is not asked for is left out
def pytest_collection_modifyitems(items):
    mark_promises(items)
    thin_out(items)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def pytest_terminal_summary(terminalreporter):
    """One line for the whole strategy contract, put together from its tests; the promises."""
    reports = terminalreporter.stats.get("passed", [])
    parts = [dict(r.user_properties) for r in reports]
    contract = [p for p in parts if "combinations" in p]
    for dtype in sorted({p["dtype"] for p in contract}):
        chosen = [p for p in contract if p["dtype"] == dtype]
        values, gradients = (max(p[kind] for p in chosen) for kind in ("values", "gradients"))
        terminalreporter.write_line(
            f"strategy contract, {dtype}: {len({p['cell'] for p in chosen})} cells,"
            f" {sum(p['combinations'] for p in chosen)} combinations, largest deviation"
            f" {values:.1e} of values, {gradients:.1e} of gradients"
        )
    write_table(terminalreporter)
