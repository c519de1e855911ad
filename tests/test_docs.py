"""Every example in a docstring and in the README runs."""

import doctest
import importlib
import pathlib
import pkgutil
import re

import pytest

import rnnlab

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(m.name for m in pkgutil.walk_packages(rnnlab.__path__, "rnnlab."))
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_examples(block):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102 - our own text


def test_the_readme_has_its_examples():
    assert len(BLOCKS) >= 5


def test_no_file_is_longer_than_400_lines():
    folders = ("rnnlab", "experiments", "benchmarks", "tests")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 50
    long = {str(f): n for f in files if (n := len(f.read_text().splitlines())) > 400}
    assert not long
