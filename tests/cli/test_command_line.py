import ast
import pathlib
import subprocess
import sys
import tomllib

import pytest

import rnnlab
from rnnlab.cli import command_line, main
from rnnlab.cli.command_line import COMMANDS

ROOT = pathlib.Path(__file__).parents[2]
HEAVY = {"jax", "flax", "orbax", "optax", "grain", "matplotlib", "absl"}


def imported(*arguments):
    """The packages that a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", "rnnlab.cli", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 20
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


def test_help_imports_neither_jax_nor_numpy_nor_rich():
    assert not imported("--help") & {*HEAVY, "numpy", "rich"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_no_jax_and_no_matplotlib(command):
    assert not imported(command, "--help") & HEAVY


def test_runs_imports_no_jax(make_run):
    path = make_run("one")
    assert not imported("runs", str(path.parent)) & HEAVY


def test_the_names_of_the_package_are_all_there():
    names = dir(rnnlab)
    assert {"unroll", "Cell", "GatedCell", "LinearCell", "lengths_to_mask"} <= set(names)
    assert {"bidirectional", "cells", "strategies", "testing", "__version__"} <= set(names)
    assert all(getattr(rnnlab, name) is not None for name in names if not name.startswith("__"))
    assert rnnlab.unroll is rnnlab.engine.unroll
    with pytest.raises(AttributeError, match="no attribute 'unrol'"):
        rnnlab.unrol  # noqa: B018, to look is to fail


def test_what_type_checkers_see_is_what_there_is():
    """The imports under TYPE_CHECKING and the lazy ones are the same names."""
    tree = ast.parse(pathlib.Path(rnnlab.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name for node in block.body for alias in node.names}
    assert seen == rnnlab._MODULES | rnnlab._HOMES.keys()


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"\n    {name} " in printed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"rnnlab {name}" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"rnnlab {rnnlab.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["rums"], "invalid choice: 'rums'"),
        (["runs", "--srot=step"], "unrecognized arguments: --srot=step"),
        (["runs", "--so=step"], "unrecognized arguments: --so=step"),
        (["runs", "--", "stray"], "unrecognized arguments after --: stray"),
        (["plot"], "RUN"),
        (["runs", "/nowhere/at/all"], "expected a directory with runs"),
    ],
)
def test_a_wrong_use_is_one_line(refused, arguments, message):
    assert message in refused(*arguments)


def test_an_interrupt_is_no_traceback(monkeypatch, capsys, tmp_path):
    from rnnlab.cli import runs

    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run", interrupted)
    assert main(["runs", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_fault_of_ours_is_not_called_a_wrong_use(monkeypatch, tmp_path):
    from rnnlab.cli import runs

    def faulty(arguments):
        raise KeyError("step")

    monkeypatch.setattr(runs, "run", faulty)
    with pytest.raises(KeyError):
        main(["runs", str(tmp_path)])


def test_a_reader_that_has_seen_enough_is_no_error(make_run):
    for number in range(300):
        path = make_run(f"{number:03}" + "x" * 200)
    command = f"{sys.executable} -m rnnlab.cli runs --json {path.parent} | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.startswith('{"name": "000')
    assert result.stderr == ""


def test_the_package_installs_the_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["rnnlab"] == "rnnlab.cli:main"
    assert callable(command_line.main)
