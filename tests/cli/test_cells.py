"""The table of the cells says what is so."""

import importlib
import json
import pathlib
import pkgutil

import pytest

import rnnlab
from rnnlab.cells import CELLS
from rnnlab.cli import cells as listing
from rnnlab.cli import main


@pytest.fixture(scope="module")
def rows():
    examples = listing.examples(8, 5)
    return {name: listing.describe(name, *example) for name, example in examples.items()}


def test_every_cell_of_the_package_has_a_row(rows):
    for _, name, _ in pkgutil.iter_modules(rnnlab.cells.__path__, "rnnlab.cells."):
        importlib.import_module(name)
    exported = {
        value
        for value in vars(rnnlab.cells).values()
        if isinstance(value, type) and issubclass(value, rnnlab.Cell) and value is not rnnlab.Cell
    }
    seen = {row["cell"] for row in rows.values()}
    inside = {"CausalConvolution", "GatedBlock"}  # parts of mamba
    assert {cell.__name__ for cell in exported} - inside <= seen
    assert set(CELLS) <= rows.keys()


def test_a_row_says_base_strategies_and_parameters(rows):
    gru = rows["gru"]
    assert gru["base"] == "GatedCell" and gru["parameters"] == 3 * 8 * (5 + 8 + 1) + 8
    assert {"deferred", "scan"} <= set(gru["strategies"])
    assert "associative" not in gru["strategies"]
    assert rows["min_gru"]["base"] == "LinearCell"
    assert "associative" in rows["min_gru"]["strategies"]
    assert rows["rhn"]["base"] == "Cell" and "deferred" not in rows["rhn"]["strategies"]


def test_every_cell_names_its_paper(rows):
    assert rows["gru"]["paper"] == "Cho et al. 2014"
    assert rows["mamba2"]["paper"] == "Dao & Gu 2024"
    assert rows["attention_luong"]["paper"] == "Luong et al. 2015"
    assert not [name for name, row in rows.items() if row["paper"] is None]


def test_the_oracles_are_those_that_the_tests_compare_with():
    """So that the table cannot say more than is tested, nor less."""
    folder = pathlib.Path(__file__).parents[1] / "cells"
    modules = [f"tests.cells.{file.stem}" for file in sorted(folder.glob("test_peers*.py"))]
    peers = [peer for module in modules for peer in importlib.import_module(module).PEERS]
    types = {type(cell): name for name, (cell, _) in reversed(listing.examples(4, 3).items())}
    tested = {}
    for peer in peers:
        tested.setdefault(types[type(peer.cell)], set()).add(peer.library)
    assert {name: set(libraries) for name, libraries in listing.ORACLES.items()} == tested


def test_the_command_prints_a_line_for_each(capsys):
    assert main(["cells", "--features=8", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines][: len(CELLS)] == list(CELLS)
    assert main(["cells", "--features=8"]) == 0
    assert "reset_before_gru" in capsys.readouterr().out


def test_a_size_that_is_none_is_refused(refused):
    assert "features >= 1" in refused("cells", "--features=0")
